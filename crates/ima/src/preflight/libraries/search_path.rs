//! Search paths of objects: `fillin_rpath` and `_dl_dst_substitute` in glibc's `elf/dl-load.c`,
//! `fixup_rpath` in musl's `ldso/dynlink.c`.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use ima_format::elf::{Class, Machine};

use super::super::purpose::path_of;
use super::{Flavour, Loader};

/// The values of the tokens in a search path.
pub(super) struct Tokens<'a> {
    /// `$ORIGIN`: where the object is.
    origin: &'a Path,
    /// `$LIB`: where the C library is, or the loader, below `/` or `/usr`.
    lib: PathBuf,
    /// `$PLATFORM`
    platform: Option<&'static str>,
    flavour: Flavour,
}

impl<'a> Tokens<'a> {
    pub(super) fn new(origin: &'a Path, of: Machine, loader: &Loader) -> Self {
        let lib = loader.library.as_deref().or(loader.directory.as_deref());
        let lib = lib.and_then(|directory| {
            directory.strip_prefix("/usr").or_else(|_| directory.strip_prefix("/")).ok()
        });
        let usual = || if of.class == Class::Bits64 { "lib64" } else { "lib" };
        let lib = lib.map_or_else(|| usual().into(), Path::to_owned);
        Self { origin, lib, platform: loader.cpu.platform, flavour: loader.flavour }
    }

    /// The directories of a search path.
    pub(super) fn directories(&self, path: Option<&[u8]>) -> Vec<PathBuf> {
        let parts = path.unwrap_or_default().split(|byte| *byte == b':');
        let parts = parts.filter(|part| !part.is_empty());
        match self.flavour {
            Flavour::Glibc => parts.filter_map(|part| self.expand(part)).collect(),
            // with one token that it does not know, musl takes no notice of the whole
            Flavour::Musl => {
                let expanded: Option<_> = parts.map(|part| self.expand(part)).collect();
                expanded.unwrap_or_default()
            }
        }
    }

    /// One path; `None` where the loader drops it.
    pub(super) fn expand(&self, path: &[u8]) -> Option<PathBuf> {
        let mut expanded = Vec::with_capacity(path.len());
        let mut rest = path;
        while let Some((first, behind)) = rest.split_first() {
            let token = if *first == b'$' { token(behind) } else { None };
            let Some((name, length)) = token else {
                if *first == b'$' && self.flavour == Flavour::Musl {
                    return None;
                }
                expanded.push(*first);
                rest = behind;
                continue;
            };
            expanded.extend_from_slice(self.value(name)?);
            rest = behind.get(length..).unwrap_or_default();
        }
        Some(path_of(&expanded))
    }

    fn value(&self, name: &[u8]) -> Option<&[u8]> {
        match (name, self.flavour) {
            (b"ORIGIN", _) => Some(self.origin.as_os_str().as_bytes()),
            (b"LIB", Flavour::Glibc) => Some(self.lib.as_os_str().as_bytes()),
            (_, Flavour::Glibc) => self.platform.map(str::as_bytes),
            _ => None,
        }
    }
}

/// Whether a search path, or the path of a library, holds `$PLATFORM`.
pub(super) fn asks_for_platform(path: &[u8]) -> bool {
    let mut tokens = path.split(|byte| *byte == b'$').skip(1).filter_map(token);
    tokens.any(|(name, _)| name == b"PLATFORM")
}

/// The name of a token behind its `$`, and how long it is there: `ORIGIN` or `{ORIGIN}`.
fn token(text: &[u8]) -> Option<(&'static [u8], usize)> {
    let names: [&[u8]; 3] = [b"ORIGIN", b"LIB", b"PLATFORM"];
    names.into_iter().find_map(|name| {
        if text.starts_with(name) {
            // $LIBRARY is none
            let next = text.get(name.len());
            let ends = next.map_or(true, |byte| !byte.is_ascii_alphanumeric() && *byte != b'_');
            return ends.then_some((name, name.len()));
        }
        let braced = text.strip_prefix(b"{")?.strip_prefix(name)?;
        braced.starts_with(b"}").then_some((name, name.len() + 2))
    })
}
