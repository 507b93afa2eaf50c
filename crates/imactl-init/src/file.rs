//! Reading files and directories of a tree that is not trusted: no name leads out of it.

use alloc::vec::Vec;
use core::mem::MaybeUninit;

use ima_format::printable::Printable;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{self, FileType, Mode, OFlags, RawDir, ResolveFlags, CWD};
use rustix::io::{self, Errno};
use rustix::process;

/// A directory tree, such as the mounted real root. Names are resolved inside it, including absolute
/// symbolic links and `..`, as they will be once it is the root.
#[derive(Debug)]
pub struct Tree {
    directory: OwnedFd,
    path: Vec<u8>,
}

impl Tree {
    /// Opens the tree at `path`.
    pub fn open(path: &[u8]) -> Result<Self, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self { directory: fs::openat(CWD, path, flags, Mode::empty())?, path: path.into() })
    }

    /// The path of the tree.
    pub fn path(&self) -> Printable<'_> {
        Printable(&self.path)
    }

    /// The path of a name in this tree, for messages.
    pub fn path_of(&self, name: &[u8]) -> Vec<u8> {
        let base = self.path.strip_suffix(b"/").unwrap_or(&self.path);
        [base, b"/", name].concat()
    }

    /// Whether both are the same directory.
    pub fn is(&self, other: &Self) -> bool {
        match (fs::fstat(&self.directory), fs::fstat(&other.directory)) {
            (Ok(a), Ok(b)) => (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino),
            _ => false,
        }
    }

    /// The device number of its top directory's file system.
    pub fn device(&self) -> Result<u64, Errno> {
        Ok(fs::fstat(&self.directory)?.st_dev)
    }

    /// Makes its top directory the working directory.
    pub fn enter(&self) -> Result<(), Errno> {
        process::fchdir(&self.directory)
    }

    /// Makes a directory in it the working directory. A system call without a descriptor for its
    /// target is then given `.`, so that the kernel resolves no link of the tree again.
    pub fn enter_directory(&self, name: &[u8]) -> Result<(), Errno> {
        process::fchdir(self.lookup(name, OFlags::PATH | OFlags::DIRECTORY)?)
    }

    /// Resolves `name` without opening the file.
    pub fn find(&self, name: &[u8]) -> Result<OwnedFd, Errno> {
        self.lookup(name, OFlags::PATH)
    }

    /// Opens the regular file `name`; a FIFO or device of that name does not block.
    pub fn open_file(&self, name: &[u8]) -> Result<OwnedFd, Errno> {
        let file = self.lookup(name, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)?;
        match FileType::from_raw_mode(fs::fstat(&file)?.st_mode) {
            FileType::RegularFile => Ok(file),
            FileType::Directory => Err(Errno::ISDIR),
            _ => Err(Errno::INVAL),
        }
    }

    /// The names in `directory` with this prefix and suffix, sorted by bytes; empty if the directory
    /// does not exist.
    pub fn list(&self, directory: &str, prefix: &str, suffix: &str) -> Result<Vec<Vec<u8>>, Errno> {
        let opened = match self.lookup(directory.as_bytes(), OFlags::RDONLY | OFlags::DIRECTORY) {
            Err(Errno::NOENT) => return Ok(Vec::new()),
            result => result?,
        };
        let mut found = names(&opened)?;
        found.retain(|name| {
            name.len() >= prefix.len() + suffix.len()
                && name.starts_with(prefix.as_bytes())
                && name.ends_with(suffix.as_bytes())
        });
        for name in &mut found {
            *name = [directory.as_bytes(), b"/", name].concat();
        }
        found.sort();
        Ok(found)
    }

    fn lookup(&self, name: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
        let flags = flags | OFlags::CLOEXEC;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        loop {
            match fs::openat2(&self.directory, name, flags, Mode::empty(), resolve) {
                // A rename elsewhere in the tree raced with `..`: try again.
                Err(Errno::AGAIN) => {}
                // The kernel is older than Linux 5.6.
                Err(Errno::NOSYS) => return self.lookup_in_steps(name, flags),
                result => return result,
            }
        }
    }

    /// The lookup for kernels without `openat2`: one component at a time; links are read, not followed.
    fn lookup_in_steps(&self, name: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
        const LINKS: usize = 40; // MAXSYMLINKS
        let step = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        // The directories from the top to the current one, for `..`; and the remaining components, reversed.
        let mut above = alloc::vec![fs::openat(&self.directory, ".", step, Mode::empty())?];
        let mut left = Vec::new();
        push_parts(&mut left, name);
        let mut links = 0;
        while let (Some(part), Some(here)) = (left.pop(), above.last()) {
            if part == b".." {
                above.truncate((above.len() - 1).max(1));
                continue;
            }
            let found = fs::openat(here, &part, step, Mode::empty())?;
            match FileType::from_raw_mode(fs::fstat(&found)?.st_mode) {
                FileType::Symlink => {
                    links += 1;
                    let target = fs::readlinkat(&found, "", Vec::new())?.into_bytes();
                    if links > LINKS {
                        return Err(Errno::LOOP);
                    }
                    if target.starts_with(b"/") {
                        above.truncate(1);
                    }
                    push_parts(&mut left, &target);
                }
                FileType::Directory => above.push(found),
                _ if !left.is_empty() => return Err(Errno::NOTDIR),
                _ if flags.contains(OFlags::DIRECTORY) => return Err(Errno::NOTDIR),
                _ if flags.contains(OFlags::PATH) => return Ok(found),
                _ => return fs::openat(here, &part, flags | OFlags::NOFOLLOW, Mode::empty()),
            }
        }
        let here = above.last().ok_or(Errno::NOENT)?;
        fs::openat(here, ".", flags, Mode::empty())
    }
}

