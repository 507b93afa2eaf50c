//! `imactl evmctl`, and imactl invoked as `evmctl`: the command line of ima-evm-utils on imactl's
//! operations. docs/evmctl.md lists the differences.

mod hash_lines;
mod import;
mod keys;
mod measurement;
mod operations;
mod options;
mod version_1;

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use ima::container::tree::{detached_path, DirectoryRoots, Place, Tree};
use ima::container::{
    AttributeName, Change, Container, Destination, Event, ItemError, Operation, Run, Selection,
    Silent, MAX_SPARSE,
};
use ima::evm::{Binding, Coverage, Given};
use ima::input::{self, KEY_MAX};
use ima::operation::{Clear, EvmEffect, EvmMaker, EvmSign, Labels, Sign, SignMode, Signed, Verify};
use ima::sign::{default_version, Maker};
use ima::staging;
use ima::verify::{Requirement, Rule};
use ima::HashAlgorithm;
use ima_format::elf::Class;
use ima_format::evm::{Machine, Protected};
use ima_format::hex::{self, Hex};
use ima_format::policy::kernel::KernelVersion;
use ima_format::tar::AfterEnd;
use ima_format::verity::Salt;
use ima_format::xattr::{AttributeType, SignatureKind, SignatureVersion};

use self::operations::{Captured, Failure, Open, Restore, VerifyContent, VerifyMetadata};
use self::options::Options;
use crate::args::jobs;
use crate::error::{hinted, Context, Error, Result};
use crate::outputs::spool_directory;
use crate::Outcome;

/// The ima-evm-utils version that `--version` prints, and whose command line this is.
const VERSION: &str = "1.6.2";

/// Act as evmctl of ima-evm-utils
///
/// imactl does the same when it is invoked as evmctl (a link of that name).
#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
pub(crate) struct EvmctlArgs {
    /// A command of evmctl and its options; help lists them
    #[arg(value_name = "ARGUMENT", trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

/// The arguments for evmctl, if the program is invoked as evmctl or with that command.
pub(crate) fn arguments(all: &[OsString]) -> Option<&[OsString]> {
    match all {
        [name, rest @ ..] if Path::new(name).file_name() == Some(OsStr::new("evmctl")) => {
            Some(rest)
        }
        [_, command, rest @ ..] if command == "evmctl" => Some(rest),
        _ => None,
    }
}

/// Runs a command of evmctl.
pub(crate) fn run(arguments: &[OsString]) -> ExitCode {
    let outcome = Options::parse(arguments.iter().cloned()).and_then(|options| {
        let outcome = Evmctl { options: &options }.run()?;
        Ok(outcome)
    });
    match outcome {
        Ok(outcome) => ExitCode::from(u8::from(outcome != Outcome::Good)),
        Err(error) => {
            eprintln!("evmctl: {error}");
            if let Some(hint) = error.hint() {
                eprintln!("hint: {hint}");
            }
            ExitCode::from(125)
        }
    }
}

impl EvmctlArgs {
    pub(crate) fn run(&self) -> Result<Outcome> {
        let options = Options::parse(self.arguments.iter().cloned())?;
        Evmctl { options: &options }.run()
    }
}

struct Evmctl<'a> {
    options: &'a Options,
}

