//! Segments of a list to batches of records.
//!
//! Segments are read in order, each in its own form, which is detected: binary in either byte order with the
//! digests of any bank, with or without a kexec header; ASCII; or a Canonical Event Log. Lines and records of
//! other forms are rewritten as binary records, so later stages see one form.
//!
//! A [`Batch`] has whole records of one segment. The rest of a chunk after its last whole record is carried over to the
//! next. A malformed record ends the list: the records before it are returned first, then the error, after the rest of
//! the input was searched for readable records.

mod cel;

use std::collections::VecDeque;
use std::io::Read;
use std::sync::Arc;

use ima_format::hash::HashAlgorithm;
use ima_format::measure::cel::{CelEncoding, CelReader};
use ima_format::measure::{
    AsciiRecord, Endian, Entry, Fault, KexecHeader, Layout, Record, Step, KEXEC_HEADER_SIZE,
    MAX_DATA,
};
use ima_format::{Error as FormatError, ErrorKind};

use super::source::{Source, Stream};
use super::{algorithm_of, algorithms_of, ListError, Malformed, Rest};
use cel::Others;

/// The size of a batch in bytes, unless a record is longer.
const CHUNK: usize = 512 << 10;
/// The size of the window for detection: more than the part of a line before its template's fields.
const HEAD: usize = 1 << 10;

/// Whole records of one segment, in order.
#[derive(Debug)]
pub struct Batch {
    segment: Arc<str>,
    layout: Layout,
    algorithm: HashAlgorithm,
    first: u64,
    bytes: Vec<u8>,
    places: Vec<Place>,
}

/// The position of a record.
#[derive(Debug, Clone, Copy)]
struct Place {
    /// In the batch.
    start: usize,
    /// In the segment.
    offset: u64,
}

/// A record of a batch.
#[derive(Debug, Clone, Copy)]
pub struct Item<'a> {
    /// Its number in the list, from 0.
    pub index: u64,
    /// Its offset in its segment.
    pub offset: u64,
    /// The record.
    pub record: Record<'a>,
}

impl Default for Batch {
    fn default() -> Self {
        Self {
            segment: "".into(),
            layout: Layout { endian: Endian::Little, digest_size: 20 },
            algorithm: HashAlgorithm::Sha1,
            first: 0,
            bytes: Vec::new(),
            places: Vec::new(),
        }
    }
}

impl Batch {
    /// The segment that its records are from.
    pub fn segment(&self) -> &Arc<str> {
        &self.segment
    }

    /// The algorithm of the listed template digests.
    pub fn algorithm(&self) -> HashAlgorithm {
        self.algorithm
    }

    /// The number of records.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether it has no records.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Its records.
    pub fn items(&self) -> impl Iterator<Item = Item<'_>> {
        self.places.iter().zip(self.first..).filter_map(|(place, index)| {
            // never fails: the same bytes were read as a record when the batch was filled
            match self.layout.step(self.bytes.get(place.start..)?) {
                Ok(Step::Record(record, _)) => Some(Item { index, offset: place.offset, record }),
                _ => None,
            }
        })
    }
}

/// Reads a list.
#[derive(Debug)]
pub struct ListReader {
    sources: VecDeque<Source>,
    segment: Option<Segment>,
    next: u64,
}

/// A segment that is being read.
#[derive(Debug)]
struct Segment {
    name: Arc<str>,
    stream: Stream,
    form: Form,
    /// The algorithm of the listed digests, once a record shows it.
    algorithm: Option<HashAlgorithm>,
    /// Bytes that were read but not returned, and their offset.
    carry: Vec<u8>,
    offset: u64,
    ended: bool,
    /// The rest of the size and count in a kexec header.
    kexec: Option<KexecHeader>,
    /// The reader of a Canonical Event Log, and its records that are not IMA's.
    cel: CelReader,
    others: Others,
}

#[derive(Debug, Clone, Copy)]
enum Form {
    Binary(Layout),
    /// The byte order, once a record shows it.
    Ascii(Option<Endian>),
    Cel,
}

impl ListReader {
    /// A reader of the segments, which are one list in this order.
    pub fn new(sources: impl IntoIterator<Item = Source>) -> Self {
        Self { sources: sources.into_iter().collect(), segment: None, next: 0 }
    }

