//! What an init does: the kernel's own file systems, the change of root, the end.

use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use rustix::mount::{self, MountFlags};
use rustix::system::RebootCommand;

/// (what, where) the kernel's own file systems are mounted.
const KERNEL_FILE_SYSTEMS: [(&str, &str); 4] = [
    ("proc", "/proc"),
    ("sysfs", "/sys"),
    ("devtmpfs", "/dev"),
    ("securityfs", "/sys/kernel/security"),
];

/// Mounts those that are not mounted yet and that the kernel has.
pub(crate) fn mount_kernel_file_systems() -> io::Result<()> {
    // On a read-only root they are there, or the mount tells.
    for target in ["/proc", "/sys", "/dev"] {
        let _ = fs::create_dir(target);
    }
    for (kind, target) in KERNEL_FILE_SYSTEMS {
        let mounted = fs::read_to_string("/proc/mounts").unwrap_or_default();
        if mounted.lines().any(|line| line.split(' ').nth(1) == Some(target)) {
            continue;
        }
        match mount::mount(kind, target, kind, MountFlags::empty(), None) {
            Ok(()) => {}
            // a kernel without securityfs
            Err(rustix::io::Errno::NODEV | rustix::io::Errno::NOENT) if kind == "securityfs" => {}
            Err(error) => {
                return Err(io::Error::new(error.kind(), format!("mount {target}: {error}")))
            }
        }
    }
    Ok(())
}

/// Makes `root` the root, with the kernel's file systems moved into it, and executes
/// `argv`; returns only what went wrong.
pub(crate) fn switch_root(root: &str, argv: &[String]) -> (String, io::Error) {
    let moved = ["proc", "sys", "dev"].iter().try_for_each(|name| {
        let from = Path::new("/").join(name);
        let to = Path::new(root).join(name);
        mount::mount_move(&from, &to).map_err(|error| (format!("move {}", from.display()), error))
    });
    let switched = moved
        .and_then(|()| std::env::set_current_dir(root).map_err(|error| named("chdir", &error)))
        .and_then(|()| mount::mount_move(".", "/").map_err(|error| ("move root".into(), error)))
        .and_then(|()| rustix::process::chroot(".").map_err(|error| ("chroot".into(), error)))
        .and_then(|()| std::env::set_current_dir("/").map_err(|error| named("chdir", &error)));
    match switched {
        Err((call, error)) => (call, error.into()),
        Ok(()) => {
            let Some((program, arguments)) = argv.split_first() else {
                return ("execve".into(), io::Error::from_raw_os_error(libc::EINVAL));
            };
            let error = Command::new(program).args(arguments).exec();
            (format!("execve {program}"), error)
        }
    }
}

fn named(call: &str, error: &io::Error) -> (String, rustix::io::Errno) {
    (call.into(), rustix::io::Errno::from_io_error(error).unwrap_or(rustix::io::Errno::IO))
}

/// Ends the machine; what is not written back is lost otherwise.
pub(crate) fn power_off() {
    rustix::fs::sync();
    if let Err(error) = rustix::system::reboot(RebootCommand::PowerOff) {
        eprintln!("lab-agent: power off: {error}");
    }
}
