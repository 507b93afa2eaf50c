//! Files: content, attribute, owner, mode, file system; and the operations on them, by different users.

use std::os::unix::fs::{chown, PermissionsExt};
use std::path::Path;

use anyhow::{Context, Result};
use ima::key::certificate::Certificate;
use ima::verify::Keyring;
use ima_format::policy::ast::Uuid;
use ima_format::policy::decide::FileFacts;
use lab::image::{Image, Tree};
use lab::keys::{Algorithm, KeyStore};
use lab::protocol::{Access, Credentials, Ids, OpenFor, CAP_SETGID, CAP_SETUID};
use lab::random::Random;
use rustix::fs::XattrFlags;

use super::{Case, Deed, Who};

/// The smallest program: a 64-bit ELF file with one segment that exits at once (`mov edi, 0; mov eax, 60;
/// syscall`).
pub(crate) const PROGRAM: &[u8] = &{
    let mut program = [0_u8; 132];
    let head = *b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x3e\0\x01\0\0\0\x78\0\x40\0\0\0\0\0\
        \x40\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x40\0\x38\0\x01\0\0\0\0\0\0\0\
        \x01\0\0\0\x05\0\0\0\0\0\0\0\0\0\0\0\0\0\x40\0\0\0\0\0\0\0\x40\0\0\0\0\0\
        \x84\0\0\0\0\0\0\0\x84\0\0\0\0\0\0\0\0\x10\0\0\0\0\0\0\
        \xbf\0\0\0\0\xb8\x3c\0\0\0\x0f\x05";
    let mut index = 0;
    while index < head.len() {
        program[index] = head[index];
        index += 1;
    }
    program
};
const SCRIPT: &[u8] = b"#!/interpreter\n";
const TEXT: &[u8] = b"neither a module nor a policy\n";

/// IDs that files and processes have, and that rules match.
pub(crate) const USERS: [u32; 4] = [0, 1, 1000, 1001];

/// The number of cases that share the rules of one group.
const SHARE: usize = 2;
const FIRST_GROUP: u32 = 50_000;
/// The group of all files on vfat, which has no owners.
const VFAT_GROUP: u32 = 49_999;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum System {
    Ext4,
    Squashfs,
    Vfat,
    Tmpfs,
    Ramfs,
}

