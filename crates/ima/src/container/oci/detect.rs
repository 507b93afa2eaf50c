//! Whether a path is a container image.

use std::ffi::OsStr;
use std::fs;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use ima_format::kind::Nested;
use ima_format::tar::{AfterEnd, Input as _, Item, MemberKind, Parser};

use crate::container::tar::{below_root, Stream};

/// How many members are looked at.
const MEMBERS: usize = 32;

/// Whether an OCI layout has its index.
pub(in crate::container) fn has_index(layout: &Path) -> bool {
    fs::symlink_metadata(layout.join("index.json")).is_ok_and(|found| found.is_file())
}

/// Whether a tar archive is one of a layout, or of docker save: the first file that decides it is
/// named by a digest, or shows it by its content. An archive with something else is one of files; if
/// one of those that show an image follows there, it is refused as it is read.
pub(in crate::container) fn is_archive(archive: Box<dyn Read + Send + '_>) -> bool {
    let mut stream = Stream::new(archive);
    let mut parser = Parser::new(AfterEnd::Refuse);
    for _ in 0..MEMBERS {
        let Ok(Some(Item::Member(member))) = parser.next(&mut stream) else { return false };
        let path = below_root(Path::new(OsStr::from_bytes(&member.path)));
        let Some(name) = path.to_str() else { return false };
        let mut content = Vec::new();
        match member.kind {
            MemberKind::Other => continue,
            _ if is_named_by_digest(name) => return true,
            MemberKind::HardLink => return false,
            MemberKind::File if Nested::is_marker(name.as_bytes()) => {
                let head = member.stored.min(Nested::HEAD_SIZE as u64) as usize;
                let read = stream.bytes(head, &mut content);
                let nested = Nested::of(name.as_bytes(), &content);
                return read.is_ok()
                    && matches!(nested, Some(Nested::OciLayout | Nested::DockerSave));
            }
            // which may come first
            MemberKind::File if matches!(name, "index.json" | "repositories") => {
                let all = member.stored + ima_format::tar::padding(member.stored) as u64;
                let all = usize::try_from(all).unwrap_or(usize::MAX);
                if all > ima_format::json::SIZE_MAX || stream.bytes(all, &mut content).is_err() {
                    return false;
                }
            }
            MemberKind::File => return false,
        }
    }
    false
}

/// `blobs/sha256/HEX`; `HEX.json`, `HEX.tar`, `HEX/layer.tar` and others of docker save.
fn is_named_by_digest(name: &str) -> bool {
    let is_hex = |hex: &str| {
        matches!(hex.len(), 64 | 128)
            && hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    if let Some((algorithm, hex)) = name.strip_prefix("blobs/").and_then(|it| it.split_once('/')) {
        return matches!(algorithm, "sha256" | "sha512") && is_hex(hex);
    }
    let (first, rest) = match name.split_once('/') {
        Some(split) => split,
        None => (name.strip_suffix(".json").or(name.strip_suffix(".tar")).unwrap_or_default(), ""),
    };
    is_hex(first) && matches!(rest, "" | "layer.tar" | "json" | "VERSION")
}
