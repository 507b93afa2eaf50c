//! The actions themselves. Each names the system call that failed, so that a refusal can be
//! told from a mistake in the test.

use std::ffi::CString;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{self as unix, MetadataExt, PermissionsExt};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, Stdio};

use lab_agent::{
    Access, Action, Attributes, Bytes, Credentials, Errno, Failure, Offer, OpenFor, Output,
    Position, Status,
};
use rustix::fs::{XattrFlags, CWD};
use rustix::mm::{self, MapFlags, MprotectFlags, ProtFlags};
use rustix::mount::{self, MountFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags};
use rustix::system::RebootCommand;

use crate::{credentials, machine, Outcome};

const POLICY: &str = "/sys/kernel/security/ima/policy";
const TEST_FIRMWARE: &str = "/sys/devices/virtual/misc/test_firmware/trigger_request";

/// Performs `action` with these credentials, or the agent's own.
pub(crate) fn perform(action: &Action, credentials: Option<&Credentials>) -> Outcome {
    match (credentials, action) {
        // a program is executed in a child in any case
        (None, _) | (_, Action::Execute { .. }) => perform_here(action, credentials),
        (Some(credentials), _) => credentials::in_child(|| {
            credentials::assume(credentials)
                .map_err(|error| failure("assume credentials".into(), &error))?;
            perform_here(action, None)
        })
        .unwrap_or_else(|error| Err(failure("run a child".into(), &error))),
    }
}

/// Reads a file. Some files of securityfs (evm_xattrs) answer the first read alone, and `fs::read` begins with 32
/// bytes where a file has no size.
fn read(path: &str) -> io::Result<Vec<u8>> {
    let mut content = Vec::with_capacity(64 << 10);
    fs::File::open(path)?.read_to_end(&mut content)?;
    Ok(content)
}

/// Performs `action`; `credentials` are those of a program to execute.
fn perform_here(action: &Action, credentials: Option<&Credentials>) -> Outcome {
    match action {
        Action::Execute { argv, environment } => execute(argv, environment, credentials),
        Action::MapExecutable { path } => map(path, ProtFlags::READ | ProtFlags::EXEC),
        Action::ProtectExecutable { path } => map(path, ProtFlags::READ),
        Action::Read { path } => content(call("read", path, read(path))?),
        Action::Open { path, access } => open(path, *access),
        Action::Write { path, content, mode } => write(path, &content.0, *mode),
        Action::Patch { path, position, content } => patch(path, *position, &content.0),
        Action::Copy { from, to, attributes } => copy(from, to, *attributes),
        Action::Remove { path } => done("remove", path, remove(path)),
        Action::MakeDirectory { path } => done("mkdir", path, fs::create_dir_all(path)),
        Action::ChangeOwner { path, uid, gid } => {
            done("chown", path, unix::lchown(path, Some(*uid), Some(*gid)))
        }
        Action::ChangeMode { path, mode } => {
            done("chmod", path, fs::set_permissions(path, Permissions::from_mode(*mode)))
        }
        Action::SetAttribute { path, name, value } => {
            let set = rustix::fs::lsetxattr(path, name.as_str(), &value.0, XattrFlags::empty());
            done("setxattr", path, set.map_err(Into::into))
        }
        Action::ReadAttribute { path, name } => {
            content(call("getxattr", path, read_attribute(path, name))?)
        }
        Action::RemoveAttribute { path, name } => {
            let removed = rustix::fs::lremovexattr(path, name.as_str());
            done("removexattr", path, removed.map_err(Into::into))
        }
        Action::Mount { source, target, kind, access, options } => {
            mount(source, target, kind, *access, options)
        }
        Action::MountMapped { path, target, first } => mount_mapped(path, target, *first),
        Action::Unmount { target } => {
            let unmounted = mount::unmount(target, UnmountFlags::empty());
            done("umount", target, unmounted.map_err(Into::into))
        }
        Action::LoadModule { path, parameters } => load_module(path, parameters),
        Action::LoadKernel { path, initramfs } => load_kernel(path, initramfs.as_deref()),
        Action::ForgetKernel => done("kexec_load", "nothing", forget_kernel()),
        Action::StartKernel => {
            let started = rustix::system::reboot(RebootCommand::Kexec);
            done("reboot", "the loaded kernel", started.map_err(Into::into))
        }
        Action::UnloadModule { name } => {
            let unloaded = rustix::system::delete_module(&c_string(name)?, libc::O_NONBLOCK);
            done("delete_module", name, unloaded.map_err(Into::into))
        }
        Action::RequestFirmware { name } => request_firmware(name),
        Action::LoadPolicy { path } => write_policy("load policy", path, path.as_bytes()),
        Action::WritePolicy { text } => write_policy("write policy", POLICY, text.as_bytes()),
        Action::OfferPolicies { offers } => {
            Ok(Output::Taken(offers.iter().map(offer).collect::<Result<_, _>>()?))
        }
        Action::AddKey { keyring, certificate } => {
            done("add_key", keyring, add_key("asymmetric", None, &certificate.0, keyring))
        }
        Action::AddKeys { offers } => {
            let added = offers.iter().map(|(keyring, certificate)| {
                let error = add_key("asymmetric", None, &certificate.0, keyring).err()?;
                Some(failure(String::new(), &error).errno)
            });
            Ok(Output::Taken(added.collect()))
        }
        Action::Revoke { entry, signature } => done(
            "add_key",
            entry,
            add_key("blacklist", Some(entry.as_str()), &signature.0, ".blacklist"),
        ),
        Action::EnableVerity { path } => {
            let file = call("open", path, File::open(path))?;
            done("ioctl", path, enable_verity(&file))
        }
        Action::SwitchRoot { root, argv } => {
            let (name, error) = machine::switch_root(root, argv);
            Err(failure(name, &error))
        }
        Action::Console { argv } => console(argv),
        Action::PowerOff => Ok(Output::Done),
    }
}

