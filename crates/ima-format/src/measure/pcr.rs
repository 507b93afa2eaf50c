//! Values of PCRs, in the forms that tools print.
//!
//! | form | example |
//! |---|---|
//! | `tpm2_pcrread` (YAML) | `sha256:`, then lines `  10: 0x00AA...` |
//! | evmctl's `--pcrs sha256,FILE`, and `/sys/class/tpm/tpm0/device/pcrs` of a TPM 1.2 | lines `PCR-10: 00 AA ...` |
//! | `/sys/class/tpm/tpm0/pcr-sha256/10` | `00AA...` |
//! | `tpm2_quote --pcr` | binary, little-endian: number of banks (4); 16 banks: algorithm (2), size (1), a bit per PCR (4), 0; number of lists (4); each: number of values (4), 8 values: size (2), value (64) |

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::fmt;

use super::binary::PCRS;
use crate::hash::{Digest, HashAlgorithm};
use crate::hex;
use crate::reader::Reader;

/// The number of banks in the binary form (`TPML_PCR_SELECTION`), used or not.
const SERIALIZED_BANKS: u32 = 16;
/// The number of values in one of its lists (`TPML_DIGEST`), used or not.
const SERIALIZED_VALUES: u32 = 8;
/// The size of a value's buffer in bytes.
const SERIALIZED_VALUE: usize = 64;

/// The value of a PCR in a bank; the bank is the digest's algorithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PcrValue {
    /// The PCR.
    pub pcr: u32,
    /// Its value.
    pub value: Digest,
}

/// Values of PCRs, by bank and number.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PcrValues(BTreeMap<(HashAlgorithm, u32), Digest>);

/// A line that is not the value of a PCR.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PcrFault {
    /// The number of the line, counted from 1.
    pub line: usize,
    /// The fault.
    pub kind: PcrFaultKind,
}

/// A fault of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PcrFaultKind {
    /// It is not in any of the known forms.
    Form,
    /// The bank is unknown or missing.
    Bank,
    /// The value does not have the size of the bank's digests.
    Size(HashAlgorithm),
    /// An earlier line has another value of the same PCR.
    Twice,
}

impl fmt::Display for PcrFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: ", self.line)?;
        match self.kind {
            PcrFaultKind::Form => f.write_str(
                "expected a bank (\"sha256:\"), or a PCR and its value (\"10: 0x00aa...\" or \
                 \"PCR-10: 00 aa ...\")",
            ),
            PcrFaultKind::Bank => f.write_str("a PCR without a known bank before it"),
            PcrFaultKind::Size(bank) => {
                write!(f, "expected {} bytes, the size of {bank}", bank.digest_size())
            }
            PcrFaultKind::Twice => f.write_str("this PCR has another value before"),
        }
    }
}

#[cfg(feature = "std")]
impl std::error::Error for PcrFault {}

impl PcrValues {
    /// Reads a text. Values without a bank before them are of the given `bank`.
    ///
    /// # Errors
    /// The first line that is not in a known form: no line is skipped.
    pub fn parse(text: &[u8], bank: Option<HashAlgorithm>) -> Result<Self, PcrFault> {
        let mut values = Self::default();
        let mut bank = bank;
        for (number, line) in text.split(|byte| *byte == b'\n').enumerate() {
            values
                .take_line(line, &mut bank)
                .map_err(|kind| PcrFault { line: number + 1, kind })?;
        }
        Ok(values)
    }

    fn take_line(
        &mut self,
        line: &[u8],
        bank: &mut Option<HashAlgorithm>,
    ) -> Result<(), PcrFaultKind> {
        let line = core::str::from_utf8(line).map_err(|_| PcrFaultKind::Form)?.trim();
        if line.is_empty() || line.starts_with('#') {
            return Ok(());
        }
        let (label, value) = line.split_once(':').ok_or(PcrFaultKind::Form)?;
        let (label, value) = (label.trim(), value.trim());
        let number = label.strip_prefix("PCR-").unwrap_or(label);
        let Ok(pcr) = number.parse() else {
            // a bank without values is listed, but not allocated in the TPM
            let name = if label == "sm3_256" { "sm3" } else { label };
            let is_bank = value.is_empty() && !label.contains(char::is_whitespace);
            *bank = name.parse().ok();
            return if is_bank { Ok(()) } else { Err(PcrFaultKind::Form) };
        };
        let digits: Vec<u8> =
            value.trim_start_matches("0x").bytes().filter(|byte| *byte != b' ').collect();
        let bytes = hex::decode(&digits).map_err(|_| PcrFaultKind::Form)?;
        let bank = bank.ok_or(PcrFaultKind::Bank)?;
        let value = Digest::new(bank, &bytes).ok_or(PcrFaultKind::Size(bank))?;
        if pcr >= PCRS {
            return Err(PcrFaultKind::Form);
        }
        self.add(PcrValue { pcr, value }).map_err(|_| PcrFaultKind::Twice)
    }

    /// Whether a file is in the binary form: a text has no NUL.
    pub fn is_serialized(bytes: &[u8]) -> bool {
        matches!(bytes, [_, 0, 0, 0, ..])
    }