impl Evmctl<'_> {
    fn run(&self) -> Result<Outcome> {
        if self.options.has("version") {
            // scripts compare the second word or the last one
            println!("evmctl {VERSION}");
            return Ok(Outcome::Good);
        }
        let command = self.options.operands.first().and_then(|command| command.to_str());
        let command = command.filter(|_| !self.options.has("help")).unwrap_or("help");
        match command.to_ascii_lowercase().as_str() {
            "help" => {
                print!("{}", include_str!("help.txt"));
                Ok(Outcome::Good)
            }
            "ima_hash" => {
                let operation = Sign::new(Maker::Digest, self.hash()?, SignMode::Always);
                self.sign(operation, &self.files()?)
            }
            "ima_sign" => {
                let signer = keys::signer(self.options)?;
                let maker = self.maker(&*signer, SignatureKind::Ima);
                self.sign(Sign::new(maker, self.hash()?, SignMode::Always), &self.files()?)
            }
            "sign" => {
                let signer = keys::signer(self.options)?;
                let maker = self.maker(&*signer, self.binding().signature_kind());
                if let (Maker::Version1 { .. }, Binding::Portable) = (maker, self.binding()) {
                    eprintln!(
                        "warning: no kernel verifies portable signatures of version 1 (--rsa)"
                    );
                }
                self.sign_metadata(EvmMaker::Signature(maker), Some(&*signer))
            }
            "hmac" => {
                let path = self.options.path("hmackey");
                let path = path.unwrap_or_else(|| "/etc/keys/evm-key-plain".into());
                let key = crate::evm::hmac_key(&path)?;
                let signer = match self.options.has("imasig") {
                    true => Some(keys::signer(self.options)?),
                    false => None,
                };
                self.sign_metadata(EvmMaker::Hmac(&key), signer.as_deref())
            }
            "ima_verify" => self.verify(None),
            "verify" => self.verify(Some(self.coverage(Binding::Portable)?)),
            "ima_setxattr" => self.restore(),
            "ima_clear" => {
                self.over(&Clear::Both, &self.paths()?, self.destination(), &mut |_, _| true)
            }
            "ima_fix" => self.over(&Open, &self.paths()?, Destination::Nowhere, &mut |_, _| true),
            "sign_hash" => hash_lines::sign(self),
            "import" if self.options.has("rsa") => version_1::import(self.options),
            "import" => import::import(self.options),
            "convert" => version_1::convert(self.options),
            "ima_measurement" => measurement::ima_measurement(self.options),
            "ima_boot_aggregate" => measurement::ima_boot_aggregate(self.options),
            _ => Err(hinted(format!("Invalid command: {command}"), "evmctl help lists them")),
        }
    }

    fn hash(&self) -> Result<HashAlgorithm> {
        let name = match self.options.text("hashalgo")? {
            // OpenSSL's names of the algorithms
            Some("md_gost12_256") => "streebog256",
            Some("md_gost12_512") => "streebog512",
            Some(name) => name,
            None => "sha256",
        };
        name.parse().map_err(|error| Error::new(format!("Unknown hash algo: {name}: {error}")))
    }

    /// Makes signatures of the requested version.
    fn maker<'s>(&self, signer: &'s dyn ima::key::Signer, kind: SignatureKind) -> Maker<'s> {
        let version = match self.options.has("v3") || self.options.has("immutable") {
            true => SignatureVersion::V3,
            false if self.options.has("rsa") => return version_1::maker(signer, kind),
            false => default_version(signer.public_key().key_type(), kind),
        };
        Maker::Signature { signer, kind, version }
    }

    fn binding(&self) -> Binding {
        match self.options.has("portable") {
            true => Binding::Portable,
            false => Binding::Inode,
        }
    }

    /// The metadata that is signed or verified; options replace values of the file.
    fn coverage(&self, binding: Binding) -> Result<Coverage> {
        let options = self.options;
        let word_size = match (options.has("m32"), options.has("m64")) {
            (true, false) => Class::Bits32,
            (false, true) => Class::Bits64,
            _ if cfg!(target_pointer_width = "32") => Class::Bits32,
            _ => Class::Bits64,
        };
        let mut attributes = Vec::new();
        if let Some(label) = options.text("selinux")? {
            attributes.push((AttributeName::Selinux, Some([label.as_bytes(), b"\0"].concat())));
        }
        if let Some(value) = options.text("ima")? {
            let value = hex::decode(value.as_bytes());
            let value = value.map_err(|_| Error::new("--ima: not hexadecimal"))?;
            attributes.push((AttributeName::Ima, Some(value)));
        }
        if options.has("caps") {
            let value = options.text("caps")?.map(|value| value.as_bytes().to_vec());
            attributes.push((AttributeName::Capability, value));
        }
        // kernels without CONFIG_EVM_EXTRA_SMACK_XATTRS do not cover these
        if binding == Binding::Inode && !options.has("smack") {
            use AttributeName::{SmackExec, SmackMmap, SmackTransmute};
            attributes.extend([SmackExec, SmackTransmute, SmackMmap].map(|name| (name, None)));
        }
        let number = match options.number("ino")? {
            None => options.number("inode")?,
            number => number,
        };
        let generation = match options.value("generation") {
            Some(empty) if empty.is_empty() => Some(0),
            _ => options.number("generation")?,
        };
        let fsuuid = match (options.has("uuid"), options.text("uuid")?) {
            (false, _) => None,
            (true, None) => Some(None),
            (true, Some(text)) => Some(Some(uuid(text)?)),
        };
        let (uid, gid, mode) =
            (options.number("uid")?, options.number("gid")?, options.number("mode")?);
        let given = Given { uid, gid, mode, number, generation, fsuuid, attributes };
        let mut protected = Protected::default();
        for name in options.values("evm-xattr").map(std::ffi::OsStr::to_string_lossy) {
            let added = protected.add(&name);
            added.map_err(|fault| Error::new(format!("--evm-xattr {name}: {fault}")))?;
        }
        let machine = Machine { word_size, ..Machine::DEFAULT };
        Ok(Coverage { binding, machine, protected, given })
    }

    /// The letters of `-t`. Only `m` has an effect.
    fn kinds(&self) -> Result<&str> {
        let kinds = self.options.text("type")?.unwrap_or_default();
        match kinds.chars().find(|letter| !"fdsxm".contains(*letter)) {
            Some(letter) => Err(Error::new(format!("-t {kinds}: '{letter}' is not one of fdsxm"))),
            None => Ok(kinds),
        }
    }

    fn place(&self) -> Place {
        match self.options.has("xattr-user") {
            true => Place::User,
            false => Place::Security,
        }
    }

    fn destination(&self) -> Destination {
        match self.options.has("no-write") {
            true => Destination::Nowhere,
            false => Destination::InPlace,
        }
    }

    /// The paths that are named; without `-r`, a directory is processed itself.
    fn paths(&self) -> Result<Vec<PathBuf>> {
        match self.options.operands.get(1..) {
            None | Some([]) => {
                Err(hinted("Parameters missing", "evmctl help shows how commands are used"))
            }
            Some(paths) => Ok(paths.iter().map(PathBuf::from).collect()),
        }
    }

    /// The files that are named; directories, which have no content, are an error without `-r`.
    fn files(&self) -> Result<Vec<PathBuf>> {
        let files = self.paths()?;
        if !self.options.has("recursive") {
            if let Some(path) = files.iter().find(|path| path.is_dir()) {
                let message = format!("{}: a directory", path.display());
                return Err(hinted(message, "-r signs the files in it"));
            }
        }
        Ok(files)
    }

    /// Runs an operation on files; `good` handles each result.
    fn over<O: Operation>(
        &self,
        operation: &O,
        files: &[PathBuf],
        destination: Destination,
        good: &mut dyn FnMut(&Path, O::Outcome) -> bool,
    ) -> Result<Outcome> {
        self.over_at(self.place(), operation, files, destination, good)
    }

    fn over_at<O: Operation>(
        &self,
        place: Place,
        operation: &O,
        files: &[PathBuf],
        destination: Destination,
        good: &mut dyn FnMut(&Path, O::Outcome) -> bool,
    ) -> Result<Outcome> {
        let mut result = |path: &Path, result: Result<O::Outcome, ItemError>| match result {
            Ok(outcome) => good(path, outcome),
            Err(error) => failed(path, error),
        };
        self.over_all(place, operation, files, destination, &mut result)
    }

    fn over_all<O: Operation>(
        &self,
        place: Place,
        operation: &O,
        files: &[PathBuf],
        destination: Destination,
        good: &mut Judge<'_, O::Outcome>,
    ) -> Result<Outcome> {
        let mut selection = Selection::new(&[], &[])?;
        selection.one_file_system = self.kinds()?.contains('m');
        let run = Run {
            operation,
            selection,
            jobs: jobs(None),
            destination,
            compression: None,
            max_sparse: MAX_SPARSE,
            after_end: AfterEnd::Refuse,
            spool: spool_directory(),
            progress: &Silent,
        };
        let mut bad = 0;
        let directories = match self.options.has("recursive") {
            true => DirectoryRoots::Walked,
            false => DirectoryRoots::Themselves,
        };
        let tree = Tree { roots: files.to_vec(), directories, place, verity: None };
        tree.run(&run, &mut |event| {
            let Event::Item { report, .. } = event else { return Ok(()) };
            bad += u64::from(!good(&report.path, report.outcome));
            Ok(())
        })?;
        Ok(if bad > 0 { Outcome::Finding } else { Outcome::Good })
    }

    /// Signs files, and prints the attribute values if that was requested.
    fn sign(&self, operation: Sign<'_>, files: &[PathBuf]) -> Result<Outcome> {
        let operation = Captured(operation);
        let Signing { outcome, unwritten } = self.sign_at(self.destination(), &operation, files)?;
        if self.options.has("sigfile") && !unwritten.is_empty() {
            // a user who cannot set attributes gets a file instead
            self.sign_at(Destination::Nowhere, &operation, &unwritten)?;
        }
        Ok(outcome)
    }

    fn sign_at(
        &self,
        destination: Destination,
        operation: &Captured<Sign<'_>>,
        files: &[PathBuf],
    ) -> Result<Signing> {
        let (mut written, mut unwritten) = (Ok(()), Vec::new());
        let is_written = matches!(destination, Destination::InPlace);
        let mut signed = |path: &Path, result: Result<(Signed, Change), ItemError>| {
            let change = match result {
                Ok((signed, change)) => {
                    if let Signed::Signed { evm, .. } = signed {
                        warn_of(path, evm, is_written);
                    }
                    change
                }
                Err(error) => {
                    use ItemError::{AttributeDenied, AttributeUnsupported, NoRoom};
                    // the file can be signed; only its attribute cannot be set
                    if let AttributeDenied(_) | AttributeUnsupported(_) | NoRoom { .. } = error {
                        unwritten.push(path.to_owned());
                    }
                    return failed(path, error);
                }
            };
            if self.options.has("no-write") || self.options.has("verbose") {
                let values = change.edits().filter_map(|(_, edit)| edit.value());
                values.for_each(|value| println!("{}", Hex(value)));
            }
            let evm = change.value(AttributeName::Evm).and_then(<[u8]>::split_first);
            if let Some((kind, hmac)) = evm.filter(|_| self.options.has("verbose")) {
                if *kind == AttributeType::EvmHmac as u8 {
                    eprintln!("hmac: {}", Hex(hmac));
                }
            }
            let signature = change.value(AttributeName::Ima);
            let signature = signature
                .filter(|value| value.first() == Some(&(AttributeType::ImaSignature as u8)));
            if let Some(value) = signature.filter(|_| self.options.has("sigfile")) {
                let name = detached_path(path);
                let result = staging::write_path(&name, 0o644, value);
                let result = result.at(&name);
                written = std::mem::replace(&mut written, Ok(())).and(result);
            }
            true
        };
        let outcome = self.over_all(self.place(), operation, files, destination, &mut signed)?;
        written.map(|()| Signing { outcome, unwritten })
    }

    /// Makes `security.evm`, after `security.ima` if both were requested.
    fn sign_metadata(
        &self,
        maker: EvmMaker<'_>,
        signer: Option<&dyn ima::key::Signer>,
    ) -> Result<Outcome> {
        let algorithm = self.hash()?;
        let (coverage, labels) = (self.coverage(self.binding())?, Labels::Kept);
        let evm = EvmSign { maker, coverage, algorithm, labels, capabilities: None };
        let content = match (self.options.has("imasig"), self.options.has("imahash"), signer) {
            // with both options, evmctl replaces the signature by the digest
            (_, true, _) => Some(Maker::Digest),
            (true, _, Some(signer)) => Some(self.maker(signer, SignatureKind::Ima)),
            _ => None,
        };
        match content {
            Some(maker) => {
                let operation = Sign::new(maker, algorithm, SignMode::Always).with_evm(evm);
                self.sign(operation, &self.files()?)
            }
            None => self.sign(Sign::metadata(evm, SignMode::Always), &self.paths()?),
        }
    }

    /// Verifies `security.ima`, or with a coverage `security.evm`.
    fn verify(&self, coverage: Option<Coverage>) -> Result<Outcome> {
        let kernel = KernelVersion::V7_3;
        let mut judged = |path: &Path, failure: Option<Failure>| {
            let path = path.display();
            match &failure {
                None => eprintln!("{path}: verification is OK"),
                Some(Failure::Bad(reason)) => eprintln!("{path}: verification failed: {reason}"),
                Some(Failure::Missing(reason)) => {
                    eprintln!("{path}: verification failed: {reason}");
                    // scripts match what evmctl prints
                    eprintln!("getxattr failed: {path}\nerrno: No data available (61)");
                }
            }
            failure.is_none()
        };
        let Some(coverage) = coverage else {
            let files = self.files()?;
            let keys = keys::given(self.options)?;
            let keyring = keys::keyring(&keys)?;
            let (requirement, salt) = (Requirement::Signature, Salt::default());
            let rule = Rule { requirement, kernel, salt };
            let newer = VerifyContent(Verify::new(&keyring, rule));
            let operation = version_1::Verify { newer, keys: &keys, coverage: None };
            let place = match self.options.has("sigfile") {
                true => Place::Detached,
                false => self.place(),
            };
            return self.over_at(place, &operation, &files, Destination::Nowhere, &mut judged);
        };
        let paths = self.paths()?;
        let keys = keys::given(self.options)?;
        let keyring = keys::keyring(&keys)?;
        let newer = VerifyMetadata { keyring: &keyring, coverage, kernel };
        // signatures of version 1 are never portable
        let coverage = Some(self.coverage(Binding::Inode)?);
        let operation = version_1::Verify { newer, keys: &keys, coverage };
        self.over(&operation, &paths, Destination::Nowhere, &mut judged)
    }

    /// Sets the signature from `FILE.sig` or from another file.
    fn restore(&self) -> Result<Outcome> {
        let mut files = self.paths()?;
        let from = match self.options.has("sigfile") && files.len() > 1 {
            true => files.remove(0),
            false => detached_path(&files[0]),
        };
        files.truncate(1);
        let value = input::read_path(&from, KEY_MAX)?;
        let is_written = !self.options.has("no-write");
        self.over(&Restore(value), &files, self.destination(), &mut |path, effect| {
            warn_of(path, effect, is_written);
            true
        })
    }
}

