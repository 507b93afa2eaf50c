//! The kernel inside a `bzImage`: `Documentation/arch/x86/boot.rst` of the kernel.
//!
//! | at | bytes | field |
//! |---|---|---|
//! | 0x1f1 | 1 | sectors of the real-mode code after the first one |
//! | 0x248 | 4 | `payload_offset`: from the protected-mode code on |
//! | 0x24c | 4 | `payload_length`; the payload is gzip's |

use std::io::Write;
use std::process::Stdio;

use anyhow::{ensure, Context, Result};

use crate::host;

/// Changes the kernel in an image, in place. It is compressed better than by the build, which makes room
/// for bytes that compress badly; the kernel ignores bytes after the payload.
pub(super) fn change(image: &mut [u8], change: impl FnOnce(&mut [u8]) -> Result<()>) -> Result<()> {
    let word = |at: usize| {
        let bytes = image.get(at..at + 4).context("not a bzImage")?;
        Ok::<_, anyhow::Error>(usize::try_from(u32::from_le_bytes(bytes.try_into()?))?)
    };
    let sectors = usize::from(*image.get(0x1f1).context("not a bzImage")?);
    let start = (sectors + 1) * 512 + word(0x248)?;
    let length = word(0x24c)?;
    let payload = image.get_mut(start..start + length).context("the payload is outside")?;

    let mut kernel = filter("gzip", "gzip", &["-dc"], payload)?;
    change(&mut kernel)?;
    let packed = filter("libdeflate-gzip", "libdeflate-tools", &["-12", "-c"], &kernel)?;
    ensure!(packed.len() <= length, "{} bytes, in place of {length}", packed.len());
    payload.fill(0);
    payload[..packed.len()].copy_from_slice(&packed);
    Ok(())
}

fn filter(name: &str, package: &'static str, options: &[&str], input: &[u8]) -> Result<Vec<u8>> {
    let mut file = tempfile::NamedTempFile::new()?;
    file.write_all(input)?;
    let mut command = host::command(name, package)?;
    command.args(options).stdin(Stdio::from(file.reopen()?));
    Ok(host::run(&mut command)?.stdout)
}
