//! A tree of files on the host, to be made into a root file system or an initramfs.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tempfile::TempDir;

use super::{debian, elf};
use crate::kernel::Architecture;
use crate::keys::KeyStore;
use crate::{host, programs};

/// A tree of files. Path arguments are absolute, as in the guest.
#[derive(Debug)]
pub struct Tree {
    directory: PathBuf,
    /// The architecture of its programs.
    architecture: Architecture,
    /// Removed when dropped.
    _temporary: Option<TempDir>,
}

impl Tree {
    /// A tree with the mount points of the kernel's file systems, laid out as in Debian (`/bin` is a link to
    /// `/usr/bin`). It is removed when dropped.
    pub fn new() -> Result<Self> {
        let temporary = tempfile::Builder::new().prefix("lab-tree-").tempdir()?;
        let tree = Self::at(temporary.path().join("root"))?;
        Ok(Self { _temporary: Some(temporary), ..tree })
    }

    /// An empty tree, for content that includes all directories. It is removed when dropped.
    pub(super) fn empty() -> Result<Self> {
        let temporary = tempfile::Builder::new().prefix("lab-tree-").tempdir()?;
        let directory = temporary.path().join("root");
        fs::create_dir(&directory).with_context(|| format!("make {}", directory.display()))?;
        Ok(Self { directory, architecture: Architecture::X86_64, _temporary: Some(temporary) })
    }

    /// The same in a new directory, which is kept.
    pub fn at(directory: PathBuf) -> Result<Self> {
        // Signatures are extended attributes that only root can write.
        host::root()?;
        fs::create_dir(&directory).with_context(|| format!("make {}", directory.display()))?;
        let tree = Self { directory, architecture: Architecture::X86_64, _temporary: None };
        fs::set_permissions(tree.directory(), Permissions::from_mode(0o755))?;
        for name in ["dev", "etc", "mnt", "proc", "run", "sys", "tmp", "var"] {
            fs::create_dir(tree.directory().join(name))?;
        }
        for name in ["bin", "sbin", "lib", "lib64"] {
            fs::create_dir_all(tree.directory().join("usr").join(name))?;
            tree.symlink(&format!("/{name}"), &format!("usr/{name}"))?;
        }
        Ok(tree)
    }

    /// A root with the agent as its init (`/sbin/init`) and a few of the host's own
    /// programs: `dash` as `/bin/sh`, `busybox`, and `ls`, `cat` and `true` of coreutils.
    pub fn small_root() -> Result<Self> {
        let tree = Self::new()?;
        tree.install_agent("/usr/sbin/init")?;
        tree.install("/usr/bin/dash", "dash")?;
        tree.symlink("/usr/bin/sh", "dash")?;
        tree.install("/usr/bin/busybox", "busybox-static")?;
        for name in ["ls", "cat", "true"] {
            tree.install(&format!("/usr/bin/{name}"), "coreutils")?;
        }
        Ok(tree)
    }

    /// The same for a guest of any architecture. For others than the host's, the programs are Debian's:
    /// `dash`, `busybox`, `true` and `cat`.
    pub fn small_root_for(architecture: Architecture) -> Result<Self> {
        if architecture == Architecture::X86_64 {
            return Self::small_root();
        }
        let tree = Self { architecture, ..Self::new()? };
        tree.install_agent("/usr/sbin/init")?;
        tree.symlink("/usr/bin/sh", "dash")?;
        for (from, to) in debian::programs(architecture)? {
            tree.take(&from, &to)?;
        }
        Ok(tree)
    }

    /// An initramfs with the agent as its init, the store's IMA certificate and a policy, at the paths
    /// from which the kernel loads them.
    pub fn small_initramfs(store: &KeyStore, policy: &str) -> Result<Self> {
        Self::small_initramfs_for(Architecture::X86_64, store, policy)
    }

    /// The same for a guest of any architecture.
    pub fn small_initramfs_for(
        architecture: Architecture,
        store: &KeyStore,
        policy: &str,
    ) -> Result<Self> {
        let tree = Self { architecture, ..Self::new()? };
        tree.install_agent("/init")?;
        tree.write("/etc/keys/x509_ima.der", store.ima_certificate()?, 0o644)?;
        tree.write("/etc/ima/ima_policy.default", policy, 0o400)?;
        Ok(tree)
    }

    /// An initramfs whose init is imactl-init, with the same files.
    pub fn boot_initramfs(store: &KeyStore, policy: &str) -> Result<Self> {
        Self::boot_initramfs_for(Architecture::X86_64, store, policy)
    }

    /// The same for a guest of any architecture.
    pub fn boot_initramfs_for(
        architecture: Architecture,
        store: &KeyStore,
        policy: &str,
    ) -> Result<Self> {
        let tree = Self::small_initramfs_for(architecture, store, policy)?;
        tree.take(programs::imactl_init_for(architecture)?, "/init")?;
        Ok(tree)
    }

    /// The top directory of the tree on the host.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The path on the host of a path of the guest.
    pub fn path(&self, path: &str) -> PathBuf {
        self.directory().join(path.trim_start_matches('/'))
    }

    /// Writes a file, and creates its directories.
    pub fn write(&self, path: &str, content: impl AsRef<[u8]>, mode: u32) -> Result<()> {
        let to = self.prepare(path)?;
        fs::write(&to, content).with_context(|| format!("write {}", to.display()))?;
        Ok(fs::set_permissions(&to, Permissions::from_mode(mode))?)
    }

