//! The dependencies of an ELF program, read from the file: `ldd` would execute it.

use std::path::{Path, PathBuf};

use anyhow::{bail, Context, Result};
use object::elf::{DT_NEEDED, DT_RPATH, DT_RUNPATH};
use object::read::elf::{Dyn, ElfFile64, FileHeader, ProgramHeader};
use object::Endianness;

use super::library_directories;

/// The loader and the libraries of `path`, recursively; empty for static programs and for files that
/// are not ELF. Paths are those that the loader opens; it searches `more` first.
pub(crate) fn dependencies(path: &Path, more: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let directories = [more, &library_directories()].concat();
    let mut found: Vec<PathBuf> = Vec::new();
    let mut waiting = vec![path.to_owned()];
    while let Some(path) = waiting.pop() {
        let needs = Needs::read(&path).with_context(|| format!("read {}", path.display()))?;
        let mut paths: Vec<PathBuf> = needs.interpreter.into_iter().collect();
        for library in &needs.libraries {
            let candidate =
                needs.search.iter().chain(&directories).map(|directory| directory.join(library));
            match candidate.into_iter().find(|candidate| candidate.is_file()) {
                Some(path) => paths.push(path),
                None => bail!("{} needs {library}, which is nowhere", path.display()),
            }
        }
        for path in paths {
            if !found.contains(&path) {
                found.push(path.clone());
                waiting.push(path);
            }
        }
    }
    Ok(found)
}

#[derive(Default)]
struct Needs {
    interpreter: Option<PathBuf>,
    libraries: Vec<String>,
    search: Vec<PathBuf>,
}

impl Needs {
    fn read(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path)?;
        if !bytes.starts_with(b"\x7fELF") {
            return Ok(Self::default());
        }
        let elf = ElfFile64::<Endianness>::parse(&*bytes)?;
        let endian = elf.endian();
        let mut needs = Self::default();
        for segment in elf.elf_program_headers() {
            if let Some(interpreter) = segment.interpreter(endian, &*bytes)? {
                needs.interpreter = Some(std::str::from_utf8(interpreter)?.into());
            }
        }
        let sections = elf.elf_header().sections(endian, &*bytes)?;
        let Some((entries, strings)) = sections.dynamic(endian, &*bytes)? else {
            return Ok(needs);
        };
        let strings = sections.strings(endian, &*bytes, strings)?;
        let origin = path.parent().unwrap_or(Path::new("/")).to_string_lossy();
        for entry in entries {
            let tag = u32::try_from(entry.d_tag(endian)).unwrap_or(0);
            if ![DT_NEEDED, DT_RPATH, DT_RUNPATH].contains(&tag) {
                continue;
            }
            let text = std::str::from_utf8(entry.string(endian, strings)?)?;
            if tag == DT_NEEDED {
                needs.libraries.push(text.to_owned());
            } else {
                let text = text.replace("${ORIGIN}", &origin).replace("$ORIGIN", &origin);
                needs.search.extend(text.split(':').map(PathBuf::from));
            }
        }
        Ok(needs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_loader_and_libraries() {
        let own = std::env::current_exe().unwrap();
        let found = dependencies(&own, &[]).unwrap();
        let named = |name: &str| found.iter().any(|path| path.to_string_lossy().contains(name));
        assert!(named("/ld-") && named("/libc.so.6"), "{found:?}");
        assert!(found.iter().all(|path| path.is_file()));
    }

    #[test]
    fn asks_nothing_for_a_script() {
        let script = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(script.path(), "#!/bin/sh\n").unwrap();
        assert_eq!(dependencies(script.path(), &[]).unwrap(), [""; 0].map(PathBuf::from));
    }
}
