//! The functions that the compiler calls implicitly.
//!
//! Loops of volatile accesses: the compiler would turn plain ones into a call to the function
//! itself. Slow, but fast enough for some hundred kilobytes.

/// # Safety
/// As the C function.
#[no_mangle]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, count: usize) -> *mut u8 {
    for index in 0..count {
        // SAFETY: guaranteed by the caller.
        unsafe { to.add(index).write_volatile(from.add(index).read_volatile()) };
    }
    to
}

/// # Safety
/// As the C function.
#[no_mangle]
unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, count: usize) -> *mut u8 {
    if (to as usize) <= (from as usize) {
        // SAFETY: guaranteed by the caller; copying forwards, each byte is read before it is overwritten.
        return unsafe { memcpy(to, from, count) };
    }
    for index in (0..count).rev() {
        // SAFETY: guaranteed by the caller.
        unsafe { to.add(index).write_volatile(from.add(index).read_volatile()) };
    }
    to
}

/// # Safety
/// As the C function.
#[no_mangle]
unsafe extern "C" fn memset(to: *mut u8, byte: i32, count: usize) -> *mut u8 {
    for index in 0..count {
        // SAFETY: guaranteed by the caller.
        unsafe { to.add(index).write_volatile(byte as u8) };
    }
    to
}

/// # Safety
/// As the C function.
#[no_mangle]
unsafe extern "C" fn memcmp(left: *const u8, right: *const u8, count: usize) -> i32 {
    for index in 0..count {
        // SAFETY: guaranteed by the caller.
        let (left, right) =
            unsafe { (left.add(index).read_volatile(), right.add(index).read_volatile()) };
        if left != right {
            return i32::from(left) - i32::from(right);
        }
    }
    0
}

/// # Safety
/// As the BSD function.
#[no_mangle]
unsafe extern "C" fn bcmp(left: *const u8, right: *const u8, count: usize) -> i32 {
    // SAFETY: guaranteed by the caller.
    unsafe { memcmp(left, right, count) }
}

/// # Safety
/// As the C function.
#[no_mangle]
unsafe extern "C" fn strlen(string: *const u8) -> usize {
    let mut count = 0;
    // SAFETY: guaranteed by the caller: the string ends with a NUL.
    while unsafe { string.add(count).read_volatile() } != 0 {
        count += 1;
    }
    count
}

// The precompiled `alloc` was built for unwinding and refers to these two. A panic here ends the
// process or the machine, and never unwinds.

#[no_mangle]
extern "C" fn rust_eh_personality() {}

#[no_mangle]
extern "C" fn _Unwind_Resume() -> ! {
    super::exit(imactl_init::EXIT_UNABLE)
}

/// ARM's unwind tables refer to these; no one reads the tables.
#[cfg(target_arch = "arm")]
mod arm {
    #[no_mangle]
    extern "C" fn __aeabi_unwind_cpp_pr0() {}

    #[no_mangle]
    extern "C" fn __aeabi_unwind_cpp_pr1() {}
}
