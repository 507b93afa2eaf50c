//! Whether the keyrings of a kernel accept a certificate, depending on their keys.

use ima_format::hash::HashAlgorithm;
use ima_format::policy::kernel::{Built, Feature};
use ima_format::x509::Certificate as Fields;

use super::key::Key;
use super::keyring::Keyring;
use super::refusal::Refusal;
use super::rules::{ImaIssuers, MachineRule, Rules, Secondary};
use super::signature;
use crate::key::certificate::is_pem;

/// The keyrings of a kernel, and their keys.
#[derive(Debug, Clone)]
pub struct Keyrings {
    rules: Rules,
    keys: Vec<(Keyring, Key)>,
    blacklist: Vec<Vec<u8>>,
}

impl Keyrings {
    /// Empty keyrings.
    pub fn new(rules: Rules) -> Self {
        Self { rules, keys: Vec::new(), blacklist: Vec::new() }
    }

    /// Puts a certificate in `.blacklist`, by the hash of its signed part: an entry `tbs:HEX`.
    pub fn blacklist(&mut self, hash: Vec<u8>) {
        self.blacklist.push(hash);
    }

    /// Adds a certificate to a keyring if the kernel accepts it; a key with the same description is replaced.
    ///
    /// # Errors
    /// Why the kernel rejects it.
    pub fn add(&mut self, keyring: Keyring, der: &[u8]) -> Result<(), Refusal> {
        let key = self.judge(keyring, der)?;
        self.put(keyring, key);
        Ok(())
    }

    /// Adds the key of a certificate without a check, as the kernel adds its own; the certificate must be readable.
    ///
    /// # Errors
    /// Why the kernel cannot read it.
    pub fn build_in(&mut self, keyring: Keyring, der: &[u8]) -> Result<(), Refusal> {
        let key = Key::of(&self.read(der)?);
        self.put(keyring, key);
        Ok(())
    }

    fn put(&mut self, keyring: Keyring, key: Key) {
        let same =
            |found: &(Keyring, Key)| found.0 == keyring && found.1.described_by == key.described_by;
        self.keys.retain(|found| !same(found));
        self.keys.push((keyring, key));
    }

    /// Whether the kernel accepts a certificate into a keyring.
    ///
    /// # Errors
    /// Why the kernel rejects it.
    pub fn accept(&self, keyring: Keyring, der: &[u8]) -> Result<(), Refusal> {
        self.judge(keyring, der).map(drop)
    }

    /// Whether the kernel can read a certificate.
    ///
    /// # Errors
    /// Why the kernel cannot read it.
    pub fn check_readable(&self, der: &[u8]) -> Result<(), Refusal> {
        self.read(der).map(drop)
    }

    fn judge(&self, keyring: Keyring, der: &[u8]) -> Result<Key, Refusal> {
        let rules = &self.rules;
        if !rules.has(keyring) {
            return Err(Refusal::NoKeyring(keyring));
        }
        if keyring == Keyring::BuiltinTrusted && !der.starts_with(&[0x30, 0x82]) {
            return Err(if is_pem(der) { Refusal::Pem } else { Refusal::TooShortToBuildIn });
        }
        let fields = self.read(der)?;
        match keyring {
            Keyring::BuiltinTrusted | Keyring::Platform => {}
            Keyring::Machine => self.check_authority(&fields)?,
            Keyring::Ima | Keyring::Evm if rules.trusted_keyring == Built::Out => {}
            Keyring::Ima | Keyring::Evm => {
                if rules.version.has(Feature::DigitalSignature) {
                    check_signer(&fields)?;
                }
                match rules.ima_issuers {
                    ImaIssuers::Builtin => self.check_issuer(keyring, &fields, &[&BUILTIN])?,
                    ImaIssuers::BuiltinOrSecondary => {
                        self.check_issuer(keyring, &fields, &[&SECONDARY, &BELOW_SECONDARY])?;
                    }
                }
            }
            Keyring::SecondaryTrusted => {
                self.check_issuer(keyring, &fields, &[&SECONDARY, &BELOW_SECONDARY])?;
            }
            Keyring::ImaBlacklist => self.check_issuer(keyring, &fields, &[&BUILTIN])?,
        }
        Ok(Key::of(&fields))
    }

