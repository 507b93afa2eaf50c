//! Certificates put into a kernel after its build.
//!
//! `certs/system_certificates.S` reserves `CONFIG_SYSTEM_EXTRA_CERTIFICATE_SIZE` bytes right
//! behind the compiled-in list, so a certificate written there is part of the list once the
//! list's length says so:
//!
//! | symbol | content |
//! |---|---|
//! | `system_extra_cert` | the reserved bytes; DER certificates one after the other |
//! | `system_extra_cert_used` | u32: how many of them are in use |
//! | `system_certificate_list_size` | u64: length of the whole list, those included |

use anyhow::{ensure, Context, Result};
use object::{Object, ObjectSection, ObjectSymbol};

/// Puts `certificates` into the reserved area of `vmlinux`, in place of any before.
pub(crate) fn insert(vmlinux: &mut [u8], certificates: &[u8]) -> Result<()> {
    let (area, used, list) = {
        let elf = object::File::parse(&*vmlinux)?;
        let area = place(&elf, "system_extra_cert")?;
        let used = place(&elf, "system_extra_cert_used")?;
        let list = place(&elf, "system_certificate_list_size")?;
        (area, used.start..used.start + 4, list.start..list.start + 8)
    };
    ensure!(
        certificates.len() <= area.len(),
        "{} bytes of certificates, but CONFIG_SYSTEM_EXTRA_CERTIFICATE_SIZE is {}",
        certificates.len(),
        area.len()
    );
    let before = u32::from_le_bytes(vmlinux[used.clone()].try_into()?);
    let length = u64::from_le_bytes(vmlinux[list.clone()].try_into()?);
    let length = length - u64::from(before) + certificates.len() as u64;

    vmlinux[area.clone()].fill(0);
    vmlinux[area][..certificates.len()].copy_from_slice(certificates);
    vmlinux[used].copy_from_slice(&(certificates.len() as u32).to_le_bytes());
    vmlinux[list].copy_from_slice(&length.to_le_bytes());
    Ok(())
}

/// Where in the file the symbol's bytes are.
fn place(elf: &object::File<'_>, name: &str) -> Result<std::ops::Range<usize>> {
    let symbol = elf.symbol_by_name(name).with_context(|| format!("no symbol {name}"))?;
    let index = symbol.section_index().with_context(|| format!("{name} is in no section"))?;
    let section = elf.section_by_index(index)?;
    let (offset, size) =
        section.file_range().with_context(|| format!("{name} is not in the file"))?;
    let start = symbol.address().checked_sub(section.address()).filter(|start| *start < size);
    let start = usize::try_from(offset + start.with_context(|| format!("{name} is outside"))?)?;
    Ok(start..start + usize::try_from(symbol.size())?)
}
