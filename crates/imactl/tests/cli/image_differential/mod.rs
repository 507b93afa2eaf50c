//! Random images, some of them damaged or crafted, are read by imactl and other programs: the kernel, and tools
//! that unpack images. Both must read the same files, or imactl must refuse the image with a reason.
//!
//! [`seeded`] has the settings. `IMACTL_DIFF_MOUNT=1` also mounts the images (as root; damaged images may crash
//! the kernel), `IMACTL_DIFF_KEEP` is a directory for the images of failures.

mod generate;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use ima::container::AttributeName;
use ima::preflight::{self, EntryKind, Source};

use self::generate::{Kind, Making};
use crate::support::seeded::{seeds, Random};
use crate::support::*;

/// The file at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Entry {
    File {
        content: Vec<u8>,
        attribute: Option<Vec<u8>>,
    },
    Directory,
    Link(PathBuf),
    Other,
    /// The kernel, or another program, reports an error.
    Unreadable(String),
}

type View = BTreeMap<PathBuf, Entry>;

/// The files that imactl reads, or its reason for refusing the image.
fn ours(image: &Path) -> Result<View, String> {
    let source = preflight::open(image, None).map_err(|error| error.to_string())?;
    let (mut entries, mut refused) = (Vec::new(), None);
    source.list(&mut |found: Result<preflight::Entry, preflight::Unread>| match found {
        Ok(entry) => entries.push(entry),
        Err(unread) => refused = Some(unread.error.to_string()),
    });
    if let Some(refused) = refused {
        return Err(refused);
    }
    let mut view = View::new();
    for entry in entries {
        let read = match &entry.kind {
            EntryKind::File { size } => file(&*source, &entry, *size)?,
            EntryKind::Directory => Entry::Directory,
            EntryKind::Link(target) => Entry::Link(target.clone()),
            EntryKind::Other => Entry::Other,
        };
        view.insert(entry.path, read);
    }
    Ok(view)
}

fn file(source: &dyn Source, entry: &preflight::Entry, size: u64) -> Result<Entry, String> {
    let open = source.open(entry).map_err(|error| error.to_string())?;
    // files with only holes are large, and test nothing
    let size = size.min(LARGE as u64);
    let (mut content, mut buffer) = (Vec::new(), vec![0; 10_000]);
    while (content.len() as u64) < size {
        match open.read_at(content.len() as u64, &mut buffer).map_err(|error| error.to_string())? {
            0 => return Err("shorter than its size".into()),
            read => content.extend_from_slice(&buffer[..read]),
        }
    }
    content.truncate(LARGE);
    let attribute = open.attribute(AttributeName::Ima).map_err(|error| error.to_string())?;
    Ok(Entry::File { content, attribute })
}

/// The number of bytes of a file that are compared.
const LARGE: usize = 8 << 20;

/// The files of a directory of this machine.
fn here(root: &Path) -> View {
    let mut view = View::new();
    walk(root, Path::new("/"), &mut view);
    view
}

fn walk(root: &Path, at: &Path, view: &mut View) {
    let outside = root.join(at.strip_prefix("/").unwrap());
    let unreadable = |error: std::io::Error| Entry::Unreadable(error.to_string());
    let entry = match fs::symlink_metadata(&outside) {
        Err(error) => unreadable(error),
        Ok(metadata) if metadata.is_dir() => {
            let names = fs::read_dir(&outside).and_then(Iterator::collect::<Result<Vec<_>, _>>);
            match names {
                Err(error) => unreadable(error),
                Ok(names) => {
                    names.iter().for_each(|name| walk(root, &at.join(name.file_name()), view));
                    Entry::Directory
                }
            }
        }
        Ok(metadata) if metadata.is_symlink() => {
            fs::read_link(&outside).map_or_else(unreadable, Entry::Link)
        }
        Ok(metadata) if metadata.is_file() => read(&outside).unwrap_or_else(unreadable),
        Ok(_) => Entry::Other,
    };
    view.insert(at.to_owned(), entry);
}

fn read(path: &Path) -> std::io::Result<Entry> {
    use std::io::Read;
    let mut content = Vec::new();
    fs::File::open(path)?.take(LARGE as u64).read_to_end(&mut content)?;
    let mut value = vec![0; 1 << 16];
    let attribute = match rustix::fs::getxattr(path, "security.ima", &mut value[..]) {
        Ok(length) => Some(value[..length].to_vec()),
        Err(rustix::io::Errno::NODATA | rustix::io::Errno::OPNOTSUPP) => None,
        Err(error) => return Err(error.into()),
    };
    Ok(Entry::File { content, attribute })
}

/// The files that the kernel reads; `None` if it does not mount the image.
fn mounted(image: &Path, kind: Kind, directory: &Path) -> Option<View> {
    let at = directory.join("mounted");
    fs::create_dir_all(&at).unwrap();
    let options = if kind == Kind::Ext { "ro,loop,noload" } else { "ro,loop" };
    let mut mount = Command::new("mount");
    mount.args(["-t", kind.name(), "-o", options]).arg(image).arg(&at);
    if finish(&mut mount).code != Some(0) {
        return None;
    }
    let view = here(&at);
    finish(Command::new("umount").arg(&at)).exits(0);
    Some(view)
}

