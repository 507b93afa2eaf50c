//! The facts that depend on the file and the keys, computed with imactl's own digests and verifier.

use std::convert::Infallible;

use ima::digest::Hasher;
use ima::verify::Verifier;
use ima_format::hash::{Digest, HashAlgorithm};
use ima_format::policy::decide::{
    attribute_algorithm, AttributeRead, Evidence, SignatureCheck, Signed,
};
use ima_format::policy::kernel::Kernel;
use ima_format::xattr::Attribute;

use super::files::{FileSpec, Files, System};

/// The known state of a case's file.
pub(crate) struct Known<'a> {
    pub(crate) files: &'a Files,
    file: &'a FileSpec,
    attribute: Option<Vec<u8>>,
    verifier: Verifier,
}

impl<'a> Known<'a> {
    pub(crate) fn new(files: &'a Files, file: &'a FileSpec) -> Self {
        let attribute = files.attribute(file);
        let verifier = Verifier::new(files.keyring.clone());
        Self { files, file, attribute, verifier }
    }

    /// The current attribute of the file.
    pub(crate) fn attribute(&self) -> Option<Vec<u8>> {
        self.attribute.clone()
    }

    /// The digest of the content.
    fn computed(&self, algorithm: HashAlgorithm) -> Option<Digest> {
        let mut hasher = Hasher::new(algorithm).ok()?;
        hasher.digest(&self.file.bytes()).ok()
    }

    /// The kernel replaces the attribute with the file's digest, using the hash algorithm of the comparison
    /// before (`ima_fix_xattr`).
    pub(crate) fn fix(&mut self, kernel: &Kernel) {
        let algorithm = attribute_algorithm(self.attribute.as_deref(), kernel);
        let Some(digest) = self.computed(algorithm) else { return };
        let head = match algorithm {
            HashAlgorithm::Sha1 | HashAlgorithm::Md5 => vec![1],
            _ => vec![4, algorithm.id()],
        };
        self.attribute = Some([&head, digest.as_bytes()].concat());
    }
}

/// The result of reading an attribute on a file system.
pub(crate) fn read_on(system: System, attribute: &Option<Vec<u8>>) -> AttributeRead<'_> {
    match (system, attribute) {
        (System::Vfat | System::Ramfs, _) => AttributeRead::NoAttributes,
        (_, Some(value)) => AttributeRead::Value(value),
        (_, None) => AttributeRead::Missing,
    }
}

impl Evidence for Known<'_> {
    type Error = Infallible;

    fn digest(&mut self, algorithm: HashAlgorithm) -> Result<Option<Digest>, Infallible> {
        Ok(self.computed(algorithm))
    }

    fn verify(
        &mut self,
        attribute: &[u8],
        signed: Signed<'_>,
    ) -> Result<SignatureCheck, Infallible> {
        let (Signed::Digest(digest) | Signed::FileId(digest)) = signed;
        let signature = match Attribute::decode(attribute) {
            Ok(Attribute::Signature(signature)) => signature,
            Ok(Attribute::SignatureV1(_)) => return Ok(SignatureCheck::UnknownKey),
            _ => return Ok(SignatureCheck::Bad),
        };
        let verifier = &mut self.verifier;
        Ok(match (verifier.knows(signature.key_id), verifier.accepts(&signature, digest)) {
            (false, _) => SignatureCheck::UnknownKey,
            (true, true) => SignatureCheck::Good,
            (true, false) => SignatureCheck::Bad,
        })
    }
}
