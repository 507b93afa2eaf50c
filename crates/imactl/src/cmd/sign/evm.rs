//! `imactl sign --evm`: keys and labels for `security.evm`.

use std::path::Path;

use ima::cache::Cached;
use ima::capabilities::{deferred, FileCapabilities};
use ima::container::AnyContainer;
use ima::evm::{Binding, Coverage, HmacKey};
use ima::key::{KeyType, Signer};
use ima::operation::{EvmMaker, EvmSign, Labels};
use ima::selinux::{is_enabled, FileContexts};
use ima::sign::Maker;
use ima::{HashAlgorithm, KeyId};
use ima_format::xattr::{SignatureKind, SignatureVersion};

use super::SignEvmArgs;
use crate::args::SignerArgs;
use crate::error::{hinted, Result};
use crate::evm::{hmac_key, roots, EvmType};
use crate::inputs::Inputs;
use crate::output::Output;

/// A key for `security.evm`.
pub(super) enum EvmKey {
    /// Signs, with this binding.
    Signature(Box<dyn Signer>, Binding),
    /// Computes HMACs.
    Hmac(HmacKey),
}

impl SignEvmArgs {
    /// The key for `security.evm`; `None` without `--evm`.
    pub(super) fn key(
        &self,
        keys: &SignerArgs,
        cache: Option<&Path>,
        output: &mut Output,
    ) -> Result<Option<EvmKey>> {
        if !self.evm {
            return Ok(None);
        }
        let binding = match (self.evm_type, &self.hmac_key) {
            (Some(EvmType::Hmac), Some(path)) => return Ok(Some(EvmKey::Hmac(hmac_key(path)?))),
            (Some(EvmType::Hmac), None) => {
                return Err(hinted("no key for the HMAC", "give --hmac-key FILE"));
            }
            (_, Some(_)) => {
                return Err(hinted("--hmac-key makes no signatures", "give --evm-type hmac"));
            }
            (None | Some(EvmType::Portable), None) => Binding::Portable,
            (Some(EvmType::Inode), None) => Binding::Inode,
        };
        let signer = keys.resolve_evm(&self.key, output)?;
        let signer = match cache {
            Some(directory) => Box::new(Cached::new(signer, directory)?),
            None => signer,
        };
        Ok(Some(EvmKey::Signature(signer, binding)))
    }
}

impl SignEvmArgs {
    /// The file contexts of the target's SELinux policy.
    pub(super) fn contexts(&self, inputs: &Inputs) -> Result<Option<FileContexts>> {
        let Some(path) = &self.selinux_contexts else { return Ok(None) };
        self.check_paths(inputs, "labels depend on paths")?;
        Ok(Some(FileContexts::read(path)?))
    }

    /// The capabilities that files get. Without this list, a root whose packages set some on the target is refused: a
    /// portable signature would become invalid.
    pub(super) fn capabilities(
        &self,
        binding: Binding,
        inputs: &Inputs,
    ) -> Result<Option<FileCapabilities>> {
        if let Some(path) = &self.capabilities {
            self.check_paths(inputs, "capabilities depend on paths")?;
            return Ok(Some(FileCapabilities::read(path)?));
        }
        let mut roots = inputs.containers.iter().flat_map(roots);
        let script = match binding {
            Binding::Portable => roots.find_map(|(_, root)| deferred(&*root)),
            Binding::Inode => None,
        };
        match script {
            None => Ok(None),
            Some(path) => Err(hinted(
                format!(
                    "{}: calls setcap at the first boot, when portable signatures cover \
                     capabilities already",
                    path.display()
                ),
                "give --capabilities FILE; an empty file if no signed file gets any",
            )),
        }
    }

    /// Paths in a disk are those in its root file system.
    fn check_paths(&self, inputs: &Inputs, reason: &str) -> Result<()> {
        for container in &inputs.containers {
            if let (AnyContainer::Image(image), 2..) = (container, roots(container).len()) {
                let path = image.path.display();
                let message =
                    format!("{path}: {reason}, and partitions do not name their mount points");
                return Err(hinted(message, "give --partition for the root file system"));
            }
        }
        Ok(())
    }

    /// The labels to cover. In a root that enables SELinux, files must have labels: a label that is set
    /// later would invalidate a portable signature.
    pub(super) fn labels<'a>(
        &self,
        contexts: Option<&'a FileContexts>,
        binding: Binding,
        inputs: &Inputs,
    ) -> Labels<'a> {
        let mut roots = inputs.containers.iter().flat_map(roots);
        match contexts {
            Some(contexts) => Labels::Set(contexts),
            None if self.allow_unlabeled || binding != Binding::Portable => Labels::Kept,
            None if roots.any(|(_, root)| is_enabled(&*root)) => Labels::Required,
            None => Labels::Kept,
        }
    }
}

impl EvmKey {
    pub(super) fn binding(&self) -> Binding {
        match self {
            Self::Signature(_, binding) => *binding,
            Self::Hmac(_) => Binding::Inode,
        }
    }

    pub(super) fn key_id(&self) -> Option<KeyId> {
        match self {
            Self::Signature(signer, _) => Some(signer.key_id()),
            Self::Hmac(_) => None,
        }
    }

    /// The operation that signs metadata; `version` selects the signature version.
    pub(super) fn sign<'a>(
        &'a self,
        coverage: Coverage,
        algorithm: HashAlgorithm,
        (labels, capabilities): (Labels<'a>, Option<&'a FileCapabilities>),
        version: &dyn Fn(SignatureKind, KeyType) -> Result<SignatureVersion>,
    ) -> Result<EvmSign<'a>> {
        let maker = match self {
            Self::Signature(signer, binding) => {
                let signer: &dyn Signer = &**signer;
                let kind = binding.signature_kind();
                let version = version(kind, signer.public_key().key_type())?;
                EvmMaker::Signature(Maker::Signature { signer, kind, version })
            }
            Self::Hmac(key) => EvmMaker::Hmac(key),
        };
        Ok(EvmSign { maker, coverage, algorithm, labels, capabilities })
    }
}
