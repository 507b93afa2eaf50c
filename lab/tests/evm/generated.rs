//! Generated files with metadata, attributes and signatures of all forms, valid and invalid. The kernel
//! must decide as `imactl verify --evm` predicts for each file in the image.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::os::unix::fs::chown;
use std::path::Path;

use anyhow::{ensure, Context, Result};
use lab::audit::Kind;
use lab::image::{Image, Tree};
use lab::kernel::{Kernel, Series};
use lab::keys::{Algorithm, KeyStore, Signer};
use lab::machine::Guest;
use lab::random::Random;
use serde_json::Value;

use super::{get, judges, mode, remove, set, LABEL, NET_RAW, SYS_ADMIN};
use crate::policy_decisions::files::PROGRAM;

/// How files in a directory are signed: its name, its EVM key, and the options.
struct Group {
    name: &'static str,
    key: Key,
    options: &'static [&'static str],
    /// The percentage of files that are in this group.
    weight: u64,
    place: Place,
}

#[derive(Clone, Copy)]
enum Key {
    /// The RSA key of the store.
    Store,
    /// The key of another signer whose certificate is in `.evm`.
    Known,
    /// The key of a signer whose certificate is not in `.evm`.
    Stranger,
    /// The IMA key of a store of this algorithm ([`ALGORITHMS`]).
    Of(&'static str),
}

/// Algorithms of further EVM keys; kernels that do not support the last one do not get its certificate.
const ALGORITHMS: [&str; 3] = ["p-256", "p-384", "ml-dsa-44"];

/// The state of EVM: bits of securityfs' `evm` in addition to that of signatures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bits {
    /// With the HMAC key.
    Hmac,
    Signatures,
    /// Metadata may be changed although it becomes invalid.
    MetadataWrites,
    /// With the HMAC key; signatures must be of version 3.
    Version3,
}

impl Bits {
    /// The bits for this seed.
    pub(super) fn pick(kernel: &Kernel, seed: u64) -> Self {
        let all = [Self::Hmac, Self::Hmac, Self::Signatures, Self::MetadataWrites, Self::Version3];
        let number = match kernel.series() {
            Series::Linux7 => all.len(),
            _ => all.len() - 1,
        };
        *Random::new(seed ^ 0xb175).pick(&all[..number])
    }

    pub(super) fn has_hmac(self) -> bool {
        matches!(self, Self::Hmac | Self::Version3)
    }

    /// The variable of EVM's configuration that sets them.
    pub(super) fn variable(self) -> &'static str {
        match self {
            Self::Hmac | Self::Signatures => "",
            Self::MetadataWrites => "EVM_ACTIVATION_BITS=4\n",
            Self::Version3 => "EVM_ACTIVATION_BITS=8\n",
        }
    }

    /// Options for the files of the root that are not generated.
    pub(super) fn options(self) -> &'static [&'static str] {
        match self {
            Self::Version3 => &["--evm", "--signature-version", "3"],
            _ => &["--evm"],
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Signed in a tree.
    Tree,
    /// Signed in the image, and bound to an inode.
    Image,
}

const fn group(
    name: &'static str,
    key: Key,
    options: &'static [&'static str],
    weight: u64,
) -> Group {
    Group { name, key, options, weight, place: Place::Tree }
}

const fn bound(
    name: &'static str,
    key: Key,
    options: &'static [&'static str],
    weight: u64,
) -> Group {
    Group { place: Place::Image, ..group(name, key, options, weight) }
}

const GROUPS: &[Group] = &[
    group("sha256", Key::Store, &[], 30),
    group("sha512", Key::Store, &["--hash", "sha512"], 8),
    group("sha384", Key::Store, &["--hash", "sha384"], 4),
    group("version-3", Key::Store, &["--signature-version", "3"], 8),
    group("32-bit", Key::Store, &["--word-size", "32"], 3),
    group("big-endian", Key::Store, &["--word-size", "64be"], 3),
    group("known", Key::Known, &[], 8),
    group("stranger", Key::Stranger, &[], 5),
    group("p-256", Key::Of("p-256"), &[], 8),
    group("p-384", Key::Of("p-384"), &["--hash", "sha384"], 6),
    group("p-384-3", Key::Of("p-384"), &["--signature-version", "3"], 5),
    group("ml-dsa", Key::Of("ml-dsa-44"), &[], 9),
    bound("inode", Key::Store, &["--evm-type", "inode"], 11),
    bound("inode-3", Key::Store, &["--evm-type", "inode", "--signature-version", "3"], 4),
    bound("inode-p-256", Key::Of("p-256"), &["--evm-type", "inode"], 5),
    bound("hmac", Key::Store, &["--evm-type", "hmac", "--hmac-key", "KEY"], 12),
    bound("hmac-wrong", Key::Store, &["--evm-type", "hmac", "--hmac-key", "WRONG"], 4),
];

