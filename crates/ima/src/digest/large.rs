//! Large files: the way that is faster here.
//!
//! A second thread that reads ahead hides the copy out of the page cache, or the wait for a disk. But
//! each chunk goes from one core's cache to the other's, which on some machines costs more than it hides,
//! and where all cores are busy there is none left. So each way gets a stretch of the file, and the one that
//! took less time gets the next, longer one. Then both are tried again: half of a file may be cached.

use std::io;
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::sync::mpsc::{sync_channel, Receiver, SyncSender};
use std::thread;
use std::time::{Duration, Instant};

use super::{read_at, DigestError, Hasher};

/// A stretch that shows how fast a way is: some 4 ms of hashing.
const TRIAL: u64 = 8 << 20;
/// How much then goes the faster way.
const STRETCH: u64 = 512 << 20;

#[derive(Debug, Clone, Copy)]
enum Way {
    /// This thread reads and hashes in turn: what it hashes is in its own cache.
    Alone,
    /// Another thread reads, this one hashes.
    Ahead,
}

/// Adds an open file, and gives the number of bytes read.
pub(super) fn update(
    file: BorrowedFd<'_>,
    size: u64,
    hasher: &mut Hasher,
    buffer: &mut [u8],
    progress: &dyn Fn(u64),
) -> Result<u64, DigestError> {
    let mut offset = 0;
    let mut stretch = |way, length: u64| -> Result<Option<Duration>, DigestError> {
        let (start, part) = (Instant::now(), offset..size.min(offset + length));
        let wanted = part.end - part.start;
        let read = match way {
            Way::Alone => super::update(file, part, hasher, buffer, progress)?,
            Way::Ahead => update_ahead(file, part, hasher, progress)?,
        };
        offset += read;
        // shorter than it was believed to be: the caller compares
        let ended = read < wanted || offset == size;
        Ok((!ended).then(|| start.elapsed()))
    };
    while let Some(alone) = stretch(Way::Alone, TRIAL)? {
        let Some(ahead) = stretch(Way::Ahead, TRIAL)? else { break };
        let way = if ahead < alone { Way::Ahead } else { Way::Alone };
        if stretch(way, STRETCH)?.is_none() {
            break;
        }
    }
    Ok(offset)
}

const BUFFERS: usize = 4;
const CHUNK: usize = 1 << 20;

/// One thread reads, the caller's hashes, a few buffers go around.
fn update_ahead(
    file: BorrowedFd<'_>,
    part: Range<u64>,
    hasher: &mut Hasher,
    progress: &dyn Fn(u64),
) -> Result<u64, DigestError> {
    let (filled, full) = sync_channel(BUFFERS);
    let (emptied, empty) = sync_channel(BUFFERS);
    for _ in 0..BUFFERS {
        // the channel holds them all, so this neither blocks nor fails
        if emptied.send(vec![0; CHUNK]).is_err() {
            break;
        }
    }
    thread::scope(|scope| {
        scope.spawn(move || read(file, part, &empty, &filled));
        let mut total = 0;
        for chunk in full {
            let (buffer, read): (Vec<u8>, usize) = chunk?;
            hasher.update(&buffer[..read])?;
            total += read as u64;
            progress(read as u64);
            // the reader is done and gone when it no longer wants its buffers back
            if emptied.send(buffer).is_err() {
                continue;
            }
        }
        Ok(total)
    })
}

fn read(
    file: BorrowedFd<'_>,
    part: Range<u64>,
    empty: &Receiver<Vec<u8>>,
    filled: &SyncSender<io::Result<(Vec<u8>, usize)>>,
) {
    let mut offset = part.start;
    while offset < part.end {
        // either channel closed means that the hashing side gave up
        let Ok(mut buffer) = empty.recv() else { return };
        let wanted = CHUNK.min(usize::try_from(part.end - offset).unwrap_or(CHUNK));
        let chunk = read_at(file, &mut buffer[..wanted], offset).map(|read| (buffer, read));
        let read = chunk.as_ref().map_or(0, |(_, read)| *read);
        if matches!(chunk, Ok((_, 0))) || filled.send(chunk).is_err() || read == 0 {
            return;
        }
        offset += read as u64;
    }
}