fn execute(
    argv: &[String],
    environment: &[(String, String)],
    credentials: Option<&Credentials>,
) -> Outcome {
    let program = argv.first().map_or("", String::as_str);
    let arguments = argv.iter().map(c_string).collect::<Result<Vec<_>, _>>()?;
    let variables = environment
        .iter()
        .map(|(name, value)| c_string(format!("{name}={value}")))
        .collect::<Result<Vec<_>, _>>()?;
    let credentials = credentials.cloned();
    let execve = move || {
        if let Some(credentials) = &credentials {
            credentials::assume(credentials)?;
        }
        let pointers = |strings: &[CString]| -> Vec<*const libc::c_char> {
            strings.iter().map(|string| string.as_ptr()).chain([std::ptr::null()]).collect()
        };
        let (argv, envp) = (pointers(&arguments), pointers(&variables));
        // SAFETY: both are arrays of pointers to strings, ended by a null pointer; the
        // strings live in the closure.
        unsafe { libc::execve(argv[0], argv.as_ptr(), envp.as_ptr()) };
        Err(io::Error::last_os_error())
    };
    let mut command = Command::new(program);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // The standard library would execute by execvp, which hands what is no program to a
    // shell; the kernel's own answer is wanted.
    // SAFETY: the agent has one thread, so its child may allocate.
    unsafe { command.pre_exec(execve) };
    let child = call("execve", program, command.spawn())?;
    let output = call("wait", program, child.wait_with_output())?;
    let status = match output.status.signal() {
        Some(signal) => Status::Signal(signal),
        None => Status::Code(output.status.code().unwrap_or(-1)),
    };
    Ok(Output::Exited { status, stdout: output.stdout.into(), stderr: output.stderr.into() })
}

fn map(path: &str, protection: ProtFlags) -> Outcome {
    let file = call("open", path, File::open(path))?;
    let length = call("fstat", path, file.metadata())?.len().max(1) as usize;
    // SAFETY: a new mapping, at an address of the kernel's choice, never read.
    let address =
        unsafe { mm::mmap(std::ptr::null_mut(), length, protection, MapFlags::PRIVATE, &file, 0) };
    let address = call("mmap", path, address.map_err(Into::into))?;
    let protected = if protection.contains(ProtFlags::EXEC) {
        Ok(())
    } else {
        // SAFETY: the mapping made above, of this length.
        unsafe { mm::mprotect(address, length, MprotectFlags::READ | MprotectFlags::EXEC) }
    };
    // SAFETY: as above; nothing refers to it.
    let unmapped = unsafe { mm::munmap(address, length) };
    call("mprotect", path, protected.map_err(Into::into))?;
    done("munmap", path, unmapped.map_err(Into::into))
}