    /// Reads the binary form; `None` if it is malformed.
    pub fn parse_serialized(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        let banks = reader.u32_le().ok()?;
        let mut selected = Vec::new();
        for number in 0..SERIALIZED_BANKS {
            let [low, high, _, bits @ .., _] = reader.array::<8>().ok()?;
            if number < banks {
                let bank = HashAlgorithm::from_tpm_id(u16::from_le_bytes([low, high]))?;
                let bits = u32::from_le_bytes(bits);
                let pcrs = (0..32).filter(|pcr| bits >> pcr & 1 == 1);
                selected.extend(pcrs.map(|pcr| (bank, pcr)));
            }
        }
        let mut digests = Vec::new();
        for _ in 0..reader.u32_le().ok()? {
            let count = reader.u32_le().ok()?;
            for number in 0..SERIALIZED_VALUES {
                let size = u16::from_le_bytes(reader.array().ok()?);
                let digest = reader.take(SERIALIZED_VALUE).ok()?.get(..size.into())?;
                digests.extend((number < count).then_some(digest));
            }
        }
        reader.finish().ok()?;
        let mut values = Self::default();
        for ((bank, pcr), digest) in selected.iter().zip(&digests) {
            values.add(PcrValue { pcr: *pcr, value: Digest::new(*bank, digest)? }).ok()?;
        }
        (selected.len() == digests.len() && banks <= SERIALIZED_BANKS).then_some(values)
    }

    /// Adds a value.
    ///
    /// # Errors
    /// The other value that the PCR already has.
    pub fn add(&mut self, PcrValue { pcr, value }: PcrValue) -> Result<(), Digest> {
        match self.0.insert((value.algorithm(), pcr), value) {
            Some(other) if other != value => Err(other),
            _ => Ok(()),
        }
    }

    /// The value of a PCR in a bank.
    pub fn get(&self, bank: HashAlgorithm, pcr: u32) -> Option<&Digest> {
        self.0.get(&(bank, pcr))
    }

    /// The values, by bank and PCR.
    pub fn iter(&self) -> impl Iterator<Item = PcrValue> + '_ {
        self.0.iter().map(|((_, pcr), value)| PcrValue { pcr: *pcr, value: *value })
    }

    /// Whether there is no value.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::format;
    use std::string::ToString;

    use super::*;

    #[test]
    fn the_forms_of_tools_are_read() {
        let (sha1, sha256) = ("0A".repeat(20), "0b".repeat(32));
        let yaml = format!("  sha1:\n    0 : 0x{sha1}\n    10: 0x{sha1}\n  sha256:\n    10: 0x{sha256}\n  sha384:\n");
        let values = PcrValues::parse(yaml.as_bytes(), None).unwrap();
        assert_eq!(values.iter().count(), 3);
        assert_eq!(values.get(HashAlgorithm::Sha256, 10).unwrap().as_bytes(), [0x0b; 32]);
        assert_eq!(values.get(HashAlgorithm::Sha1, 0).unwrap().as_bytes(), [0x0a; 20]);
        let spaced = sha1.as_bytes().chunks(2).map(|pair| core::str::from_utf8(pair).unwrap());
        let pcrs = format!("PCR-10: {}\nPCR-11:{sha1}\n", spaced.collect::<Vec<_>>().join(" "));
        let values = PcrValues::parse(pcrs.as_bytes(), Some(HashAlgorithm::Sha1)).unwrap();
        assert_eq!(values.iter().map(|value| value.pcr).collect::<Vec<_>>(), [10, 11]);
    }

    #[test]
    fn the_binary_form_is_read_whole_or_not_at_all() {
        let bank = [[4, 0, 3, 0, 0xc, 0, 0, 0], [0xb, 0, 3, 0, 4, 0, 0, 0]].concat();
        let value = |size: u8, byte| [&[size, 0][..], &[byte; 64]].concat();
        let values = [value(20, 1), value(20, 2), value(32, 3), value(0, 0).repeat(5)].concat();
        let form = [&[2, 0, 0, 0][..], &bank, &[0; 14 * 8], &[1, 0, 0, 0, 3, 0, 0, 0], &values];
        let form = form.concat();
        assert!(PcrValues::is_serialized(&form) && !PcrValues::is_serialized(b"sha1:"));
        let read = PcrValues::parse_serialized(&form).unwrap();
        assert_eq!(read.get(HashAlgorithm::Sha1, 11).unwrap().as_bytes(), [2; 20]);
        assert_eq!(read.get(HashAlgorithm::Sha256, 10).unwrap().as_bytes(), [3; 32]);
        for length in 0..form.len() {
            assert_eq!(PcrValues::parse_serialized(&form[..length]), None, "{length}");
        }
        let mut fewer = form;
        fewer[136] = 2;
        assert_eq!(PcrValues::parse_serialized(&fewer), None);
    }

    #[test]
    fn every_other_line_is_an_error() {
        let sha1 = "0a".repeat(20);
        for (text, said) in [
            ("sha256:\n  10: 0x00\n", "line 2: expected 32 bytes, the size of sha256"),
            (&format!("10: 0x{sha1}\n"), "line 1: a PCR without a known bank before it"),
            (&format!("quantum:\n10: 0x{sha1}\n"), "line 2: a PCR without a known bank before it"),
            (
                &format!("sha1:\n1: {sha1}\n1: {}\n", "0b".repeat(20)),
                "line 3: this PCR has another value before",
            ),
        ] {
            assert_eq!(PcrValues::parse(text.as_bytes(), None).unwrap_err().to_string(), said);
        }
        for text in ["hello", "sha1: yes", "sha1:\n10: 0xzz", "sha1:\n\u{ff}"] {
            let fault = PcrValues::parse(text.as_bytes(), None).unwrap_err();
            assert_eq!(fault.kind, PcrFaultKind::Form, "{text}");
        }
    }
}
