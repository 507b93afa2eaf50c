//! What only who has the file and the keys can tell: here imactl's own digests and verifier.

use std::cell::RefCell;

use ima::digest::Hasher;
use ima::verify::{Requirement, Verdict, Verifier};
use ima_format::hash::{Digest, HashAlgorithm};
use ima_format::policy::decide::{
    attribute_algorithm, AttributeRead, Evidence, SignatureCheck, Signed,
};

use super::files::{FileSpec, Files, System};

/// A case's file, as far as it is known.
pub(crate) struct Known<'a> {
    pub(crate) files: &'a Files,
    file: &'a FileSpec,
    attribute: Option<Vec<u8>>,
    verifier: RefCell<Verifier>,
}

impl<'a> Known<'a> {
    pub(crate) fn new(files: &'a Files, file: &'a FileSpec) -> Self {
        let attribute = files.attribute(file);
        let verifier = RefCell::new(Verifier::new(files.keyring.clone()));
        Self { files, file, attribute, verifier }
    }

    /// What the kernel reads.
    pub(crate) fn attribute(&self) -> AttributeRead<'_> {
        match (self.file.system, &self.attribute) {
            (System::Vfat | System::Ramfs, _) => AttributeRead::NoAttributes,
            (_, Some(value)) => AttributeRead::Value(value),
            (_, None) => AttributeRead::Missing,
        }
    }

    /// The kernel puts the file's digest in the attribute's place, by the algorithm that it
    /// compared with before (`ima_fix_xattr`).
    pub(crate) fn fix(&mut self) {
        let algorithm = attribute_algorithm(self.attribute.as_deref(), HashAlgorithm::Sha256);
        let Some(digest) = self.digest(algorithm) else { return };
        let head = match algorithm {
            HashAlgorithm::Sha1 | HashAlgorithm::Md5 => vec![1],
            _ => vec![4, algorithm.id()],
        };
        self.attribute = Some([&head, digest.as_bytes()].concat());
    }
}

impl Evidence for Known<'_> {
    fn digest(&self, algorithm: HashAlgorithm) -> Option<Digest> {
        // the lab's kernels are built without MD5
        if algorithm == HashAlgorithm::Md5 {
            return None;
        }
        Hasher::new(algorithm).ok()?.digest(&self.file.bytes()).ok()
    }

    fn verify(&self, attribute: &[u8], signed: Signed<'_>) -> SignatureCheck {
        let (Signed::Digest(digest) | Signed::FileId(digest)) = signed;
        let verdict = self.verifier.borrow_mut().verdict::<()>(
            Requirement::Signature,
            Some(attribute),
            |algorithm| if algorithm == digest.algorithm() { Ok(*digest) } else { Err(()) },
        );
        match verdict {
            Ok(Verdict::ValidSignature { .. }) => SignatureCheck::Good,
            Ok(Verdict::UnknownKey(_) | Verdict::ObsoleteSignature) => SignatureCheck::UnknownKey,
            _ => SignatureCheck::Bad,
        }
    }
}
