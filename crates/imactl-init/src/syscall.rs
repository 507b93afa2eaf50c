//! System calls that rustix lacks, or has only with `std`: keys, `execve`, signals, the standard error,
//! and a clock without the vDSO.
//!
//! The only unsafe code of the library. The numbers are those of `linux-raw-sys`.

#![allow(unsafe_code)]

use alloc::vec::Vec;
use core::ffi::{c_char, CStr};
use core::ptr;

use linux_raw_sys::general::{
    __NR_add_key, __NR_clock_gettime, __NR_execve, __NR_exit_group, __NR_keyctl,
    __NR_rt_sigprocmask,
};
use rustix::fd::{AsRawFd, BorrowedFd};
use rustix::fs::{self, Mode, OFlags, CWD};
use rustix::io::Errno;

/// `KEYCTL_DESCRIBE` and `KEYCTL_READ` of `include/uapi/linux/keyctl.h`.
const KEYCTL_DESCRIBE: usize = 6;
const KEYCTL_READ: usize = 11;
const KEYCTL_INVALIDATE: usize = 21;

/// Serial number of a key or keyring (`key_serial_t`).
pub type KeySerial = i32;

/// `KEY_SPEC_PROCESS_KEYRING`: the keyring of this process alone.
pub const PROCESS_KEYRING: KeySerial = -2;

/// `add_key(type, description, payload, length, keyring)`; without a description the kernel generates
/// one.
pub fn add_key(
    kind: &CStr,
    description: Option<&CStr>,
    payload: &[u8],
    keyring: KeySerial,
) -> Result<KeySerial, Errno> {
    let description = description.map_or(ptr::null(), CStr::as_ptr);
    let arguments = [
        kind.as_ptr() as usize,
        description as usize,
        payload.as_ptr() as usize,
        payload.len(),
        keyring as usize,
    ];
    // SAFETY: type and description are C strings, and the payload's address is passed with its length; the
    // kernel only reads them.
    let serial = check(unsafe { syscall(__NR_add_key, arguments) })?;
    Ok(serial as KeySerial)
}

/// `keyctl(KEYCTL_DESCRIBE)`: `type;uid;gid;perm;description`, with its NUL.
pub fn key_description(key: KeySerial) -> Result<Vec<u8>, Errno> {
    keyctl_bytes(KEYCTL_DESCRIBE, key)
}

/// `keyctl(KEYCTL_READ)` on a keyring: the serials of the keys in it.
pub fn keyring_members(keyring: KeySerial) -> Result<Vec<KeySerial>, Errno> {
    let bytes = keyctl_bytes(KEYCTL_READ, keyring)?;
    let serials = bytes.chunks_exact(4).filter_map(|chunk| chunk.try_into().ok());
    Ok(serials.map(KeySerial::from_ne_bytes).collect())
}

/// `keyctl(KEYCTL_INVALIDATE)`: the kernel removes a key from all keyrings.
pub fn invalidate_key(key: KeySerial) -> Result<(), Errno> {
    // SAFETY: the call accesses no memory.
    check(unsafe { syscall(__NR_keyctl, [KEYCTL_INVALIDATE, key as usize, 0, 0, 0]) }).map(drop)
}

/// Calls a keyctl that fills a buffer and returns the size that it needs, until the buffer is large enough.
fn keyctl_bytes(operation: usize, key: KeySerial) -> Result<Vec<u8>, Errno> {
    let mut buffer = alloc::vec![0_u8; 256];
    loop {
        let arguments = [operation, key as usize, buffer.as_mut_ptr() as usize, buffer.len(), 0];
        // SAFETY: the kernel writes at most `buffer.len()` bytes to the buffer, which
        // outlives the call.
        let size = check(unsafe { syscall(__NR_keyctl, arguments) })?;
        if size <= buffer.len() {
            buffer.truncate(size);
            return Ok(buffer);
        }
        buffer.resize(size, 0);
    }
}

/// `execve(path, arguments, environment)`; returns only if it fails.
pub fn execute(path: &CStr, arguments: &[&CStr], environment: &[&CStr]) -> Errno {
    let arguments = pointers(arguments);
    let environment = pointers(environment);
    let call =
        [path.as_ptr() as usize, arguments.as_ptr() as usize, environment.as_ptr() as usize, 0, 0];
    // SAFETY: path is a C string; both arrays have C strings that outlive the call, and end with a null
    // pointer.
    match check(unsafe { syscall(__NR_execve, call) }) {
        Err(errno) => errno,
        Ok(_) => Errno::NOEXEC,
    }
}

fn pointers(strings: &[&CStr]) -> Vec<*const c_char> {
    strings.iter().map(|string| string.as_ptr()).chain([ptr::null()]).collect()
}

/// Milliseconds of `CLOCK_MONOTONIC`, from the system call: the vDSO would need the auxiliary vector,
/// which needs /proc. For durations only: it wraps if `long` has 32 bits.
pub fn monotonic_milliseconds() -> u64 {
    const CLOCK_MONOTONIC: usize = 1;
    let mut time = [0_usize; 4];
    // SAFETY: the kernel writes a `struct __kernel_old_timespec`, two longs, to `time`.
    let result = unsafe {
        syscall(__NR_clock_gettime, [CLOCK_MONOTONIC, time.as_mut_ptr() as usize, 0, 0, 0])
    };
    match check(result) {
        Ok(_) => (time[0] as u64).wrapping_mul(1000).wrapping_add(time[1] as u64 / 1_000_000),
        Err(_) => 0,
    }
}

