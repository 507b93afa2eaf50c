//! The initramfs stage of imactl: gives the kernel its IMA certificates and policies, and
//! hands over to the real root.
//!
//! One static program without a C library, in three roles ([`Role`]):
//!
//! - a step of another initramfs: `imactl-init [--enforce] [ROOT]`, and `/init.ima ROOT`;
//! - the first process of an initramfs of its own, as `/init`;
//! - the last step of another initramfs: `imactl-init switch-root [--secure] NEWROOT INIT [ARG...]`,
//!   or `--systemd NEWROOT` where systemd is its first process.
//!
//! | module | purpose |
//! |---|---|
//! | [`plan`] | the steps, from the command line and the files found: pure |
//! | [`step`] | runs them |
//! | [`init`] | the role of `/init` |
//! | [`switch_root`] | moves the mounts, frees the initramfs, executes the real init |
//! | [`systemd`] | makes systemd switch the root |
//! | [`cmdline`], [`root`] | `/proc/cmdline`; finding and mounting `root=` |
//! | [`keyring`], [`policy`], [`demand`] | what the kernel accepts, and why it rejects |
//! | [`evm`] | how EVM is set up |
//! | [`console`], [`text`] | messages |
//! | [`mod@file`], [`pseudo`], [`syscall`], [`stop`] | the system underneath |

#![no_std]
#![deny(unsafe_code)]
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unreachable
)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic))]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod cmdline;
pub mod console;
pub mod demand;
pub mod evm;
pub mod file;
pub mod init;
pub mod keyring;
pub mod plan;
pub mod policy;
pub mod pseudo;
pub mod root;
pub mod step;
pub mod stop;
pub mod switch_root;
pub mod syscall;
pub mod systemd;
pub mod text;

use alloc::vec::Vec;
use core::ffi::CStr;

use ima_format::printable::Printable;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::process;

use cmdline::{CommandLine, Mode, RootCertificates};
use console::Console;
use file::Tree;
use switch_root::Init;
use text::Reason;

/// Exit code if the work could not begin: wrong usage, no ROOT, no /proc.
pub const EXIT_UNABLE: i32 = 6;

/// The initramfs's own words, read before the kernel's command line.
const CONFIGURATION: &str = "etc/imactl/cmdline";

const USAGE: &str = "usage: imactl-init [--enforce] [ROOT]
       imactl-init switch-root [--secure] NEWROOT INIT [ARG...]
       imactl-init switch-root [--secure] --systemd NEWROOT
       imactl-init --version
";

/// The role of the program.
#[derive(Debug, PartialEq, Eq)]
pub enum Role<'a> {
    /// Boot, as the first process.
    Init,
    /// Secure the kernel and return.
    Step {
        /// The mount point of the real root.
        root: &'a [u8],
        /// The effect of a failure, unless `imactl.mode=` overrides it.
        failure: OnFailure,
    },
    /// Make another mount the root and execute its init.
    SwitchRoot {
        /// The mount point.
        new_root: &'a [u8],
        /// Init's path below it.
        init: &'a CStr,
        /// Init's arguments.
        arguments: Vec<&'a CStr>,
        /// The step before it.
        before: Before,
    },
    /// Make systemd, the first process, switch the root.
    SystemdSwitchRoot {
        /// The mount point.
        new_root: &'a [u8],
        /// The step before it.
        before: Before,
    },
    /// Print the usage.
    Usage,
    /// Print the version.
    Version,
}

/// The effect of a failed step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    /// It returns, with its exit code.
    Return,
    /// It stops the machine, as it does in the role of `/init`.
    Stop,
}

/// The step before the switch of the root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Before {
    /// Nothing.
    Nothing,
    /// Secure the kernel.
    Secure,
}

