//! `ima_measurement` and `ima_boot_aggregate`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use ima::attest::check::FindingKind;
use ima::attest::explain::{judge, ExtendedBy, Verdict};
use ima::attest::firmware;
use ima::attest::pcr::{self, PcrInput};
use ima::attest::replay::Register;
use ima::attest::signature::SignatureState;
use ima::attest::source::{Reading, Source};
use ima::attest::verify::{boot_aggregate, verify, Options as VerifyOptions};
use ima::system::Machine;
use ima::verify::Keyring;
use ima::{Digest, HashAlgorithm};
use ima_format::hex::{self, Hex};
use ima_format::measure::{PcrValue, PcrValues};
use ima_format::printable::Printable;

use super::keys;
use super::options::Options;
use crate::args::jobs;
use crate::error::{hinted, Error, Result};
use crate::Outcome;

/// Banks that are requested when a program reads the PCRs.
const BANKS: [HashAlgorithm; 4] =
    [HashAlgorithm::Sha1, HashAlgorithm::Sha256, HashAlgorithm::Sha384, HashAlgorithm::Sha512];
/// The number of PCRs of a TPM.
const PCRS: u32 = 24;

/// Verifies a list against PCR values, and with `--verify-sig` its signatures.
pub(super) fn ima_measurement(options: &Options) -> Result<Outcome> {
    let path = operand(options).ok_or_else(|| Error::new("Parameters missing"))?;
    let wanted = bank(options)?;
    let values = values(options)?;
    let banks = values.iter().map(|value| value.value.algorithm());
    let banks = banks.filter(|bank| wanted.map_or(true, |wanted| wanted == *bank)).collect();
    let keyring = match options.has("verify-sig") {
        true => keys::keyring(&keys::given(options)?)?,
        false => Keyring::default(),
    };
    let verified = VerifyOptions {
        banks,
        values: &values,
        keyring: options.has("verify-sig").then_some(&keyring),
        jobs: jobs(None),
    };
    let sources = [Source::open(&path, Reading::Again)?];
    let mut outcome = Outcome::Good;
    let report = verify(&sources, &verified, &mut |finding| {
        let is_bad = match &finding.kind {
            FindingKind::Violation => !options.has("ignore-violations"),
            FindingKind::Signature(SignatureState::Unverifiable(_)) => false,
            _ => true,
        };
        if is_bad {
            outcome = Outcome::Finding;
        }
        eprintln!("entry {} {}: {}", finding.index, Printable(&finding.name), finding.kind);
    })?;
    if let Some(fault) = &report.fault {
        outcome = Outcome::Finding;
        eprintln!("{fault}");
    }
    let mut compared = 0;
    for judged in judge(&sources, &report, &values)? {
        let (bank, pcr) = (judged.bank, judged.register.pcr);
        let Register { expected, records, .. } = &judged.register;
        compared += u64::from(expected.is_some() && *records > 0);
        if let Some(expected) = expected.filter(|_| *records > 0 && options.has("verbose")) {
            // a list that is newer than the PCR has its value before the last entries
            let aggregate = match judged.verdict {
                Verdict::Match { .. } => expected,
                _ => judged.register.value,
            };
            eprintln!("{bank}: PCRAgg  {pcr}: {}", Hex(aggregate.as_bytes()));
            eprintln!("{bank}: TPM PCR-{pcr}: {}", Hex(expected.as_bytes()));
        }
        match judged.verdict {
            Verdict::Match { extended_by: ExtendedBy::OwnDigests, .. } => {
                println!("{bank}: PCR {pcr}: Matched per TPM bank calculated digest(s).");
            }
            Verdict::Match { .. } => {
                println!("{bank}: PCR {pcr}: Matched SHA1 padded TPM digest(s).");
            }
            // the list does not extend this PCR
            _ if *records == 0 => {}
            _ => {
                println!("{bank}: PCR {pcr}: Failed to match TPM digest(s).");
                outcome = Outcome::Finding;
            }
        }
    }
    if compared == 0 {
        return Err(hinted("nothing was compared", "give --pcrs a value of a PCR in the list"));
    }
    Ok(outcome)
}

/// Prints the boot_aggregate of each bank, computed from an event log or from the PCRs.
pub(super) fn ima_boot_aggregate(options: &Options) -> Result<Outcome> {
    let values = match operand(options) {
        Some(log) => firmware::replay(&log)?,
        None => values(options)?,
    };
    let banks: BTreeSet<_> = values.iter().map(|value| value.value.algorithm()).collect();
    let mut printed = 0;
    for bank in banks {
        if let Some(digest) = boot_aggregate(bank, &values)?.first() {
            println!("{bank}:{}", Hex(digest.as_bytes()));
            printed += 1;
        }
    }
    match printed {
        0 => Err(hinted("no bank has values of PCRs 0 to 9", "SHA-1 needs PCRs 0 to 7")),
        _ => Ok(Outcome::Good),
    }
}

fn operand(options: &Options) -> Option<PathBuf> {
    options.operands.get(1).map(PathBuf::from)
}

fn bank(options: &Options) -> Result<Option<HashAlgorithm>> {
    let bank = options.text("verify-bank")?.map(|name| {
        name.parse().map_err(|error| Error::new(format!("--verify-bank {name}: {error}")))
    });
    bank.transpose()
}

/// The values of `--pcrs`, else those of this machine.
fn values(options: &Options) -> Result<PcrValues> {
    let given: Vec<_> = options
        .values("pcrs")
        .map(|given| {
            let input = PcrInput::from(Path::new(given));
            PcrInput { bank: input.bank.or(Some(HashAlgorithm::Sha1)), ..input }
        })
        .collect();
    if !given.is_empty() {
        return Ok(pcr::read(&given)?);
    }
    if let Some(path) = Machine::here().tpm_with_pcrs() {
        return Ok(pcr::read(&[PcrInput { bank: None, path }])?);
    }
    let read = if options.has("hwtpm") { PcrValues::default() } else { tsspcrread() };
    if read.is_empty() {
        let hint = "give --pcrs FILE; without it the PCRs are read from sysfs (Linux 5.12), or by tsspcrread";
        return Err(hinted("Failed to read any TPM PCRs", hint));
    }
    Ok(read)
}

/// The output of IBM's tsspcrread, which reads the TPM that its environment names.
fn tsspcrread() -> PcrValues {
    let mut values = PcrValues::default();
    for bank in BANKS {
        for pcr in 0..PCRS {
            let mut command = Command::new("tsspcrread");
            command.args(["-halg", bank.name(), "-ha", &pcr.to_string(), "-ns"]);
            let Ok(read) = command.output() else { return values };
            let text = String::from_utf8_lossy(&read.stdout);
            let bytes = hex::decode(text.trim().as_bytes()).ok();
            // the TPM does not have this bank
            let Some(value) = bytes.and_then(|bytes| Digest::new(bank, &bytes)) else { break };
            if values.add(PcrValue { pcr, value }).is_err() {
                return values;
            }
        }
    }
    values
}