    /// Makes a symbolic link.
    pub fn symlink(&self, path: &str, target: &str) -> Result<()> {
        let link = self.prepare(path)?;
        std::os::unix::fs::symlink(target, &link)
            .with_context(|| format!("link {}", link.display()))
    }

    /// Copies a file of the host to `path`, with its permissions.
    pub fn take(&self, from: &Path, path: &str) -> Result<()> {
        let to = self.prepare(path)?;
        fs::copy(from, &to)
            .with_context(|| format!("copy {} to {}", from.display(), to.display()))?;
        Ok(())
    }

    /// Copies a program of the host to the same path, with its loader and its libraries.
    pub fn install(&self, program: &str, package: &str) -> Result<()> {
        host::file(Path::new(program), package)?;
        self.install_program(Path::new(program), program)
    }

    /// Copies `imactl` to `/usr/bin`, with its loader and its libraries.
    pub fn install_imactl(&self) -> Result<()> {
        let program = programs::imactl()?;
        self.install_program(Path::new(program.get_program()), "/usr/bin/imactl")
    }

    /// Copies a file that was installed below `from` to the same path, with its libraries: those that were
    /// installed there, and the host's.
    pub fn take_installed(&self, from: &Path, path: &str) -> Result<()> {
        let file = from.join(path.trim_start_matches('/'));
        for library in elf::dependencies(&file, &[from.join("usr/lib")])? {
            let inside =
                library.strip_prefix(from).map_or(library.clone(), |it| Path::new("/").join(it));
            let inside = inside.to_string_lossy();
            if !self.path(&inside).exists() {
                self.take(&library, &inside)?;
            }
        }
        self.take(&file, path)
    }

    /// Copies a program to `to` with its libraries, of which some are in `directory`, where it was built.
    pub fn install_built(&self, program: &Path, directory: &Path, to: &str) -> Result<()> {
        for library in elf::dependencies(program, &[directory.to_owned()])? {
            let inside = match library.strip_prefix(directory) {
                Ok(name) => format!("/usr/lib/x86_64-linux-gnu/{}", name.display()),
                Err(_) => library.to_string_lossy().into_owned(),
            };
            if !self.path(&inside).exists() {
                self.take(&library, &inside)?;
            }
        }
        self.take(program, to)
    }

    /// Copies a program of the host to `to`, with its loader and its libraries.
    pub fn install_program(&self, program: &Path, to: &str) -> Result<()> {
        for path in elf::dependencies(program, &[])? {
            let inside = path.to_string_lossy();
            if !self.path(&inside).exists() {
                self.take(&path, &inside)?;
            }
        }
        self.take(program, to)
    }

    /// Copies all files that a Debian package of the host installed below `/usr/bin`, `/usr/sbin` and
    /// `/usr/lib`, with the loader and the libraries of its programs.
    pub fn install_package(&self, package: &str) -> Result<()> {
        let listing = host::run(host::command("dpkg", "dpkg")?.args(["--listfiles", package]))
            .map_err(|_| host::Missing::Package(package.to_owned()))?;
        let listing = String::from_utf8(listing.stdout)?;
        for path in listing.lines() {
            // Debian 12 still lists some files below /bin, which is a link
            let inside = match path.strip_prefix("/bin/") {
                Some(name) => format!("/usr/bin/{name}"),
                None => path.to_owned(),
            };
            let wanted = ["/usr/bin/", "/usr/sbin/", "/usr/lib/"];
            if !wanted.iter().any(|prefix| inside.starts_with(prefix)) {
                continue;
            }
            let kind = fs::symlink_metadata(&inside)?.file_type();
            if kind.is_symlink() && !self.path(&inside).exists() {
                let target = fs::read_link(&inside)?;
                self.symlink(&inside, &target.to_string_lossy())?;
            } else if kind.is_file() {
                self.install(&inside, package)?;
            }
        }
        Ok(())
    }

    /// Copies a file within the tree, without its attributes.
    pub fn copy(&self, from: &str, to: &str) -> Result<()> {
        self.take(&self.path(from), to)
    }

    /// Copies the agent to a path.
    pub fn install_agent(&self, path: &str) -> Result<()> {
        self.take(programs::agent(self.architecture)?, path)
    }

    /// Signs all files of the tree.
    pub fn sign_all(&self, store: &KeyStore) -> Result<()> {
        store.sign(&[self.directory().to_owned()])
    }

    /// Signs some files.
    pub fn sign(&self, store: &KeyStore, paths: &[&str]) -> Result<()> {
        store.sign(&paths.iter().map(|path| self.path(path)).collect::<Vec<_>>())
    }

    /// Appends a byte to a file; its attributes stay. An ELF program still runs.
    pub fn tamper(&self, path: &str) -> Result<()> {
        use std::io::Write;
        let to = self.path(path);
        let mut file = fs::OpenOptions::new()
            .append(true)
            .open(&to)
            .with_context(|| format!("open {}", to.display()))?;
        Ok(file.write_all(&[0])?)
    }

    /// Removes a file.
    pub fn remove(&self, path: &str) -> Result<()> {
        fs::remove_file(self.path(path)).with_context(|| format!("remove {path}"))
    }

    fn prepare(&self, path: &str) -> Result<PathBuf> {
        let to = self.path(path);
        let parent = to.parent().with_context(|| format!("{path} is no file's path"))?;
        fs::create_dir_all(parent).with_context(|| format!("make {}", parent.display()))?;
        Ok(to)
    }
}
