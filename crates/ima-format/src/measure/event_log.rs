//! The firmware's event log, as in `/sys/kernel/security/tpm0/binary_bios_measurements`.
//!
//! Mirrors `drivers/char/tpm/eventlog/{tpm1,tpm2}.c` and `include/linux/tpm_eventlog.h`; TCG PC Client
//! Platform Firmware Profile, chapter 10. Little-endian.
//!
//! | bytes | field of `TCG_PCR_EVENT`: the first event, and every event of a TPM 1.2 |
//! |---|---|
//! | 4, 4 | PCR, type |
//! | 20 | SHA-1 digest |
//! | 4, n | size of the event's data, the data |
//!
//! If the data of the first event are a `TCG_EfiSpecIdEvent` (`Spec ID Event03`), the others are
//! `TCG_PCR_EVENT2`: instead of the digest a count (4), and for each an algorithm (2, `TPM_ALG`) and the
//! digest, whose size the first event gives. Events of type `EV_NO_ACTION` extend no PCR; one of them gives
//! the locality from which the TPM was started, which is the initial value of PCR 0.

use alloc::vec::Vec;
use core::fmt;

use crate::hash::{Digest, HashAlgorithm};
use crate::reader::Reader;
use crate::Error;

use super::Fault;

const EV_NO_ACTION: u32 = 3;
const SPEC_ID: &[u8] = b"Spec ID Event03\0";
const STARTUP_LOCALITY: &[u8] = b"StartupLocality\0";
/// The most banks of a log: no TPM has more.
const BANKS: u32 = 16;

/// An event of the firmware's log.
#[derive(Clone, PartialEq, Eq)]
pub struct FirmwareEvent<'a> {
    /// The PCR.
    pub pcr: u32,
    /// The type (`EV_*`).
    pub event_type: u32,
    /// The digests; those of unknown algorithms are left out.
    pub digests: Vec<Digest>,
    /// The data.
    pub data: &'a [u8],
}

impl fmt::Debug for FirmwareEvent<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FirmwareEvent(PCR {}, {:#x})", self.pcr, self.event_type)
    }
}

impl FirmwareEvent<'_> {
    /// Whether it extends its PCR.
    pub fn extends(&self) -> bool {
        self.event_type != EV_NO_ACTION
    }

    /// The locality from which the TPM was started, if this event gives it: the initial value of PCR 0.
    pub fn startup_locality(&self) -> Option<u8> {
        match (self.extends(), self.data.strip_prefix(STARTUP_LOCALITY)) {
            (false, Some(&[locality])) => Some(locality),
            _ => None,
        }
    }
}

/// The events of a log, in order; the first error ends the iteration.
#[derive(Debug, Clone)]
pub struct EventLog<'a> {
    reader: Reader<'a>,
    /// The algorithms and sizes of digests; `None` in a log of a TPM 1.2.
    banks: Option<Vec<(u16, u16)>>,
    failed: bool,
}

impl<'a> EventLog<'a> {
    /// Reads the first event of a log.
    ///
    /// # Errors
    /// A malformed first event.
    pub fn new(log: &'a [u8]) -> Result<Self, Error> {
        let mut ahead = Self { reader: Reader::new(log), banks: None, failed: false };
        let start = ahead.clone();
        let first = ahead.event()?;
        let Some(id) = first.data.strip_prefix(SPEC_ID).filter(|_| !first.extends()) else {
            return Ok(start);
        };
        let offset = ahead.reader.offset().saturating_sub(id.len());
        let mut id = Reader::at(id, offset);
        // skip platform class, version, size of integers
        id.take(8)?;
        let at = id.offset();
        let count = id.u32_le()?;
        if count > BANKS {
            return Err(Error::new(Fault::EventBanks(count), at));
        }
        let mut banks = Vec::new();
        for _ in 0..count {
            let (algorithm, size) = (id.array()?, id.array()?);
            banks.push((u16::from_le_bytes(algorithm), u16::from_le_bytes(size)));
        }
        ahead.banks = Some(banks);
        Ok(ahead)
    }