impl<'a> Role<'a> {
    /// Parses the arguments of process `pid`; the first one is the program's name.
    pub fn of(arguments: &[&'a CStr], pid: i32) -> Self {
        let name = arguments.first().map_or(&b""[..], |name| name.to_bytes());
        let name = name.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
        let arguments = arguments.get(1..).unwrap_or_default();
        let first = arguments.first().map(|first| first.to_bytes());
        // The kernel passes words of its command line to /init; they are for the real init.
        if pid == 1 && name == b"init" {
            return Self::Init;
        }
        match (name, first) {
            // Installed as /usr/sbin/switch_root.static, or in place of switch_root.
            (name, _) if name.starts_with(b"switch_root") => Self::switch_root(arguments),
            (_, Some(b"switch-root")) => Self::switch_root(arguments.get(1..).unwrap_or_default()),
            _ if pid == 1 => Self::Init,
            (_, Some(b"--version" | b"-V")) => Self::Version,
            // The script that calls it would continue without a policy.
            (b"init.ima", _) => Self::step(OnFailure::Stop, arguments),
            _ => Self::step(OnFailure::Return, arguments),
        }
    }

    fn step(failure: OnFailure, arguments: &[&'a CStr]) -> Self {
        let (failure, rest) = match arguments.split_first() {
            Some((first, rest)) if first.to_bytes() == b"--enforce" => (OnFailure::Stop, rest),
            _ => (failure, arguments),
        };
        match rest {
            [] => Self::Step { root: b"/", failure },
            [root] if !root.to_bytes().starts_with(b"-") => {
                Self::Step { root: root.to_bytes(), failure }
            }
            _ => Self::Usage,
        }
    }

    fn switch_root(mut arguments: &[&'a CStr]) -> Self {
        let (mut before, mut systemd) = (Before::Nothing, false);
        while let Some((option, rest)) = arguments.split_first() {
            match option.to_bytes() {
                b"--secure" => before = Before::Secure,
                b"--systemd" => systemd = true,
                [b'-', ..] => return Self::Usage,
                _ => break,
            }
            arguments = rest;
        }
        match (systemd, arguments) {
            (false, [new_root, init, arguments @ ..]) => {
                let (new_root, arguments) = (new_root.to_bytes(), arguments.to_vec());
                Self::SwitchRoot { new_root, init, arguments, before }
            }
            (true, [new_root]) => Self::SystemdSwitchRoot { new_root: new_root.to_bytes(), before },
            _ => Self::Usage,
        }
    }
}

/// Runs the program; returns its exit code.
pub fn run(arguments: Vec<&CStr>, environment: Vec<&CStr>) -> i32 {
    syscall::fill_standard_descriptors();
    match Role::of(&arguments, process::getpid().as_raw_nonzero().get()) {
        Role::Init => init::run(arguments, environment),
        Role::Step { root, failure } => {
            syscall::block_signals();
            run_step(root, failure)
        }
        Role::SwitchRoot { new_root, init, arguments, before } => {
            let init = Init { path: init.into(), arguments, environment };
            run_switch_root(new_root, &init, before)
        }
        Role::SystemdSwitchRoot { new_root, before } => {
            syscall::block_signals();
            run_systemd_switch_root(new_root, before)
        }
        Role::Usage => {
            console::print(USAGE);
            EXIT_UNABLE
        }
        Role::Version => {
            console::print(concat!("imactl-init ", env!("CARGO_PKG_VERSION"), "\n"));
            0
        }
    }
}

fn run_step(root: &[u8], on_failure: OnFailure) -> i32 {
    let mut session = Session::begin();
    let Some(proc) = session.proc.take() else {
        match on_failure {
            OnFailure::Return => return EXIT_UNABLE,
            OnFailure::Stop => stop::machine(&session.console, None),
        }
    };
    let Session { mut console, command_line, .. } = session;
    let code = match on_failure {
        OnFailure::Stop => secure_or_stop(&console, &proc, root, &command_line),
        OnFailure::Return => match step::secure(&console, &proc, root, &command_line) {
            Ok(()) => 0,
            Err(failure) => {
                say!(console, Error, "the kernel is not secured: {failure}");
                failure.code()
            }
        },
    };
    console.restore(&proc);
    code
}

/// Secures the kernel. On failure it stops the machine, unless `imactl.mode=permissive`, and
/// otherwise returns the exit code of the step.
fn secure_or_stop(
    console: &Console,
    proc: &OwnedFd,
    root: &[u8],
    command_line: &CommandLine,
) -> i32 {
    let Err(failure) = step::secure(console, proc, root, command_line) else { return 0 };
    say!(console, Critical, "the kernel is not secured: {failure}");
    match command_line.mode {
        Mode::Permissive => {
            say!(console, Critical, "imactl.mode=permissive: CONTINUING WITHOUT A SECURED KERNEL");
            failure.code()
        }
        Mode::Enforce => {
            say!(console, Critical, "the boot stops; imactl.mode=permissive would continue");
            stop::machine(console, command_line.timeout)
        }
    }
}

fn run_switch_root(new_root: &[u8], init: &Init<'_>, before: Before) -> i32 {
    let session = Session::begin();
    if process::getpid() != process::Pid::INIT {
        say!(session.console, Error, "switch-root is for the first process: start it with exec");
        return EXIT_UNABLE;
    }
    let (console, command_line) = session.secure_first(before, new_root);
    let failure = switch_root::switch(&console, new_root, init);
    let path = Printable(init.path.to_bytes());
    say!(console, Critical, "the boot stops: cannot hand over to {path}: {failure}");
    stop::machine(&console, command_line.timeout)
}

fn run_systemd_switch_root(new_root: &[u8], before: Before) -> i32 {
    let (console, command_line) = Session::begin().secure_first(before, new_root);
    let init = systemd::init(new_root, command_line.init.as_deref());
    let Err(failure) = systemd::switch_root(new_root, init) else { return 0 };
    say!(console, Critical, "systemd does not switch root: {failure}");
    match command_line.mode {
        Mode::Permissive => EXIT_UNABLE,
        // Most programs that systemd would run next are denied by the policy.
        Mode::Enforce => stop::machine(&console, command_line.timeout),
    }
}

/// The common start of all roles but `/init`.
struct Session {
    console: Console,
    proc: Option<OwnedFd>,
    command_line: CommandLine,
}

impl Session {
    fn begin() -> Self {
        let mut console = Console::open();
        match pseudo::PROC.open() {
            Ok(proc) => {
                console.learn(&proc);
                let command_line = command_line(&console, &proc);
                Self { console, proc: Some(proc), command_line }
            }
            Err(errno) => {
                say!(console, Critical, "there is no /proc: {}", Reason(errno));
                Self { console, proc: None, command_line: CommandLine::default() }
            }
        }
    }

    /// Secures the kernel, if that is to happen before the switch of the root.
    fn secure_first(self, before: Before, new_root: &[u8]) -> (Console, CommandLine) {
        let Self { mut console, proc, command_line } = self;
        match (&proc, before) {
            (Some(proc), Before::Secure) => {
                secure_or_stop(&console, proc, new_root, &command_line);
            }
            // Without /proc the kernel cannot be secured, nor imactl.mode= be read: fail closed.
            (None, Before::Secure) => stop::machine(&console, None),
            (_, Before::Nothing) => {}
        }
        if let Some(proc) = proc {
            console.restore(&proc);
        }
        (console, command_line)
    }
}

/// The command line after the configuration of the initramfs; complaints are reported. If it cannot be
/// read, everything is at its default.
fn command_line(console: &Console, proc: &OwnedFd) -> CommandLine {
    let (configuration, unreadable) = match configuration() {
        Ok(text) => (text, None),
        Err(errno) => (Vec::new(), Some(errno)),
    };
    let line = file::read_at(proc, b"cmdline", 1 << 16).unwrap_or_else(|errno| {
        say!(console, Error, "cannot read /proc/cmdline: {}", Reason(errno));
        Vec::new()
    });
    let mut command_line = CommandLine::configured(&configuration, &line);
    if let Some(errno) = unreadable {
        say!(console, Error, "cannot read /{CONFIGURATION}: {}", Reason(errno));
        command_line.root_certificates = RootCertificates::Skip; // the unreadable file may contain it
    }
    for complaint in &command_line.complaints {
        say!(console, Warning, "{complaint}");
    }
    command_line
}

fn configuration() -> Result<Vec<u8>, Errno> {
    match Tree::open(b"/")?.open_file(CONFIGURATION.as_bytes()) {
        Ok(opened) => file::read(&opened, 1 << 16),
        Err(Errno::NOENT) => Ok(Vec::new()),
        Err(errno) => Err(errno),
    }
}

#[cfg(test)]
mod tests {
    use alloc::ffi::CString;
    use alloc::format;

    use super::*;

    #[test]
    fn the_readme_has_every_line_of_the_usage() {
        for line in USAGE.lines().map(|line| line.trim_start_matches("usage:").trim()) {
            assert!(include_str!("../README.md").contains(&format!("| `{line}` |")), "{line}");
        }
    }

    /// Calls `check` with the role of a command line, whose words are separated by spaces.
    fn with_role(line: &str, pid: i32, check: impl Fn(Role<'_>)) {
        let words: Vec<CString> =
            line.split_ascii_whitespace().map(|word| CString::new(word).unwrap()).collect();
        let words: Vec<&CStr> = words.iter().map(|word| &**word).collect();
        check(Role::of(&words, pid));
    }

    fn is_step(line: &str, root: &str, failure: OnFailure) {
        let root = root.as_bytes();
        with_role(line, 100, |role| assert_eq!(role, Role::Step { root, failure }, "{line}"));
    }

    #[test]
    fn a_step_has_a_root() {
        is_step("/usr/sbin/imactl-init", "/", OnFailure::Return);
        is_step("imactl-init /sysroot", "/sysroot", OnFailure::Return);
        is_step("imactl-init --enforce /sysroot", "/sysroot", OnFailure::Stop);
        is_step("init", "/", OnFailure::Return);
        is_step("/init.ima /rootfs", "/rootfs", OnFailure::Stop);
        is_step("/init.ima", "/", OnFailure::Stop);
        for usage in ["imactl-init a b", "imactl-init --enforced", "imactl-init --help /"] {
            with_role(usage, 100, |role| assert_eq!(role, Role::Usage, "{usage}"));
        }
    }

    #[test]
    fn the_first_process_boots_whatever_the_command_line_hands_it() {
        for line in ["/init", "/init switch-root /a /b", "/init single -V", "/imactl-init"] {
            with_role(line, 1, |role| assert_eq!(role, Role::Init, "{line}"));
        }
    }

    #[test]
    fn switch_root_goes_by_name_or_by_argument() {
        for (line, expected) in [
            ("imactl-init switch-root /new /sbin/init single", Before::Nothing),
            ("/usr/sbin/switch_root.static /new /sbin/init single", Before::Nothing),
            ("switch_root --secure /new /sbin/init single", Before::Secure),
        ] {
            with_role(line, 1, |role| {
                let Role::SwitchRoot { new_root, init, arguments, before } = role else {
                    panic!("{line}: {role:?}");
                };
                assert_eq!((new_root, before), (&b"/new"[..], expected));
                assert_eq!(init.to_bytes(), b"/sbin/init");
                assert_eq!(arguments.len(), 1);
            });
        }
        let (new_root, before) = (&b"/new"[..], Before::Secure);
        for line in ["switch_root --systemd --secure /new", "switch_root --secure --systemd /new"] {
            with_role(line, 90, |role| {
                assert_eq!(role, Role::SystemdSwitchRoot { new_root, before }, "{line}");
            });
        }
        with_role("switch_root --systemd /new /sbin/init", 90, |role| {
            assert_eq!(role, Role::Usage)
        });
        with_role("switch_root /new", 1, |role| assert_eq!(role, Role::Usage));
        with_role("imactl-init switch-root", 1, |role| assert_eq!(role, Role::Usage));
    }
}