/// The files that a program unpacks: content and links, without attributes.
fn unpacked(image: &Path, kind: Kind, directory: &Path) -> Option<View> {
    let at = directory.join("unpacked");
    fs::remove_dir_all(&at).ok();
    fs::create_dir_all(&at).unwrap();
    let mut command = match kind {
        Kind::Ext => {
            let mut debugfs = Command::new("debugfs");
            debugfs.arg("-R").arg(format!("rdump / {}", at.display())).arg(image);
            debugfs
        }
        Kind::Erofs => {
            let mut fsck = Command::new("fsck.erofs");
            let mut extract = OsString::from("--extract=");
            extract.push(&at);
            fsck.args([extract, "--overwrite".into(), "--no-preserve".into()]).arg(image);
            fsck
        }
        Kind::Squashfs => {
            let mut unsquashfs = Command::new("unsquashfs");
            unsquashfs.args(["-n", "-q", "-f", "-no-xattrs", "-d"]).arg(&at).arg(image);
            unsquashfs
        }
    };
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let complains = kind == Kind::Ext
        && said.lines().any(|line| !line.starts_with("debugfs 1.") && !line.contains("Operation"));
    // a program that fails agrees only with a refusal; but the kernel decides
    (output.status.success() && !complains).then(|| here(&at))
}

/// The properties that are compared.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Compare {
    All,
    /// Without attributes. debugfs writes all 60 bytes of inline content, whatever the size is.
    Content,
}

impl Compare {
    fn is_same(self, ours: Option<&Entry>, theirs: Option<&Entry>) -> bool {
        match (self, ours, theirs) {
            // the kernel cannot read a file that it lists: no one gets other content
            (_, Some(Entry::File { .. }), Some(Entry::Unreadable(_))) => true,
            (
                Self::Content,
                Some(Entry::File { content: ours, .. }),
                Some(Entry::File { content: theirs, .. }),
            ) => {
                let mut padded = ours.clone();
                padded.resize(ours.len().max(60), 0);
                ours == theirs || padded == *theirs
            }
            _ => ours == theirs,
        }
    }
}

/// Describes the differences.
fn differences(ours: &View, theirs: &View, compare: Compare) -> Vec<String> {
    let brief = |entry: Option<&Entry>| match entry {
        Some(Entry::File { content, attribute }) => {
            let attribute = attribute.as_ref().map(Vec::len);
            format!("file of {} bytes, attribute of {attribute:?}", content.len())
        }
        other => format!("{other:?}"),
    };
    let paths: BTreeSet<_> = ours.keys().chain(theirs.keys()).collect();
    paths
        .into_iter()
        .filter(|path| !compare.is_same(ours.get(*path), theirs.get(*path)))
        .take(4)
        .map(|path| {
            let (ours, theirs) = (brief(ours.get(path)), brief(theirs.get(path)));
            format!("{path:?}: {ours} here, {theirs} there")
        })
        .collect()
}

fn run_series(kind: Kind, cases: u64) {
    let directory = directory();
    let directory = directory.path();
    if !security_attributes(directory) || kind.tools().iter().any(|name| tool(name).is_none()) {
        return;
    }
    let mount = std::env::var_os("IMACTL_DIFF_MOUNT").is_some();
    let making = Making::new(directory);
    let (mut tried, mut accepted, mut unpackable, mut mountable) = (0, 0, 0, 0);
    let mut reasons: BTreeMap<String, u32> = BTreeMap::new();
    let mut failures = Vec::new();
    for seed in seeds(cases) {
        tried += 1;
        let image = directory.join("image");
        let how = making.image(kind, &mut Random(seed), &image);
        let ours = match ours(&image) {
            Ok(view) => view,
            Err(reason) => {
                let reason = reason.split(" at offset").next().unwrap_or_default().to_owned();
                *reasons.entry(reason).or_default() += 1;
                continue;
            }
        };
        accepted += 1;
        let mut found = Vec::new();
        if let Some(theirs) = unpacked(&image, kind, directory) {
            unpackable += 1;
            found = differences(&ours, &theirs, Compare::Content);
        }
        if mount {
            if let Some(theirs) = mounted(&image, kind, directory) {
                mountable += 1;
                // the kernel decides
                found = differences(&ours, &theirs, Compare::All);
            }
        }
        if !found.is_empty() {
            if let Some(keep) = std::env::var_os("IMACTL_DIFF_KEEP") {
                fs::copy(&image, Path::new(&keep).join(format!("{}-{seed}", kind.name()))).unwrap();
            }
            failures.push(format!("seed {seed} ({how}): {}", found.join("\n    ")));
        }
    }
    eprintln!(
        "{}: {tried} images, {accepted} read, {unpackable} of them unpacked, {mountable} mounted; \
         refused: {reasons:#?}",
        kind.name()
    );
    assert!(failures.is_empty(), "{} failures\n{}", failures.len(), failures.join("\n"));
    assert!(accepted > 0, "nothing was read");
}

#[test]
fn ext4_is_read_as_others_read_it() {
    run_series(Kind::Ext, 25);
}

#[test]
fn erofs_is_read_as_others_read_it() {
    run_series(Kind::Erofs, 25);
}

#[test]
fn squashfs_is_read_as_others_read_it() {
    run_series(Kind::Squashfs, 25);
}
