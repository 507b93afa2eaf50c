//! The steps that secure the kernel, and their order, from the files that were found.

use alloc::vec::Vec;

use crate::cmdline::RootCertificates;
use crate::keyring::Keyring;
use crate::policy::Policy;

/// The policy of the initramfs, and the one that is used without it.
const CUSTOM_POLICY: &[u8] = b"etc/ima/ima_policy";
const DEFAULT_POLICY: &[u8] = b"etc/ima/ima_policy.default";

/// The tree that a file is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The tree that this program was started in: the initramfs, or the real root if the program runs
    /// without an initramfs.
    Initramfs,
    /// The mounted real root.
    Root,
}

/// The relevant files of one tree, by names relative to its root, sorted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Files {
    /// `etc/keys/x509_secondary_*.der`.
    pub secondary_certificates: Vec<Vec<u8>>,
    /// `etc/keys/x509_ima*.der`.
    pub ima_certificates: Vec<Vec<u8>>,
    /// The files that EVM's configuration names: `etc/keys/x509_evm.der`, `etc/keys/evm/*.der`.
    pub evm_certificates: Vec<Vec<u8>>,
    /// `etc/keys/blacklist*.der` and `etc/keys/blacklist*.entry`, certificates first: the kernel rejects a
    /// certificate that an entry denies.
    pub revocations: Vec<Vec<u8>>,
    /// `etc/ima/ima_policy*`, with the content of each.
    pub policies: Vec<PolicyFile>,
}

/// A policy file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyFile {
    /// Its name, relative to the tree.
    pub name: Vec<u8>,
    /// Its content; `None` if that could not be read: the kernel decides.
    pub content: Option<Policy>,
}

/// A step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Load a certificate; the boot continues if it is rejected.
    LoadCertificate {
        /// The keyring to load it into.
        keyring: Keyring,
        /// Which tree it is in.
        origin: Origin,
        /// Its name there.
        name: Vec<u8>,
    },
    /// Revoke a key or a digest; continue only if the kernel accepts it, if it is the initramfs's.
    Revoke {
        /// Which tree it is in.
        origin: Origin,
        /// Its name there.
        name: Vec<u8>,
    },
    /// Report that the real root's certificates are not loaded.
    SkipRootCertificates {
        /// Their number.
        count: usize,
    },
    /// Continue only if `.ima` has a key.
    RequireCertificate,
    /// Load EVM's HMAC key, while every file can still be read; continue only if EVM has a key.
    RequireEvmKey,
    /// Enable EVM; continue only if the kernel does.
    EnableEvm,
    /// Load the policy that secures the boot; continue only if the kernel accepts it.
    LoadPolicy {
        /// Its name in the initramfs.
        name: Vec<u8>,
    },
    /// Stop: the initramfs has no policy.
    MissPolicy,
    /// Offer the kernel a policy of the real root; the boot continues if it is rejected.
    OfferPolicy {
        /// Which tree it is in.
        origin: Origin,
        /// Its name there.
        name: Vec<u8>,
    },
    /// Report that a policy file has no rule.
    PassOver {
        /// Which tree it is in.
        origin: Origin,
        /// Its name there.
        name: Vec<u8>,
    },
}

/// Whether the initramfs asks for EVM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Evm {
    /// It has files of EVM.
    Wanted,
    /// It has none; files of the real root cannot enable it.
    Unwanted,
}

