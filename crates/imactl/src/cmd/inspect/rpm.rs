//! `imactl inspect` for RPM packages

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use ima::container::rpm::PackageSummary;
use ima_format::rpm::PackageType;
use serde::Serialize;

use super::FileAttribute;
use crate::output::{count, Entry, Level, Name, Output};

#[derive(Serialize)]
#[serde(tag = "type", rename = "package")]
struct Package<'a> {
    #[serde(flatten)]
    name: Name<'a>,
    #[serde(rename = "name")]
    package: &'a str,
    format: u64,
    source: bool,
    hash: &'static str,
    files: usize,
    signed: usize,
    signature_header_size: usize,
    reserved_space: usize,
    #[serde(skip)]
    keys: BTreeMap<&'a str, u64>,
}

impl Entry for Package<'_> {
    fn level(&self) -> Level {
        Level::Normal
    }

    fn text(&self, _: &Output) -> String {
        let keys = self.keys.iter().map(|(key, number)| format!("{number} by key {key}"));
        let signed = match keys.collect::<Vec<_>>().as_slice() {
            [] => "no file signatures".to_owned(),
            keys => format!("file signatures: {}", keys.join(", ")),
        };
        format!(
            "{}: {}, format {}{}, {} with {} digests, {signed}; signature header of {} bytes, {} of \
             them reserved",
            self.name,
            self.package,
            self.format,
            if self.source { ", source package" } else { "" },
            count(self.files as u64, "file"),
            self.hash,
            self.signature_header_size,
            self.reserved_space,
        )
    }
}

/// Prints a package and its files.
pub(super) fn print(
    path: &Path,
    package: &PackageSummary,
    files: &[FileAttribute<'_>],
    output: &mut Output,
) -> io::Result<()> {
    let PackageSummary { identity, algorithm, .. } = package;
    let mut keys = BTreeMap::new();
    for key in files.iter().filter_map(|file| file.attribute.key_id.as_deref()) {
        *keys.entry(key).or_insert(0) += 1;
    }
    let bare = |file: &&FileAttribute<'_>| {
        file.attribute.attribute.is_none() && file.attribute.malformed.is_none()
    };
    let package = Package {
        name: path.into(),
        package: &identity.name,
        format: identity.format,
        source: identity.package_type == PackageType::Source,
        hash: algorithm.name(),
        files: files.len(),
        signed: files.len() - files.iter().filter(bare).count(),
        signature_header_size: package.signature_header_size,
        reserved_space: package.reserved_space,
        keys,
    };
    // as text the summary comes last, as JSON first
    if output.is_json() {
        output.show(&package)?;
    }
    files.iter().try_for_each(|file| output.show(file))?;
    match output.is_json() {
        true => Ok(()),
        false => output.show(&package),
    }
}
