//! The start code of a C library, and no more. The unsafe code of the program is here.

pub(crate) mod heap;
mod memory;

use alloc::vec::Vec;
use core::ffi::{c_char, CStr};

// The kernel starts a program with the argument count at the stack pointer, followed by the
// argument pointers, a null, the environment's pointers and a null. The code zeroes the frame
// pointer for debuggers, and aligns the stack as the calling convention requires.
#[cfg(target_arch = "x86_64")]
core::arch::global_asm!(
    ".globl _start",
    "_start:",
    "xor ebp, ebp",
    "mov rdi, rsp",
    "and rsp, -16",
    "call {entry}",
    "ud2",
    entry = sym entry,
);

#[cfg(target_arch = "x86")]
core::arch::global_asm!(
    ".globl _start",
    "_start:",
    "xor ebp, ebp",
    "mov eax, esp",
    "and esp, -16",
    "sub esp, 12",
    "push eax",
    "call {entry}",
    "ud2",
    entry = sym entry,
);

#[cfg(target_arch = "aarch64")]
core::arch::global_asm!(
    ".globl _start",
    "_start:",
    "mov x29, #0",
    "mov x30, #0",
    "mov x0, sp",
    "and sp, x0, #-16",
    "bl {entry}",
    "brk #0",
    entry = sym entry,
);

#[cfg(target_arch = "arm")]
core::arch::global_asm!(
    ".arm",
    ".globl _start",
    ".type _start, %function",
    "_start:",
    "mov fp, #0",
    "mov lr, #0",
    "mov r0, sp",
    "bic sp, sp, #15",
    "bl {entry}",
    "udf #0",
    entry = sym entry,
);

#[cfg(target_arch = "riscv64")]
core::arch::global_asm!(
    ".globl _start",
    "_start:",
    ".option push",
    ".option norelax",
    "la gp, __global_pointer$",
    ".option pop",
    "mv s0, zero",
    "mv ra, zero",
    "mv a0, sp",
    "andi sp, sp, -16",
    "call {entry}",
    "ebreak",
    entry = sym entry,
);

/// Reads arguments and environment from the stack.
///
/// # Safety
/// `stack` must be the stack pointer at the start of the program.
unsafe extern "C" fn entry(stack: *const usize) -> ! {
    // SAFETY: the layout is that of the comment above; the strings live as long as the process.
    let (arguments, environment) = unsafe {
        let count = *stack;
        let arguments = stack.add(1).cast();
        (strings(arguments), strings(arguments.add(count + 1)))
    };
    exit(imactl_init::run(arguments, environment))
}

/// The strings of an array that ends with a null pointer.
///
/// # Safety
/// The array must have this form, and live for ever.
unsafe fn strings(mut array: *const *const c_char) -> Vec<&'static CStr> {
    let mut strings = Vec::new();
    // SAFETY: guaranteed by the caller: each element before the null is a C string.
    unsafe {
        while !(*array).is_null() {
            strings.push(CStr::from_ptr(*array));
            array = array.add(1);
        }
    }
    strings
}

/// Ends the process.
pub(crate) fn exit(code: i32) -> ! {
    imactl_init::syscall::exit(code)
}
