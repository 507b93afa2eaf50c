//! Policies into the kernel.

use alloc::vec::Vec;

use rustix::fd::AsRawFd;
use rustix::fs::{self, FileType};
use rustix::io::Errno;

use super::{Failure, Work};
use crate::file;
use crate::plan::Origin;
use crate::policy::{self, Policy, Refusal};
use crate::say;
use crate::text::{Counted, Printable, Reason};

/// The policies that the kernel took.
#[derive(Debug)]
pub(super) struct Policies {
    /// How many.
    pub(super) loaded: usize,
    /// Their rules, where each could be read.
    pub(super) rules: Option<usize>,
    /// What they demand of those after them.
    texts: Vec<Option<Vec<u8>>>,
}

impl Default for Policies {
    fn default() -> Self {
        Self { loaded: 0, rules: Some(0), signatures_demanded: false }
    }
}

impl Work<'_> {
    /// The policy that everything hangs on: by path, so that the kernel can appraise it; by
    /// content where that fails for other reasons than a missing signature, which also tells
    /// the rule that is to blame.
    pub(super) fn load_policy(&mut self, name: &[u8]) -> Result<(), Failure> {
        let text = self.policy_text(Origin::Initramfs, name);
        let content = text.as_deref().map(Policy::parse);
        let path = self.initramfs.path_of(name);
        let by_path = self.load_by_path(Origin::Initramfs, name);
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
                self.policy_loaded(&path, content.as_ref());
                Ok(())
            }
            Err(refusal) => {
                self.policy_refused(&path, &refusal, content.as_ref());
                Err(Failure::PolicyRefused)
            }
        }
    }

    /// A policy of the real root: by path alone, for the kernel to check its signature.
    pub(super) fn offer_policy(&mut self, origin: Origin, name: &[u8]) {
        let demanded = policy::in_force(&self.securityfs)
            .map_or(self.policies.signatures_demanded, |policy| policy.demands_signature);
        let content = self.policy_text(origin, name).as_deref().map(Policy::parse);
        let path = self.tree(origin).path_of(name);
        if let Err(refusal) = self.load_by_path(origin, name) {
            self.policy_refused(&path, &refusal, content.as_ref());
            return;
        }
        if !demanded {
            say!(
                self.console,
                Warning,
                "policy {} taken without a look at its signature: no rule appraises \
                 func=POLICY_CHECK",
                Printable(&path)
            );
        }
        self.policy_loaded(&path, content.as_ref());
    }

    /// The text of a policy, if it can be read.
    pub(super) fn policy_text(&self, origin: Origin, name: &[u8]) -> Option<Vec<u8>> {
        let opened = self.tree(origin).open_file(name).ok()?;
        file::read(&opened, policy::READ_LIMIT).ok()
    }

    /// The kernel would follow symbolic links out of the tree, and would wait at a pipe: it
    /// is given the path of what the name leads to inside the tree, if that is a file.
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

    fn policy_loaded(&mut self, path: &[u8], content: Option<&Policy>) {
        let path = Printable(path);
        self.policies.loaded += 1;
        self.policies.rules =
            self.policies.rules.zip(content).map(|(sum, policy)| sum + policy.rules);
        match content {
            Some(policy) => {
                self.policies.signatures_demanded |= policy.demands_signature;
                let rules = Counted(policy.rules, "rule", "rules");
                say!(self.console, Info, "policy {path} loaded: {rules}");
            }
            None => say!(self.console, Info, "policy {path} loaded"),
        }
    }

    fn policy_refused(&self, path: &[u8], refusal: &Refusal, content: Option<&Policy>) {
        let path = Printable(path);
        match (refusal, content.and_then(|policy| policy.defect)) {
            (Refusal::Open(Errno::NOENT | Errno::BUSY), _) if self.policies.loaded > 0 => {
                say!(
                    self.console,
                    Error,
                    "policy {path} not loaded: this kernel takes one policy and has it; for more \
                     it needs CONFIG_IMA_WRITE_POLICY"
                );
            }
            (Refusal::Path(errno @ Errno::INVAL), Some(defect)) => {
                let reason = Reason(*errno);
                say!(self.console, Error, "policy {path} refused: {reason}: {defect}");
            }
            _ => say!(self.console, Error, "policy {path} refused: {refusal}"),
        }
    }
}
