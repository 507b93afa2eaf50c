//! Attributes of files, and changes of them.

use std::fmt;

use ima_format::xattr::{XATTR_NAME_EVM, XATTR_NAME_IMA};

/// An attribute of a file that operations read and change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttributeName {
    /// `security.ima`.
    Ima,
    /// `security.evm`.
    Evm,
}

impl AttributeName {
    /// Its name in the kernel.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ima => XATTR_NAME_IMA,
            Self::Evm => XATTR_NAME_EVM,
        }
    }
}

impl fmt::Display for AttributeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What becomes of a file's attributes: those that it does not mention stay.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Change(Vec<(AttributeName, Edit)>);

/// What becomes of one attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Edit {
    /// It gets this value.
    Set(Vec<u8>),
    /// It is removed.
    Remove,
}

impl Change {
    /// No change.
    pub fn none() -> Self {
        Self::default()
    }

    /// One attribute gets a value.
    pub fn set(name: AttributeName, value: Vec<u8>) -> Self {
        Self(vec![(name, Edit::Set(value))])
    }

    /// One attribute is removed.
    pub fn remove(name: AttributeName) -> Self {
        Self(vec![(name, Edit::Remove)])
    }

    /// The attributes that change.
    pub fn edits(&self) -> impl Iterator<Item = (AttributeName, &Edit)> {
        self.0.iter().map(|(name, edit)| (*name, edit))
    }
}

impl Edit {
    /// The value that is set; `None` where the attribute is removed.
    pub fn value(&self) -> Option<&[u8]> {
        match self {
            Self::Set(value) => Some(value),
            Self::Remove => None,
        }
    }
}