    /// Fills the batch with the next records; it stays empty at the end of the list.
    ///
    /// # Errors
    /// [`ListError::Malformed`] after the records before the malformed one were returned.
    pub fn next(&mut self, batch: &mut Batch) -> Result<(), ListError> {
        batch.places.clear();
        loop {
            if self.segment.is_none() {
                let Some(source) = self.sources.pop_front() else { return Ok(()) };
                self.segment = Some(Segment::open(&source, self.next)?);
            }
            if let Some(segment) = &mut self.segment {
                segment.fill(batch, self.next)?;
                batch.segment = Arc::clone(&segment.name);
            }
            batch.first = self.next;
            self.next += batch.places.len() as u64;
            if !batch.is_empty() {
                return Ok(());
            }
            self.segment = None;
        }
    }
}

impl Segment {
    fn open(source: &Source, index: u64) -> Result<Self, ListError> {
        let mut segment = Self {
            name: Arc::clone(source.name()),
            stream: source.stream(),
            form: Form::Ascii(None),
            algorithm: None,
            carry: Vec::new(),
            offset: 0,
            ended: false,
            kexec: None,
            cel: CelReader::new(CelEncoding::Tlv),
            others: Others::of(source),
        };
        let mut head = Vec::new();
        segment.read_to(&mut head, HEAD)?;
        segment.kexec = KexecHeader::read(&head);
        if segment.kexec.is_some() {
            head.drain(..KEXEC_HEADER_SIZE);
            segment.offset = KEXEC_HEADER_SIZE as u64;
        }
        let line = head.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let is_empty = head.is_empty() || segment.kexec.is_some_and(|header| header.count == 0);
        if !is_empty && !AsciiRecord::begins(line) {
            match (Layout::detect(&head), CelEncoding::detect(&head)) {
                (Ok(layout), _) => segment.form = Form::Binary(layout),
                (Err(_), Some(encoding)) => {
                    (segment.form, segment.cel) = (Form::Cel, CelReader::new(encoding));
                }
                (Err(error), None) => {
                    segment.carry = head;
                    return Err(segment.malformed(error, index));
                }
            }
        }
        segment.carry = head;
        Ok(segment)
    }

    /// Reads until the buffer has this size, or the input ends.
    fn read_to(&mut self, buffer: &mut Vec<u8>, length: usize) -> Result<(), ListError> {
        let missing = length.saturating_sub(buffer.len()) as u64;
        let read = self.stream.by_ref().take(missing).read_to_end(buffer);
        let read =
            read.map_err(|source| ListError::Read { name: Arc::clone(&self.name), source })?;
        self.ended |= (read as u64) < missing;
        Ok(())
    }

    fn fill(&mut self, batch: &mut Batch, index: u64) -> Result<(), ListError> {
        let result = match self.form {
            Form::Binary(layout) => {
                batch.layout = layout;
                self.fill_binary(layout, batch)?
            }
            Form::Ascii(_) => self.fill_ascii(batch)?,
            Form::Cel => self.fill_cel(batch)?,
        };
        let size = batch.layout.digest_size;
        let likeliest = algorithms_of(size).first().copied();
        batch.algorithm = self.algorithm.or(likeliest).unwrap_or(HashAlgorithm::Sha1);
        match result {
            // the records before the error are returned first
            Err(error) if batch.is_empty() => Err(self.malformed(error, index)),
            _ => Ok(()),
        }
    }

    /// Whether the list ends here by its kexec header.
    fn is_over(&self, records: usize) -> bool {
        self.kexec.is_some_and(|header| header.count <= records as u64)
    }