/// Pushes the components of a path to a reversed list.
fn push_parts(left: &mut Vec<Vec<u8>>, path: &[u8]) {
    let parts = path.split(|&byte| byte == b'/').rev();
    left.extend(parts.filter(|part| !part.is_empty() && *part != b".").map(Vec::from));
}

/// The names in an open directory, unsorted, without `.` and `..`.
pub fn names(directory: &OwnedFd) -> Result<Vec<Vec<u8>>, Errno> {
    let mut buffer = [MaybeUninit::uninit(); 2048];
    let mut entries = RawDir::new(directory, &mut buffer);
    let mut names = Vec::new();
    while let Some(entry) = entries.next() {
        let entry = entry?;
        match entry.file_name().to_bytes() {
            b"." | b".." => {}
            name => names.push(name.into()),
        }
    }
    Ok(names)
}

/// Reads all of `name` below `directory`, also a file of procfs, whose size is unknown; `EFBIG` if it
/// has more than `limit` bytes.
pub fn read_at(directory: impl AsFd, name: &[u8], limit: usize) -> Result<Vec<u8>, Errno> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY;
    read(&fs::openat(directory, name, flags, Mode::empty())?, limit)
}

/// Reads all of an open file; `EFBIG` if it has more than `limit` bytes.
pub fn read(file: &OwnedFd, limit: usize) -> Result<Vec<u8>, Errno> {
    // A hint only: files of procfs say 0, those of sysfs a page.
    let size = usize::try_from(fs::fstat(file)?.st_size).unwrap_or(usize::MAX);
    let mut bytes = alloc::vec![0; size.min(limit).max(1024) + 1];
    let mut filled = 0;
    loop {
        let Some(room) = bytes.get_mut(filled..) else { return Err(Errno::INVAL) };
        match io::retry_on_intr(|| io::read(file, &mut *room))? {
            0 => {
                bytes.truncate(filled);
                return Ok(bytes);
            }
            count => filled += count,
        }
        if filled > limit {
            return Err(Errno::FBIG);
        }
        if filled == bytes.len() {
            bytes.resize(filled * 2, 0);
        }
    }
}

