//! A member's data on its way from the reader to the writer.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use ima_format::hash::Digest;
use ima_format::tar::{Member, SparseMap};

use crate::container::error::ItemError;
use crate::digest::{DigestError, DigestKind, FileHasher, Hasher};

/// Members up to this size are held in memory.
pub const IN_MEMORY: u64 = 1 << 20;
/// How much is held in memory in all, between reading and writing.
pub const HELD: u64 = 16 << 20;

/// The data that follows a member's header, with its padding.
pub(super) enum Data {
    /// In memory.
    Memory(Vec<u8>),
    /// In a temporary file.
    Spooled(File),
    /// Read already.
    Passed {
        /// The digest that was made of it.
        digest: Option<(DigestKind, Digest)>,
        /// The last bytes, without the padding.
        end: Vec<u8>,
    },
}

/// How much is kept of data that passes: an appended signature has some kilobytes.
const END: usize = 64 << 10;

/// The last bytes of data that passes.
pub(super) struct End {
    pub(super) bytes: Vec<u8>,
    /// How much data is still to come; padding follows it.
    left: u64,
}

impl End {
    pub(super) fn of(member: &Member) -> Self {
        Self { bytes: Vec::new(), left: member.stored }
    }

    /// Takes the next chunk, and gives it without the padding.
    pub(super) fn update<'c>(&mut self, chunk: &'c [u8]) -> &'c [u8] {
        let left = usize::try_from(self.left).unwrap_or(usize::MAX);
        let data = &chunk[..chunk.len().min(left)];
        self.left -= data.len() as u64;
        let last = &data[data.len().saturating_sub(END)..];
        let surplus = (self.bytes.len() + last.len()).saturating_sub(END);
        self.bytes.drain(..surplus);
        self.bytes.extend_from_slice(last);
        data
    }
}

impl Data {
    /// From where to the end it can be read, of so many bytes; `None` if the end was passed on.
    pub(super) fn start(&self, stored: u64) -> Option<u64> {
        match self {
            Self::Memory(bytes) => (bytes.len() as u64 >= stored).then_some(0),
            Self::Spooled(_) => Some(0),
            Self::Passed { end, .. } => Some(stored - end.len() as u64),
        }
    }

    /// Reads at an offset of so many bytes; 0 bytes at the end.
    pub(super) fn read_at(
        &self,
        stored: u64,
        offset: u64,
        buffer: &mut [u8],
    ) -> Result<usize, ItemError> {
        let skipped = self.start(stored).and_then(|start| offset.checked_sub(start));
        let skipped = skipped.ok_or(ItemError::NoContentAccess)?;
        let left = usize::try_from(stored.saturating_sub(offset)).unwrap_or(usize::MAX);
        let wanted = left.min(buffer.len());
        let buffer = &mut buffer[..wanted];
        let bytes = match self {
            Self::Spooled(file) => return file.read_at(buffer, offset).map_err(ItemError::Read),
            Self::Memory(bytes) | Self::Passed { end: bytes, .. } => bytes,
        };
        let skipped = usize::try_from(skipped).unwrap_or(usize::MAX).min(bytes.len());
        let rest = &bytes[skipped..];
        let length = rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        Ok(length)
    }

    /// The digest of the file that a member's data makes.
    pub(super) fn digest(
        &self,
        member: &Member,
        hasher: &mut FileHasher,
        kind: DigestKind,
        progress: &dyn Fn(u64),
    ) -> Result<Digest, DigestError> {
        let digest = match (self, &member.sparse) {
            (Self::Memory(bytes), sparse) => {
                let hasher = hasher.hasher(kind)?;
                let mut expander = Expander::new(sparse.as_ref());
                let stored = usize::try_from(member.stored).unwrap_or(usize::MAX);
                expander.update(&bytes[..stored.min(bytes.len())], hasher)?;
                expander.finish(hasher)?;
                hasher.finish()?
            }
            (Self::Spooled(file), None) => {
                return Ok(hasher.digest(file, member.stored, kind, progress)?.0);
            }
            (Self::Spooled(file), sparse) => {
                let hasher = hasher.hasher(kind)?;
                let mut expander = Expander::new(sparse.as_ref());
                let mut file = file;
                file.seek(SeekFrom::Start(0))?;
                let mut rest = file.take(member.stored);
                let mut buffer = vec![0; 1 << 16];
                loop {
                    match rest.read(&mut buffer)? {
                        0 => break,
                        read => expander.update(&buffer[..read], hasher)?,
                    }
                }
                expander.finish(hasher)?;
                hasher.finish()?
            }
            (Self::Passed { digest, .. }, _) => {
                let digest = digest.filter(|(made, _)| *made == kind).map(|(_, digest)| digest);
                return digest.ok_or(DigestError::Unavailable(kind.algorithm()));
            }
        };
        progress(member.stored);
        Ok(digest)
    }

