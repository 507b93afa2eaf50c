//! Certificates with each part valid, absent and invalid, alone and in combination.

use lab::random::Random;
use openssl::ec::Asn1Flag;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};

use super::certificate::{
    algorithm, der, ec, extension, name, name_as, oid, rsa, sequence, Issuer, Parts, ECDSA, NIST,
    RSA,
};

const SUBJECT_KEY: &[u8] = b"\x55\x1d\x0e";
const KEY_USAGE: &[u8] = b"\x55\x1d\x0f";
const CONSTRAINTS: &[u8] = b"\x55\x1d\x13";
const AUTHORITY_KEY: &[u8] = b"\x55\x1d\x23";
const EXTENDED_USAGE: &[u8] = b"\x55\x1d\x25";

/// The issuers, and the keys to certify.
pub(crate) struct World {
    /// In the builtin keyring; the first one is the usual issuer.
    pub(crate) built_in: Vec<(Issuer, Vec<u8>)>,
    /// In the secondary keyring.
    pub(crate) secondary: (Issuer, Vec<u8>),
    /// In no keyring.
    unknown: Issuer,
    keys: Vec<(&'static str, PKey<Private>)>,
    random: Random,
    count: u32,
}

/// One deviation of a part from the usual.
type Change = (&'static str, fn(&mut Parts, &World));

/// A certificate to offer to the keyrings.
pub(crate) struct Case {
    pub(crate) name: String,
    /// Whether only one part differs, so that there is only one reason to reject it.
    pub(crate) is_single: bool,
    pub(crate) der: Vec<u8>,
}

fn subject_key(identifier: &[u8]) -> Vec<u8> {
    extension(SUBJECT_KEY, &der(4, identifier))
}

fn authority_key(parts: &[&[u8]]) -> Vec<Vec<u8>> {
    vec![extension(AUTHORITY_KEY, &sequence(parts))]
}

fn by_identifier(identifier: &[u8]) -> Vec<u8> {
    der(0x80, identifier)
}

fn by_issuer(name: &[u8]) -> Vec<u8> {
    der(0xa1, &der(0xa4, name))
}

fn by_serial(serial: &[u8]) -> Vec<u8> {
    der(0x82, serial)
}

fn key_usage(value: &[u8]) -> Vec<Vec<u8>> {
    vec![extension(KEY_USAGE, value)]
}

fn constraints(value: &[u8]) -> Vec<Vec<u8>> {
    vec![extension(CONSTRAINTS, value)]
}

fn utc(text: &str) -> Vec<u8> {
    der(0x17, text.as_bytes())
}

fn generalized(text: &str) -> Vec<u8> {
    der(0x18, text.as_bytes())
}

/// Sets the issuer, and the parts that refer to it.
fn issued_by(parts: &mut Parts, issuer: &Issuer) {
    parts.issuer = issuer.name.clone();
    parts.signer = issuer.key.clone();
    parts.algorithm = issuer.algorithm();
    parts.authority_key = match &issuer.identifier {
        Some(identifier) => authority_key(&[&by_identifier(identifier)]),
        None => Vec::new(),
    };
}

fn signed_with(parts: &mut Parts, id: &[&[u8]], digest: MessageDigest) {
    parts.algorithm = algorithm(id);
    parts.digest = digest;
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let named = Asn1Flag::NAMED_CURVE;
        let p256 = Nid::X9_62_PRIME256V1;
        let issuer = |text: &str, key: PKey<Private>, identifier: Option<&[u8]>| Issuer {
            key,
            name: name(text),
            serial: vec![0x11, text.len() as u8, text.as_bytes()[0]],
            identifier: identifier.map(<[u8]>::to_vec),
        };
        let usual = issuer("usual authority", rsa(2048), Some(&[0xa1; 20]));
        let mut world = Self {
            built_in: Vec::new(),
            secondary: (usual.clone(), Vec::new()),
            unknown: issuer("unknown", rsa(2048), Some(&[0xee; 20])),
            keys: vec![
                ("p-256", ec(p256, named)),
                ("rsa-1024", rsa(1024)),
                ("rsa-2560", rsa(2560)),
                ("rsa-3072", rsa(3072)),
                ("p-192", ec(Nid::X9_62_PRIME192V1, named)),
                ("p-224", ec(Nid::SECP224R1, named)),
                ("p-384", ec(Nid::SECP384R1, named)),
                ("p-521", ec(Nid::SECP521R1, named)),
                ("secp256k1", ec(Nid::SECP256K1, named)),
                ("p-256 by parameters", ec(p256, Asn1Flag::EXPLICIT_CURVE)),
                ("ed25519", PKey::generate_ed25519().unwrap()),
            ],
            random: Random::new(seed),
            count: 0,
        };
        for (issuer, is_authority) in [
            (usual, true),
            (issuer("elliptic authority", ec(p256, named), Some(&[0xa2; 20])), true),
            (issuer("no authority", rsa(2048), Some(&[0xa3; 20])), false),
            (issuer("authority without identifier", ec(p256, named), None), true),
            (issuer("odd size", rsa(2560), Some(&[0xa4; 20])), true),
        ] {
            let by_itself = issuer.key.bits() != 2560;
            let der = world.certificate_of(&issuer, is_authority, by_itself);
            world.built_in.push((issuer, der));
        }
        let secondary = issuer("secondary authority", rsa(2048), Some(&[0xa5; 20]));
        let der = world.certificate_of(&secondary, true, false);
        world.secondary = (secondary, der);
        world
    }

    /// An issuer's certificate, self-signed or by the usual authority.
    fn certificate_of(&mut self, issuer: &Issuer, is_authority: bool, by_itself: bool) -> Vec<u8> {
        let signer = if by_itself { issuer.clone() } else { self.built_in[0].0.clone() };
        let mut parts = self.usual(&signer);
        parts.serial = issuer.serial.clone();
        parts.subject = issuer.name.clone();
        parts.key_info = issuer.key.public_key_to_der().unwrap();
        parts.subject_key = issuer.identifier.iter().map(|it| subject_key(it)).collect();
        if is_authority {
            parts.key_usage = key_usage(b"\x03\x02\x02\x04");
            parts.constraints = constraints(b"\x30\x03\x01\x01\xff");
        }
        parts.encode()
    }

    /// A valid certificate with its own names and identifiers.
    fn usual(&mut self, issuer: &Issuer) -> Parts {
        self.count += 1;
        let mut identifier = [0x51; 20];
        identifier[..4].copy_from_slice(&self.count.to_be_bytes());
        identifier[16..].copy_from_slice(&self.count.to_be_bytes());
        let mut parts = Parts {
            version: der(0xa0, &[2, 1, 2]),
            serial: [&[0x22], &self.count.to_be_bytes()[..]].concat(),
            algorithm: Vec::new(),
            outer_algorithm: None,
            digest: MessageDigest::sha256(),
            issuer: Vec::new(),
            not_before: utc("200101000000Z"),
            not_after: utc("491231235959Z"),
            subject: name(&format!("signer {}", self.count)),
            key_info: self.keys[0].1.public_key_to_der().unwrap(),
            unique_ids: Vec::new(),
            subject_key: vec![subject_key(&identifier)],
            authority_key: Vec::new(),
            key_usage: key_usage(b"\x03\x02\x07\x80"),
            constraints: constraints(b"\x30\x00"),
            other_extensions: Vec::new(),
            has_extensions: true,
            signer: issuer.key.clone(),
            unused_bits: 0,
        };
        issued_by(&mut parts, issuer);
        parts
    }

    /// The cases: each change alone, then this number of combinations.
    pub(crate) fn cases(&mut self, combinations: usize) -> Vec<Case> {
        let issuer = self.built_in[0].0.clone();
        let mut cases = Vec::new();
        let usual = self.usual(&issuer);
        cases.push(Case { name: "usual".into(), is_single: true, der: usual.encode() });
        cases.extend(damaged(&self.usual(&issuer).encode()));
        for (name, change) in AXES.iter().copied().flatten() {
            let mut parts = self.usual(&issuer);
            change(&mut parts, self);
            cases.push(Case { name: (*name).to_owned(), is_single: true, der: parts.encode() });
        }
        for (number, (name, _)) in self.keys.clone().iter().enumerate() {
            for by_itself in [false, true] {
                let Some(parts) = self.with_key(number, by_itself) else { continue };
                let name = format!("{name}, {}", if by_itself { "by itself" } else { "issued" });
                cases.push(Case { name, is_single: true, der: parts.encode() });
            }
        }
        for _ in 0..combinations {
            let mut parts = self.usual(&issuer);
            let mut names = Vec::new();
            for axis in AXES {
                if self.random.chance(25) {
                    let mut random = self.random.clone();
                    let (name, change) = random.pick(axis);
                    change(&mut parts, self);
                    names.push(*name);
                    self.random = random;
                }
            }
            cases.push(Case { name: names.join(", "), is_single: false, der: parts.encode() });
        }
        cases
    }

    /// A certificate of one of the keys, issued or self-signed.
    fn with_key(&mut self, number: usize, by_itself: bool) -> Option<Parts> {
        let key = self.keys[number].1.clone();
        let mut parts = self.usual(&self.built_in[0].0.clone());
        parts.key_info = key.public_key_to_der().unwrap();
        if by_itself {
            // ed25519 is not supported as a signature algorithm here
            if key.rsa().is_err() && key.ec_key().is_err() {
                return None;
            }
            let itself =
                Issuer { key, name: parts.subject.clone(), serial: Vec::new(), identifier: None };
            issued_by(&mut parts, &itself);
        }
        Some(parts)
    }
}

/// Faults of the encoding rather than of a part.
fn damaged(good: &[u8]) -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |name: &str, der: Vec<u8>| {
        cases.push(Case { name: name.to_owned(), is_single: true, der });
    };
    let with = |at: usize| {
        let mut der = good.to_vec();
        der[at] ^= 1;
        der
    };
    add("signature changed", with(good.len() - 1));
    add("subject changed", with(good.len() / 2));
    add("bytes follow", [good, b"more"].concat());
    add("cut short", good[..good.len() - 1].to_vec());
    add("PEM", b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n".to_vec());
    add("an empty sequence", vec![0x30, 0]);
    add("text", b"no certificate".to_vec());
    add("larger than the decoder takes", [good, &vec![0; 0x10000]].concat());
    cases
}

const AXES: &[&[Change]] = &[
    SUBJECT_KEYS,
    AUTHORITY_KEYS,
    ISSUERS,
    USAGES,
    BASIC_CONSTRAINTS,
    TIMES,
    HASHES,
    NAMES,
    FORMS,
];

const SUBJECT_KEYS: &[Change] = &[
    ("no subject key", |it, _| it.subject_key.clear()),
    ("subject key of 1 byte", |it, _| it.subject_key = vec![subject_key(&it.serial[4..])]),
    ("subject key of 4 bytes", |it, _| it.subject_key = vec![subject_key(&it.serial[1..])]),
    ("subject key of 127 bytes", |it, _| {
        it.subject_key = vec![subject_key(&[&it.serial[..], &[7; 122]].concat())];
    }),
    ("subject key of 128 bytes", |it, _| {
        it.subject_key = vec![subject_key(&[&it.serial[..], &[7; 123]].concat())];
    }),
    ("empty subject key", |it, _| it.subject_key = vec![subject_key(&[])]),
    ("two subject keys", |it, _| it.subject_key.push(it.subject_key[0].clone())),
    ("subject key that is no octet string", |it, _| {
        it.subject_key = vec![extension(SUBJECT_KEY, &der(0x0c, &it.serial))];
    }),
    ("subject key with more after it", |it, _| {
        let value = [der(4, &it.serial), vec![5, 0]].concat();
        it.subject_key = vec![extension(SUBJECT_KEY, &value)];
    }),
];

const AUTHORITY_KEYS: &[Change] = &[
    ("no authority key", |it, _| it.authority_key.clear()),
    ("empty authority key", |it, _| it.authority_key = authority_key(&[])),
    ("authority by all three", |it, world| {
        let issuer = &world.built_in[0].0;
        let identifier = issuer.identifier.clone().unwrap();
        it.authority_key = authority_key(&[
            &by_identifier(&identifier),
            &by_issuer(&issuer.name),
            &by_serial(&issuer.serial),
        ]);
    }),
    ("authority by serial and issuer", |it, world| {
        let issuer = &world.built_in[0].0;
        it.authority_key = authority_key(&[&by_issuer(&issuer.name), &by_serial(&issuer.serial)]);
    }),
    ("authority by another serial", |it, world| {
        let issuer = &world.built_in[0].0;
        let identifier = issuer.identifier.clone().unwrap();
        it.authority_key = authority_key(&[
            &by_identifier(&identifier),
            &by_issuer(&issuer.name),
            &by_serial(&[9, 9]),
        ]);
    }),
    ("authority by its serial and another identifier", |it, world| {
        let issuer = &world.built_in[0].0;
        it.authority_key = authority_key(&[
            &by_identifier(&[9; 20]),
            &by_issuer(&issuer.name),
            &by_serial(&issuer.serial),
        ]);
    }),
    ("authority by serial alone", |it, world| {
        it.authority_key = authority_key(&[&by_serial(&world.built_in[0].0.serial)]);
    }),
    ("authority by issuer alone", |it, world| {
        it.authority_key = authority_key(&[&by_issuer(&world.built_in[0].0.name)]);
    }),
    ("authority by another identifier", |it, _| {
        it.authority_key = authority_key(&[&by_identifier(&[9; 20])]);
    }),
    ("authority by a part of its identifier", |it, world| {
        let identifier = world.built_in[0].0.identifier.clone().unwrap();
        it.authority_key = authority_key(&[&by_identifier(&identifier[4..])]);
    }),
    ("authority by serial and issuer as an identifier", |it, world| {
        let issuer = &world.built_in[0].0;
        // the content of a name, after a header of two octets
        let id = [&issuer.serial[..], &issuer.name[2..]].concat();
        it.authority_key = authority_key(&[&by_identifier(&id)]);
    }),
    ("authority by a DNS name and an issuer", |it, world| {
        let issuer = &world.built_in[0].0;
        let names = [der(0x82, b"example.org"), der(0xa4, &issuer.name)].concat();
        it.authority_key = authority_key(&[&der(0xa1, &names), &by_serial(&issuer.serial)]);
    }),
    ("authority key that is no sequence", |it, _| {
        it.authority_key = vec![extension(AUTHORITY_KEY, &der(4, &[1; 20]))];
    }),
    ("authority key with a part too many", |it, _| {
        it.authority_key = authority_key(&[&by_identifier(&[0xa1; 20]), &der(0x83, &[1])]);
    }),
];

const ISSUERS: &[Change] = &[
    ("by an elliptic authority", |it, world| issued_by(it, &world.built_in[1].0)),
    ("by no authority", |it, world| issued_by(it, &world.built_in[2].0)),
    ("by an authority without identifier", |it, world| issued_by(it, &world.built_in[3].0)),
    ("by RSA of an odd size", |it, world| issued_by(it, &world.built_in[4].0)),
    ("by the secondary authority", |it, world| issued_by(it, &world.secondary.0)),
    ("by an unknown key", |it, world| issued_by(it, &world.unknown)),
    ("by an unknown key of the usual name", |it, world| it.signer = world.unknown.key.clone()),
    ("by another algorithm than its issuer's", |it, world| {
        it.signer = world.built_in[1].0.key.clone();
        it.algorithm = world.built_in[1].0.algorithm();
    }),
    ("said to be its own issuer", |it, _| {
        it.subject = it.issuer.clone();
        it.authority_key.clear();
    }),
    ("subject is its issuer's, by identifier", |it, _| it.subject = it.issuer.clone()),
    ("its own identifier as authority", |it, _| {
        it.subject = it.issuer.clone();
        it.subject_key = vec![subject_key(&it.serial)];
        it.authority_key = authority_key(&[&by_identifier(&it.serial)]);
    }),
    ("itself by identifier, another by serial", |it, world| {
        it.subject = it.issuer.clone();
        it.subject_key = vec![subject_key(&it.serial)];
        let issuer = &world.built_in[0].0;
        it.authority_key = authority_key(&[
            &by_identifier(&it.serial),
            &by_issuer(&issuer.name),
            &by_serial(&issuer.serial),
        ]);
    }),
];

const USAGES: &[Change] = &[
    ("no key usage", |it, _| it.key_usage.clear()),
    ("nonRepudiation too", |it, _| it.key_usage = key_usage(b"\x03\x02\x06\xc0")),
    ("keyCertSign", |it, _| it.key_usage = key_usage(b"\x03\x02\x02\x04")),
    ("digitalSignature and keyCertSign", |it, _| it.key_usage = key_usage(b"\x03\x02\x02\x84")),
    ("keyCertSign among unused bits", |it, _| it.key_usage = key_usage(b"\x03\x02\x03\x84")),
    ("cRLSign", |it, _| it.key_usage = key_usage(b"\x03\x02\x01\x02")),
    ("decipherOnly too", |it, _| it.key_usage = key_usage(b"\x03\x03\x07\x80\x80")),
    ("decipherOnly and keyCertSign too", |it, _| it.key_usage = key_usage(b"\x03\x03\x07\x84\x80")),
    ("empty key usage", |it, _| it.key_usage = key_usage(b"\x03\x01\x00")),
    ("key usage with 8 unused bits", |it, _| it.key_usage = key_usage(b"\x03\x02\x08\x80")),
    ("key usage that is no bit string", |it, _| it.key_usage = key_usage(b"\x04\x02\x07\x80")),
    ("two key usages", |it, _| it.key_usage.extend(key_usage(b"\x03\x02\x02\x04"))),
    ("critical key usage", |it, _| {
        let usage = der(4, b"\x03\x02\x07\x80");
        it.key_usage = vec![sequence(&[&oid(&[KEY_USAGE]), &[1, 1, 0xff], &usage])];
    }),
];

const BASIC_CONSTRAINTS: &[Change] = &[
    ("no constraints", |it, _| it.constraints.clear()),
    ("CA:TRUE", |it, _| it.constraints = constraints(b"\x30\x03\x01\x01\xff")),
    ("CA:TRUE, path length", |it, _| {
        it.constraints = constraints(b"\x30\x06\x01\x01\xff\x02\x01\x00");
    }),
    ("CA:FALSE in words", |it, _| it.constraints = constraints(b"\x30\x03\x01\x01\x00")),
    ("CA:1", |it, _| it.constraints = constraints(b"\x30\x03\x01\x01\x01")),
    ("path length alone", |it, _| it.constraints = constraints(b"\x30\x03\x02\x01\x00")),
    ("constraints that are no sequence", |it, _| it.constraints = constraints(b"\x31\x00")),
    ("constraints with more after them", |it, _| {
        it.constraints = constraints(b"\x30\x00\x05\x00");
    }),
];

const TIMES: &[Change] = &[
    ("expired", |it, _| it.not_after = utc("210101000000Z")),
    ("not yet valid", |it, _| it.not_before = utc("480101000000Z")),
    ("for ever", |it, _| it.not_after = generalized("99991231235959Z")),
    ("since 1970", |it, _| it.not_before = utc("700101000000Z")),
    ("since 1969", |it, _| it.not_before = utc("691231235959Z")),
    ("2030 in the longer form", |it, _| it.not_after = generalized("20300101000000Z")),
    ("February 30", |it, _| it.not_after = utc("300230000000Z")),
    ("February 29 of 2100", |it, _| it.not_after = generalized("21000229000000Z")),
    ("hour 24", |it, _| it.not_after = utc("300101240000Z")),
    ("hour 25", |it, _| it.not_after = utc("300101250000Z")),
    ("second 60", |it, _| it.not_after = utc("300101235960Z")),
    ("second 61", |it, _| it.not_after = utc("300101235961Z")),
    ("without seconds", |it, _| it.not_after = utc("3001010000Z")),
    ("with an offset", |it, _| it.not_after = utc("300101000000+0100")),
    ("a month of letters", |it, _| it.not_after = utc("30ab01000000Z")),
    ("a time as text", |it, _| it.not_after = der(0x0c, b"300101000000Z")),
];

const HASHES: &[Change] = &[
    ("over SHA-1", |it, _| {
        signed_with(it, &[RSA, &[5]], MessageDigest::sha1());
    }),
    ("over SHA-224", |it, _| signed_with(it, &[RSA, &[14]], MessageDigest::sha224())),
    ("over SHA-384", |it, _| signed_with(it, &[RSA, &[12]], MessageDigest::sha384())),
    ("over SHA-512", |it, _| signed_with(it, &[RSA, &[13]], MessageDigest::sha512())),
    ("over SHA3-256", |it, _| signed_with(it, &[NIST, &[14]], MessageDigest::sha3_256())),
    ("over SHA3-512", |it, _| signed_with(it, &[NIST, &[16]], MessageDigest::sha3_512())),
    ("over MD5", |it, _| signed_with(it, &[RSA, &[4]], MessageDigest::md5())),
    ("said to be over SHA-512", |it, _| it.algorithm = algorithm(&[RSA, &[13]])),
    ("said to be RSA-PSS", |it, _| it.algorithm = algorithm(&[RSA, &[10]])),
    ("said to be ECDSA", |it, _| it.algorithm = algorithm(&[ECDSA, &[2]])),
    ("without NULL parameters", |it, _| it.algorithm = sequence(&[&oid(&[RSA, &[11]])])),
    ("another algorithm outside", |it, _| {
        it.outer_algorithm = Some(algorithm(&[RSA, &[13]]));
    }),
    ("another unknown algorithm outside", |it, _| {
        it.outer_algorithm = Some(algorithm(&[RSA, &[99]]));
    }),
    ("ECDSA over SHA-384", |it, world| {
        issued_by(it, &world.built_in[1].0);
        signed_with(it, &[ECDSA, &[3]], MessageDigest::sha384());
    }),
    ("ECDSA over SHA3-256", |it, world| {
        issued_by(it, &world.built_in[1].0);
        signed_with(it, &[NIST, &[10]], MessageDigest::sha3_256());
    }),
];

const NAMES: &[Change] = &[
    ("empty subject", |it, _| it.subject = sequence(&[])),
    ("empty issuer", |it, _| it.issuer = sequence(&[])),
    ("an empty part of the subject", |it, _| it.subject = sequence(&[&der(0x31, &[])])),
    ("issuer of another string type, no authority key", |it, _| {
        it.issuer = name_as(0x13, "usual authority");
        it.authority_key.clear();
    }),
    ("a long subject", |it, _| it.subject = name(&format!("{} {}", it.serial[4], "x".repeat(300)))),
    ("subject in two parts", |it, _| {
        let organization = sequence(&[&oid(&[b"\x55\x04\x0a"]), &der(0x0c, &it.serial)]);
        it.subject = sequence(&[&der(0x31, &organization), &it.subject[2..]]);
    }),
];

const FORMS: &[Change] = &[
    ("without version", |it, _| it.version.clear()),
    ("version 9", |it, _| it.version = der(0xa0, &[2, 1, 8])),
    ("version 1 without extensions", |it, _| {
        it.version.clear();
        it.has_extensions = false;
    }),
    ("no extensions at all", |it, _| {
        for list in [&mut it.subject_key, &mut it.authority_key, &mut it.key_usage] {
            list.clear();
        }
        it.constraints.clear();
    }),
    ("unique identifiers", |it, _| {
        it.unique_ids = [der(0x81, &[0, 1]), der(0x82, &[0, 2])].concat();
    }),
    ("a part that is not known", |it, _| it.unique_ids = der(0x84, &[0, 1])),
    ("a critical extension that is not known", |it, _| {
        it.other_extensions = vec![sequence(&[&oid(&[b"\x55\x1d\x7f"]), &[1, 1, 0xff], &[4, 0]])];
    }),
    ("for servers", |it, _| {
        let server = oid(&[b"\x2b\x06\x01\x05\x05\x07\x03\x01"]);
        it.other_extensions = vec![extension(EXTENDED_USAGE, &sequence(&[&server]))];
    }),
    ("an extension with more after it", |it, _| {
        it.other_extensions = vec![sequence(&[&oid(&[b"\x55\x1d\x7f"]), &[4, 0], &[5, 0]])];
    }),
    ("unused bits in the signature", |it, _| it.unused_bits = 1),
    ("negative serial number", |it, _| it.serial.insert(0, 0xff)),
    ("long serial number", |it, _| it.serial.extend([3; 60])),
    ("empty serial number", |it, _| it.serial.clear()),
];