fn write(path: &str, content: &[u8], mode: u32) -> Outcome {
    let mut file = call("open", path, File::create(path))?;
    call("write", path, file.write_all(content))?;
    done("fchmod", path, file.set_permissions(Permissions::from_mode(mode)))
}

fn open(path: &str, access: OpenFor) -> Outcome {
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = OpenOptions::new();
    match access {
        OpenFor::Read => options.read(true),
        OpenFor::ReadDirect => options.read(true).custom_flags(libc::O_DIRECT),
        OpenFor::Write => options.write(true),
        OpenFor::Append => options.append(true),
        OpenFor::ReadWrite => options.read(true).write(true),
    };
    done("open", path, options.open(path).map(drop))
}

fn patch(path: &str, position: Position, content: &[u8]) -> Outcome {
    let mut file = call("open", path, OpenOptions::new().write(true).open(path))?;
    let position = match position {
        Position::Start(offset) => SeekFrom::Start(offset),
        Position::End => SeekFrom::End(0),
    };
    call("lseek", path, file.seek(position))?;
    done("write", path, file.write_all(content))
}

fn copy(from: &str, to: &str, attributes: Attributes) -> Outcome {
    call("copy", from, fs::copy(from, to))?;
    let metadata = call("stat", from, fs::metadata(from))?;
    call("chown", to, unix::chown(to, Some(metadata.uid()), Some(metadata.gid())))?;
    if attributes == Attributes::Kept {
        let mut names = vec![0; 64 << 10];
        let length = rustix::fs::llistxattr(from, &mut names[..]).map_err(Into::into);
        names.truncate(call("listxattr", from, length)?);
        for name in names.split(|&byte| byte == 0).filter(|name| name.starts_with(b"security.")) {
            let name = String::from_utf8_lossy(name);
            let value = call("getxattr", from, read_attribute(from, &name))?;
            let set = rustix::fs::lsetxattr(to, &*name, &value, XattrFlags::empty());
            call("setxattr", to, set.map_err(Into::into))?;
        }
    }
    Ok(Output::Done)
}

fn remove(path: &str) -> io::Result<()> {
    if fs::symlink_metadata(path)?.is_dir() {
        fs::remove_dir(path)
    } else {
        fs::remove_file(path)
    }
}

fn read_attribute(path: &str, name: &str) -> io::Result<Vec<u8>> {
    let mut value = vec![0; 64 << 10];
    let length = rustix::fs::lgetxattr(path, name, &mut value[..])?;
    value.truncate(length);
    Ok(value)
}

fn mount(source: &str, target: &str, kind: &str, access: Access, options: &str) -> Outcome {
    call("mkdir", target, fs::create_dir_all(target))?;
    let flags = match access {
        Access::ReadOnly => MountFlags::RDONLY,
        Access::ReadWrite => MountFlags::empty(),
    };
    let options = c_string(options)?;
    let mounted = mount::mount(source, target, kind, flags, Some(options.as_c_str()));
    done("mount", target, mounted.map_err(Into::into))
}

/// `struct mount_attr`: flags that are set, flags that are cleared, the propagation, the user
/// namespace whose mapping of owners counts.
fn mount_mapped(path: &str, target: &str, first: u32) -> Outcome {
    const MOUNT_ATTR_IDMAP: u64 = 0x10_0000;
    call("mkdir", target, fs::create_dir_all(target))?;
    let namespace = call("map owners", path, user_namespace(first))?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = call("open_tree", path, mount::open_tree(CWD, path, flags).map_err(Into::into))?;
    let attributes = [MOUNT_ATTR_IDMAP, 0, 0, namespace.as_raw_fd() as u64];
    // SAFETY: an open descriptor, an empty string, and a structure with its size.
    let mapped = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            b"\0".as_ptr(),
            libc::AT_EMPTY_PATH,
            attributes.as_ptr(),
            std::mem::size_of_val(&attributes),
        )
    };
    call("mount_setattr", path, result_of(mapped))?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    done("move_mount", target, mount::move_mount(&tree, "", CWD, target, flags).map_err(Into::into))
}

