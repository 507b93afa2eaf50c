//! Canonical Event Logs to batches.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

use ima_format::measure::cel::{CelOther, CelStep};
use ima_format::measure::{Fault, Layout};
use ima_format::{Error as FormatError, ErrorKind};

use super::{Batch, ListError, Place, Segment, Source, CHUNK};

/// Records of a log that are not IMA's. A PCR that both these and entries of IMA extend cannot be replayed.
#[derive(Debug, Default)]
pub(super) struct Others {
    count: u64,
    /// The PCRs that they extend, and those that IMA extends, as bit sets.
    pcrs: u64,
    of_ima: u64,
    /// The largest count over all passes through the input.
    total: Arc<AtomicU64>,
}

impl Others {
    pub(super) fn of(source: &Source) -> Self {
        Self { total: source.others_read(), ..Self::default() }
    }

    fn add(&mut self, other: CelOther) -> Result<(), FormatError> {
        self.count += 1;
        self.total.fetch_max(self.count, Ordering::Relaxed);
        self.pcrs |= other.pcr.map_or(0, bit);
        self.check(other.pcr)
    }

    fn add_entry(&mut self, pcr: u32) -> Result<(), FormatError> {
        self.of_ima |= bit(pcr);
        self.check(Some(pcr))
    }

    fn check(&self, pcr: Option<u32>) -> Result<(), FormatError> {
        match pcr {
            Some(pcr) if self.pcrs & self.of_ima & bit(pcr) != 0 => {
                Err(FormatError::new(Fault::CelPcr(pcr), 0))
            }
            _ => Ok(()),
        }
    }
}

/// The bit of a PCR. PCRs of other events may have any number; those of a list are below 64.
fn bit(pcr: u32) -> u64 {
    1_u64.checked_shl(pcr).unwrap_or(0)
}

impl Segment {
    pub(super) fn fill_cel(
        &mut self,
        batch: &mut Batch,
    ) -> Result<Result<(), FormatError>, ListError> {
        batch.bytes.clear();
        let mut window = std::mem::take(&mut self.carry);
        let (mut at, mut needed) = (0, CHUNK);
        let result = loop {
            self.read_to(&mut window, needed)?;
            let result = self.take_records(&window, &mut at, batch);
            match result {
                Ok(length) if batch.is_empty() && !self.ended => {
                    // frees the window: the number of records that are not IMA's is unlimited
                    window.drain(..at);
                    self.offset += at as u64;
                    (at, needed) = (0, length.max(CHUNK));
                }
                Ok(_) if batch.is_empty() && at < window.len() => {
                    let available = window.len() - at;
                    let kind = ErrorKind::Truncated { needed: available + 1, available };
                    break Err(FormatError::new(kind, 0));
                }
                Ok(_) if batch.is_empty() && !self.cel.may_end() => {
                    break Err(FormatError::new(Fault::Cel("the end of the array"), 0));
                }
                result => break result.map(drop),
            }
        };
        window.drain(..at);
        self.carry = window;
        self.offset += at as u64;
        Ok(result)
    }

    /// Appends the whole records of a window; returns the size of the next one, as far as it is known.
    fn take_records(
        &mut self,
        window: &[u8],
        at: &mut usize,
        batch: &mut Batch,
    ) -> Result<usize, FormatError> {
        while *at < window.len() {
            let mut ahead = self.cel.clone();
            let (record, size) = match ahead.step(&window[*at..], self.ended)? {
                CelStep::Between(size) => {
                    (self.cel, *at) = (ahead, *at + size);
                    continue;
                }
                CelStep::Incomplete(length) => return Ok(length),
                CelStep::Other(other, size) => {
                    self.others.add(other)?;
                    (self.cel, *at) = (ahead, *at + size);
                    continue;
                }
                CelStep::Record(record, size) => (record, size),
            };
            self.others.add_entry(record.pcr)?;
            let first = record.digests.first().map(|digest| digest.algorithm());
            let listed = self.algorithm.or(first).and_then(|bank| record.listed(bank));
            // a list has one bank
            let missing = FormatError::new(Fault::Cel("a digest of the first record's bank"), 0);
            let listed = listed.ok_or(missing)?;
            self.algorithm = Some(listed.algorithm());
            let parsed = record.record(&listed).ok_or(FormatError::new(Fault::Template, 0))?;
            let (endian, digest_size) = (parsed.endian, parsed.digest.len());
            if batch.is_empty() {
                batch.layout = Layout { endian, digest_size };
            } else if endian != batch.layout.endian {
                // this record begins the next batch
                return Ok(size);
            }
            let start = batch.bytes.len();
            parsed.encode_into(&mut batch.bytes);
            batch.places.push(Place { start, offset: self.offset + *at as u64 });
            (self.cel, *at) = (ahead, *at + size);
        }
        Ok(0)
    }
}
