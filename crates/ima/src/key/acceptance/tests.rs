use ima_format::hash::HashAlgorithm;
use ima_format::kernel_config::KernelConfig;
use ima_format::policy::ast::AlgorithmSet;
use ima_format::policy::kernel::{Available, Built, Feature, KernelVersion};
use ima_format::x509::Certificate as Fields;
use ima_format::xattr::KeyId;

use super::*;
use crate::key::certificate::key_ids;

macro_rules! issued {
    ($name:literal) => {
        include_bytes!(concat!("../../../../../testdata/certificate/issued/", $name, ".der"))
    };
}

const AUTHORITY: &[u8] = issued!("authority");
const RENEWED: &[u8] = issued!("authority-renewed");
const GOOD: &[u8] = issued!("good");
const NO_USAGE: &[u8] = issued!("no-usage");
const AUTHORITY_AND_SIGNER: &[u8] = issued!("authority-and-signer");
const NO_IDENTIFIER: &[u8] = issued!("no-subject-key-identifier");
const SHORT_IDENTIFIER: &[u8] = issued!("short-identifier");
const NO_AUTHORITY_IDENTIFIER: &[u8] = issued!("no-authority-key-identifier");
const SERIAL_AND_ISSUER: &[u8] = issued!("serial-and-issuer");
const SELF_SIGNED: &[u8] = issued!("self-signed");

/// A kernel with the layer's options and some keys built in.
fn kernel(version: KernelVersion, built_in: &[&[u8]]) -> Keyrings {
    let mut keyrings = Keyrings::new(Rules::new(version));
    for der in built_in {
        keyrings.add(Keyring::BuiltinTrusted, der).unwrap();
    }
    keyrings
}

#[track_caller]
fn refused(accepted: Result<(), Refusal>, why: Refusal) {
    assert_eq!(accepted, Err(why));
}

#[test]
fn ima_wants_a_signer_since_6_6() {
    let (old, new) = (KernelVersion::V6_1, KernelVersion::V6_12);
    for (der, why) in
        [(NO_USAGE, Refusal::NoDigitalSignature), (AUTHORITY_AND_SIGNER, Refusal::Authority)]
    {
        assert_eq!(kernel(old, &[AUTHORITY]).accept(Keyring::Ima, der), Ok(()));
        for keyring in [Keyring::Ima, Keyring::Evm] {
            refused(kernel(new, &[AUTHORITY]).accept(keyring, der), why.clone());
        }
        // neither of these keyrings requires digitalSignature
        for keyring in [Keyring::SecondaryTrusted, Keyring::ImaBlacklist] {
            assert_eq!(kernel(new, &[AUTHORITY]).accept(keyring, der), Ok(()));
        }
    }
    assert_eq!(kernel(new, &[AUTHORITY]).accept(Keyring::Ima, GOOD), Ok(()));
}

#[test]
fn the_issuer_is_found_by_serial_or_identifier_or_name() {
    let at = |version, built_in: &[&[u8]], der| kernel(version, built_in).accept(Keyring::Ima, der);
    let new = KernelVersion::V7_3;
    assert_eq!(at(new, &[AUTHORITY], SERIAL_AND_ISSUER), Ok(()));
    // the same key and name, another serial number
    refused(at(new, &[RENEWED], SERIAL_AND_ISSUER), Refusal::UnknownIssuer);
    assert_eq!(at(new, &[RENEWED], GOOD), Ok(()));
    assert_eq!(at(new, &[AUTHORITY], NO_AUTHORITY_IDENTIFIER), Ok(()));
    let why = Refusal::NoAuthorityKeyIdentifier;
    refused(at(KernelVersion::V5_15, &[AUTHORITY], NO_AUTHORITY_IDENTIFIER), why);
    let why = Refusal::NewerKeyAlgorithm(Feature::Ecdsa);
    refused(at(KernelVersion::V5_10, &[], GOOD), why);
    refused(at(new, &[], GOOD), Refusal::UnknownIssuer);
    // the later of two with one description replaces the first
    refused(at(new, &[AUTHORITY, RENEWED], SERIAL_AND_ISSUER), Refusal::UnknownIssuer);
}

#[test]
fn an_issuer_need_not_be_an_authority() {
    // its own key, compiled in, although it is not that of a CA
    let version = KernelVersion::V6_12;
    assert_eq!(kernel(version, &[SELF_SIGNED]).accept(Keyring::Ima, SELF_SIGNED), Ok(()));
    let accepted = kernel(version, &[AUTHORITY]).accept(Keyring::Ima, SELF_SIGNED);
    refused(accepted, Refusal::UnknownIssuer);
}