/// Changes after signing.
#[derive(Debug, Clone, Copy)]
enum Change {
    Nothing,
    Owner,
    Group,
    Mode,
    /// One byte more.
    Content,
    Set(&'static str, &'static [u8]),
    Remove(&'static str),
    /// An edit of `security.evm`.
    Evm(Edit),
}

#[derive(Debug, Clone, Copy)]
enum Edit {
    Bytes(&'static [u8]),
    /// Sets the byte at this offset.
    Byte(usize, u8),
    /// Changes the last byte.
    Corrupt,
    /// Removes the last byte.
    Short,
    /// Appends a byte.
    Long,
    /// Keeps only this number of bytes.
    Only(usize),
}

const CHANGES: &[(u64, Change)] = &[
    (70, Change::Nothing),
    (6, Change::Owner),
    (6, Change::Group),
    (6, Change::Mode),
    (6, Change::Content),
    (5, Change::Set("security.selinux", b"system_u:object_r:etc_t:s0\0")),
    // without the NUL at its end
    (3, Change::Set("security.selinux", b"system_u:object_r:bin_t:s0")),
    (3, Change::Set("security.SMACK64", b"other")),
    (3, Change::Set("security.SMACK64EXEC", b"other")),
    (3, Change::Set("security.apparmor", b"profile")),
    (4, Change::Set("security.capability", SYS_ADMIN)),
    (3, Change::Set("security.other", b"not covered")),
    (3, Change::Remove("security.selinux")),
    (3, Change::Remove("security.capability")),
    (4, Change::Remove("security.evm")),
    (4, Change::Remove("security.ima")),
    (2, Change::Set("security.ima", b"")),
    (2, Change::Set("security.ima", &[4, 4, 1])),
    (3, Change::Evm(Edit::Corrupt)),
    (2, Change::Evm(Edit::Short)),
    (2, Change::Evm(Edit::Long)),
    (2, Change::Evm(Edit::Only(1))),
    (2, Change::Evm(Edit::Only(9))),
    (2, Change::Evm(Edit::Only(10))),
    (2, Change::Evm(Edit::Bytes(b""))),
    (1, Change::Evm(Edit::Bytes(&[2; 21]))),
    (1, Change::Evm(Edit::Bytes(&[2; 20]))),
    (1, Change::Evm(Edit::Bytes(&[1; 21]))),
    (1, Change::Evm(Edit::Bytes(&[4, 4, 1, 2]))),
    (2, Change::Evm(Edit::Byte(0, 2))),
    (2, Change::Evm(Edit::Byte(0, 3))),
    (2, Change::Evm(Edit::Byte(0, 5))),
    (2, Change::Evm(Edit::Byte(0, 6))),
    (1, Change::Evm(Edit::Byte(0, 9))),
    (2, Change::Evm(Edit::Byte(1, 1))),
    (2, Change::Evm(Edit::Byte(1, 3))),
    (1, Change::Evm(Edit::Byte(1, 9))),
    (2, Change::Evm(Edit::Byte(2, 1))),
    (2, Change::Evm(Edit::Byte(2, 200))),
    (2, Change::Evm(Edit::Byte(4, 0x55))),
    (2, Change::Evm(Edit::Byte(8, 1))),
];

/// A file: its location, and everything that is done with it.
#[derive(Debug)]
struct Case {
    path: String,
    owner: (u32, u32),
    mode: u32,
    attributes: Vec<(&'static str, &'static [u8])>,
    change: Change,
}

impl Case {
    fn generate(number: usize, random: &mut Random) -> (usize, Self) {
        let weighted: Vec<_> =
            GROUPS.iter().enumerate().map(|(index, group)| (group.weight, index)).collect();
        let index = *random.weighted(&weighted);
        let group = &GROUPS[index];
        let mut attributes = Vec::new();
        let labels: &[(&str, &[u8], u64)] = match group.place {
            Place::Tree => &[
                ("security.selinux", LABEL, 40),
                ("security.SMACK64", b"_", 20),
                ("security.SMACK64EXEC", b"floor", 10),
                ("security.apparmor", b"unconfined", 10),
                ("security.capability", NET_RAW, 25),
            ],
            // attributes that these kernels are built to protect
            Place::Image => &[("security.SMACK64", b"_", 20), ("security.capability", NET_RAW, 25)],
        };
        for &(name, value, percent) in labels {
            if random.chance(percent) {
                attributes.push((name, value));
            }
        }
        let change = loop {
            let change = *random.weighted(CHANGES);
            // debugfs can apply only some of the changes
            let simple =
                matches!(change, Change::Nothing | Change::Owner | Change::Group | Change::Mode);
            if group.place == Place::Tree || simple {
                break change;
            }
        };
        let ids = [0, 0, 1, 1000, 65_534, 70_000];
        let case = Self {
            path: format!("/opt/{}/{number:04}", group.name),
            owner: (*random.pick(&ids), *random.pick(&ids)),
            mode: *random.pick(&[0o755, 0o755, 0o700, 0o555, 0o4755, 0o2755, 0o1711, 0o6755]),
            attributes,
            change,
        };
        (index, case)
    }

