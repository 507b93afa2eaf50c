//! The part of a certificate that a keyring keeps.

use ima_format::x509::{Certificate as Fields, KeyAlgorithm};
use openssl::pkey::{PKey, Public};

/// A key in a keyring, with the ids by which certificates and signatures find it (`asymmetric_key_ids`).
#[derive(Debug, Clone)]
pub(super) struct Key {
    /// Serial number and issuer of its certificate.
    serial_and_issuer: Vec<u8>,
    pub(super) identifier: Option<Vec<u8>>,
    pub(super) subject: Vec<u8>,
    pub(super) algorithm: KeyAlgorithm,
    /// `None` if OpenSSL cannot read it.
    pub(super) public: Option<PKey<Public>>,
    /// Identifies its description: a later key with the same description replaces it.
    pub(super) described_by: Vec<u8>,
}

impl Key {
    pub(super) fn of(fields: &Fields<'_>) -> Self {
        Self {
            serial_and_issuer: [fields.serial, fields.issuer_name].concat(),
            identifier: fields.subject_key_identifier.map(<[u8]>::to_vec),
            subject: fields.subject_name.to_vec(),
            algorithm: fields.key_algorithm,
            public: PKey::public_key_from_der(fields.key_info).ok(),
            described_by: [fields.subject_name, fields.key_identifier()].concat(),
        }
    }

    /// Whether one of its first two ids is equal to `id` (`asymmetric_key_cmp`).
    pub(super) fn is_identified_by(&self, id: &[u8]) -> bool {
        self.serial_and_issuer == id || self.identifier.as_deref() == Some(id)
    }
}
