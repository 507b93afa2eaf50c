//! Attributes of files, and changes of them.

use ima_format::xattr::AttributeName;

/// Changes of a file's attributes: those that it does not mention stay.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Change {
    edits: Vec<(AttributeName, Edit)>,
    end: Option<End>,
}

/// A new end of a file's content; attributes that cover its content are removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// How many bytes stay.
    pub start: u64,
    /// The bytes that follow them.
    pub bytes: Vec<u8>,
}

/// A change of one attribute.
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
        Self::none().and_set(name, value)
    }

    /// The content ends otherwise: after so many bytes with these. Only of an item whose
    /// [`content`](super::Item::content) can be read at any offset.
    pub fn of_end(start: u64, bytes: Vec<u8>) -> Self {
        Self { edits: Vec::new(), end: Some(End { start, bytes }) }
    }

    /// The same, and another attribute gets a value.
    pub fn and_set(mut self, name: AttributeName, value: Vec<u8>) -> Self {
        self.edits.push((name, Edit::Set(value)));
        self
    }

    /// The same, and another attribute is removed.
    pub fn and_remove(mut self, name: AttributeName) -> Self {
        self.edits.push((name, Edit::Remove));
        self
    }

    /// Whether nothing changes.
    pub fn is_none(&self) -> bool {
        self.edits.is_empty() && self.end.is_none()
    }

    /// The value that an attribute gets.
    pub fn value(&self, name: AttributeName) -> Option<&[u8]> {
        self.edits.iter().find(|(changed, _)| *changed == name).and_then(|(_, edit)| edit.value())
    }

    /// The attributes that change, in this order.
    pub fn edits(&self) -> impl Iterator<Item = (AttributeName, &Edit)> {
        self.edits.iter().map(|(name, edit)| (*name, edit))
    }

    /// The new end of the content.
    pub fn end(&self) -> Option<&End> {
        self.end.as_ref()
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
