//! The common parts of the tests: running the program, other tools, trees.
#![allow(dead_code, unreachable_pub)] // each test file uses a part

pub mod browser;
pub mod pty;
pub mod seeded;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

/// The program under test.
pub fn imactl() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_imactl"));
    command.env_remove("IMACTL_KEYS").stdin(Stdio::null());
    with_default_signals(&mut command);
    command
}

/// Resets signals that nohup or a shell's & left ignored, because the program respects that.
pub fn with_default_signals(command: &mut Command) {
    let reset = || {
        for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT] {
            // SAFETY: signal is async-signal-safe
            unsafe { libc::signal(signal, libc::SIG_DFL) };
        }
        Ok(())
    };
    // SAFETY: the closure calls nothing but signal
    unsafe { command.pre_exec(reset) };
}

/// The result of a run.
#[derive(Debug)]
pub struct Run {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Run {
    /// Checks the exit status; prints the output if it is different.
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    /// The JSON lines of standard output.
    #[track_caller]
    pub fn json(&self) -> Vec<Value> {
        let lines = self.stdout.lines();
        lines.map(|line| serde_json::from_str(line).expect(line)).collect()
    }

    /// The JSON line for this path.
    #[track_caller]
    pub fn json_for(&self, path: &Path) -> Value {
        let found = self.json().into_iter().find(|line| line["path"] == path.to_str().unwrap());
        found.unwrap_or_else(|| panic!("no line about {} in\n{}", path.display(), self.stdout))
    }
}

/// Runs the program.
pub fn run<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Run {
    finish(imactl().args(args))
}

/// Runs a command and waits for it.
pub fn finish(command: &mut Command) -> Run {
    let output: Output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    Run {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Runs a command, and sends it a signal after some time; returns whether it was still running.
pub fn killed(command: &mut Command, signal: rustix::process::Signal, after: Duration) -> bool {
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    std::thread::sleep(after);
    let id = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(id, signal).unwrap();
    let status = child.wait().unwrap();
    status.code().is_none()
}

/// The peak memory of a process in bytes; `None` if it has exited.
pub fn peak_memory(process: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? << 10)
}

/// The names in a directory, sorted.
pub fn names(directory: &Path) -> Vec<String> {
    let names = fs::read_dir(directory).unwrap();
    let mut names: Vec<_> =
        names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Python with the packages that `cargo xtask test crates` installs.
pub fn python() -> Option<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache"));
    let python = cache.or_else(home).unwrap_or_default().join("imactl/python/bin/python");
    if !python.exists() {
        missing(&format!("{}: cargo xtask test crates makes it", python.display()));
        return None;
    }
    Some(python)
}

/// The same, if it has a module.
pub fn python_with(module: &str) -> Option<PathBuf> {
    let python = python()?;
    let import = format!("import {module}");
    if finish(Command::new(&python).args(["-c", &import])).code != Some(0) {
        missing(&format!("Python has no {module}: cargo xtask test crates installs it"));
        return None;
    }
    Some(python)
}

/// Another tool. If it is missing, the test prints a message, and fails in CI.
pub fn tool(name: &str) -> Option<Command> {
    let found = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())
        .any(|directory| directory.join(name).is_file());
    if !found {
        missing(&format!("{name} is not installed"));
        return None;
    }
    let mut command = Command::new(name);
    command.stdin(Stdio::null());
    Some(command)
}

/// Reports that a test cannot run here; in CI that is a failure.
pub fn missing(what: &str) {
    eprintln!("SKIPPED: {what}");
    assert!(std::env::var_os("CI").is_none(), "{what}, and CI must not skip");
}

/// Whether the descriptors of a running imactl are visible. Its memory has keys, so its files in /proc belong
/// to root; prints a message for other users.
pub fn sees_descriptors() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        missing("root, who sees the descriptors of imactl");
    }
    is_root
}

/// Whether security.ima can be set in `directory`; prints a message if not.
pub fn security_attributes(directory: &Path) -> bool {
    let probe = directory.join(".probe");
    fs::write(&probe, b"").unwrap();
    let set =
        rustix::fs::setxattr(&probe, "security.ima", b"\x01", rustix::fs::XattrFlags::empty());
    fs::remove_file(&probe).unwrap();
    if let Err(error) = set {
        missing(&format!("security.ima cannot be set here (root?): {error}"));
    }
    set.is_ok()
}

/// Unpacks an archive with GNU tar, attributes included, into a new directory.
pub fn unpack(archive: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    let mut tar = tool("tar").unwrap();
    tar.args(["--xattrs", "--xattrs-include=*", "-C"]).arg(to).arg("-xf").arg(archive);
    finish(&mut tar).exits(0);
}

/// Whether debugfs shows this value of an attribute in an image.
pub fn image_has_attribute(image: &Path, file: &str, name: &str, value: &[u8]) -> bool {
    let request = format!("ea_get -x {file} {name}");
    let shown = finish(tool("debugfs").unwrap().args(["-R", &request]).arg(image)).exits(0);
    let hex: String = value.iter().map(|byte| format!("{byte:02x}")).collect();
    let digits: String = shown.stdout.chars().filter(char::is_ascii_hexdigit).collect();
    digits.ends_with(&hex)
}

/// The value of a file's attribute.
pub fn attribute(path: &Path, name: &str) -> Option<Vec<u8>> {
    let mut value = vec![0; 1 << 16];
    match rustix::fs::getxattr(path, name, &mut value[..]) {
        Ok(length) => {
            value.truncate(length);
            Some(value)
        }
        Err(rustix::io::Errno::NODATA) => None,
        Err(error) => panic!("{}: {error}", path.display()),
    }
}

/// Sets a file's attribute.
pub fn set_attribute(path: &Path, name: &str, value: &[u8]) {
    rustix::fs::setxattr(path, name, value, rustix::fs::XattrFlags::empty()).unwrap();
}

/// A file's security.ima.
pub fn security_ima(path: &Path) -> Option<Vec<u8>> {
    attribute(path, "security.ima")
}

/// Sets a file's security.ima.
pub fn set_security_ima(path: &Path, value: &[u8]) {
    set_attribute(path, "security.ima", value);
}

/// A temporary directory, on a file system with attributes.
pub fn directory() -> TempDir {
    tempfile::Builder::new().prefix("imactl-test-").tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

/// A key store without passphrases.
pub fn store(directory: &Path, algorithm: &str) -> PathBuf {
    let store = directory.join(format!("keys-{algorithm}"));
    run(["keys", "create", "--quiet", "--no-passphrase", "--algorithm", algorithm]
        .map(OsStr::new)
        .into_iter()
        .chain([store.as_os_str()]))
    .exits(0);
    store
}

/// Writes files below a directory, with the directories that they need.
pub fn write_tree(root: &Path, files: &[(&str, &[u8])]) {
    for (path, content) in files {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
}

/// Builds an argument list from paths and words.
macro_rules! args {
    ($($arg:expr),* $(,)?) => {
        [$(std::ffi::OsString::from($arg.as_ref() as &std::ffi::OsStr)),*]
    };
}