/// Writes all of `bytes`.
pub fn write_all(file: &OwnedFd, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        let count = io::retry_on_intr(|| io::write(file, bytes))?;
        bytes = bytes.get(count..).unwrap_or_default();
        if count == 0 {
            return Err(Errno::IO);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> (std::path::PathBuf, Tree) {
        let thread = std::thread::current();
        let name = std::format!(
            "imactl-init-{}-{}",
            std::process::id(),
            thread.name().unwrap_or("test").replace(':', "-")
        );
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(path.join("etc/ima")).unwrap();
        let tree = Tree::open(path.as_os_str().as_encoded_bytes()).unwrap();
        (path, tree)
    }

    #[test]
    fn absolute_links_stay_inside_the_tree() {
        let (path, tree) = tree();
        std::fs::write(path.join("etc/policy"), "inside").unwrap();
        std::os::unix::fs::symlink("/etc/policy", path.join("etc/ima/absolute")).unwrap();
        std::os::unix::fs::symlink("../../../../etc/policy", path.join("etc/ima/up")).unwrap();
        std::os::unix::fs::symlink("/etc", path.join("usr")).unwrap();
        for name in [&b"etc/ima/absolute"[..], b"/etc/ima/up", b"usr/ima/./../policy"] {
            let in_steps = tree.lookup_in_steps(name, OFlags::RDONLY).unwrap();
            for file in [tree.open_file(name).unwrap(), in_steps] {
                assert_eq!(read(&file, 100).unwrap(), b"inside");
            }
        }
        std::fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn without_openat2_the_answers_are_the_same() {
        let (path, tree) = tree();
        std::fs::write(path.join("etc/ima/ima_policy"), "x").unwrap();
        for (name, target) in [("loop", "loop"), ("dangling", "/etc/none"), ("up", "../../..")] {
            std::os::unix::fs::symlink(target, path.join(name)).unwrap();
        }
        let identity = |found: Result<OwnedFd, Errno>| {
            let status = fs::fstat(found?)?;
            Ok::<_, Errno>((status.st_dev, status.st_ino))
        };
        for name in [
            &b"etc/ima/ima_policy"[..],
            b"etc/../etc/ima",
            b"../../etc",
            b"up/etc/ima/",
            b"up",
            b"loop",
            b"dangling",
            b"etc/ima/ima_policy/x",
            b"none/x",
        ] {
            for flags in [OFlags::PATH, OFlags::RDONLY, OFlags::PATH | OFlags::DIRECTORY] {
                let flags = flags | OFlags::CLOEXEC;
                let in_steps = identity(tree.lookup_in_steps(name, flags));
                let shown = std::string::String::from_utf8_lossy(name);
                assert_eq!(in_steps, identity(tree.lookup(name, flags)), "{shown} {flags:?}");
            }
        }
        std::fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn only_regular_files_are_opened() {
        let (path, tree) = tree();
        let fifo = path.join("etc/ima/ima_policy");
        assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        assert_eq!(tree.open_file(b"etc/ima/ima_policy").err(), Some(Errno::INVAL));
        assert_eq!(tree.open_file(b"etc/ima").err(), Some(Errno::ISDIR));
        assert_eq!(tree.open_file(b"etc/absent").err(), Some(Errno::NOENT));
        std::fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn lists_are_sorted_and_hold_what_matches() {
        let (path, tree) = tree();
        for name in ["ima_policy", "ima_policy.b", "ima_policy.B", "other"] {
            std::fs::write(path.join("etc/ima").join(name), "x").unwrap();
        }
        let found = tree.list("etc/ima", "ima_policy", "").unwrap();
        assert_eq!(
            found,
            [&b"etc/ima/ima_policy"[..], b"etc/ima/ima_policy.B", b"etc/ima/ima_policy.b"]
        );
        assert!(tree.list("etc/keys", "x509_ima", ".der").unwrap().is_empty());
        std::fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn a_small_file_of_sysfs_says_it_is_a_page() {
        let sys = crate::pseudo::SYS.open().unwrap();
        let name = b"kernel/mm/transparent_hugepage/hpage_pmd_size";
        let small = [&name[..], b"kernel/rcu_expedited", b"kernel/fscaps"]
            .into_iter()
            .find_map(|name| read_at(&sys, name, 64).ok());
        assert!(small.is_some_and(|content| content.ends_with(b"\n")));
    }

    #[test]
    fn a_file_larger_than_the_limit_is_refused() {
        let (path, tree) = tree();
        std::fs::write(path.join("large"), [0; 5000]).unwrap();
        let read = |limit| read(&tree.open_file(b"large").unwrap(), limit);
        assert_eq!(read(4999).err(), Some(Errno::FBIG));
        assert_eq!(read(5000).map(|bytes| bytes.len()), Ok(5000));
        std::fs::remove_dir_all(path).unwrap();
    }
}