    /// Writes it, if it is at hand.
    pub(super) fn write_to(self, output: &mut dyn Write) -> io::Result<()> {
        match self {
            Self::Memory(bytes) => output.write_all(&bytes),
            Self::Spooled(mut file) => {
                file.seek(SeekFrom::Start(0))?;
                let mut buffer = vec![0; 1 << 18];
                loop {
                    match file.read(&mut buffer) {
                        Ok(0) => return Ok(()),
                        Ok(read) => output.write_all(&buffer[..read])?,
                        Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                        Err(error) => return Err(error),
                    }
                }
            }
            Self::Passed { .. } => Ok(()),
        }
    }
}

/// Puts the holes of a sparse file back between its segments.
pub(super) struct Expander<'a> {
    sparse: Option<&'a SparseMap>,
    /// The segment that data goes to, and how much of it was given.
    segment: usize,
    given: u64,
    /// How much of the file there is so far.
    end: u64,
}

impl<'a> Expander<'a> {
    pub(super) fn new(sparse: Option<&'a SparseMap>) -> Self {
        Self { sparse, segment: 0, given: 0, end: 0 }
    }

    /// Adds the next bytes of data.
    pub(super) fn update(
        &mut self,
        mut data: &[u8],
        hasher: &mut Hasher,
    ) -> Result<(), DigestError> {
        let Some(sparse) = self.sparse else { return hasher.update(data) };
        while let Some(segment) = sparse.segments().get(self.segment) {
            if self.given == segment.length {
                (self.segment, self.given) = (self.segment + 1, 0);
                continue;
            }
            if data.is_empty() {
                return Ok(());
            }
            if self.given == 0 {
                zeros(segment.offset - self.end, hasher)?;
            }
            let left = usize::try_from(segment.length - self.given).unwrap_or(usize::MAX);
            let (now, later) = data.split_at(left.min(data.len()));
            hasher.update(now)?;
            self.given += now.len() as u64;
            self.end = segment.offset + self.given;
            data = later;
        }
        Ok(())
    }

    /// Adds the hole at the end.
    pub(super) fn finish(self, hasher: &mut Hasher) -> Result<(), DigestError> {
        zeros(self.sparse.map_or(0, |sparse| sparse.size() - self.end), hasher)
    }
}

fn zeros(mut count: u64, hasher: &mut Hasher) -> Result<(), DigestError> {
    static ZEROS: [u8; 1 << 16] = [0; 1 << 16];
    while count > 0 {
        let now = count.min(ZEROS.len() as u64);
        hasher.update(&ZEROS[..now as usize])?;
        count -= now;
    }
    Ok(())
}

/// A quantity that is given out in parts; who wants more waits until others are done.
#[derive(Debug)]
pub(super) struct Budget {
    limit: u64,
    state: Mutex<Used>,
    freed: Condvar,
}

#[derive(Debug, Default)]
struct Used {
    amount: u64,
    closed: bool,
}

impl Budget {
    pub(super) fn new(limit: u64) -> Arc<Self> {
        Arc::new(Self { limit, state: Mutex::default(), freed: Condvar::new() })
    }

    /// Takes a part. All of it is given to who asks for more than that.
    pub(super) fn take(self: &Arc<Self>, amount: u64) -> Permit {
        let amount = amount.min(self.limit);
        let mut used = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        while used.amount + amount > self.limit && !used.closed {
            used = self.freed.wait(used).unwrap_or_else(PoisonError::into_inner);
        }
        used.amount += amount;
        Permit { budget: Arc::clone(self), amount }
    }

    /// Lets everybody through: the run is over.
    pub(super) fn close(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
        self.freed.notify_all();
    }
}

/// A part of a budget, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Permit {
    budget: Arc<Budget>,
    amount: u64,
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut used = self.budget.state.lock().unwrap_or_else(PoisonError::into_inner);
        used.amount -= self.amount;
        drop(used);
        self.budget.freed.notify_all();
    }
}