/// Decides whether the result for a file is good.
type Judge<'a, T> = dyn FnMut(&Path, Result<T, ItemError>) -> bool + 'a;

/// Files that were signed.
struct Signing {
    outcome: Outcome,
    /// Files whose attributes could not be set.
    unwritten: Vec<PathBuf>,
}

fn failed(path: &Path, error: ItemError) -> bool {
    // evmctl's words
    let more = match error {
        ItemError::NoFsUuid => Some("Failed to read UUID. Root access might require."),
        _ => None,
    };
    eprintln!("{}: {}", path.display(), Error::from(error));
    more.into_iter().for_each(|words| eprintln!("{words}"));
    false
}

/// Warns of a `security.evm` that no longer fits; evmctl writes nothing.
fn warn_of(path: &Path, effect: EvmEffect, is_written: bool) {
    if effect == EvmEffect::Outdated && is_written {
        let path = path.display();
        eprintln!(
            "warning: {path}: security.evm covers the old security.ima and is no longer valid"
        );
    }
}

fn uuid(text: &str) -> Result<[u8; 16]> {
    let bytes = hex::decode(text.replace('-', "").as_bytes()).ok();
    let bytes = bytes.and_then(|bytes| bytes.try_into().ok());
    bytes.ok_or_else(|| Error::new(format!("--uuid {text}: wrong UUID format")))
}
