//! Loads policies into the kernel.

use alloc::vec::Vec;

use ima_format::printable::Printable;
use rustix::fd::AsRawFd;
use rustix::fs::{self, FileType};
use rustix::io::Errno;

use super::{Failure, Work};
use crate::cmdline::Mode;
use crate::demand::Demand;
use crate::file;
use crate::plan::Origin;
use crate::policy::{self, Policy, Refusal};
use crate::say;
use crate::text::{Counted, Reason};

/// The policies that the kernel accepted.
#[derive(Debug)]
pub(super) struct Policies {
    /// Their number.
    pub(super) loaded: usize,
    /// The number of their rules, if all of them could be read.
    pub(super) rules: Option<usize>,
    /// Their texts, in order; `None` for one that could not be read.
    texts: Vec<Option<Vec<u8>>>,
}

impl Default for Policies {
    fn default() -> Self {
        Self { loaded: 0, rules: Some(0), texts: Vec::new() }
    }
}

impl Work<'_> {
    /// Loads the policy that the boot depends on: by path, so that the kernel can appraise it. If that fails
    /// for another reason than a missing signature, loads it by content, which also shows the rule that
    /// the kernel rejects.
    pub(super) fn load_policy(&mut self, name: &[u8]) -> Result<(), Failure> {
        let text = self.policy_text(Origin::Initramfs, name);
        let content = text.as_deref().map(Policy::parse);
        let path = self.initramfs.path_of(name);
        let signed = self.load_signed(name, text.as_deref());
        let by_path = signed.unwrap_or_else(|| self.load_by_path(Origin::Initramfs, name));
        let result = match (by_path, &text) {
            (Err(Refusal::Path(errno)), Some(text)) if errno != Errno::ACCESS => {
                let result = policy::load_by_content(&self.securityfs, text);
                if result.is_ok() {
                    let (path, reason) = (Printable(&path), Reason(errno));
                    say!(self.console, Warning, "policy {path} only loads by content: {reason}");
                    if let Some(defect) = content.as_ref().and_then(|policy| policy.defect) {
                        say!(self.console, Warning, "policy {path}: {defect}");
                    }
                }
                result
            }
            (by_path, _) => by_path,
        };
        match result {
            Ok(()) => {
                self.policy_loaded(&path, text);
                Ok(())
            }
            Err(refusal) => {
                self.policy_refused(&path, &refusal, content.as_ref());
                Err(Failure::PolicyRefused)
            }
        }
    }

    /// Offers a policy of the real root: by path only, so that the kernel verifies its signature. If the
    /// kernel would not verify it, the real root could change the rules in force: then the policy is
    /// not offered, except with `imactl.mode=permissive`.
    pub(super) fn offer_policy(&mut self, origin: Origin, name: &[u8]) {
        let path = self.tree(origin).path_of(name);
        let demand = self.demand(origin, name);
        let why = match demand {
            Demand::Signature => "",
            Demand::None => "no rule in force demands a signature on every policy",
            Demand::Lax => "a rule in force may accept policies without a signature",
        };
        if demand != Demand::Signature && self.mode == Mode::Enforce {
            say!(
                self.console,
                Error,
                "policy {} not offered: {why}, so that the kernel would accept one from anyone; \
                 add \"appraise func=POLICY_CHECK appraise_type=imasig\" to the policy of the \
                 initramfs, before other rules that match policies (imactl.mode=permissive \
                 offers it anyway)",
                Printable(&path)
            );
            return;
        }
        let text = self.policy_text(origin, name);
        if let Err(refusal) = self.load_by_path(origin, name) {
            let content = text.as_deref().map(Policy::parse);
            self.policy_refused(&path, &refusal, content.as_ref());
            return;
        }
        if demand != Demand::Signature {
            let path = Printable(&path);
            say!(
                self.console,
                Critical,
                "policy {path} loaded WITHOUT signature verification: {why}"
            );
        }
        self.policy_loaded(&path, text);
    }

    /// The demand of the rules in force, else of the rules that were loaded, on a policy.
    fn demand(&self, origin: Origin, name: &[u8]) -> Demand {
        let found = self.tree(origin).find(name).and_then(fs::fstatfs);
        let magic = found.ok().and_then(|found| u64::try_from(found.f_type).ok());
        match policy::in_force(&self.securityfs) {
            Some(text) => policy::demand(&text, magic),
            None => self.policies.texts.iter().fold(Demand::None, |demand, text| {
                // a policy that could not be read may have any rule
                let added = text.as_ref().map_or(Demand::Lax, |text| policy::demand(text, magic));
                demand.then(added)
            }),
        }
    }

    /// The text of a policy, if it can be read.
    pub(super) fn policy_text(&self, origin: Origin, name: &[u8]) -> Option<Vec<u8>> {
        let opened = self.tree(origin).open_file(name).ok()?;
        file::read(&opened, policy::READ_LIMIT).ok()
    }

    /// The kernel would follow symbolic links out of the tree, and block on a FIFO. So it is given the
    /// resolved path, if that is a regular file inside the tree.
    fn load_by_path(&self, origin: Origin, name: &[u8]) -> Result<(), Refusal> {
        let found = self.tree(origin).find(name).map_err(Refusal::Path)?;
        let status = fs::fstat(&found).map_err(Refusal::Path)?;
        if FileType::from_raw_mode(status.st_mode) != FileType::RegularFile {
            return Err(Refusal::NoFile);
        }
        let link = alloc::format!("self/fd/{}", found.as_raw_fd());
        let path = fs::readlinkat(self.proc, link, Vec::new()).map_err(Refusal::Path)?;
        policy::load_by_path(&self.securityfs, path.to_bytes())
    }

    /// Loads a policy of the initramfs with a detached signature, as its file system has no attributes: a
    /// copy in memory has the signature as its attribute. `None` if there is no signature, or no copy
    /// can be made.
    ///
    /// Under Secure Boot a kernel with `CONFIG_IMA_ARCH_POLICY` demands signed policies from the start.
    fn load_signed(&self, name: &[u8], text: Option<&[u8]>) -> Option<Result<(), Refusal>> {
        let signature =
            self.initramfs.open_file(&[name, policy::SIGNATURE_SUFFIX].concat()).ok()?;
        let copy = file::read(&signature, policy::SIGNATURE_LIMIT)
            .and_then(|signature| policy::signed_copy(text.ok_or(Errno::FBIG)?, &signature));
        match copy {
            Ok(copy) => {
                let path = alloc::format!("/proc/self/fd/{}", copy.as_raw_fd());
                Some(policy::load_by_path(&self.securityfs, path.as_bytes()))
            }
            Err(errno) => {
                let path = self.initramfs.path_of(name);
                let (path, reason) = (Printable(&path), Reason(errno));
                say!(self.console, Warning, "policy {path}: its signature is ignored: {reason}");
                None
            }
        }
    }

    fn policy_loaded(&mut self, path: &[u8], text: Option<Vec<u8>>) {
        let path = Printable(path);
        let content = text.as_deref().map(Policy::parse);
        self.policies.loaded += 1;
        self.policies.rules =
            self.policies.rules.zip(content.as_ref()).map(|(sum, policy)| sum + policy.rules);
        match content {
            Some(policy) => {
                let rules = Counted(policy.rules, "rule", "rules");
                say!(self.console, Info, "policy {path} loaded: {rules}");
            }
            None => say!(self.console, Info, "policy {path} loaded"),
        }
        self.policies.texts.push(text);
    }

    fn policy_refused(&self, path: &[u8], refusal: &Refusal, content: Option<&Policy>) {
        let path = Printable(path);
        match (refusal, content.and_then(|policy| policy.defect)) {
            (Refusal::Open(Errno::NOENT | Errno::BUSY), _) if self.policies.loaded > 0 => {
                say!(
                    self.console,
                    Error,
                    "policy {path} not loaded: this kernel accepts one policy and has it; further \
                     policies need CONFIG_IMA_WRITE_POLICY"
                );
            }
            (Refusal::Path(errno @ Errno::INVAL), Some(defect)) => {
                let reason = Reason(*errno);
                say!(self.console, Error, "policy {path} rejected: {reason}: {defect}");
            }
            _ => say!(self.console, Error, "policy {path} rejected: {refusal}"),
        }
    }
}
