//! The values of keys.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use crate::hash::HashAlgorithm;
use crate::policy::version::Feature;

spelled! {
    /// The action of a rule on the events that match it.
    Action {
        /// Add the file to the measurement list and extend the PCR.
        Measure = "measure",
        /// End the search for a `measure` rule.
        DontMeasure = "dont_measure",
        /// Compare the file with `security.ima`; deny access if it does not match.
        Appraise = "appraise",
        /// End the search for an `appraise` rule.
        DontAppraise = "dont_appraise",
        /// Write the file's digest to the audit log.
        Audit = "audit",
        /// End the search for an `audit` rule.
        DontAudit = "dont_audit",
        /// Store the file's digest in `security.ima`, without a check.
        Hash = "hash",
        /// End the search for a `hash` rule.
        DontHash = "dont_hash",
    }
}

spelled! {
    /// One kind of access.
    Access {
        /// `MAY_EXEC`
        Exec = "MAY_EXEC",
        /// `MAY_WRITE`
        Write = "MAY_WRITE",
        /// `MAY_READ`
        Read = "MAY_READ",
        /// `MAY_APPEND`
        Append = "MAY_APPEND",
    }
}

/// The accesses of one event: `MAY_EXEC`, `MAY_WRITE`, `MAY_READ`, `MAY_APPEND`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct AccessSet(u8);

impl AccessSet {
    /// No access: keys, critical data, kexec's command line and changes of attributes.
    pub const NONE: Self = Self(0);
    /// `MAY_EXEC`
    pub const EXEC: Self = Self::NONE.with(Access::Exec);
    /// `MAY_WRITE`
    pub const WRITE: Self = Self::NONE.with(Access::Write);
    /// `MAY_READ`
    pub const READ: Self = Self::NONE.with(Access::Read);

    /// The set with `access` added.
    #[must_use]
    pub const fn with(self, access: Access) -> Self {
        Self(self.0 | Self::bit(access))
    }

    /// Whether `access` is in it.
    pub const fn contains(self, access: Access) -> bool {
        self.0 & Self::bit(access) != 0
    }

    /// Whether the set is exactly `access`.
    pub const fn is_exactly(self, access: Access) -> bool {
        self.0 == Self::bit(access)
    }

    /// The bit of an access in `include/linux/fs.h`.
    const fn bit(access: Access) -> u8 {
        match access {
            Access::Exec => 1,
            Access::Write => 2,
            Access::Read => 4,
            Access::Append => 8,
        }
    }
}

/// `MAY_READ|MAY_WRITE`, or `0`.
impl fmt::Display for AccessSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for access in Access::ALL.iter().filter(|access| self.contains(**access)) {
            write!(f, "{separator}{access}")?;
            separator = "|";
        }
        if separator.is_empty() {
            f.write_str("0")?;
        }
        Ok(())
    }
}

spelled! {
    /// The required form of `security.ima`.
    AppraiseType {
        /// A signature of version 2 of the file's digest.
        Imasig = "imasig",
        /// The same, or a signature appended to the file.
        ImasigOrModsig = "imasig|modsig",
        /// A signature of version 3: of the file's digest, or with `digest_type=verity` of the
        /// fs-verity digest.
        Sigv3 = "sigv3",
        /// A signature of version 3, or one appended to the file: both keys, in this order.
        Sigv3OrModsig = "imasig|modsig appraise_type=sigv3",
    }
}

impl Action {
    /// The feature that added it; `None` if every version of the table has it.
    pub const fn since(self) -> Option<Feature> {
        match self {
            Self::DontAudit => Some(Feature::DontAudit),
            _ => None,
        }
    }
}

impl AppraiseType {
    /// Whether a signature appended to the file is accepted.
    pub const fn allows_modsig(self) -> bool {
        matches!(self, Self::ImasigOrModsig | Self::Sigv3OrModsig)
    }
}

spelled! {
    /// The digest of the file that is used.
    DigestType {
        /// The fs-verity digest.
        Verity = "verity",
    }
}

/// `mask=`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Mask {
    /// How the access is compared.
    pub scope: MaskScope,
    /// The access.
    pub access: Access,
}

/// How `mask=` is compared with the requested access.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MaskScope {
    /// `mask=MAY_READ`: exactly this access.
    Exactly,
    /// `mask=^MAY_READ`: this access, possibly with others.
    Among,
}

/// How an id is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Comparison {
    /// `=`
    Equal,
    /// `<`
    Less,
    /// `>`
    Greater,
}

impl Comparison {
    /// The character in a policy.
    pub const fn symbol(self) -> char {
        match self {
            Self::Equal => '=',
            Self::Less => '<',
            Self::Greater => '>',
        }
    }
}

/// A comparison with a user or group id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct IdTest {
    /// The operator.
    pub comparison: Comparison,
    /// The right operand.
    pub id: u32,
}

impl IdTest {
    /// Whether the comparison is true for `id`.
    pub const fn holds(self, id: u32) -> bool {
        match self.comparison {
            Comparison::Equal => id == self.id,
            Comparison::Less => id < self.id,
            Comparison::Greater => id > self.id,
        }
    }
}