    fn write(&self, tree: &Tree) -> Result<()> {
        tree.write(&self.path, PROGRAM, 0o755)?;
        let path = tree.path(&self.path);
        chown(&path, Some(self.owner.0), Some(self.owner.1))?;
        // chown clears the set-ID bits and capabilities
        mode(&path, self.mode)?;
        self.attributes.iter().try_for_each(|(name, value)| set(&path, name, value))
    }

    /// Applies the change in a tree.
    fn change(&self, path: &Path) -> Result<()> {
        let kept = |name: &str| get(path, name).ok();
        let capability = kept("security.capability");
        match self.change {
            Change::Nothing => {}
            Change::Owner => chown(path, Some(self.owner.0 ^ 5), None)?,
            Change::Group => chown(path, None, Some(self.owner.1 ^ 5))?,
            Change::Mode => mode(path, self.mode ^ 0o020)?,
            Change::Content => {
                let mut file = std::fs::OpenOptions::new().append(true).open(path)?;
                std::io::Write::write_all(&mut file, &[0])?;
                // writing clears capabilities
                mode(path, self.mode)?;
            }
            Change::Set(name, value) => set(path, name, value)?,
            Change::Remove(name) => remove(path, name).or_else(|error| match kept(name) {
                None => Ok(()),
                Some(_) => Err(error),
            })?,
            Change::Evm(edit) => {
                let mut value = get(path, "security.evm")?;
                match edit {
                    Edit::Bytes(bytes) => value = bytes.to_vec(),
                    Edit::Byte(at, byte) => value[at] = byte,
                    Edit::Corrupt => *value.last_mut().context("a signature")? ^= 0xff,
                    Edit::Short => drop(value.pop()),
                    Edit::Long => value.push(0),
                    Edit::Only(length) => value.truncate(length),
                }
                set(path, "security.evm", &value)?;
            }
        }
        if let (Change::Owner | Change::Group | Change::Content, Some(capability)) =
            (self.change, capability)
        {
            mode(path, self.mode)?;
            set(path, "security.capability", &capability)?;
        }
        Ok(())
    }

