//! The keys that signatures are verified with.

use ima_format::blacklist::{Entry, Kind};
use ima_format::modsig::SignerId;
use ima_format::x509;
use ima_format::xattr::KeyId;

use crate::key::certificate::Certificate;
use crate::key::PublicKey;

/// Public keys by key id, as the kernel's `.ima` keyring holds them.
#[derive(Debug, Clone, Default)]
pub struct Keyring {
    keys: Vec<(KeyId, PublicKey)>,
    certified: Vec<Certified>,
    /// Key ids in `.ima_blacklist`.
    revoked: Vec<KeyId>,
    /// Digests in `.blacklist`.
    denied: Vec<Vec<u8>>,
}

/// What is no longer accepted.
#[derive(Debug, Clone, Default)]
pub struct Revocations {
    /// In `.blacklist` from the start: compiled in.
    pub built_in: Vec<Entry>,
    /// In `.blacklist`, added to the running kernel.
    pub added: Vec<Entry>,
    /// In `.ima_blacklist`.
    pub certificates: Vec<Certificate>,
    /// Ids of further keys in `.ima_blacklist`.
    pub keys: Vec<KeyId>,
}

impl Revocations {
    /// All entries of `.blacklist`.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.built_in.iter().chain(&self.added)
    }
}

/// A key, and the names that signers of appended signatures give it.
#[derive(Debug, Clone)]
pub(crate) struct Certified {
    issuer: Vec<u8>,
    serial: Vec<u8>,
    key_identifier: Option<Vec<u8>>,
    pub(crate) key_id: KeyId,
    pub(crate) key: PublicKey,
}

impl Certified {
    /// That of a certificate which the kernel can read.
    fn by(certificate: &Certificate) -> Option<Self> {
        let fields = x509::Certificate::parse(certificate.der()).ok()?;
        Some(Self {
            issuer: fields.issuer_name.to_vec(),
            serial: fields.serial.to_vec(),
            key_identifier: fields.subject_key_identifier.map(<[u8]>::to_vec),
            key_id: certificate.key_id(),
            key: certificate.public_key().clone(),
        })
    }

    fn is(&self, signer: SignerId<'_>) -> bool {
        match signer {
            SignerId::Serial { issuer, serial } => self.issuer == issuer && self.serial == serial,
            SignerId::KeyId(id) => self.key_identifier.as_deref() == Some(id),
        }
    }
}

impl Keyring {
    /// A keyring of certificates, each under the ids by which the kernel finds it.
    pub fn of_certificates<'a>(certificates: impl IntoIterator<Item = &'a Certificate>) -> Self {
        let mut this = Self::default();
        this.trust(certificates);
        this
    }

    /// Adds certificates.
    pub fn trust<'a>(&mut self, certificates: impl IntoIterator<Item = &'a Certificate>) {
        for certificate in certificates {
            let ids = certificate.kernel_key_ids().into_iter();
            self.keys.extend(ids.map(|id| (id, certificate.public_key().clone())));
            self.certified.extend(Certified::by(certificate));
        }
    }

    /// Adds certificates for appended signatures alone: those of module keys.
    pub fn trust_appended<'a>(&mut self, certificates: impl IntoIterator<Item = &'a Certificate>) {
        self.certified.extend(certificates.into_iter().filter_map(Certified::by));
    }

    /// What the kernel no longer accepts. Appended signatures are verified without `.ima_blacklist`.
    pub fn revoke(&mut self, revoked: &Revocations) {
        let ids = revoked.certificates.iter().flat_map(Certificate::kernel_key_ids);
        self.revoked.extend(ids.chain(revoked.keys.iter().copied()));
        let files = revoked.entries().filter(|entry| entry.kind == Kind::Binary);
        self.denied.extend(files.map(|entry| entry.digest.clone()));
    }

    /// Whether `.ima_blacklist` has a key with this id.
    pub(crate) fn is_revoked(&self, key_id: KeyId) -> bool {
        self.revoked.contains(&key_id)
    }

    /// Whether the blacklist has this digest.
    pub(crate) fn denies(&self, digest: &[u8]) -> bool {
        self.denied.iter().any(|denied| denied == digest)
    }

    /// A keyring of one key.
    pub fn of_public_key(key_id: KeyId, key: PublicKey) -> Self {
        Self { keys: vec![(key_id, key)], ..Self::default() }
    }

    /// Adds a key under an id.
    pub fn add(&mut self, key_id: KeyId, key: PublicKey) {
        self.keys.push((key_id, key));
    }

    /// Whether it holds no key.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.certified.is_empty()
    }

    /// Whether it holds a key with this id.
    pub fn knows(&self, key_id: KeyId) -> bool {
        self.find(key_id).next().is_some()
    }

    /// The keys of a signer of appended signatures.
    pub(crate) fn certified<'a>(
        &'a self,
        signer: SignerId<'a>,
    ) -> impl Iterator<Item = &'a Certified> {
        self.certified.iter().filter(move |certified| certified.is(signer))
    }

    /// The keys with this id, and their numbers; two keys may bear one id by chance.
    pub(super) fn find(&self, key_id: KeyId) -> impl Iterator<Item = (usize, &PublicKey)> {
        let keys = self.keys.iter().enumerate();
        let revoked = self.is_revoked(key_id);
        keys.filter(move |(_, (id, _))| *id == key_id && !revoked)
            .map(|(number, (_, key))| (number, key))
    }
}