/// Which ids are compared: `uid=` and `gid=`, or `euid=` and `egid=`. A rule has one of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Identity {
    /// The real one.
    Real,
    /// The effective one; for a process with `CAP_SETUID` (`CAP_SETGID`) also the real and saved ones.
    Effective,
}

/// A condition on the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SubjectTest {
    /// Which ids of the process.
    pub identity: Identity,
    /// The comparison.
    pub test: IdTest,
}

/// A file system's UUID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Uuid(pub [u8; 16]);

impl Uuid {
    /// All zero, which the kernel treats as "not set".
    pub const NULL: Self = Self([0; 16]);

    /// Parses the form that `blkid` prints. As in the kernel's `uuid_parse` (`lib/uuid.c`), only the first 36 bytes
    /// are read.
    pub fn parse(text: &[u8]) -> Option<Self> {
        const LENGTH: usize = 36;
        let text = text.get(..LENGTH)?;
        let mut uuid = [0; 16];
        let mut nibbles = 0_usize;
        for (index, byte) in text.iter().enumerate() {
            if matches!(index, 8 | 13 | 18 | 23) {
                if *byte != b'-' {
                    return None;
                }
                continue;
            }
            let nibble = u8::try_from(char::from(*byte).to_digit(16)?).ok()?;
            let target = uuid.get_mut(nibbles / 2)?;
            *target = *target << 4 | nibble;
            nibbles += 1;
        }
        Some(Self(uuid))
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            if matches!(index, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

/// Text that can follow `=`: at least one byte, without space, tab, newline and NUL. It need not be UTF-8.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(Vec<u8>);

impl Name {
    /// A name of these bytes; `None` if a policy cannot contain it.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        let sayable = |byte: &u8| !matches!(byte, b' ' | b'\t' | b'\n' | 0);
        (!bytes.is_empty() && bytes.iter().all(sayable)).then(|| Self(bytes.to_vec()))
    }

    /// A name that is a constant of this crate.
    pub(crate) fn literal(text: &'static str) -> Self {
        debug_assert!(Self::new(text.as_bytes()).is_some());
        Self(text.as_bytes().to_vec())
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// For display: bytes that are not UTF-8 are replaced.
    pub fn to_text(&self) -> String {
        String::from_utf8_lossy(&self.0).into_owned()
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.to_text())
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.to_text())
    }
}

/// `keyrings=` and `label=`: names separated by `|`, at least one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NameList(Vec<Name>);

impl NameList {
    /// Splits at each `|`; `None` if a name is empty, or a policy cannot contain it.
    pub fn parse(text: &[u8]) -> Option<Self> {
        text.split(|byte| *byte == b'|').map(Name::new).collect::<Option<_>>().map(Self)
    }

    /// The names.
    pub fn names(&self) -> &[Name] {
        &self.0
    }

    /// Whether `name` is among them.
    pub fn contains(&self, name: &[u8]) -> bool {
        self.0.iter().any(|item| item.as_bytes() == name)
    }
}

/// A set of hash algorithms.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct AlgorithmSet(u32);

impl AlgorithmSet {
    /// No algorithm.
    pub const EMPTY: Self = Self(0);

    /// The set with `algorithm` added.
    #[must_use]
    pub const fn with(self, algorithm: HashAlgorithm) -> Self {
        Self(self.0 | 1 << algorithm.id())
    }

    /// Whether `algorithm` is in it.
    pub const fn contains(self, algorithm: HashAlgorithm) -> bool {
        self.0 & 1 << algorithm.id() != 0
    }

    /// Whether the set is empty.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Its algorithms, by number.
    pub fn iter(self) -> impl Iterator<Item = HashAlgorithm> {
        HashAlgorithm::ALL.iter().copied().filter(move |algorithm| self.contains(*algorithm))
    }
}

impl FromIterator<HashAlgorithm> for AlgorithmSet {
    fn from_iter<I: IntoIterator<Item = HashAlgorithm>>(algorithms: I) -> Self {
        algorithms.into_iter().fold(Self::EMPTY, Self::with)
    }
}

impl fmt::Debug for AlgorithmSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// `sha256,sha512`, as in a policy.
impl fmt::Display for AlgorithmSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, algorithm) in self.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            f.write_str(algorithm.name())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_is_36_characters_whatever_follows() {
        let uuid_of = |text: &str| Uuid::parse(text.as_bytes());
        let expected = uuid_of("8bcbe394-4f13-4144-be8e-5aa9ea2ce2f6");
        assert_eq!(expected.unwrap().0[..2], [0x8b, 0xcb]);
        assert_eq!(uuid_of("8BCBE394-4F13-4144-BE8E-5AA9EA2CE2F6-and-more"), expected);
        assert_eq!(uuid_of("8bcbe394-4f13-4144-be8e-5aa9ea2ce2f"), None);
        assert_eq!(uuid_of("8bcbe3944f13-4144-be8e-5aa9ea2ce2f6aaaa"), None);
        assert_eq!(uuid_of("8bcbe394-4f13-4144-be8e-5aa9ea2ce2fg"), None);
    }
}