    /// The same as a debugfs command.
    fn command(&self) -> Option<String> {
        let (field, value) = match self.change {
            Change::Owner => ("uid", self.owner.0 ^ 5),
            Change::Group => ("gid", self.owner.1 ^ 5),
            Change::Mode => ("mode", 0o100_000 | self.mode ^ 0o020),
            _ => return None,
        };
        Some(format!("set_inode_field {} {field} {value:#o}", self.path))
    }
}

/// The keys of all signatures, and the files that options name.
pub(super) struct Keys<'a> {
    pub(super) store: &'a KeyStore,
    pub(super) known: &'a Signer,
    pub(super) hmac: &'a Path,
    /// One store for each of [`ALGORITHMS`].
    pub(super) others: Vec<(&'static str, KeyStore)>,
}

/// Creates a store for each algorithm.
pub(super) fn others() -> Result<Vec<(&'static str, KeyStore)>> {
    let store = |name| KeyStore::create_with(Algorithm::P256, &["--ima-algorithm", name]);
    ALGORITHMS.into_iter().map(|name| Ok((name, store(name)?))).collect()
}

/// Adds generated files below `/opt` of a signed tree, and makes an image of it.
pub(super) fn image(root: &Tree, keys: &Keys<'_>, number: usize, seed: u64) -> Result<Image> {
    let mut random = Random::new(seed);
    let mut cases: Vec<(usize, Case)> =
        (0..number).map(|number| Case::generate(number, &mut random)).collect();
    cases.iter().try_for_each(|(_, case)| case.write(root))?;
    let stranger = KeyStore::create(Algorithm::P256)?;
    let (wrong, hmac) = (super::tempfile(&[0x11; 32])?, keys.hmac.to_string_lossy());
    let sign = |group: &Group, path: &Path, more: &[&str]| {
        let wrong = wrong.path().to_string_lossy();
        let options = group.options.iter().map(|option| match *option {
            "KEY" => &*hmac,
            "WRONG" => &*wrong,
            option => option,
        });
        let options: Vec<&str> = more.iter().copied().chain(options).collect();
        match group.key {
            Key::Store => keys.store.sign_with(&options, path),
            Key::Known => keys.known.sign_evm(&keys.store.directory(), path),
            Key::Stranger => stranger.sign_with(&options, path),
            Key::Of(name) => {
                let store = keys.others.iter().find(|(algorithm, _)| *algorithm == name);
                let directory = store.context(name)?.1.directory().join("ima_keys/x509_ima");
                let file = |end| directory.with_extension(end).to_string_lossy().into_owned();
                let (key, certificate) = (file("key"), file("der"));
                let key = ["--evm-only", "--evm-key", &key, "--evm-cert", &certificate];
                keys.store.sign_with(&[&key[..], &options].concat(), path)
            }
        }
    };
    let has = |group: usize, cases: &[(usize, Case)]| cases.iter().any(|(it, _)| *it == group);
    keys.store.sign_with(&[], &root.path("/opt"))?;
    for (index, group) in GROUPS.iter().enumerate() {
        if group.place == Place::Tree && has(index, &cases) {
            sign(group, &root.path(&format!("/opt/{}", group.name)), &["--evm"])?;
        }
    }
    for (index, case) in &mut cases {
        if GROUPS[*index].place == Place::Tree {
            case.change(&root.path(&case.path)).with_context(|| format!("{case:?}"))?;
        }
    }
    let image = root.ext4(96 << 20)?;
    for (index, group) in GROUPS.iter().enumerate() {
        if group.place == Place::Image && has(index, &cases) {
            let glob = format!("/opt/{}/*", group.name);
            sign(group, image.path(), &["--evm", "--include", &glob])?;
        }
    }
    let mut commands = String::new();
    for (index, case) in &cases {
        if let (Place::Image, Some(command)) = (GROUPS[*index].place, case.command()) {
            writeln!(commands, "{command}")?;
        }
    }
    let commands = super::tempfile(commands.as_bytes())?;
    let mut debugfs = lab::host::command("debugfs", "e2fsprogs")?;
    debugfs.arg("-w").arg("-f").arg(commands.path()).arg(image.path());
    lab::host::run(&mut debugfs)?;
    Ok(image)
}

/// The verdicts of `imactl verify` on the generated files in the image.
fn predicted(
    image: &Image,
    keys: &Keys<'_>,
    kernel: &Kernel,
    bits: Bits,
) -> Result<BTreeMap<String, Value>> {
    let mut verify = lab::programs::imactl()?;
    verify.args(["verify", "--evm", "--json", "--include", "/opt/*/*"]);
    verify.args(["--kernel", kernel.version(), "--keys"]).arg(keys.store.directory());
    if bits.has_hmac() {
        verify.arg("--hmac-key").arg(keys.hmac);
    }
    if bits == Bits::Version3 {
        verify.arg("--evm-sigv3");
    }
    for (_, store) in &keys.others {
        verify.arg("--evm-cert").arg(store.directory().join("ima_keys/x509_ima.der"));
    }
    verify.arg("--evm-cert").arg(keys.store.directory().join("evm_keys/x509_evm.der"));
    let known = super::tempfile(&keys.known.certificate()?)?;
    let output = verify.arg("--evm-cert").arg(known.path()).arg(image.path()).output()?;
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    let mut verdicts = BTreeMap::new();
    for line in String::from_utf8(output.stdout)?.lines() {
        let line: Value = serde_json::from_str(line)?;
        if let ("file", Some(path)) = (line["type"].as_str().unwrap_or(""), line["path"].as_str()) {
            let start = path.find("opt/").with_context(|| path.to_owned())?;
            verdicts.insert(format!("/{}", &path[start..]), line);
        }
    }
    Ok(verdicts)
}

/// Executes each file, and compares the results.
pub(super) fn all_are_judged_as_predicted(
    guest: &mut Guest,
    image: &Image,
    keys: &Keys<'_>,
    kernel: &Kernel,
    bits: Bits,
    number: usize,
) -> Result<()> {
    let predicted = predicted(image, keys, kernel, bits)?;
    ensure!(predicted.len() == number, "{} of {number} files", predicted.len());
    let mut verdicts = BTreeMap::new();
    let mut surprises = Vec::new();
    for (path, line) in &predicted {
        let verdict = line["verdict"].as_str().context("a verdict")?;
        *verdicts.entry(verdict).or_insert(0) += 1;
        let observed = guest.execute(&[path])?;
        // for an empty security.ima the kernel writes res=1
        let records = observed.audit.iter().filter(|record| record.kind == Kind::Data);
        let cause = records.filter_map(|record| record.cause()).next();
        let seen = match (&observed.outcome, cause) {
            (Ok(_), None) => "valid",
            (_, cause) => cause.unwrap_or("refused without a cause"),
        };
        if seen != verdict {
            surprises.push(format!("{observed}\n  predicted: {line}"));
        }
    }
    ensure!(surprises.is_empty(), "{}: {}", surprises.len(), surprises.join("\n"));
    ensure!(verdicts.len() >= 6, "all kinds of verdicts: {verdicts:?}");
    judges(guest, "/usr/bin/true", "valid")
}
