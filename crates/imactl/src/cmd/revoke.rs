//! `imactl revoke`

use std::io;
use std::path::{Path, PathBuf};

use clap::Args;
use ima::container::rpm::PackageSummary;
use ima::container::Report;
use ima::key::certificate::Certificate;
use ima::key::store::KeyStore;
use ima::operation::{Affected, FindAffected};
use ima::revoke::{entries_of, entries_of_certificate, sign};
use ima::staging::write_path;
use ima::verify::Keyring;
use ima_format::blacklist::{Entry, Kind};
use ima_format::hex::{self, Hex};
use serde::Serialize;

use crate::args::{default_store, describe};
use crate::error::{hinted, Context, Result};
use crate::inputs::InputArgs;
use crate::output::{count, Entry as Line, Level, Name, Output};
use crate::passphrase::PassphraseArgs;
use crate::report::{self, Printer, Results};
use crate::Outcome;

/// Revoke files and keys: make entries for the kernel's blacklist, and show which files they affect
///
/// Prints one entry for each digest and certificate. With PATH it also lists the files there, in any
/// kind of container, that a kernel with these revocations would deny. Exit status 2 if something
/// could not be read.
#[derive(Debug, Args)]
#[command(mut_arg("paths", |arg| arg.required_unless_present_any(["file", "digest", "cert"])))]
pub(crate) struct RevokeArgs {
    /// Deny a file by its digest: that of the algorithm of its security.ima, or sha256
    #[arg(long, value_name = "FILE", help_heading = "Revocation")]
    file: Vec<PathBuf>,
    /// Deny a digest, in hexadecimal digits; a leading algorithm and colon is ignored
    #[arg(long, value_name = "[ALG:]HEX", value_parser = digest, help_heading = "Revocation")]
    digest: Vec<Entry>,
    /// Revoke the key of a certificate
    #[arg(long, value_name = "CERT", help_heading = "Revocation")]
    cert: Vec<PathBuf>,
    /// Write signed entries (blacklist_*.entry) and certificates (blacklist_*.der) into a directory,
    /// for /etc/keys of an initramfs with imactl-init
    #[arg(short, long, value_name = "DIR", help_heading = "Result")]
    output_dir: Option<PathBuf>,
    /// Write a file for CONFIG_SYSTEM_BLACKLIST_HASH_LIST
    #[arg(long, value_name = "FILE", help_heading = "Result")]
    hash_list: Option<PathBuf>,
    /// The key store whose system trusted key signs entries [default: $IMACTL_KEYS]
    #[arg(long, value_name = "DIR", help_heading = "Key")]
    keys: Option<PathBuf>,
    #[command(flatten)]
    passphrase: PassphraseArgs,
    #[command(flatten)]
    pub(super) inputs: InputArgs,
}

fn digest(text: &str) -> Result<Entry, String> {
    let digits = text.rsplit(':').next().unwrap_or_default();
    let digest = hex::decode(digits.as_bytes()).unwrap_or_default();
    let entry = Entry { kind: Kind::Binary, digest };
    match Entry::parse(entry.to_string().as_bytes()) {
        Some(entry) if entry.digest.len() >= 16 => Ok(entry),
        _ => Err("a digest has 16 to 64 bytes, in hexadecimal digits".to_owned()),
    }
}

/// The revocations.
#[derive(Default)]
struct Revoked {
    /// Each entry with the name of the object that it revokes.
    entries: Vec<(Entry, String)>,
    certificates: Vec<Certificate>,
}

impl RevokeArgs {
    pub(crate) fn run(&self, output: &mut Output) -> Result<Outcome> {
        let revoked = self.revoked()?;
        for (entry, of) in &revoked.entries {
            output.object("entry").field("entry", entry.to_string()).field("of", of).end()?;
            if !output.is_json() {
                output.line(Level::Quiet, format_args!("{entry} {of}"))?;
            }
        }
        if let Some(path) = &self.hash_list {
            let quoted = revoked.entries.iter().map(|(entry, _)| format!("\"{entry}\""));
            let text = quoted.collect::<Vec<_>>().join(",\n") + "\n";
            write_path(path, 0o644, text.as_bytes()).at(path)?;
        }
        if let Some(directory) = &self.output_dir {
            self.write(&revoked, directory, output)?;
        }
        match self.inputs.tree.roots()?.is_empty() {
            true => Ok(Outcome::Good),
            false => self.report(revoked, output),
        }
    }