    /// `x509_cert_parse()`
    fn read<'a>(&self, der: &'a [u8]) -> Result<Fields<'a>, Refusal> {
        // the limit of asn1_ber_decoder()
        if der.len() > 0xffff {
            return Err(Refusal::TooLarge);
        }
        let version = self.rules.version;
        let fields = Fields::parse(der).map_err(|error| match is_pem(der) {
            true => Refusal::Pem,
            false => Refusal::Malformed(error),
        })?;
        if version.has(Feature::CertificateUsage) {
            if let Err(fault) = fields.kernel_usage {
                return Err(Refusal::Usage(fault));
            }
        }
        if fields.authority_has_other_names && !version.has(Feature::AuthorityNames) {
            return Err(Refusal::AuthorityNames);
        }
        self.rules.check_key(fields.key_algorithm)?;
        self.rules.check_signature(fields.signature_algorithm)?;
        if self.is_blacklisted(&fields) {
            return Err(Refusal::Blacklisted);
        }
        if is_said_to_be_self_signed(&fields)? && self.hash_is_missing(&fields).is_none() {
            let key = Key::of(&fields);
            signature::verify(&key, &fields).map_err(|refusal| match refusal {
                Refusal::BadSignature => Refusal::BadSelfSignature,
                other => other,
            })?;
        }
        Ok(fields)
    }

    fn hash_is_missing(&self, fields: &Fields<'_>) -> Option<Refusal> {
        let hash = fields.signature_algorithm.hash()?;
        (!self.rules.computes(hash)).then_some(Refusal::MissingHash(hash))
    }

    fn is_blacklisted(&self, fields: &Fields<'_>) -> bool {
        if self.blacklist.is_empty() {
            return false;
        }
        let algorithm = match fields.signature_algorithm.hash() {
            Some(hash) if !self.rules.version.has(Feature::MlDsa) => hash,
            _ => HashAlgorithm::Sha256,
        };
        let digest = signature::hash(algorithm, fields.signed);
        digest.is_some_and(|digest| self.blacklist.contains(&digest))
    }

    /// `restrict_link_by_ca()`
    fn check_authority(&self, fields: &Fields<'_>) -> Result<(), Refusal> {
        let rule = self.rules.machine;
        if rule == MachineRule::Any || !self.rules.version.has(Feature::CertificateUsage) {
            return Ok(());
        }
        match fields.kernel_usage.map_err(Refusal::Usage)? {
            usage if !usage.ca => Err(Refusal::NoAuthority),
            usage if !usage.key_cert_sign => Err(Refusal::NoKeyCertSign),
            usage if usage.digital_signature && rule == MachineRule::OnlyAuthorities => {
                Err(Refusal::AuthorityThatSigns)
            }
            _ => Ok(()),
        }
    }

    /// `restrict_link_by_signature()`, with the keyrings in the order in which they are searched. The order of
    /// the keys of a keyring is unknown.
    fn check_issuer(
        &self,
        keyring: Keyring,
        fields: &Fields<'_>,
        searched: &[&[Keyring]],
    ) -> Result<(), Refusal> {
        if let Some(refusal) = self.hash_is_missing(fields) {
            return Err(refusal);
        }
        let lookup = Lookup::of(fields);
        if matches!(lookup, Lookup::Name(_)) && !self.rules.version.has(Feature::IssuerByName) {
            return Err(Refusal::NoAuthorityKeyIdentifier);
        }
        let found = searched.iter().find_map(|keyrings| {
            let in_them = self.keys.iter().filter(|(keyring, _)| keyrings.contains(keyring));
            let found: Vec<_> = in_them.filter(|(_, key)| lookup.finds(key)).collect();
            (!found.is_empty()).then_some(found)
        });
        let mut verdicts = found.unwrap_or_default().into_iter().map(|(place, key)| {
            lookup.confirms(key)?;
            if keyring == Keyring::SecondaryTrusted
                && self.rules.secondary == Secondary::SignedByBuiltin
                && *place != Keyring::BuiltinTrusted
            {
                return Err(Refusal::IssuerNotBuiltin);
            }
            signature::verify(key, fields)
        });
        // the kernel tries only the first key, and their order is unknown: the result is certain if all agree
        let first = verdicts.next().unwrap_or(Err(Refusal::UnknownIssuer));
        match verdicts.all(|other| other.is_ok() == first.is_ok()) {
            true => first,
            false => Err(Refusal::SeveralIssuers),
        }
    }
}