impl System {
    pub(crate) const ALL: [Self; 5] =
        [Self::Ext4, Self::Squashfs, Self::Vfat, Self::Tmpfs, Self::Ramfs];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Squashfs => "squashfs",
            Self::Vfat => "vfat",
            Self::Tmpfs => "tmpfs",
            Self::Ramfs => "ramfs",
        }
    }

    pub(crate) const fn magic(self) -> u64 {
        match self {
            Self::Ext4 => 0xef53,
            Self::Squashfs => 0x7371_7368,
            Self::Vfat => 0x4d44,
            Self::Tmpfs => 0x0102_1994,
            Self::Ramfs => 0x8584_58f6,
        }
    }

    pub(crate) const fn is_memory(self) -> bool {
        matches!(self, Self::Tmpfs | Self::Ramfs)
    }

    pub(crate) fn directory(self) -> String {
        format!("/mnt/{}", self.name())
    }

    pub(crate) fn options(self) -> String {
        match self {
            Self::Vfat => format!("uid=0,gid={VFAT_GROUP},fmask=0000,dmask=0022"),
            _ => String::new(),
        }
    }

    pub(crate) const fn access(self) -> Access {
        match self {
            Self::Squashfs => Access::ReadOnly,
            _ => Access::ReadWrite,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Content {
    Program,
    Script,
    Text,
}

/// The value of `security.ima`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Label {
    None,
    Signed,
    SignedSha512,
    /// A signature by a key that is in no keyring.
    UnknownKey,
    /// A valid signature with a changed last byte.
    Corrupt,
    /// A valid signature without its last byte.
    Short,
    /// A signature of other content.
    Other,
    /// A valid signature with another version byte.
    Version(u8),
    /// A valid signature with another type byte.
    Type(u8),
    Digest,
    DigestSha512,
    DigestMd5,
    /// A digest of type 1, SHA-1.
    OldDigest,
    WrongDigest,
    ShortDigest,
    LongDigest,
    Bytes(&'static [u8]),
}

const LABELS: &[(u64, Label)] = &[
    (16, Label::None),
    (30, Label::Signed),
    (5, Label::SignedSha512),
    (5, Label::UnknownKey),
    (5, Label::Corrupt),
    (2, Label::Short),
    (4, Label::Other),
    (1, Label::Version(0)),
    (1, Label::Version(1)),
    (1, Label::Version(3)),
    (1, Label::Version(9)),
    (1, Label::Type(2)),
    (1, Label::Type(5)),
    (2, Label::Type(6)),
    (1, Label::Type(9)),
    (12, Label::Digest),
    (3, Label::DigestSha512),
    (1, Label::DigestMd5),
    (2, Label::OldDigest),
    (4, Label::WrongDigest),
    (1, Label::ShortDigest),
    (1, Label::LongDigest),
    (1, Label::Bytes(&[3])),
    (1, Label::Bytes(&[4])),
    (1, Label::Bytes(&[1])),
    (1, Label::Bytes(&[3, 2])),
    (1, Label::Bytes(&[3, 2, 4, 1, 2, 3, 4, 0])),
    (1, Label::Bytes(&[4, 200, 1, 2, 3])),
    (1, Label::Bytes(&[0])),
];

/// The values that root can write on tmpfs.
const WRITABLE_LABELS: &[(u64, Label)] = &[
    (20, Label::None),
    (40, Label::Signed),
    (10, Label::UnknownKey),
    (10, Label::Other),
    (15, Label::Digest),
    (5, Label::WrongDigest),
];

/// The file of a case.
#[derive(Debug, Clone)]
pub(crate) struct FileSpec {
    pub(crate) number: usize,
    pub(crate) system: System,
    pub(crate) content: Content,
    pub(crate) label: Label,
    pub(crate) owner: u32,
    pub(crate) mode: u32,
    /// Its own rules; generated ones if `None`.
    pub(crate) rules: Option<&'static [&'static str]>,
}

impl FileSpec {
    pub(crate) fn path(&self) -> String {
        format!("{}/{:05}", self.system.directory(), self.number)
    }

    /// The path on the first disk, for files in memory.
    pub(crate) fn original(&self) -> String {
        format!("{}/{:05}", System::Ext4.directory(), self.number)
    }

    pub(crate) fn group(&self) -> u32 {
        match self.system {
            System::Vfat => VFAT_GROUP,
            _ => FIRST_GROUP + (self.number / SHARE) as u32,
        }
    }

    /// The content, different for each file.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        content(self.content)
    }

    pub(crate) fn size(&self) -> u64 {
        self.bytes().len() as u64
    }

    pub(crate) fn setuid(&self) -> Option<u32> {
        (self.mode & 0o4000 != 0).then_some(self.owner)
    }

    pub(crate) fn setgid(&self) -> Option<u32> {
        (self.mode & 0o2000 != 0).then_some(self.group())
    }

    pub(crate) fn facts(&self, files: &Files) -> FileFacts {
        FileFacts {
            owner: self.owner,
            group: self.group(),
            fsmagic: self.system.magic(),
            fsname: self.system.name().as_bytes().to_vec(),
            fs_subtype: None,
            fsuuid: match self.system {
                System::Ext4 => files.uuid,
                // a UUID that no rule matches
                _ => Uuid([0xff; 16]),
            },
        }
    }
}

fn content(content: Content) -> Vec<u8> {
    match content {
        Content::Program => PROGRAM.to_vec(),
        Content::Script => SCRIPT.to_vec(),
        Content::Text => TEXT.to_vec(),
    }
}

/// The parts of all files.
pub(crate) struct Files {
    pub(crate) keyring: Keyring,
    pub(crate) uuid: Uuid,
    /// For each content: signed with SHA-256, with SHA-512, and by an unknown key.
    signatures: Vec<[Vec<u8>; 3]>,
}

const CONTENTS: [Content; 3] = [Content::Program, Content::Script, Content::Text];

impl Files {
    pub(crate) fn new(store: &KeyStore) -> Result<Self> {
        let unknown = KeyStore::create(Algorithm::P256)?;
        let path = store.directory().join("ima_keys/x509_ima.der");
        let certificates = Certificate::read_all(&path)?;
        let tree = Tree::new()?;
        let mut signatures = Vec::new();
        for kind in CONTENTS {
            tree.write("/signed", content(kind), 0o644)?;
            let path = tree.path("/signed");
            let of = |store: &KeyStore, hash: &str| {
                let mut sign = lab::programs::imactl()?;
                sign.args(["--quiet", "sign", "--hash", hash, "--keys"]).arg(store.directory());
                lab::host::run(sign.arg(&path))?;
                attribute(&path)
            };
            signatures.push([of(store, "sha256")?, of(store, "sha512")?, of(&unknown, "sha256")?]);
        }
        let keyring = Keyring::of_certificates(&certificates);
        let uuid = Uuid(*b"\x4f\x13imactl's lab..");
        Ok(Self { keyring, uuid, signatures })
    }

