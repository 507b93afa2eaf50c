//! Random tar archives: GNU tar and bsdtar unpack those that imactl accepts alike and without an error, and
//! imactl signs exactly the files that they unpack. It refuses all others, with an offset.
//!
//! `IMACTL_DIFF_CASES` is the number of archives, `IMACTL_DIFF_SECONDS` a time limit instead of it,
//! `IMACTL_DIFF_SEED` the first seed. A failure prints the seed of its archive; with one case, this reproduces
//! it. `IMACTL_DIFF_KEEP` is a directory for the archives of failures.

mod blocks;
mod generate;
mod sparse;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Component, Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use ima::digest::FileHasher;
use ima_format::hash::HashAlgorithm;
use serde_json::Value;

use crate::support::*;

/// The default number of archives per run.
const CASES: u64 = 150;

/// The result of unpacking an archive.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    kind: String,
    content: Vec<u8>,
    label: Option<Vec<u8>>,
    /// The first of its names.
    first: PathBuf,
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().expect(name))
}

/// The name of a member or a file, below the root.
fn below_root(path: &Path) -> PathBuf {
    path.components().filter(|component| matches!(component, Component::Normal(_))).collect()
}

/// Everything below a directory, except directories without a member, which have no content.
fn tree(root: &Path) -> BTreeMap<PathBuf, Entry> {
    let mut entries = BTreeMap::new();
    let mut inodes = BTreeMap::new();
    let mut directories = vec![root.to_owned()];
    while let Some(directory) = directories.pop() {
        for name in names(&directory) {
            let path = directory.join(name);
            let metadata = fs::symlink_metadata(&path).unwrap();
            let below = path.strip_prefix(root).unwrap().to_owned();
            let kind = metadata.file_type();
            let mut content = Vec::new();
            let mut label = None;
            let word = if kind.is_dir() {
                directories.push(path.clone());
                "directory".to_owned()
            } else if kind.is_symlink() {
                format!("link to {}", fs::read_link(&path).unwrap().display())
            } else if kind.is_file() {
                content = fs::read(&path).unwrap();
                label = security_ima(&path).filter(|label| !label.is_empty());
                "file".to_owned()
            } else {
                format!("fifo: {}", kind.is_fifo())
            };
            let first = inodes.entry(metadata.ino()).or_insert_with(|| below.clone()).clone();
            entries.insert(below, Entry { kind: word, content, label, first });
        }
    }
    entries
}

/// Unpacks an archive; an error if the program prints a message.
fn unpack(program: &str, archive: &Path, into: &Path) -> Result<BTreeMap<PathBuf, Entry>, String> {
    if into.exists() {
        fs::remove_dir_all(into).unwrap();
    }
    fs::create_dir(into).unwrap();
    let mut command = Command::new(program);
    command.env("LC_ALL", "C.UTF-8").args(["--xattrs", "-xpf"]).arg(archive).arg("-C").arg(into);
    if program == "tar" {
        command.args(["--xattrs-include=security.*", "--delay-directory-restore"]);
    }
    let run = finish(&mut command);
    match run.code {
        Some(0) => Ok(tree(into)),
        _ => Err(format!("{program} fails: {}", run.stderr)),
    }
}

/// The verdict of imactl on each file, without the container; of two with the same name, the later one.
fn inspected(kind: &str, path: &Path) -> Result<BTreeMap<PathBuf, Value>, String> {
    let run = run(args!["inspect", "--json", "--kind", kind, path]);
    // 1: an attribute does not match its file
    if !matches!(run.code, Some(0 | 1)) {
        return Err(format!("inspect fails: {}", run.stderr));
    }
    let mut files = BTreeMap::new();
    for mut line in run.json() {
        let Some(object) = line.as_object_mut() else { continue };
        let name = object.remove("path");
        object.remove("container");
        if let Some(Value::String(name)) = name {
            let name = Path::new(&name);
            files.insert(below_root(name.strip_prefix(path).unwrap_or(name)), line);
        }
    }
    Ok(files)
}

fn first_difference<T: PartialEq + std::fmt::Debug>(
    one: &BTreeMap<PathBuf, T>,
    other: &BTreeMap<PathBuf, T>,
) -> Option<String> {
    let mut names = one.keys().chain(other.keys());
    let name = names.find(|name| one.get(*name) != other.get(*name))?;
    let text = format!("{}: {:?}, or {:?}", name.display(), one.get(name), other.get(name));
    Some(text.chars().take(2000).collect())
}