/// A user namespace in which 0 is the user and the group `first` of this one.
fn user_namespace(first: u32) -> io::Result<File> {
    let flags = libc::CLONE_NEWUSER | libc::SIGCHLD;
    // SAFETY: as fork, in a process with one thread; the child waits to be killed.
    let child = match unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) } {
        -1 => return Err(io::Error::last_os_error()),
        0 => loop {
            // SAFETY: no arguments.
            unsafe { libc::pause() };
        },
        child => child as libc::pid_t,
    };
    let of = |name: &str| format!("/proc/{child}/{name}");
    let map = format!("0 {first} 65536\n");
    let opened = fs::write(of("uid_map"), &map)
        .and_then(|()| fs::write(of("gid_map"), &map))
        .and_then(|()| File::open(of("ns/user")));
    // SAFETY: the child that was just made.
    unsafe { libc::kill(child, libc::SIGKILL) };
    // SAFETY: as above; its status is not asked for.
    unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) };
    opened
}

fn load_module(path: &str, parameters: &str) -> Outcome {
    let file = call("open", path, File::open(path))?;
    let loaded = rustix::system::finit_module(&file, &c_string(parameters)?, 0);
    done("finit_module", path, loaded.map_err(Into::into))
}

fn load_kernel(path: &str, initramfs: Option<&str>) -> Outcome {
    const NO_INITRAMFS: libc::c_ulong = 4;
    let kernel = call("open", path, File::open(path))?;
    let initramfs = initramfs.map(|path| call("open", path, File::open(path))).transpose()?;
    let (initramfs, flags) = match &initramfs {
        Some(file) => (file.as_raw_fd(), 0),
        None => (-1, NO_INITRAMFS),
    };
    // as this kernel, except for the place of its initramfs
    let words = call("read", "/proc/cmdline", fs::read_to_string("/proc/cmdline"))?;
    let is_kept = |word: &&str| !word.starts_with("initrdmem=") && !word.starts_with("memmap=");
    let words: Vec<_> = words.split_whitespace().filter(is_kept).collect();
    let command_line = c_string(words.join(" "))?;
    // SAFETY: descriptors that are open, and a string with its length, the NUL included.
    let loaded = unsafe {
        libc::syscall(
            libc::SYS_kexec_file_load,
            kernel.as_raw_fd(),
            initramfs,
            command_line.as_bytes_with_nul().len(),
            command_line.as_ptr(),
            flags,
        )
    };
    done("kexec_file_load", path, result_of(loaded))
}

fn forget_kernel() -> io::Result<()> {
    const NONE: libc::c_ulong = 0;
    // SAFETY: no segments, so that there is nothing to point at.
    result_of(unsafe { libc::syscall(libc::SYS_kexec_load, NONE, NONE, NONE, NONE) })
}