    fn revoked(&self) -> Result<Revoked> {
        let mut revoked = Revoked::default();
        for path in &self.file {
            let name = path.display().to_string();
            let entries = entries_of(path).with_context(|| name.clone())?;
            revoked.entries.extend(entries.into_iter().map(|entry| (entry, name.clone())));
        }
        revoked.entries.extend(self.digest.iter().map(|entry| (entry.clone(), String::new())));
        for path in &self.cert {
            for certificate in Certificate::read_all(path)? {
                let subject = certificate.subject();
                let entries = entries_of_certificate(&certificate);
                let entries = entries.with_context(|| subject.clone())?.into_iter();
                revoked.entries.extend(entries.map(|entry| (entry, subject.clone())));
                revoked.certificates.push(certificate);
            }
        }
        if revoked.entries.is_empty() && revoked.certificates.is_empty() {
            let hint = "give --file, --digest or --cert";
            return Err(hinted("nothing to revoke", hint));
        }
        Ok(revoked)
    }

    /// Writes the files that imactl-init loads: certificates, and the entries of files. The entry of a certificate
    /// is left out: the certificate itself does more.
    fn write(&self, revoked: &Revoked, directory: &Path, output: &mut Output) -> Result<()> {
        let write = |name: String, content: &[u8]| {
            let path = directory.join(name);
            write_path(&path, 0o644, content).at(&path)
        };
        std::fs::create_dir_all(directory).at(directory)?;
        for certificate in &revoked.certificates {
            write(format!("blacklist_{}.der", certificate.key_id()), certificate.der())?;
        }
        let mut entries = revoked.entries.iter().map(|(entry, _)| entry);
        let files: Vec<_> = entries.by_ref().filter(|it| it.kind == Kind::Binary).collect();
        if files.is_empty() {
            return Ok(());
        }
        let Some(keys) = self.keys.clone().or_else(default_store) else {
            let hint =
                "give --keys DIR: its system trusted key, which is built into the kernel, signs";
            return Err(hinted("no key to sign entries with", hint));
        };
        let store = KeyStore::open(&keys)?;
        let (signer, certificate) =
            store.system_trusted_signer(&mut |path| self.passphrase.ask(path))?;
        output.line(Level::Verbose, format_args!("signing with {}", describe(&signer)))?;
        for entry in files {
            let name = Hex(&entry.digest[..8]).to_string();
            write(format!("blacklist_{name}.entry"), &sign(entry, &signer, &certificate)?)?;
        }
        Ok(())
    }

    /// Lists the affected files.
    fn report(&self, revoked: Revoked, output: &mut Output) -> Result<Outcome> {
        let inputs = self.inputs.resolve()?;
        let entries = revoked.entries.into_iter().map(|(entry, _)| entry).collect();
        let keys = revoked.certificates.iter().map(Certificate::key_id).collect();
        let operation = FindAffected { entries, keys, appended: Keyring::default() };
        let mut printer = AffectedFiles;
        let totals =
            report::run(&operation, inputs, Results::None, "checking", output, &mut printer)?;
        totals.summarize(("unaffected", "affected"), None, output)?;
        let affected = count(totals.tally.other, totals.noun);
        totals.conclude(format!("{affected} affected"), "", "not checked", output)
    }
}

/// Prints the affected files.
pub(super) struct AffectedFiles;

#[derive(Serialize)]
#[serde(tag = "type", rename = "file")]
struct AffectedFile<'a> {
    #[serde(flatten)]
    name: Name<'a>,
    affected_by: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_id: Option<String>,
}

impl<'a> AffectedFile<'a> {
    fn new(name: Name<'a>, affected: Affected) -> Self {
        let (affected_by, key_id) = match affected {
            Affected::Digest => ("digest", None),
            Affected::AppendedDigest => ("appended-digest", None),
            Affected::Key(key_id) => ("key", Some(key_id.to_string())),
            Affected::EvmKey(key_id) => ("evm-key", Some(key_id.to_string())),
            Affected::AppendedKey(key_id) => ("appended-key", Some(key_id.to_string())),
        };
        Self { name, affected_by, key_id }
    }
}

impl Line for AffectedFile<'_> {
    fn level(&self) -> Level {
        Level::Quiet
    }

    fn text(&self, _: &Output) -> String {
        format!("{:<15} {}", self.affected_by, self.name)
    }
}

impl Printer<Option<Affected>> for AffectedFiles {
    fn file(
        &mut self,
        name: Name<'_>,
        _: u64,
        affected: &Option<Affected>,
        output: &mut Output,
    ) -> (bool, io::Result<()>) {
        match affected {
            Some(affected) => (false, output.show(&AffectedFile::new(name, *affected))),
            None => (true, Ok(())),
        }
    }

    fn package(
        &mut self,
        path: &Path,
        _: &PackageSummary,
        files: &[Report<Option<Affected>>],
        output: &mut Output,
    ) -> (bool, io::Result<()>) {
        let affected = files.iter().filter_map(|Report { path: file, outcome, .. }| {
            let affected = outcome.as_ref().ok().copied().flatten()?;
            let name = Name { container: Some(path), part: None, path: file };
            Some(AffectedFile::new(name, affected))
        });
        let affected: Vec<_> = affected.collect();
        let shown = affected.iter().try_for_each(|file| output.show(file));
        (affected.is_empty(), shown)
    }
}