    fn fill_binary(
        &mut self,
        layout: Layout,
        batch: &mut Batch,
    ) -> Result<Result<(), FormatError>, ListError> {
        std::mem::swap(&mut batch.bytes, &mut self.carry);
        let (mut at, mut needed) = (0, CHUNK);
        let result = loop {
            self.read_to(&mut batch.bytes, needed.max(CHUNK))?;
            let result = loop {
                if self.is_over(batch.places.len()) {
                    batch.bytes.truncate(at);
                    break Ok(());
                }
                match layout.step(&batch.bytes[at..]) {
                    Ok(Step::Record(record, size)) => {
                        let is_shown = self.algorithm.is_none() && !record.is_violation();
                        if is_shown {
                            self.algorithm = algorithm_of(&record)
                                .or_else(|| algorithms_of(record.digest.len()).first().copied());
                        }
                        batch.places.push(Place { start: at, offset: self.offset + at as u64 });
                        at += size;
                    }
                    Ok(Step::Incomplete(length)) => {
                        needed = at + length;
                        break Ok(());
                    }
                    Err(error) => break Err(error),
                }
            };
            let available = batch.bytes.len() - at;
            match result {
                Ok(()) if batch.is_empty() && available > 0 && self.ended => {
                    let kind = ErrorKind::Truncated { needed: needed - at, available };
                    break Err(FormatError::new(kind, 0));
                }
                Ok(()) if batch.is_empty() && !self.ended && !self.is_over(0) => {}
                Ok(()) if batch.is_empty() && self.kexec.is_some() && !self.is_over(0) => {
                    let left = self.kexec.map_or(0, |header| header.count);
                    break Err(FormatError::new(Fault::KexecCount(left), 0));
                }
                result => break result,
            }
        };
        self.carry.clear();
        self.carry.extend_from_slice(&batch.bytes[at..]);
        batch.bytes.truncate(at);
        self.offset += at as u64;
        self.take_from_kexec(batch.places.len());
        Ok(result)
    }

    fn take_from_kexec(&mut self, records: usize) {
        if let Some(header) = &mut self.kexec {
            header.count = header.count.saturating_sub(records as u64);
        }
    }

    fn fill_ascii(&mut self, batch: &mut Batch) -> Result<Result<(), FormatError>, ListError> {
        batch.bytes.clear();
        let mut text = std::mem::take(&mut self.carry);
        let (mut at, mut needed) = (0, CHUNK);
        let result = loop {
            self.read_to(&mut text, needed)?;
            let result = loop {
                let Some(end) = record_end(&text[at..], self.ended) else { break Ok(()) };
                if let Err(error) = self.take_line(&text[at..at + end], at, batch) {
                    break Err(error);
                }
                at = (at + end + 1).min(text.len());
            };
            match result {
                // hexadecimal doubles the data: a longer line is not a record
                Ok(()) if batch.is_empty() && !self.ended && text.len() > 3 * MAX_DATA => {
                    let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
                    break Err(FormatError::new(Fault::DataLength(length), 0));
                }
                Ok(()) if batch.is_empty() && !self.ended => needed = text.len() + CHUNK,
                result => break result,
            }
        };
        text.drain(..at);
        self.carry = text;
        self.offset += at as u64;
        Ok(result)
    }

    /// Appends the record of a line.
    fn take_line(&mut self, line: &[u8], at: usize, batch: &mut Batch) -> Result<(), FormatError> {
        let mut parsed = AsciiRecord::parse(line, self.endian())?;
        if self.algorithm.is_none() && !parsed.record().is_violation() {
            for endian in [Endian::Little, Endian::Big] {
                let other = AsciiRecord::parse(line, endian)?;
                if let Some(algorithm) = algorithm_of(&other.record()) {
                    (self.form, self.algorithm) = (Form::Ascii(Some(endian)), Some(algorithm));
                    parsed = other;
                    break;
                }
            }
            self.algorithm = self
                .algorithm
                .or_else(|| algorithms_of(parsed.record().digest.len()).first().copied());
        }
        let record = parsed.record();
        let layout = Layout { endian: record.endian, digest_size: record.digest.len() };
        if batch.is_empty() {
            batch.layout = layout;
        }
        // a list has one bank; a violation before the byte order is known does not count
        if layout.digest_size != batch.layout.digest_size {
            return Err(FormatError::new(Fault::Line, 0));
        }
        let start = batch.bytes.len();
        if layout.endian != batch.layout.endian {
            let again = AsciiRecord::parse(line, batch.layout.endian)?;
            again.record().encode_into(&mut batch.bytes);
        } else {
            record.encode_into(&mut batch.bytes);
        }
        batch.places.push(Place { start, offset: self.offset + at as u64 });
        Ok(())
    }

    fn endian(&self) -> Endian {
        match self.form {
            Form::Binary(layout) => layout.endian,
            Form::Ascii(endian) => endian.unwrap_or(Endian::Little),
            Form::Cel => Endian::Little,
        }
    }