fn result_of(returned: libc::c_long) -> io::Result<()> {
    match returned {
        0.. => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The module loads what is written to one file and gives its content at the other.
fn request_firmware(name: &str) -> Outcome {
    let mut trigger =
        call("open", TEST_FIRMWARE, OpenOptions::new().write(true).open(TEST_FIRMWARE))?;
    call("request_firmware", name, trigger.write_all(name.as_bytes()))?;
    let mut bytes = Vec::new();
    let read = File::open("/dev/test_firmware").and_then(|mut file| file.read_to_end(&mut bytes));
    call("read", "/dev/test_firmware", read)?;
    content(bytes)
}

/// One `write`: the kernel takes a path, or whole rules, at a time. A policy that ends in
/// the middle of a rule is rejected when the file is closed, without an error.
fn write_policy(name: &str, object: &str, bytes: &[u8]) -> Outcome {
    let mut file = call("open", POLICY, OpenOptions::new().write(true).open(POLICY))?;
    done(name, object, file.write_all(bytes))
}

/// Offers a policy and takes it back.
fn offer(offer: &Offer) -> Result<Option<Errno>, Failure> {
    const OFFERED: &str = "/offered-policy";
    let mut policy = call("open", POLICY, OpenOptions::new().write(true).open(POLICY))?;
    let taken = match offer {
        Offer::File(Bytes(text)) => {
            call("write", OFFERED, fs::write(OFFERED, text))?;
            policy.write(OFFERED.as_bytes()).map(drop)
        }
        Offer::Text(Bytes(text)) => {
            let mut rest = text.as_slice();
            loop {
                match policy.write(rest) {
                    // the kernel counts the end of the line, even where there is none
                    Ok(written) if written < rest.len() => rest = &rest[written..],
                    result => break result.map(drop),
                }
            }
        }
    };
    // "Resource busy" would be somebody else's doing
    let spoilt = policy.write(b"no rule");
    match (taken, spoilt) {
        (_, Ok(_)) => Err(failure("spoil the policy".into(), &io::ErrorKind::InvalidData.into())),
        (Ok(()), Err(_)) => Ok(None),
        (Err(error), Err(_)) => Ok(Some(failure(String::new(), &error).errno)),
    }
}

/// `struct fsverity_enable_arg`: version, hash algorithm, block size, sizes and addresses of a salt and of a
/// signature, reserved bytes.
fn enable_verity(file: &File) -> io::Result<()> {
    const ENABLE: u64 = 0x4080_6685;
    let mut argument = [0u32; 32];
    argument[..3].copy_from_slice(&[1, 1, 4096]);
    // SAFETY: an argument of the size that the call has in it; the kernel only reads it.
    let enabled = unsafe { libc::ioctl(file.as_raw_fd(), ENABLE as _, argument.as_ptr()) };
    result_of(enabled.into())
}

/// Adds a key to the keyring of that name. There is no name for a system keyring in
/// the system call; its serial number is in `/proc/keys`:
/// `1b2e... I------ 1 perm 1f0b0000 0 0 keyring   .ima: 1`.
fn add_key(kind: &str, description: Option<&str>, payload: &[u8], keyring: &str) -> io::Result<()> {
    let kind = CString::new(kind)?;
    let description = description.map(CString::new).transpose()?;
    let keys = fs::read_to_string("/proc/keys")?;
    let serial = keys
        .lines()
        .find_map(|line| {
            let mut fields = line.split_whitespace();
            let serial = fields.next()?;
            let (of, name) = (fields.nth(6)?, fields.next()?);
            (of == "keyring" && name.trim_end_matches(':') == keyring).then_some(serial)
        })
        .and_then(|serial| i32::from_str_radix(serial, 16).ok())
        .ok_or_else(|| io::Error::from_raw_os_error(libc::ENOKEY))?;
    // SAFETY: strings that end in NUL, and a buffer with its length.
    result_of(unsafe {
        libc::syscall(
            libc::SYS_add_key,
            kind.as_ptr(),
            description.as_ref().map_or(std::ptr::null(), |text| text.as_ptr()),
            payload.as_ptr(),
            payload.len(),
            serial,
        )
    })
}

fn console(argv: &[String]) -> Outcome {
    let program = argv.first().map_or("", String::as_str);
    let device = "/dev/ttyS0";
    let opened = OpenOptions::new().read(true).write(true).open(device);
    let terminal = call("open", device, opened)?;
    let mut command = Command::new(program);
    command.args(argv.iter().skip(1)).env_clear();
    command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("TERM", "vt100").env("HOME", "/");
    let end = || call("dup", device, terminal.try_clone());
    command.stdin(end()?).stdout(end()?).stderr(end()?);
    let session = move || {
        rustix::process::setsid()?;
        rustix::process::ioctl_tiocsctty(&terminal)?;
        Ok(())
    };
    // SAFETY: two system calls.
    unsafe { command.pre_exec(session) };
    done("execve", program, command.status().map(drop))
}

fn content(bytes: Vec<u8>) -> Outcome {
    Ok(Output::Content(Bytes(bytes)))
}

fn done(name: &str, object: &str, result: io::Result<()>) -> Outcome {
    call(name, object, result).map(|()| Output::Done)
}

/// Names the call in the error.
fn call<T>(name: &str, object: &str, result: io::Result<T>) -> Result<T, Failure> {
    result.map_err(|error| failure(format!("{name} {object}"), &error))
}

fn failure(call: String, error: &io::Error) -> Failure {
    Failure { call, errno: Errno(error.raw_os_error().unwrap_or(libc::EIO)) }
}

fn c_string(text: impl AsRef<str>) -> Result<CString, Failure> {
    CString::new(text.as_ref()).map_err(|_| Failure {
        call: format!("a NUL byte in {:?}", text.as_ref()),
        errno: Errno::EINVAL,
    })
}