/// Plans the steps. `root` is `None` if the real root is the initramfs's own tree.
///
/// The order is fixed. Revocations come first, so that nothing revoked counts. Certificates of trusted
/// keys come before those that they sign, the initramfs before the real root, names by their bytes.
/// Then come the policy of the initramfs, whose signature, if any, is not EVM's; EVM; and the
/// policies of the real root, which can only add to the first one.
pub fn plan(
    initramfs: &Files,
    root: Option<&Files>,
    root_certificates: RootCertificates,
    evm: Evm,
) -> Vec<Step> {
    let trees = [(Origin::Initramfs, Some(initramfs)), (Origin::Root, root)];
    let trees = trees.into_iter().filter_map(|(origin, files)| Some((origin, files?)));
    let mut steps = Vec::new();
    for (origin, files) in trees.clone() {
        let revoke = |name: &Vec<u8>| Step::Revoke { origin, name: name.clone() };
        steps.extend(files.revocations.iter().map(revoke));
    }
    let mut skipped = 0;
    let keyrings: &[Keyring] = match evm {
        Evm::Wanted => &[Keyring::SecondaryTrusted, Keyring::Ima, Keyring::Evm],
        Evm::Unwanted => &[Keyring::SecondaryTrusted, Keyring::Ima],
    };
    for &keyring in keyrings {
        for (origin, files) in trees.clone() {
            let names = match keyring {
                Keyring::Ima => &files.ima_certificates,
                Keyring::Evm => &files.evm_certificates,
                _ => &files.secondary_certificates,
            };
            if origin == Origin::Root && root_certificates == RootCertificates::Skip {
                skipped += names.len();
                continue;
            }
            let load =
                |name: &Vec<u8>| Step::LoadCertificate { keyring, origin, name: name.clone() };
            steps.extend(names.iter().map(load));
        }
    }
    if skipped > 0 {
        steps.push(Step::SkipRootCertificates { count: skipped });
    }
    steps.push(Step::RequireCertificate);
    let wanted = |step| (evm == Evm::Wanted).then_some(step);
    steps.extend(wanted(Step::RequireEvmKey));
    first_policy(initramfs, &mut steps);
    steps.extend(wanted(Step::EnableEvm));
    for (origin, files) in trees {
        for PolicyFile { name, content } in &files.policies {
            let name = name.clone();
            match (origin, content) {
                // It was the first policy, or was left out in favour of it.
                (Origin::Initramfs, _) if [CUSTOM_POLICY, DEFAULT_POLICY].contains(&&*name) => {}
                // Further policies of an initramfs are ignored, unless it is the root.
                (Origin::Initramfs, _) if root.is_some() => {}
                (_, Some(Policy { rules: 0, .. })) => steps.push(Step::PassOver { origin, name }),
                _ => steps.push(Step::OfferPolicy { origin, name }),
            }
        }
    }
    steps
}