    /// The error for the malformed record at the start of the carried bytes.
    fn malformed(&mut self, error: FormatError, index: u64) -> ListError {
        let (name, offset) = (Arc::clone(&self.name), self.offset + error.offset as u64);
        match self.look_through() {
            Ok(rest) => ListError::Malformed(Box::new(Malformed {
                name,
                offset,
                index,
                kind: error.kind,
                rest,
            })),
            Err(error) => error,
        }
    }

    /// Searches for readable records after the one at the start of the carried bytes.
    fn look_through(&mut self) -> Result<Rest, ListError> {
        let mut rest = Rest::default();
        let mut window = std::mem::take(&mut self.carry);
        // the malformed record begins at 0: the search begins after its first byte
        let (mut at, mut needed) = (1, CHUNK);
        loop {
            self.read_to(&mut window, needed.max(CHUNK))?;
            needed = CHUNK;
            while at < window.len() {
                match self.readable(&window[at..]) {
                    Found::Record(size) => {
                        rest.resumes.get_or_insert(self.offset + at as u64);
                        rest.records += 1;
                        rest.readable += size as u64;
                        at += size;
                    }
                    Found::Nothing(size) => at += size,
                    Found::More(length) if !self.ended => {
                        needed = at + length;
                        break;
                    }
                    Found::More(_) => at += 1,
                }
            }
            let done = at.min(window.len());
            window.drain(..done);
            (self.offset, rest.bytes) = (self.offset + done as u64, rest.bytes + done as u64);
            (at, needed) = (at - done, needed.saturating_sub(done));
            if self.ended && window.is_empty() {
                return Ok(rest);
            }
        }
    }

    /// The readable record at the start of a window, in the form of the malformed list.
    fn readable(&self, window: &[u8]) -> Found {
        let layout = match self.form {
            Form::Binary(layout) => Some(layout),
            Form::Ascii(_) => None,
            // after an error in these encodings, no record can be found reliably
            Form::Cel => return Found::Nothing(window.len()),
        };
        let Some(layout) = layout else { return self.readable_line(window) };
        match layout.step(window) {
            Ok(Step::Record(record, size)) if Entry::decode(&record).is_ok() => Found::Record(size),
            Ok(Step::Incomplete(length)) => Found::More(length),
            _ => Found::Nothing(1),
        }
    }
}

impl Segment {
    /// The same in an ASCII list. Only lines that begin a record are searched for their end, which is where the next
    /// one begins: the time is linear in the length.
    fn readable_line(&self, window: &[u8]) -> Found {
        let line = match window.iter().position(|byte| *byte == b'\n') {
            Some(newline) => newline + 1,
            None if self.ended || window.len() > 3 * MAX_DATA => window.len(),
            None => return Found::More(window.len() + CHUNK),
        };
        let text = &window[..line];
        if !AsciiRecord::begins(text.strip_suffix(b"\n").unwrap_or(text)) {
            return Found::Nothing(line);
        }
        match record_end(window, self.ended) {
            Some(end) => match AsciiRecord::parse(&window[..end], self.endian()) {
                Ok(_) => Found::Record((end + 1).min(window.len())),
                Err(_) => Found::Nothing(line),
            },
            None if self.ended || window.len() > 3 * MAX_DATA => Found::Nothing(line),
            None => Found::More(window.len() + CHUNK),
        }
    }
}

/// The content at the start of a window.
enum Found {
    /// A record of this size.
    Record(usize),
    /// No record, for so many bytes.
    Nothing(usize),
    /// The window must have so many bytes.
    More(usize),
}

/// The end of the line at the start of the text: a newline that is followed by a record or by the end of the
/// input. `None` if the text is too short to know.
fn record_end(text: &[u8], ended: bool) -> Option<usize> {
    let mut from = 0;
    loop {
        let Some(newline) = text.get(from..)?.iter().position(|byte| *byte == b'\n') else {
            return (ended && !text.is_empty()).then_some(text.len());
        };
        let end = from + newline;
        let next = text.get(end + 1..)?;
        let line = match next.iter().position(|byte| *byte == b'\n') {
            Some(length) => next.get(..length)?,
            None if ended => next,
            None => return None,
        };
        if next.is_empty() || AsciiRecord::begins(line) {
            return Some(end);
        }
        from = end + 1;
    }
}

#[cfg(test)]
mod tests;