#[test]
fn key_ids_are_those_that_the_kernel_compares() {
    let ids = |der| key_ids(&Fields::parse(der).unwrap()).collect::<Vec<_>>();
    // the last bytes of the issuer's name, "suer"
    let name = KeyId(*b"suer");
    assert_eq!(ids(NO_IDENTIFIER), [name]);
    assert_eq!(ids(SHORT_IDENTIFIER), [name]);
    assert_eq!(ids(GOOD).len(), 2);
}

#[test]
fn what_is_not_der_or_damaged_is_refused() {
    let kernel = kernel(KernelVersion::V6_12, &[AUTHORITY]);
    refused(kernel.accept(Keyring::Ima, b"-----BEGIN CERTIFICATE-----\n"), Refusal::Pem);
    refused(kernel.accept(Keyring::Ima, &[0x30; 0x10000]), Refusal::TooLarge);
    let malformed = kernel.accept(Keyring::Ima, b"\x30\x00").unwrap_err();
    assert_eq!(malformed.errors(), [libc::EBADMSG]);
    let mut changed = GOOD.to_vec();
    let at = changed.len() - 80;
    changed[at] ^= 1;
    assert!(kernel.accept(Keyring::Ima, &changed).is_err());
    // bytes after the certificate are ignored
    let longer = [GOOD, b"rest"].concat();
    assert_eq!(kernel.accept(Keyring::Ima, &longer), Ok(()));
}

#[test]
fn blacklisted_certificates_are_in_no_keyring() {
    let tbs = Fields::parse(GOOD).unwrap().signed;
    let mut kernel = kernel(KernelVersion::V6_12, &[AUTHORITY]);
    kernel.blacklist(signature::hash(HashAlgorithm::Sha256, tbs).unwrap());
    for keyring in [Keyring::BuiltinTrusted, Keyring::Ima, Keyring::SecondaryTrusted] {
        refused(kernel.accept(keyring, GOOD), Refusal::Blacklisted);
    }
}

#[test]
fn the_configuration_decides() {
    let read = |text| KernelConfig::parse(text).unwrap();
    let rules = Rules::new(KernelVersion::V6_12);
    let config = "CONFIG_INTEGRITY_TRUSTED_KEYRING=y\nCONFIG_SECONDARY_TRUSTED_KEYRING=y\n\
        CONFIG_SECONDARY_TRUSTED_KEYRING_SIGNED_BY_BUILTIN=y\n# CONFIG_EVM is not set\n\
        CONFIG_INTEGRITY_MACHINE_KEYRING=y\nCONFIG_INTEGRITY_CA_MACHINE_KEYRING=y\n";
    let mut kernel = Keyrings::new(rules.clone().configured(&read(config)));
    kernel.add(Keyring::Machine, AUTHORITY).unwrap();
    refused(kernel.accept(Keyring::Machine, GOOD), Refusal::NoAuthority);
    refused(kernel.accept(Keyring::Ima, GOOD), Refusal::UnknownIssuer);
    refused(kernel.accept(Keyring::SecondaryTrusted, GOOD), Refusal::IssuerNotBuiltin);
    for keyring in [Keyring::Evm, Keyring::ImaBlacklist, Keyring::Platform] {
        refused(kernel.accept(keyring, GOOD), Refusal::NoKeyring(keyring));
    }
    let trusting = "CONFIG_IMA_KEYRINGS_PERMIT_SIGNED_BY_BUILTIN_OR_SECONDARY=y\n";
    let config = [config, trusting].concat();
    let mut kernel = Keyrings::new(rules.clone().configured(&read(&config)));
    kernel.add(Keyring::Machine, AUTHORITY).unwrap();
    assert_eq!(kernel.accept(Keyring::Ima, GOOD), Ok(()));
    // without a trusted keyring any certificate, even without the hash algorithm of its signature
    let hashes = Available::Exactly(AlgorithmSet::EMPTY.with(HashAlgorithm::Sha1));
    let mut untrusted = Rules { hashes, ..rules.configured(&read("CONFIG_IMA=y")) };
    let kernel = Keyrings::new(untrusted.clone());
    assert_eq!(kernel.accept(Keyring::Ima, SELF_SIGNED), Ok(()));
    untrusted.trusted_keyring = Built::In;
    let why = Refusal::MissingHash(HashAlgorithm::Sha256);
    refused(Keyrings::new(untrusted).accept(Keyring::Ima, GOOD), why);
}

#[test]
fn a_certificate_that_is_built_in_has_a_length_of_two_octets() {
    let kernel = kernel(KernelVersion::V6_12, &[]);
    let short = kernel.accept(Keyring::BuiltinTrusted, &[0x30, 0x81, 0x80]);
    refused(short, Refusal::TooShortToBuildIn);
    refused(kernel.accept(Keyring::BuiltinTrusted, b"-----BEGIN"), Refusal::Pem);
}
