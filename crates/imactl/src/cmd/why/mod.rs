//! `imactl why`

mod cause;
mod console;
mod file;
mod log;

use std::path::{Path, PathBuf};

use clap::Args;
use ima::container::tree::Directory;
use ima::evm::machine_of;
use ima::key::certificate::Certificate;
use ima::preflight::Evm;
use ima::revoke::entries_of_certificate;
use ima::system::{self, EvmState, Members, Status, BLACKLIST};
use ima::verify::{Keyring, Revocations};
use ima_format::evm::{Machine, Protected};
use ima_format::policy::kernel::Kernel;

use super::policy::Loaded;
use crate::args::KeyringArgs;
use crate::error::{hinted, Result};
use crate::kernel::warn_of_hearsay;
use crate::output::Output;
use crate::Outcome;

/// Explain why this machine's kernel denies a file, or a line of its audit log
///
/// For each FILE, shows whether root may execute it, map it, or load it as a module, firmware or
/// policy on this machine; and if not, the reason, the rule and how to fix it. Reads the policy in
/// force, the .ima keyring and the file; asks the kernel only with --ask. The exit status is 1 if a
/// file would be denied for its purpose, or if the log has a denial.
#[derive(Debug, Args)]
pub(crate) struct WhyArgs {
    /// The files
    #[arg(value_name = "FILE", required_unless_present_any = ["audit", "audit_log"])]
    files: Vec<PathBuf>,
    /// Explain a line of the audit log, of the journal or of the console
    #[arg(long, value_name = "LINE")]
    audit: Vec<String>,
    /// Explain each denial in a log; - is standard input
    #[arg(long, value_name = "FILE")]
    audit_log: Option<PathBuf>,
    /// The policies in force, in the order of loading [default: what the kernel shows]
    #[arg(long, value_name = "FILE", num_args = 1)]
    policy: Vec<PathBuf>,
    #[command(flatten)]
    keyring: KeyringArgs,
    /// Also ask the kernel: map the file executable
    #[arg(long)]
    ask: bool,
}

impl WhyArgs {
    pub(crate) fn run(&self, output: &mut Output) -> Result<Outcome> {
        let mut outcome = Outcome::Good;
        if !self.audit.is_empty() || self.audit_log.is_some() {
            let known = self.certificates(output)?;
            for line in &self.audit {
                outcome = outcome.max(log::explain_line(line.as_bytes(), &known, output)?);
            }
            if let Some(path) = &self.audit_log {
                outcome = outcome.max(log::explain_log(path, &known, output)?);
            }
        }
        if !self.files.is_empty() {
            outcome = outcome.max(self.explain_files(output)?);
        }
        Ok(outcome)
    }

    fn explain_files(&self, output: &mut Output) -> Result<Outcome> {
        let machine = system::Machine::here();
        let status = machine.status();
        let kernel = super::policy::running();
        warn_of_hearsay(kernel.version, output);
        let loaded = match self.policy.as_slice() {
            [] => {
                if status.policy.is_none() {
                    return Err(hinted(
                        "the policy in force cannot be read",
                        "be root on a kernel with CONFIG_IMA_READ_POLICY, or name it with --policy",
                    ));
                }
                Loaded::of(&[machine.policy_file()], &kernel)?
            }
            policies => Loaded::of(policies, &kernel)?,
        };
        let known = self.certificates(output)?;
        let active = match status.evm {
            EvmState::Present(evm) if evm.is_active() => {
                let certificates = self.evm_certificates(&known, output);
                Some(ActiveEvm::of(evm, &status, &kernel, certificates))
            }
            _ => None,
        };
        let trust = Trust::of(&status, known, output);
        let grounds = file::Grounds {
            loaded: &loaded,
            kernel: &kernel,
            appraisal: status.appraisal,
            evm: status.evm,
            trust: &trust,
            active: active.as_ref(),
            ask: self.ask,
        };
        let mut outcome = Outcome::Good;
        for path in &self.files {
            outcome = outcome.max(file::explain(path, &grounds, output)?);
        }
        Ok(outcome)
    }

    /// The given certificates, and those in the directory from which the boot loads them.
    fn certificates(&self, output: &mut Output) -> Result<Vec<Certificate>> {
        let mut certificates = self.keyring.given(output)?;
        certificates.extend(kept("/etc/keys", output));
        Ok(certificates)
    }

    /// The same for `.evm`: any of the given ones may be in it, too.
    fn evm_certificates(&self, known: &[Certificate], output: &mut Output) -> Vec<Certificate> {
        let mut certificates = known.to_vec();
        certificates.extend(self.keyring.evm_certificates(&[], output).unwrap_or_default());
        certificates.extend(kept("/etc/keys/evm", output));
        certificates
    }
}