    /// Generates a file.
    pub(crate) fn spec(&self, number: usize, random: &mut Random) -> FileSpec {
        let system = *random.weighted(&[
            (64, System::Ext4),
            (10, System::Squashfs),
            (6, System::Vfat),
            (14, System::Tmpfs),
            (6, System::Ramfs),
        ]);
        let content =
            *random.weighted(&[(60, Content::Program), (12, Content::Script), (28, Content::Text)]);
        let label = match system {
            System::Tmpfs => *random.weighted(WRITABLE_LABELS),
            _ => *random.weighted(LABELS),
        };
        let vfat = system == System::Vfat;
        let owner = if vfat { 0 } else { *random.pick(&USERS) };
        let bits = *random.weighted(&[(88, 0), (8, 0o4000), (4, 0o2000)]);
        let mode = if vfat { 0o777 } else { 0o777 | bits };
        FileSpec { number, system, content, label, owner, mode, rules: None }
    }

    /// The value of the attribute.
    pub(crate) fn attribute(&self, file: &FileSpec) -> Option<Vec<u8>> {
        let index = CONTENTS.iter().position(|kind| *kind == file.content).unwrap_or(0);
        let [sha256, sha512, unknown] = &self.signatures[index];
        let other = &self.signatures[(index + 1) % CONTENTS.len()][0];
        let changed = |at: usize, value: u8| {
            let mut bytes = sha256.clone();
            bytes[at] = value;
            bytes
        };
        let digest = |head: &[u8], name: &str| {
            let algorithm: ima::HashAlgorithm = name.parse().expect("an algorithm");
            let mut hasher = ima::digest::Hasher::new(algorithm).expect("OpenSSL has it");
            let digest = hasher.digest(&file.bytes()).expect("a digest");
            [head, digest.as_bytes()].concat()
        };
        Some(match file.label {
            Label::None => return None,
            Label::Signed => sha256.clone(),
            Label::SignedSha512 => sha512.clone(),
            Label::UnknownKey => unknown.clone(),
            Label::Corrupt => changed(sha256.len() - 1, !sha256[sha256.len() - 1]),
            Label::Short => sha256[..sha256.len() - 1].to_vec(),
            Label::Other => other.clone(),
            Label::Version(version) => changed(1, version),
            Label::Type(kind) => changed(0, kind),
            Label::Digest => digest(&[4, 4], "sha256"),
            Label::DigestSha512 => digest(&[4, 6], "sha512"),
            Label::DigestMd5 => digest(&[4, 1], "md5"),
            Label::OldDigest => digest(&[1], "sha1"),
            Label::WrongDigest => [&[4, 4][..], &[0x55; 32]].concat(),
            Label::ShortDigest => digest(&[4, 4], "sha256")[..20].to_vec(),
            Label::LongDigest => [digest(&[4, 4], "sha256"), vec![0]].concat(),
            Label::Bytes(bytes) => bytes.to_vec(),
        })
    }

    /// The disks, in their order.
    pub(crate) fn disks(&self, cases: &[Case]) -> Result<Vec<(System, Image)>> {
        let mut disks = Vec::new();
        for system in [System::Ext4, System::Squashfs] {
            let tree = Tree::new()?;
            for case in cases {
                let memory = case.file.system.is_memory() && system == System::Ext4;
                if case.file.system == system || memory {
                    self.place(&tree, &case.file)?;
                }
            }
            let image = match system {
                System::Ext4 => {
                    let image = tree.ext4((64 << 20).max(cases.len() as u64 * (20 << 10)))?;
                    let mut tune = lab::host::command("tune2fs", "e2fsprogs")?;
                    tune.args(["-U", &self.uuid.to_string()]).arg(image.path());
                    lab::host::run(&mut tune)?;
                    image
                }
                _ => tree.squashfs()?,
            };
            disks.push((system, image));
        }
        disks.push((System::Vfat, Image::vfat(8 << 20)?));
        Ok(disks)
    }

    fn place(&self, tree: &Tree, file: &FileSpec) -> Result<()> {
        let name = format!("/{:05}", file.number);
        tree.write(&name, file.bytes(), file.mode)?;
        let path = tree.path(&name);
        chown(&path, Some(file.owner), Some(file.group()))?;
        // chown clears these bits
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(file.mode))?;
        if let Some(value) = self.attribute(file) {
            rustix::fs::setxattr(&path, "security.ima", &value, XattrFlags::empty())
                .with_context(|| format!("{file:?}"))?;
        }
        Ok(())
    }
}

fn attribute(path: &Path) -> Result<Vec<u8>> {
    let mut value = vec![0; 1024];
    let length = rustix::fs::getxattr(path, "security.ima", &mut value[..])?;
    value.truncate(length);
    Ok(value)
}