const SECONDARY: [Keyring; 1] = [Keyring::SecondaryTrusted];
const BUILTIN: [Keyring; 1] = [Keyring::BuiltinTrusted];
/// The keyrings that are linked into the secondary keyring.
const BELOW_SECONDARY: [Keyring; 2] = [Keyring::BuiltinTrusted, Keyring::Machine];

/// The ids by which the issuer's key is found (`find_asymmetric_key`).
enum Lookup<'a> {
    /// The authority key identifier's serial number and issuer, and its key identifier.
    Serial(Vec<u8>, Option<&'a [u8]>),
    /// The authority key identifier's key identifier.
    Identifier(&'a [u8]),
    /// The issuer's name.
    Name(&'a [u8]),
}

impl<'a> Lookup<'a> {
    fn of(fields: &Fields<'a>) -> Self {
        let identifier = fields.authority_key_identifier;
        match (fields.authority_serial_and_issuer, identifier) {
            (Some((serial, issuer)), _) => Self::Serial([serial, issuer].concat(), identifier),
            (None, Some(identifier)) => Self::Identifier(identifier),
            (None, None) => Self::Name(fields.issuer_name),
        }
    }

    fn finds(&self, key: &Key) -> bool {
        match self {
            Self::Serial(id, _) => key.is_identified_by(id),
            Self::Identifier(id) => key.is_identified_by(id),
            Self::Name(name) => key.subject == *name,
        }
    }

    /// If the lookup has a second id, it must be that of the found key, too.
    fn confirms(&self, key: &Key) -> Result<(), Refusal> {
        match self {
            Self::Serial(_, Some(id)) if key.identifier.as_deref() != Some(id) => {
                Err(Refusal::IssuerDiffers)
            }
            _ => Ok(()),
        }
    }
}

/// `restrict_link_by_digsig()`, which returns the same error for all three.
fn check_signer(fields: &Fields<'_>) -> Result<(), Refusal> {
    match fields.kernel_usage.map_err(Refusal::Usage)? {
        usage if usage.ca => Err(Refusal::Authority),
        usage if !usage.digital_signature => Err(Refusal::NoDigitalSignature),
        usage if usage.key_cert_sign => Err(Refusal::KeyCertSign),
        _ => Ok(()),
    }
}

/// `x509_check_for_self_signed()`: whether the kernel verifies it with its own key.
fn is_said_to_be_self_signed(fields: &Fields<'_>) -> Result<bool, Refusal> {
    if fields.subject_name != fields.issuer_name {
        return Ok(false);
    }
    let identifier = fields.authority_key_identifier;
    let serial = fields.authority_serial_and_issuer;
    if identifier.is_none() && serial.is_none() {
        return Ok(true);
    }
    let by_identifier = identifier.is_some() && identifier == fields.subject_key_identifier;
    let own = [fields.serial, fields.issuer_name].concat();
    let by_serial = serial.is_some_and(|(serial, issuer)| [serial, issuer].concat() == own);
    match (by_identifier, by_serial) {
        (false, false) => Ok(false),
        (true, true) => Ok(true),
        _ if identifier.is_some() && serial.is_some() => Err(Refusal::SelfContradicting),
        _ => Ok(true),
    }
}
