//! A list merged with the audit log, which has the time and order of accesses that the list has only once.
//!
//! The kernel lists each digest of a file once: a file that changes from X to Y and back to X has two entries. With an
//! `audit` rule, each change is in the audit log (`ima_audit_measurement`, `ima_api.c`).

use std::collections::HashMap;

use ima_format::hash::Digest;
use ima_format::measure::Entry;

use super::reader::{Batch, ListReader};
use super::source::Source;
use super::ListError;

/// A record of the audit log: a file that an `audit` rule matched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audited {
    /// The time as it is written in the log.
    pub time: String,
    /// The file.
    pub name: Vec<u8>,
    /// `ALGORITHM:HEX`.
    pub digest: String,
    /// The command that used it.
    pub command: Option<String>,
}

/// A step of the timeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The kind of event.
    pub kind: EventKind,
    /// The entry of the list, if it has one.
    pub index: Option<u64>,
    /// The file.
    pub name: Vec<u8>,
    /// Its digest; `None` in a violation.
    pub digest: Option<String>,
    /// The record, if the audit log has one.
    pub audited: Option<Audited>,
}

/// The kind of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    /// The entry was added.
    Measured,
    /// The file was used again, with the same digest as the last time.
    Again,
    /// The file was used with a digest that it had before its latest one.
    Back,
    /// The file was audited, but no such entry is in the list.
    NotListed,
}

/// An entry of the list.
struct Listed {
    index: u64,
    name: Vec<u8>,
    digest: Option<String>,
    is_emitted: bool,
}

/// Merges a list with records of the audit log, both in their order. An entry without a record stays between its
/// neighbours in the list.
///
/// # Errors
/// A list that cannot be read to its end.
pub fn timeline(sources: &[Source], audited: Vec<Audited>) -> Result<Vec<Event>, ListError> {
    let mut listed = read(sources)?;
    let positions: HashMap<(Vec<u8>, String), usize> = listed
        .iter()
        .enumerate()
        .filter_map(|(position, entry)| {
            Some(((entry.name.clone(), entry.digest.clone()?), position))
        })
        .collect();
    let position_of = |record: &Audited| {
        // names as in a list
        let space = |byte: &u8| if *byte == b' ' { b'_' } else { *byte };
        let name: Vec<_> = record.name.iter().map(space).collect();
        positions.get(&(name, record.digest.clone())).copied()
    };
    let mut has_record = vec![false; listed.len()];
    audited.iter().filter_map(position_of).for_each(|position| has_record[position] = true);
    let (mut events, mut last) = (Vec::new(), HashMap::<Vec<u8>, String>::new());
    let mut next = 0;
    for record in audited {
        let before = last.insert(record.name.clone(), record.digest.clone());
        let Some(position) = position_of(&record) else {
            events.push(Event::of(EventKind::NotListed, None, record));
            continue;
        };
        while next < position {
            if !has_record[next] {
                events.push(listed[next].emit());
            }
            next += 1;
        }
        let entry = &mut listed[position];
        let kind = match (entry.is_emitted, before) {
            (false, _) => EventKind::Measured,
            (true, Some(before)) if before != record.digest => EventKind::Back,
            (true, _) => EventKind::Again,
        };
        entry.is_emitted = true;
        events.push(Event::of(kind, Some(entry.index), record));
    }
    events.extend(listed.iter_mut().filter(|entry| !entry.is_emitted).map(Listed::emit));
    Ok(events)
}

impl Event {
    fn of(kind: EventKind, index: Option<u64>, record: Audited) -> Self {
        let (name, digest) = (record.name.clone(), Some(record.digest.clone()));
        Self { kind, index, name, digest, audited: Some(record) }
    }
}

impl Listed {
    fn emit(&mut self) -> Event {
        self.is_emitted = true;
        Event {
            kind: EventKind::Measured,
            index: Some(self.index),
            name: self.name.clone(),
            digest: self.digest.clone(),
            audited: None,
        }
    }
}

fn read(sources: &[Source]) -> Result<Vec<Listed>, ListError> {
    let (mut reader, mut batch) = (ListReader::new(sources.iter().cloned()), Batch::default());
    let mut listed = Vec::new();
    loop {
        reader.next(&mut batch)?;
        if batch.is_empty() {
            return Ok(listed);
        }
        for item in batch.items() {
            // an entry that cannot be decoded has no name; log verify reports it
            let Ok(entry) = Entry::decode(&item.record) else { continue };
            let digest = entry.digest.and_then(|digest| digest.digest);
            listed.push(Listed {
                index: item.index,
                name: entry.name.to_vec(),
                digest: digest.as_ref().map(Digest::to_string),
                is_emitted: false,
            });
        }
    }
}