/// The result of imactl for an archive; an error is a disagreement.
fn judge(archive: &Path, replaced: &[String], place: &Path) -> Result<Verdict, String> {
    let signed = place.join("signed");
    let run = run(args!["sign", "--kind", "tar", "--hash-only", "--json", archive, "-o", signed]);
    match run.code {
        Some(0) => {}
        // one of the links has no file
        Some(2) if signed.exists() => {
            fs::remove_file(&signed).unwrap();
            return Ok(Verdict::Refused);
        }
        Some(2) if run.stdout.contains(" at offset ") => return Ok(Verdict::Refused),
        _ => return Err(format!("sign: {run:?}")),
    }
    let mut said = inspected("tar", archive)?;
    replaced.iter().for_each(|name| drop(said.remove(&below_root(Path::new(name)))));
    let mut trees = Vec::new();
    for program in ["tar", "bsdtar"] {
        let root = place.join(program);
        let plain = unpack(program, archive, &root)?;
        // of several names, only one is reported
        let reported = inspected("tree", &root)?;
        let of_first: BTreeMap<_, _> = reported
            .iter()
            .filter_map(|(name, line)| Some((&plain.get(name)?.first, line)))
            .collect();
        let mut files = said.clone();
        for (name, line) in &mut files {
            let entry =
                plain.get(name).ok_or_else(|| format!("{program}: no {}", name.display()))?;
            // another member with this name may have replaced the file
            if entry.kind == "file" {
                *line = (*of_first[&entry.first]).clone();
            }
        }
        if let Some(difference) = first_difference(&said, &files) {
            return Err(format!("inspect, and after {program}: {difference}"));
        }
        let unpacked = unpack(program, &signed, &root)?;
        for (name, file) in unpacked.iter().filter(|(_, entry)| entry.kind == "file") {
            let digest = FileHasher::default()
                .digest(
                    fs::File::open(root.join(name)).unwrap(),
                    file.content.len() as u64,
                    HashAlgorithm::Sha256,
                    &|_| {},
                )
                .unwrap();
            let label = [&[4, 4], digest.0.as_bytes()].concat();
            if file.label.as_ref() != Some(&label) {
                return Err(format!("{program}: {} is not signed", name.display()));
            }
        }
        trees.push((plain, unpacked));
    }
    let [(plain, signed), (other_plain, other_signed)] = &trees[..] else { unreachable!() };
    match first_difference(plain, other_plain).or_else(|| first_difference(signed, other_signed)) {
        Some(difference) => Err(format!("tar or bsdtar: {difference}")),
        None => Ok(Verdict::Accepted),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Accepted,
    Refused,
}

#[test]
fn what_is_accepted_is_unpacked_alike_by_all() {
    let directory = directory();
    if tool("tar").is_none() || tool("bsdtar").is_none() || !security_attributes(directory.path()) {
        return;
    }
    let seed = setting("IMACTL_DIFF_SEED").unwrap_or(1);
    let seconds = setting("IMACTL_DIFF_SECONDS").map(Duration::from_secs);
    let cases = setting("IMACTL_DIFF_CASES").unwrap_or(match seconds {
        Some(_) => u64::MAX,
        None => CASES,
    });
    let (start, mut accepted, mut tried) = (Instant::now(), 0, 0);
    let mut failures = Vec::new();
    for seed in (seed..).take(usize::try_from(cases).unwrap_or(usize::MAX)) {
        if seconds.is_some_and(|seconds| start.elapsed() > seconds) || failures.len() >= 20 {
            break;
        }
        let case = generate::archive(seed);
        let archive = directory.path().join("archive");
        fs::write(&archive, &case.bytes).unwrap();
        tried += 1;
        let failure = match judge(&archive, &case.replaced, directory.path()) {
            Ok(Verdict::Accepted) => {
                accepted += 1;
                continue;
            }
            Ok(Verdict::Refused) if !case.odd.is_empty() => continue,
            Ok(Verdict::Refused) => "a plain archive is refused".to_owned(),
            Err(error) => error,
        };
        if let Some(keep) = std::env::var_os("IMACTL_DIFF_KEEP") {
            fs::copy(&archive, Path::new(&keep).join(format!("{seed}.tar"))).unwrap();
        }
        failures.push(format!("seed {seed}, {:?}: {failure}", case.odd));
    }
    println!("{tried} archives, {accepted} of them accepted");
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    // with too many anomalies nothing would be compared
    assert!(tried < 100 || accepted * 4 > tried, "{accepted} of {tried} accepted");
}
