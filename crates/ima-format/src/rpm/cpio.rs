//! The entries of a payload: cpio, in two forms.
//!
//! Mirrors `lib/cpio.cc` of rpm. All fields are hexadecimal text of eight digits.
//!
//! | magic | header | data |
//! |---|---|---|
//! | `070701`, `070702` | ino, mode, nlink, uid, gid, mtime, size, four of devices, name size, sum; the name, with a zero byte; padded to 4 | size bytes, padded to 4 |
//! | `07070X` | the file's number in the main header; padded to 4 | as large as the main header says, padded to 4 |
//!
//! The archive ends with an entry of the first form that is called `TRAILER!!!`. Of several
//! names of one file only the last has its content.

use super::Fault;
use crate::{hex, Error};

/// Bytes of a magic number.
pub const MAGIC_SIZE: usize = 6;
/// The name of the last entry.
pub const TRAILER: &[u8] = b"TRAILER!!!";
/// The longest name that is read, its zero byte included (`PATH_MAX`).
const NAME_LIMIT: u32 = 4096;

/// A form of entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `070701`, and `070702` with a sum that is not looked at.
    Named,
    /// `07070X`: for files of any size.
    Numbered,
}

impl Form {
    /// The form with this magic number, which stands at `offset`.
    pub fn of(magic: [u8; MAGIC_SIZE], offset: usize) -> Result<Self, Error> {
        match &magic {
            b"070701" | b"070702" => Ok(Self::Named),
            b"07070X" => Ok(Self::Numbered),
            _ => Err(Error::new(Fault::CpioMagic, offset)),
        }
    }
}

/// Bytes of a named entry's fields, behind the magic number.
pub const NAMED_SIZE: usize = 13 * 8;
/// Bytes of a numbered entry's field, behind the magic number.
pub const NUMBERED_SIZE: usize = 8;

/// The fields of a named entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Named {
    /// Size of the data in bytes.
    pub size: u32,
    /// Size of the name with its zero byte.
    pub name_size: u32,
}

/// Reads a named entry's fields, which begin at `offset`.
pub fn read_named(fields: &[u8; NAMED_SIZE], offset: usize) -> Result<Named, Error> {
    let field =
        |index: usize| read_field(fields.get(index * 8..).unwrap_or_default(), offset + index * 8);
    let named = Named { size: field(6)?, name_size: field(11)? };
    if !(1..=NAME_LIMIT).contains(&named.name_size) {
        let fault = Fault::CpioName { length: named.name_size };
        return Err(Error::new(fault, offset + 11 * 8));
    }
    Ok(named)
}

/// Whose a file is, and which. Packages say that in their main header; an initramfs has it here alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inode {
    /// Its number, the same for all names of a file.
    pub number: u32,
    /// Type and permissions, as `st_mode` has them.
    pub mode: u32,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// How many names the file has.
    pub links: u32,
    /// The device that the number is of: major and minor.
    pub device: (u32, u32),
}

/// Reads whose a named entry's file is, from its fields, which begin at `offset`.
pub fn read_inode(fields: &[u8; NAMED_SIZE], offset: usize) -> Result<Inode, Error> {
    let field =
        |index: usize| read_field(fields.get(index * 8..).unwrap_or_default(), offset + index * 8);
    Ok(Inode {
        number: field(0)?,
        mode: field(1)?,
        uid: field(2)?,
        gid: field(3)?,
        links: field(4)?,
        device: (field(7)?, field(8)?),
    })
}

/// Reads a numbered entry's field, which begins at `offset`.
pub fn read_numbered(field: &[u8; NUMBERED_SIZE], offset: usize) -> Result<u32, Error> {
    read_field(field, offset)
}

fn read_field(bytes: &[u8], offset: usize) -> Result<u32, Error> {
    let digits = bytes.get(..8).unwrap_or_default();
    let value =
        hex::decode(digits).map_err(|digit| Error::new(Fault::CpioField, offset + digit))?;
    let value: [u8; 4] = value.try_into().map_err(|_| Error::new(Fault::CpioField, offset))?;
    Ok(u32::from_be_bytes(value))
}