/// The certificates in a directory of this machine.
fn kept(directory: &str, output: &mut Output) -> Vec<Certificate> {
    let mut certificates = Vec::new();
    for path in ima::key::store::certificate_files(Path::new(directory)).unwrap_or_default() {
        match Certificate::read_all(&path) {
            Ok(read) => certificates.extend(read),
            Err(error) => output.warn(&error.to_string()),
        }
    }
    certificates
}

/// The state of an active EVM, and its keys.
struct ActiveEvm {
    evm: Evm,
    /// Key IDs in `.evm` without an available certificate; `None` if the keyring cannot be read.
    others: Option<Vec<ima::KeyId>>,
}

impl ActiveEvm {
    fn of(
        bits: ima::system::Evm,
        status: &Status,
        kernel: &Kernel,
        known: Vec<Certificate>,
    ) -> Self {
        let held = match status.members(".evm") {
            Members::Absent => status.members("_evm"),
            members => members,
        };
        let held: Option<Vec<_>> = match held {
            Members::Keys(keys) => Some(keys.iter().filter_map(|key| key.key_id).collect()),
            Members::Absent => Some(Vec::new()),
            Members::Hidden | Members::Unreadable => None,
        };
        let trusted = match &held {
            Some(held) => ima::why::split_by_trust(known, held).0,
            None => known,
        };
        let is_known = |key_id: &ima::KeyId| trusted.iter().any(|it| it.key_id() == *key_id);
        let others = held.map(|held| held.into_iter().filter(|it| !is_known(it)).collect());
        let mut keyring = Keyring::of_certificates(&trusted);
        keyring.revoke(&status.revocations());
        let here = Directory::open(Path::new("/")).ok();
        let machine = here.and_then(|here| machine_of(&here)).unwrap_or(Machine::DEFAULT);
        // without CONFIG_EVM_ADD_XATTRS, the kernel does not show its list
        let protected = match &status.evm_xattrs {
            Some(names) => Protected::of_securityfs(kernel.version, names),
            None => Protected::of(kernel),
        };
        let (hmac, fsuuid, versions) = (None, None, bits.versions());
        Self { evm: Evm { keyring, hmac, machine, protected, fsuuid, versions }, others }
    }
}

/// The keys that the kernel trusts, as far as it shows them.
struct Trust {
    /// The content of `.ima` (or of `_ima`, on kernels without `.ima`).
    held: Held,
    trusted: Vec<Certificate>,
    others: Vec<Certificate>,
    revoked: Revocations,
}

/// The known content of a keyring.
#[derive(Debug, PartialEq, Eq)]
enum Held {
    /// Its key IDs.
    Keys(Vec<ima::KeyId>),
    /// There is no such keyring: every given certificate is assumed to be trusted.
    NoKeyring,
    /// It cannot be read.
    Unseen,
}

impl Trust {
    fn of(status: &Status, known: Vec<Certificate>, output: &mut Output) -> Self {
        let members = match status.members(".ima") {
            Members::Absent => status.members("_ima"),
            members => members,
        };
        let (held, trusted, others) = match members {
            Members::Keys(keys) => {
                let held: Vec<_> = keys.iter().filter_map(|key| key.key_id).collect();
                let (trusted, others) = ima::why::split_by_trust(known, &held);
                (Held::Keys(held), trusted, others)
            }
            Members::Absent => {
                output.warn(
                    "there is no .ima keyring: all given certificates are treated as trusted",
                );
                (Held::NoKeyring, known, Vec::new())
            }
            Members::Hidden | Members::Unreadable => {
                output.warn("the .ima keyring cannot be read (root?): its keys are unknown");
                (Held::Unseen, known, Vec::new())
            }
        };
        for name in [".ima_blacklist", BLACKLIST] {
            if matches!(status.members(name), Members::Hidden | Members::Unreadable) {
                output.warn(&format!("{name} cannot be read (root?): revocations are unknown"));
            }
        }
        Self { held, trusted, others, revoked: status.revocations() }
    }

    /// Whether the kernel denies files with signatures by this key.
    fn is_revoked(&self, key_id: ima::KeyId) -> bool {
        self.revoked.keys.contains(&key_id)
    }

    /// Whether no keyring accepts a certificate: its entry is in `.blacklist`.
    fn is_denied(&self, certificate: &Certificate) -> bool {
        let entries = entries_of_certificate(certificate).unwrap_or_default();
        self.revoked.entries().any(|entry| entries.contains(entry))
    }
}