/// The custom policy if it has a rule, else the default one.
fn first_policy(initramfs: &Files, steps: &mut Vec<Step>) {
    for wanted in [CUSTOM_POLICY, DEFAULT_POLICY] {
        let found = initramfs.policies.iter().find(|policy| policy.name == wanted);
        let Some(PolicyFile { name, content }) = found else { continue };
        let name = name.clone();
        if content.as_ref().map_or(true, |policy| policy.rules > 0) {
            steps.push(Step::LoadPolicy { name });
            return;
        }
        steps.push(Step::PassOver { origin: Origin::Initramfs, name });
    }
    steps.push(Step::MissPolicy);
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOAD: RootCertificates = RootCertificates::Load;

    fn policy(name: &str, rules: usize) -> PolicyFile {
        let content = Some(Policy { rules, ..Policy::default() });
        PolicyFile { name: name.into(), content }
    }

    fn initramfs() -> Files {
        Files {
            ima_certificates: alloc::vec![b"etc/keys/x509_ima.der".to_vec()],
            evm_certificates: alloc::vec![b"etc/keys/x509_evm.der".to_vec()],
            policies: alloc::vec![policy("etc/ima/ima_policy.default", 5)],
            ..Files::default()
        }
    }

    fn certificate(keyring: Keyring, origin: Origin, name: &str) -> Step {
        Step::LoadCertificate { keyring, origin, name: name.into() }
    }

    fn load(name: &str) -> Step {
        Step::LoadPolicy { name: name.into() }
    }

    fn offer(name: &str) -> Step {
        Step::OfferPolicy { origin: Origin::Root, name: name.into() }
    }

    #[test]
    fn order_is_revocations_then_secondary_then_ima_then_policies() {
        let root = Files {
            secondary_certificates: alloc::vec![b"etc/keys/x509_secondary_a.der".to_vec()],
            ima_certificates: alloc::vec![b"etc/keys/x509_ima_b.der".to_vec()],
            evm_certificates: alloc::vec![],
            policies: alloc::vec![
                policy("etc/ima/ima_policy", 1),
                policy("etc/ima/ima_policy.default", 2),
                policy("etc/ima/ima_policy.empty", 0),
            ],
            revocations: alloc::vec![b"etc/keys/blacklist_b.entry".to_vec()],
        };
        let name = b"etc/ima/ima_policy.empty".to_vec();
        let revoked = b"etc/keys/blacklist_a.der".to_vec();
        let files = Files { revocations: alloc::vec![revoked.clone()], ..initramfs() };
        assert_eq!(
            plan(&files, Some(&root), LOAD, Evm::Unwanted),
            [
                Step::Revoke { origin: Origin::Initramfs, name: revoked },
                Step::Revoke { origin: Origin::Root, name: b"etc/keys/blacklist_b.entry".to_vec() },
                certificate(
                    Keyring::SecondaryTrusted,
                    Origin::Root,
                    "etc/keys/x509_secondary_a.der"
                ),
                certificate(Keyring::Ima, Origin::Initramfs, "etc/keys/x509_ima.der"),
                certificate(Keyring::Ima, Origin::Root, "etc/keys/x509_ima_b.der"),
                Step::RequireCertificate,
                load("etc/ima/ima_policy.default"),
                offer("etc/ima/ima_policy"),
                offer("etc/ima/ima_policy.default"),
                Step::PassOver { origin: Origin::Root, name },
            ]
        );
    }

    #[test]
    fn certificates_of_the_root_can_be_left_alone_but_not_its_policies() {
        let root = Files {
            secondary_certificates: alloc::vec![b"etc/keys/x509_secondary_a.der".to_vec()],
            ima_certificates: alloc::vec![b"etc/keys/x509_ima_b.der".to_vec()],
            evm_certificates: alloc::vec![],
            policies: alloc::vec![policy("etc/ima/ima_policy", 1)],
            ..Files::default()
        };
        assert_eq!(
            plan(&initramfs(), Some(&root), RootCertificates::Skip, Evm::Unwanted),
            [
                certificate(Keyring::Ima, Origin::Initramfs, "etc/keys/x509_ima.der"),
                Step::SkipRootCertificates { count: 2 },
                Step::RequireCertificate,
                load("etc/ima/ima_policy.default"),
                offer("etc/ima/ima_policy"),
            ]
        );
    }

    #[test]
    fn a_custom_policy_replaces_the_default() {
        let mut files = initramfs();
        files.policies.insert(0, policy("etc/ima/ima_policy", 3));
        let steps = plan(&files, Some(&Files::default()), LOAD, Evm::Unwanted);
        assert_eq!(steps[2..], [load("etc/ima/ima_policy")]);
    }

    #[test]
    fn a_custom_policy_without_a_rule_gives_way() {
        let mut files = initramfs();
        files.policies.insert(0, policy("etc/ima/ima_policy", 0));
        let steps = plan(&files, Some(&Files::default()), LOAD, Evm::Unwanted);
        let name = CUSTOM_POLICY.to_vec();
        let passed = Step::PassOver { origin: Origin::Initramfs, name };
        assert_eq!(steps[2..], [passed, load("etc/ima/ima_policy.default")]);
    }

    #[test]
    fn an_unreadable_policy_is_left_to_the_kernel() {
        let name = CUSTOM_POLICY.to_vec();
        let files =
            Files { policies: alloc::vec![PolicyFile { name, content: None }], ..Files::default() };
        let steps = plan(&files, Some(&files), LOAD, Evm::Unwanted);
        let rest = [load("etc/ima/ima_policy"), offer("etc/ima/ima_policy")];
        assert_eq!(steps[1..], rest);
    }

    #[test]
    fn no_policy_in_the_initramfs_is_told_whatever_the_root_has() {
        let root =
            Files { policies: alloc::vec![policy("etc/ima/ima_policy", 1)], ..Files::default() };
        let steps = plan(&Files::default(), Some(&root), LOAD, Evm::Unwanted);
        assert_eq!(steps[..2], [Step::RequireCertificate, Step::MissPolicy]);
    }

    #[test]
    fn run_on_the_real_root_no_policy_is_loaded_twice() {
        let mut files = initramfs();
        files.policies.insert(0, policy("etc/ima/ima_policy", 3));
        files.policies.push(policy("etc/ima/ima_policy.site", 1));
        let steps = plan(&files, None, LOAD, Evm::Unwanted);
        let name = b"etc/ima/ima_policy.site".to_vec();
        let site = Step::OfferPolicy { origin: Origin::Initramfs, name };
        assert_eq!(steps[2..], [load("etc/ima/ima_policy"), site]);
    }

    #[test]
    fn evm_is_in_force_before_policies_of_the_root() {
        let root = Files {
            evm_certificates: alloc::vec![b"etc/keys/evm/b.der".to_vec()],
            policies: alloc::vec![policy("etc/ima/ima_policy", 1)],
            ..Files::default()
        };
        let steps = plan(&initramfs(), Some(&root), LOAD, Evm::Wanted);
        assert_eq!(
            steps[1..],
            [
                certificate(Keyring::Evm, Origin::Initramfs, "etc/keys/x509_evm.der"),
                certificate(Keyring::Evm, Origin::Root, "etc/keys/evm/b.der"),
                Step::RequireCertificate,
                Step::RequireEvmKey,
                load("etc/ima/ima_policy.default"),
                Step::EnableEvm,
                offer("etc/ima/ima_policy"),
            ]
        );
    }
}
