//! The allocator: free lists of blocks by powers of two, from memory that is mapped on demand.
//!
//! Small rather than fast, and for one thread: the program starts no other.

use core::alloc::{GlobalAlloc, Layout};
use core::cell::UnsafeCell;
use core::ptr::{self, NonNull};

use rustix::mm::{self, MapFlags, ProtFlags};

/// The smallest block, and the alignment of all blocks.
const SMALLEST: usize = 16;
/// Blocks of 16 bytes to 16 KiB; larger ones have a mapping of their own.
const CLASSES: usize = 11;
const LARGEST: usize = SMALLEST << (CLASSES - 1);
/// The size of each mapping for blocks.
const CHUNK: usize = 64 << 10;

pub(crate) struct Heap(UnsafeCell<State>);

struct State {
    /// Heads of the lists of free blocks; a free block holds the pointer to the next one.
    free: [*mut Free; CLASSES],
    /// The unused part of the last chunk.
    chunk: *mut u8,
    left: usize,
}

struct Free {
    next: *mut Free,
}

// SAFETY: the process has one thread, and no signal handler.
unsafe impl Sync for Heap {}

impl Heap {
    pub(crate) const fn new() -> Self {
        let free = [ptr::null_mut(); CLASSES];
        Self(UnsafeCell::new(State { free, chunk: ptr::null_mut(), left: 0 }))
    }
}

/// The index of the free list for this layout; `None` if it is too large.
fn class(layout: Layout) -> Option<usize> {
    if layout.size() > LARGEST || layout.align() > SMALLEST {
        return None;
    }
    let size = layout.size().max(SMALLEST).next_power_of_two();
    Some((size.trailing_zeros() - SMALLEST.trailing_zeros()) as usize)
}

// SAFETY: blocks are as large as their class and aligned to 16 bytes, mappings are aligned to
// pages (no layout here wants more); no block is handed out twice before it is given back.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some(class) = class(layout) else { return map(layout.size()) };
        // SAFETY: one thread, and nothing below calls the allocator.
        let state = unsafe { &mut *self.0.get() };
        let head = state.free[class];
        if !head.is_null() {
            // SAFETY: each entry of the list is a free block, whose start is the pointer to the next.
            state.free[class] = unsafe { (*head).next };
            return head.cast();
        }
        let size = SMALLEST << class;
        if state.left < size {
            let chunk = map(CHUNK);
            if chunk.is_null() {
                return chunk;
            }
            (state.chunk, state.left) = (chunk, CHUNK); // the rest of the old chunk is lost
        }
        let block = state.chunk;
        state.left -= size;
        // SAFETY: `size` bytes were left in the chunk.
        state.chunk = unsafe { block.add(size) };
        block
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        let Some(class) = class(layout) else {
            // SAFETY: `alloc` mapped it for the same layout, and no one uses it any more.
            let result = unsafe { mm::munmap(block.cast(), layout.size()) };
            debug_assert!(result.is_ok());
            return;
        };
        // SAFETY: as in `alloc`; the block is free, large enough and aligned for a pointer.
        unsafe {
            let state = &mut *self.0.get();
            let block: *mut Free = block.cast();
            block.write(Free { next: state.free[class] });
            state.free[class] = block;
        }
    }
}

/// Maps memory; null if the kernel has none.
fn map(size: usize) -> *mut u8 {
    let protection = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: a new mapping does not change existing ones.
    let mapped =
        unsafe { mm::mmap_anonymous(ptr::null_mut(), size, protection, MapFlags::PRIVATE) };
    mapped.ok().and_then(NonNull::new).map_or(ptr::null_mut(), |mapped| mapped.as_ptr().cast())
}