/// Blocks all signals for the rest of this process.
pub fn block_signals() {
    const SIG_SETMASK: usize = 2;
    let all = [u64::MAX];
    let arguments = [SIG_SETMASK, all.as_ptr() as usize, 0, 8, 0];
    // SAFETY: the kernel reads 8 bytes of `all` and writes nothing.
    let result = check(unsafe { syscall(__NR_rt_sigprocmask, arguments) });
    debug_assert_eq!(result, Ok(0));
}

/// Occupies closed descriptors among 0 to 2 with one that can be neither read nor written, so that a
/// file opened later is not mistaken for the standard error.
pub fn fill_standard_descriptors() {
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    while let Ok(filler) = fs::openat(CWD, "/", flags, Mode::empty()) {
        if filler.as_raw_fd() > 2 {
            return;
        }
        core::mem::forget(filler);
    }
}

/// The standard error; [`fill_standard_descriptors`] guarantees that descriptor 2 is open.
pub fn standard_error() -> BorrowedFd<'static> {
    // SAFETY: descriptor 2 is open from the start, and is never closed here.
    unsafe { BorrowedFd::borrow_raw(2) }
}

/// Ends the process.
pub fn exit(code: i32) -> ! {
    loop {
        // SAFETY: the call accesses no memory, and does not return.
        let result = check(unsafe { syscall(__NR_exit_group, [code as usize, 0, 0, 0, 0]) });
        debug_assert!(result.is_ok());
    }
}

/// The kernel returns -4095..=-1 for an error.
fn check(result: isize) -> Result<usize, Errno> {
    match result {
        -4095..=-1 => Err(Errno::from_raw_os_error(-result as i32)),
        value => Ok(value as usize),
    }
}

/// A system call of up to five arguments.
///
/// # Safety
/// The arguments must be valid for system call `number`.
#[cfg(target_arch = "x86_64")]
unsafe fn syscall(number: u32, [a, b, c, d, e]: [usize; 5]) -> isize {
    let result: isize;
    // SAFETY: all clobbered registers are listed; the caller guarantees the arguments.
    unsafe {
        core::arch::asm!("syscall", inlateout("rax") number as usize => result,
            in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d, in("r8") e,
            lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    result
}

/// A system call of up to five arguments.
///
/// # Safety
/// The arguments must be valid for system call `number`.
#[cfg(target_arch = "aarch64")]
unsafe fn syscall(number: u32, [a, b, c, d, e]: [usize; 5]) -> isize {
    let result: isize;
    // SAFETY: as for x86_64.
    unsafe {
        core::arch::asm!("svc 0", in("x8") number as usize, inlateout("x0") a => result,
            in("x1") b, in("x2") c, in("x3") d, in("x4") e, options(nostack));
    }
    result
}

/// A system call of up to five arguments.
///
/// # Safety
/// The arguments must be valid for system call `number`.
#[cfg(target_arch = "riscv64")]
unsafe fn syscall(number: u32, [a, b, c, d, e]: [usize; 5]) -> isize {
    let result: isize;
    // SAFETY: as for x86_64.
    unsafe {
        core::arch::asm!("ecall", in("a7") number as usize, inlateout("a0") a => result,
            in("a1") b, in("a2") c, in("a3") d, in("a4") e, options(nostack));
    }
    result
}

/// A system call of up to five arguments. r7 is moved by hand, because Thumb reserves it.
///
/// # Safety
/// The arguments must be valid for system call `number`.
#[cfg(target_arch = "arm")]
unsafe fn syscall(number: u32, [a, b, c, d, e]: [usize; 5]) -> isize {
    let result: isize;
    // SAFETY: as for x86_64; r7 is restored.
    unsafe {
        core::arch::asm!("mov {saved}, r7", "mov r7, {number}", "svc 0", "mov r7, {saved}",
            saved = out(reg) _, number = in(reg) number, inlateout("r0") a => result,
            in("r1") b, in("r2") c, in("r3") d, in("r4") e, options(nostack));
    }
    result
}

/// A system call of up to five arguments. ebx and esi are loaded by hand, because LLVM reserves them.
///
/// # Safety
/// The arguments must be valid for system call `number`.
#[cfg(target_arch = "x86")]
unsafe fn syscall(number: u32, [a, b, c, d, e]: [usize; 5]) -> isize {
    let by_hand = [number as usize, a, d];
    let result: isize;
    // SAFETY: as for x86_64; the first instructions read `by_hand`, and ebx and esi are restored.
    unsafe {
        core::arch::asm!("push ebx", "push esi", "mov ebx, [eax + 4]", "mov esi, [eax + 8]",
            "mov eax, [eax]", "int 0x80", "pop esi", "pop ebx",
            inlateout("eax") by_hand.as_ptr() => result, in("ecx") b, in("edx") c, in("edi") e);
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_an_errno() {
        assert_eq!(check(-2), Err(Errno::NOENT));
        assert_eq!(check(0), Ok(0));
        assert!(add_key(c_str(b"no such type\0"), None, b"", 0).is_err());
    }

    #[test]
    fn a_clock_that_runs() {
        assert!(monotonic_milliseconds() > 0);
    }

    fn c_str(bytes: &[u8]) -> &CStr {
        CStr::from_bytes_with_nul(bytes).unwrap()
    }
}
