//! Certificates put into a kernel after its build.
//!
//! `certs/system_certificates.S` reserves `CONFIG_SYSTEM_EXTRA_CERTIFICATE_SIZE` bytes right
//! after the compiled-in list, so a certificate written there is part of the list once the
//! list's length says so:
//!
//! | symbol | content |
//! |---|---|
//! | `system_extra_cert` | the reserved bytes; DER certificates one after the other |
//! | `system_extra_cert_used` | u32: how many of them are in use |
//! | `system_certificate_list_size` | unsigned long: length of the whole list, those included |

use std::ops::Range;

use anyhow::{ensure, Context, Result};
use object::{Object, ObjectSegment, ObjectSymbol};

/// The layout of a kernel's bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Form<'a> {
    /// `vmlinux`, or the one in a `bzImage`: segments are at the offsets in its headers.
    Elf(&'a [u8]),
    /// `Image`: the memory image, starting at `_text`.
    Memory,
}

/// The offsets of a kernel's extra certificates.
#[derive(Debug)]
pub(crate) struct Places {
    area: Range<usize>,
    used: Range<usize>,
    list: Range<usize>,
}

impl Places {
    /// Looks the symbols up in `vmlinux`, for a kernel of the given form.
    pub(crate) fn find(vmlinux: &[u8], form: Form<'_>) -> Result<Self> {
        let elf = object::File::parse(vmlinux)?;
        let place = |name| place(&elf, form, name);
        let (area, used) = (place("system_extra_cert")?, place("system_extra_cert_used")?);
        let (list, word) = (place("system_certificate_list_size")?, elf.is_64());
        Ok(Self {
            area,
            used: used.start..used.start + 4,
            list: list.start..list.start + if word { 8 } else { 4 },
        })
    }

    /// Writes `certificates` into the kernel, replacing any before.
    pub(crate) fn insert(self, kernel: &mut [u8], certificates: &[u8]) -> Result<()> {
        let Self { area, used, list } = self;
        ensure!(
            certificates.len() <= area.len(),
            "{} bytes of certificates, but CONFIG_SYSTEM_EXTRA_CERTIFICATE_SIZE is {}",
            certificates.len(),
            area.len()
        );
        // the list's length includes the certificates that are replaced
        let before = number(&kernel[used.clone()]);
        let length = number(&kernel[list.clone()]) - before + certificates.len() as u64;
        kernel[area.clone()].fill(0);
        kernel[area][..certificates.len()].copy_from_slice(certificates);
        write_number(&mut kernel[used], certificates.len() as u64);
        write_number(&mut kernel[list], length);
        Ok(())
    }
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

fn write_number(bytes: &mut [u8], number: u64) {
    let length = bytes.len();
    bytes.copy_from_slice(&number.to_le_bytes()[..length]);
}

/// The range in the file of a symbol's bytes.
fn place(elf: &object::File<'_>, form: Form<'_>, name: &str) -> Result<Range<usize>> {
    let find = |name| elf.symbol_by_name(name).with_context(|| format!("no symbol {name}"));
    let symbol = find(name)?;
    let start = match form {
        Form::Memory => symbol.address().checked_sub(find("_text")?.address()),
        Form::Elf(content) => {
            let content = object::File::parse(content)?;
            let mut segments = content.segments();
            segments.find_map(|segment| {
                let (offset, size) = segment.file_range();
                let inside = symbol.address().checked_sub(segment.address());
                inside.filter(|inside| *inside < size).map(|inside| offset + inside)
            })
        }
    };
    let start = usize::try_from(start.with_context(|| format!("{name} is outside"))?)?;
    Ok(start..start + usize::try_from(symbol.size())?)
}
