//! `imactl keys show`

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::Args;
use ima::key::check::{self, KeyFile, Material};
use ima::key::token::TokenCertificate;
use ima::key::PublicKey;
use ima_format::pkcs11::Uri;

use super::{has_error, print_certificate, print_finding, readable};
use crate::error::Result;
use crate::output::{Level, Output, Style};
use crate::passphrase::PassphraseArgs;
use crate::{token, Outcome};

/// Show certificates and keys
#[derive(Debug, Args)]
pub(super) struct ShowArgs {
    /// Files (PEM or DER), key stores, directories of certificates, or tokens
    /// (pkcs11:token=NAME): private keys and certificates
    #[arg(value_name = "PATH|URI", required = true)]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    passphrase: PassphraseArgs,
}

impl ShowArgs {
    pub(super) fn run(&self, output: &mut Output) -> Result<Outcome> {
        let (mut findings, mut files) = (Vec::new(), Vec::new());
        for path in &self.paths {
            match token::uri(path) {
                Some(uri) => self.show_token(&uri?, output)?,
                None => files.push(path.clone()),
            }
        }
        let (files, failures) = readable(&files, output)?;
        let mut ask = self.passphrase.ask_once()?;
        let materials = check::read(&files, &mut ask, &mut findings);
        // a store has each certificate in PEM and in DER: show it once
        let mut shown = BTreeSet::new();
        for Material { path, certificates, key, .. } in &materials {
            for certificate in certificates {
                if shown.insert(certificate.der().to_vec()) {
                    print_certificate(path, certificate, output)?;
                }
            }
            let Some(key) = key else { continue };
            match key {
                KeyFile::Open(key) => {
                    let kept = Kept::File { encrypted: key.is_encrypted() };
                    print_key(path, Some(key.public_key()), kept, output)?;
                }
                KeyFile::Closed => print_key(path, None, Kept::Closed, output)?,
            }
        }
        for finding in &findings {
            print_finding(finding, output)?;
        }
        let failed = has_error(&findings) || failures.count() > 0;
        Ok(if failed { Outcome::Failed } else { Outcome::Good })
    }

    /// Shows the private keys and certificates that a URI names; the URI's type does not restrict them here.
    fn show_token(&self, uri: &Uri, output: &mut Output) -> Result<()> {
        let uri = Uri { class: None, ..uri.clone() };
        let token = token::open(&uri, &self.passphrase)?;
        for key in token.keys(&uri)? {
            let path = PathBuf::from(key.uri().to_string());
            let kept = Kept::Token { always_authenticate: key.always_authenticate() };
            print_key(&path, key.public_key().ok(), kept, output)?;
        }
        for TokenCertificate { uri, certificate } in token.certificates(&uri)? {
            print_certificate(Path::new(&uri.to_string()), &certificate, output)?;
        }
        Ok(())
    }
}

/// The storage of a private key.
#[derive(Clone, Copy)]
enum Kept {
    File {
        encrypted: bool,
    },
    /// Encrypted in a file, and no passphrase was given.
    Closed,
    Token {
        always_authenticate: bool,
    },
}

fn print_key(
    path: &Path,
    public: Option<&PublicKey>,
    kept: Kept,
    output: &mut Output,
) -> Result<()> {
    let algorithm = public.map(|public| public.key_type().to_string());
    let default_key_id = match public {
        Some(public) => Some(public.default_key_id()?.to_string()),
        None => None,
    };
    let (state, encrypted) = match kept {
        Kept::File { encrypted: true } => ("encrypted", Some(true)),
        Kept::File { encrypted: false } => ("not encrypted", Some(false)),
        Kept::Closed => ("encrypted, not opened", Some(true)),
        Kept::Token { always_authenticate: false } => ("in a token", None),
        Kept::Token { always_authenticate: true } => {
            ("in a token that asks for the PIN for each signature", None)
        }
    };
    let path_text = output.paint(Style::Bold, &path.display().to_string());
    output.line(Level::Normal, &path_text)?;
    let shown = match (&algorithm, kept) {
        (Some(algorithm), _) => format!("{algorithm}, {state}"),
        (None, Kept::Closed) => state.to_owned(),
        (None, _) => format!("its public key was not found, {state}"),
    };
    output.line(Level::Normal, format_args!("    private key    {shown}"))?;
    if let (Kept::Token { .. }, Some(key_id)) = (kept, &default_key_id) {
        let line = format!("    key id         {key_id}, unless a certificate says otherwise");
        output.line(Level::Normal, &line)?;
    }
    Ok(output
        .object("key")
        .path(path)
        .optional("algorithm", algorithm)
        .optional("default_key_id", default_key_id)
        .optional("encrypted", encrypted)
        .end()?)
}