/// An operation that is possible on such a file.
pub(crate) fn deed(file: &FileSpec, random: &mut Random) -> Deed {
    loop {
        let deed = *random.weighted(&[
            (30, Deed::Execute),
            (20, Deed::Map),
            (4, Deed::Protect),
            (16, Deed::Open(OpenFor::Read)),
            (5, Deed::Open(OpenFor::Write)),
            (3, Deed::Open(OpenFor::Append)),
            (5, Deed::Open(OpenFor::ReadWrite)),
            (3, Deed::Open(OpenFor::ReadDirect)),
            (7, Deed::Module),
            (5, Deed::Firmware),
            (7, Deed::Policy),
        ]);
        let fits = match deed {
            Deed::Execute => file.content != Content::Text,
            Deed::Open(OpenFor::Write | OpenFor::Append | OpenFor::ReadWrite) => {
                file.system != System::Squashfs
            }
            Deed::Open(OpenFor::ReadDirect) => file.system == System::Ext4,
            _ => true,
        };
        if fits {
            return deed;
        }
    }
}

/// A user who may perform it.
pub(crate) fn who(deed: Deed, random: &mut Random) -> Who {
    let user = |id: u32| Credentials::user(id);
    let with =
        |real, effective, saved| Credentials { uid: Ids { real, effective, saved }, ..user(1000) };
    let almost_root = Credentials { capabilities: Some(!0 >> 23), ..user(1000) };
    if matches!(deed, Deed::Module | Deed::Policy) {
        return Who(if random.chance(70) { None } else { Some(almost_root) });
    }
    if deed == Deed::Firmware {
        return Who(None);
    }
    let choices = [
        (40, None),
        (20, Some(user(1000))),
        (5, Some(user(1001))),
        (5, Some(Credentials { gid: Ids::all(0), ..user(1000) })),
        (5, Some(with(1000, 0, 0))),
        (5, Some(with(0, 1000, 0))),
        (5, Some(Credentials { capabilities: Some(CAP_SETUID), ..with(0, 1000, 1000) })),
        (5, Some(Credentials { capabilities: Some(CAP_SETUID), ..with(1000, 1000, 0) })),
        (
            5,
            Some(Credentials {
                gid: Ids { real: 1000, effective: 1000, saved: 0 },
                capabilities: Some(CAP_SETGID),
                ..user(1000)
            }),
        ),
        (5, Some(Credentials { capabilities: Some(0), ..with(0, 0, 0) })),
    ];
    Who(random.weighted(&choices).clone())
}

/// Cases that were once predicted wrong, or almost.
pub(crate) fn known_cases(first: usize) -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |rules, content, label, deeds: &[(Deed, Who)]| {
        // one group per case
        let number = (first / SHARE + 1 + cases.len()) * SHARE;
        let file = FileSpec {
            number,
            system: System::Ext4,
            content,
            label,
            owner: 0,
            mode: 0o777,
            rules: Some(rules),
        };
        cases.push(Case { file, deeds: deeds.to_vec() });
    };
    let root = || Who(None);
    // the demands of one event also apply to a later one
    add(
        &["measure func=FILE_CHECK digest_type=verity", "appraise func=BPRM_CHECK"],
        Content::Program,
        Label::Signed,
        &[(Deed::Execute, root())],
    );
    // only as much of the digest as is stored is compared
    add(
        &["appraise func=BPRM_CHECK"],
        Content::Program,
        Label::LongDigest,
        &[(Deed::Execute, root()), (Deed::Execute, root())],
    );
    // with the oldest template, O_DIRECT cannot be measured, and there is an error
    add(
        &["measure func=FILE_CHECK template=ima"],
        Content::Text,
        Label::None,
        &[(Deed::Open(OpenFor::ReadDirect), root())],
    );
    add(
        &["appraise func=FILE_CHECK permit_directio"],
        Content::Text,
        Label::None,
        &[(Deed::Open(OpenFor::ReadDirect), root()), (Deed::Open(OpenFor::Read), root())],
    );
    // a hash rule before an appraise rule
    add(
        &["hash func=FILE_CHECK", "appraise func=FILE_CHECK appraise_type=imasig"],
        Content::Text,
        Label::Signed,
        &[(Deed::Open(OpenFor::Read), root()), (Deed::Open(OpenFor::Write), root())],
    );
    // closing it stores a digest in the attribute, even if nothing was written
    add(
        &["appraise func=FILE_CHECK mask=MAY_READ digest_type=verity appraise_type=sigv3", "hash"],
        Content::Text,
        Label::None,
        &[(Deed::Open(OpenFor::Read), root()), (Deed::Open(OpenFor::ReadWrite), root())],
    );
    // a set-user-ID program of another user: its IDs count, and the caller's capabilities
    add(
        &["audit func=CREDS_CHECK euid=0"],
        Content::Program,
        Label::None,
        &[(Deed::Execute, root())],
    );
    if let [.., uncounted, set_user_id] = &mut cases[..] {
        // a file system without change counting
        uncounted.file.system = System::Ramfs;
        (set_user_id.file.owner, set_user_id.file.mode) = (1, 0o4777);
    }
    cases
}
