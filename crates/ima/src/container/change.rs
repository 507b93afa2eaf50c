//! Attributes of files, and changes of them.

use ima_format::xattr::AttributeName;

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

    /// The same, and another attribute gets a value.
    pub fn and_set(mut self, name: AttributeName, value: Vec<u8>) -> Self {
        self.0.push((name, Edit::Set(value)));
        self
    }

    /// The same, and another attribute is removed.
    pub fn and_remove(mut self, name: AttributeName) -> Self {
        self.0.push((name, Edit::Remove));
        self
    }

    /// Whether nothing changes.
    pub fn is_none(&self) -> bool {
        self.0.is_empty()
    }

    /// The value that an attribute gets.
    pub fn value(&self, name: AttributeName) -> Option<&[u8]> {
        self.0.iter().find(|(changed, _)| *changed == name).and_then(|(_, edit)| edit.value())
    }

    /// The attributes that change, in this order.
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