    fn event(&mut self) -> Result<FirmwareEvent<'a>, Error> {
        let reader = &mut self.reader;
        let (pcr, event_type) = (reader.u32_le()?, reader.u32_le()?);
        let mut digests = Vec::new();
        match &self.banks {
            None => digests.extend(Digest::new(HashAlgorithm::Sha1, reader.take(20)?)),
            Some(banks) => {
                let at = reader.offset();
                let count = reader.u32_le()?;
                if count > BANKS {
                    return Err(Error::new(Fault::EventBanks(count), at));
                }
                for _ in 0..count {
                    let at = reader.offset();
                    let algorithm = u16::from_le_bytes(reader.array()?);
                    let bank = banks.iter().find(|(known, _)| *known == algorithm);
                    let (_, size) = bank.ok_or(Error::new(Fault::EventBank(algorithm), at))?;
                    let bytes = reader.take(usize::from(*size))?;
                    digests.extend(
                        HashAlgorithm::from_tpm_id(algorithm)
                            .and_then(|bank| Digest::new(bank, bytes)),
                    );
                }
            }
        }
        let size = reader.u32_le()? as usize;
        Ok(FirmwareEvent { pcr, event_type, digests, data: reader.take(size)? })
    }
}

impl<'a> Iterator for EventLog<'a> {
    type Item = Result<FirmwareEvent<'a>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed || self.reader.remaining() == 0 {
            return None;
        }
        let event = self.event();
        self.failed = event.is_err();
        Some(event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn old(pcr: u32, event_type: u32, data: &[u8]) -> Vec<u8> {
        let size = (data.len() as u32).to_le_bytes();
        [&pcr.to_le_bytes()[..], &event_type.to_le_bytes(), &[7; 20], &size, data].concat()
    }

    fn agile(pcr: u32, event_type: u32, data: &[u8]) -> Vec<u8> {
        let size = (data.len() as u32).to_le_bytes();
        let head = [pcr.to_le_bytes(), event_type.to_le_bytes(), 2_u32.to_le_bytes()].concat();
        [&head[..], &[4, 0], &[1; 20], &[0xb, 0], &[2; 32], &size, data].concat()
    }

    fn spec_id() -> Vec<u8> {
        let banks = [2, 0, 0, 0, 4, 0, 20, 0, 0xb, 0, 32, 0];
        old(0, 3, &[SPEC_ID, &[0, 0, 0, 0, 0, 2, 0, 2], &banks, &[0]].concat())
    }

    #[test]
    fn both_forms_are_read() {
        let log = [old(0, 8, b"version"), old(7, 4, b"")].concat();
        let events: Result<Vec<_>, _> = EventLog::new(&log).unwrap().collect();
        let events = events.unwrap();
        assert_eq!((events.len(), events[0].data), (2, &b"version"[..]));
        assert_eq!(events[1].digests[0].as_bytes(), [7; 20]);

        let locality = [STARTUP_LOCALITY, &[3]].concat();
        let log = [spec_id(), agile(0, 3, &locality), agile(4, 8, b"x")].concat();
        let events: Result<Vec<_>, _> = EventLog::new(&log).unwrap().collect();
        let events = events.unwrap();
        assert_eq!(events[0].startup_locality(), Some(3));
        assert_eq!(events[1].digests[1], Digest::new(HashAlgorithm::Sha256, &[2; 32]).unwrap());
        assert!(!events[0].extends() && events[1].extends());
    }

    #[test]
    fn faults_are_found_where_they_are() {
        let whole = [spec_id(), agile(4, 8, b"x")].concat();
        let cut = EventLog::new(&whole[..whole.len() - 1]).unwrap().last().unwrap().unwrap_err();
        assert_eq!(cut.offset, whole.len() - 1);
        let mut unknown = whole.clone();
        let at = spec_id().len() + 12;
        unknown[at] = 0xd;
        let error = EventLog::new(&unknown).unwrap().last().unwrap().unwrap_err();
        assert_eq!((error.kind, error.offset), (Fault::EventBank(0xd).into(), at));
        let many = old(0, 3, &[SPEC_ID, &[0xff; 20]].concat());
        assert_eq!(EventLog::new(&many).unwrap_err().kind, Fault::EventBanks(u32::MAX).into());
    }
}
