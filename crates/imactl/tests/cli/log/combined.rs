//! Faults of a list, each alone and several together: no match and no explanation may be wrong.
//!
//! A case is the entries that extended a TPM, and a list that was made from them with some faults. The claim of the
//! explanation is compared with the faults, and a proven one with a replay that is computed here.

use ima::attest::explain::{judge, Hypothesis, Judged, Verdict};
use ima::attest::source::{Reading, Source};
use ima::attest::verify::{verify, Options};
use ima_format::hash::Digest;
use ima_format::measure::{Layout, PcrValue, PcrValues, Record, Step};

use super::*;
use crate::support::seeded::{seeds, Random};

const LE: Endian = Endian::Little;
const LAYOUT: Layout = Layout { endian: LE, digest_size: 20 };

/// A record of the list, and the number of the entry in the TPM that it is a copy of.
#[derive(Debug, Clone)]
struct Listed {
    record: Vec<u8>,
    measured: Option<usize>,
}

/// A fault of the list, with the number of a record in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Added(usize),
    Removed(usize),
    /// This record and the next.
    Swapped(usize),
    /// The data are changed, the digest is not.
    Changed(usize),
    /// The digest is changed, the data are not.
    ChangedDigest(usize),
    /// Data and digest are changed.
    Replaced(usize),
    /// A file's entry has become a violation.
    ForgedViolation(usize),
    /// A violation has become a file's entry.
    HiddenViolation(usize),
    /// The number of records that are missing at the head.
    HeadMissing(usize),
    /// The number of records that remain.
    TailMissing(usize),
    /// Records of an earlier boot in front, so many.
    EarlierBoot(usize),
    /// So many entries before the record with this number were lost in a kexec.
    LostInKexec(usize, usize),
}

const KINDS: usize = 12;

struct Case {
    measured: Vec<Entry>,
    list: Vec<Listed>,
    faults: Vec<Fault>,
}

fn boot(content: &[u8]) -> Entry {
    file(LE, "boot_aggregate", content)
}

fn encoded(entry: &Entry) -> Vec<u8> {
    binary(USUAL, std::slice::from_ref(entry))
}

impl Case {
    /// A boot with files and violations, all of them different.
    fn new(files: usize) -> Self {
        let entry = |number: usize| {
            let entry = file(LE, &format!("/usr/bin/{number}"), &[number as u8]);
            if number % 7 == 3 {
                entry.violation()
            } else {
                entry
            }
        };
        let measured: Vec<_> = [boot(b"boot")].into_iter().chain((0..files).map(entry)).collect();
        let listed = |(number, entry)| Listed { record: encoded(entry), measured: Some(number) };
        let list = measured.iter().enumerate().map(listed).collect();
        Self { measured, list, faults: Vec::new() }
    }

    fn is_violation(&self, at: usize) -> bool {
        self.list[at].record[4..24].iter().all(|byte| *byte == 0)
    }

    fn listed(entry: &Entry) -> Listed {
        Listed { record: encoded(entry), measured: None }
    }

    /// Makes the list faulty; does nothing if it has no place for the fault.
    fn apply(&mut self, fault: Fault) {
        let length = self.list.len();
        let name = format!("/opt/alibi{}", self.faults.len());
        let violations: Vec<_> = (0..length).map(|at| self.is_violation(at)).collect();
        let is_file = |at: usize| violations.get(at) == Some(&false);
        let list = &mut self.list;
        match fault {
            Fault::Added(at) if at <= length => {
                list.insert(at, Self::listed(&file(LE, &name, b"")))
            }
            Fault::Removed(at) if at < length => drop(list.remove(at)),
            Fault::Swapped(at) if at + 1 < length => list.swap(at, at + 1),
            Fault::Changed(at) if is_file(at) => {
                let Listed { record, measured } = &mut list[at];
                // a byte of the name
                let place = record.len() - 2;
                record[place] = b'!';
                *measured = None;
            }
            Fault::ChangedDigest(at) if is_file(at) => {
                list[at].record[5] ^= 1;
            }
            Fault::Replaced(at) if at < length => {
                list[at] = Self::listed(&file(LE, &name, b"other"));
            }
            Fault::ForgedViolation(at) if is_file(at) => {
                list[at].record[4..24].fill(0);
                list[at].measured = None;
            }
            Fault::HiddenViolation(at) if at < length && !is_file(at) => {
                list[at] = Self::listed(&file(LE, &name, b"hidden"));
            }
            Fault::HeadMissing(count) if count < length => drop(list.drain(..count)),
            Fault::TailMissing(count) if count < length => list.truncate(count),
            Fault::EarlierBoot(count) => {
                let earlier = (1..count).map(|number| file(LE, &format!("/earlier{number}"), b""));
                let earlier = [boot(b"earlier")].into_iter().chain(earlier);
                list.splice(..0, earlier.map(|entry| Self::listed(&entry)));
            }
            Fault::LostInKexec(at, count) if at > 0 && at + count < self.measured.len() => {
                // the next kernel's first entry takes the place of the last that was lost
                self.measured[at + count - 1] = boot(b"next");
                let is_lost = |measured: Option<usize>| {
                    measured.is_some_and(|number| (at..at + count).contains(&number))
                };
                let Some(place) = list.iter().position(|listed| is_lost(listed.measured)) else {
                    return;
                };
                list.retain(|listed| !is_lost(listed.measured));
                let record = encoded(&self.measured[at + count - 1]);
                list.insert(place, Listed { record, measured: Some(at + count - 1) });
            }
            _ => return,
        }
        self.faults.push(fault);
    }

    fn judge(&self, values: &PcrValues) -> Vec<Judged> {
        let directory = directory();
        let records: Vec<_> = self.list.iter().map(|listed| &listed.record[..]).collect();
        let list = write(directory.path(), "list", &records.concat());
        let sources = [Source::open(&list, Reading::Again).unwrap()];
        let options = Options {
            banks: [HashAlgorithm::Sha1, HashAlgorithm::Sha256].into(),
            values,
            keyring: None,
            jobs: std::num::NonZeroUsize::MIN,
        };
        let report = verify(&sources, &options, &mut drop).unwrap();
        assert!(report.fault.is_none());
        judge(&sources, &report, values).unwrap()
    }

    fn with<T>(&self, at: usize, use_it: impl FnOnce(&Record<'_>) -> T) -> T {
        match LAYOUT.step(&self.list[at].record) {
            Ok(Step::Record(record, _)) => use_it(&record),
            other => panic!("{other:?}"),
        }
    }

    /// The digest by which a record extends a bank.
    fn extension(&self, bank: HashAlgorithm, at: usize) -> Vec<u8> {
        match self.is_violation(at) {
            true => vec![0xff; bank.digest_size()],
            false => self.with(at, |record| hash(bank, record.data)),
        }
    }

    fn is_consistent(&self, at: usize) -> bool {
        let bank = HashAlgorithm::Sha1;
        self.is_violation(at) || self.with(at, |record| hash(bank, record.data) == record.digest)
    }

    fn is_boot(&self, at: usize) -> bool {
        let named = b"\x0f\0\0\0boot_aggregate\0";
        self.with(at, |record| record.data.windows(named.len()).any(|part| part == named))
    }

    /// Whether these digests, one after the other, reach the value.
    fn reaches(bank: HashAlgorithm, by: impl IntoIterator<Item = Vec<u8>>, target: &[u8]) -> bool {
        let mut value = vec![0; bank.digest_size()];
        by.into_iter().any(|by| {
            value = hash(bank, &[&value[..], &by].concat());
            value == target
        })
    }

    /// Fails unless the result is true of this case.
    fn check(&self, judged: &Judged) {
        let bank = judged.bank;
        let target = judged.register.expected.unwrap();
        let target = target.as_bytes();
        let all = || 0..self.list.len();
        let extensions = |order: Vec<usize>| {
            order.into_iter().map(|at| self.extension(bank, at)).collect::<Vec<_>>()
        };
        let explanation = match judged.verdict {
            Verdict::Match { reached, .. } => {
                // the records up to there are those that were measured, and no other
                let listed = self.list[..reached.records as usize].iter();
                let listed: Vec<_> = listed.map(|listed| listed.measured).collect();
                let expected: Vec<_> = (0..self.measured.len()).map(Some).collect();
                assert_eq!(listed, expected, "{:?}", self.faults);
                return;
            }
            Verdict::Mismatch(explanation) => explanation,
            Verdict::NoValue(_) => panic!("the value was given"),
        };
        let said = explanation.to_string();
        let context = format!("{bank}: {said}: {:?}", self.faults);
        let first = explanation.hypothesis.first().map_or(0, |first| first as usize);
        let proven = explanation.reached.is_some();
        match explanation.hypothesis {
            Hypothesis::Changed { .. } => {
                let changed = all().find(|at| !self.is_consistent(*at));
                assert_eq!(changed, Some(first), "{context}");
                if proven {
                    assert_eq!(bank, HashAlgorithm::Sha1, "{context}");
                    let listed = all().map(|at| match self.is_violation(at) {
                        true => vec![0xff; 20],
                        false => self.with(at, |record| record.digest.to_vec()),
                    });
                    assert!(Self::reaches(bank, listed, target), "{context}");
                }
            }
            Hypothesis::Added { .. } if proven => {
                assert_eq!(self.list[first].measured, None, "{context}");
                let order = all().filter(|at| *at != first).collect();
                assert!(Self::reaches(bank, extensions(order), target), "{context}");
            }
            Hypothesis::Swapped { .. } if proven => {
                let [one, next] = [first, first + 1].map(|at| self.list[at].measured);
                assert!(one.is_some() && one > next && next.is_some(), "{context}");
                let mut order: Vec<_> = all().collect();
                order.swap(first, first + 1);
                assert!(Self::reaches(bank, extensions(order), target), "{context}");
            }
            Hypothesis::ForgedViolation { .. } if proven => {
                assert!(
                    self.is_violation(first) && self.list[first].measured.is_none(),
                    "{context}"
                );
                let mut by = extensions(all().collect());
                by[first] = self.with(first, |record| hash(bank, record.data));
                assert!(Self::reaches(bank, by, target), "{context}");
            }
            Hypothesis::EarlierBoot { .. } if proven => {
                assert!(self.is_boot(first) && first > 0, "{context}");
                let order = all().skip(first).collect();
                assert!(Self::reaches(bank, extensions(order), target), "{context}");
            }
            // what follows is not proven, and says so
            Hypothesis::HeadMissing => {
                assert!(!proven && said.contains("probably"), "{context}");
                assert!(!self.is_boot(0), "{context}");
            }
            Hypothesis::LostInKexec { .. } => {
                assert!(!proven && said.contains("probably"), "{context}");
                assert!(first > 0 && self.is_boot(first), "{context}");
            }
            Hypothesis::Unknown => assert!(!proven && said.contains("no known cause"), "{context}"),
            other => panic!("{other:?} {context}"),
        }
    }
}

/// The values of PCR 10 in two banks.
fn values(entries: &[Entry]) -> PcrValues {
    let mut values = PcrValues::default();
    for ((bank, pcr), value) in Pcrs::after(entries).0 {
        if matches!(bank, HashAlgorithm::Sha1 | HashAlgorithm::Sha256) {
            values.add(PcrValue { pcr, value: Digest::new(bank, &value).unwrap() }).unwrap();
        }
    }
    values
}

/// Each fault at the first, at a middle and at the last place, in both banks: the hypothesis, whether it is proven,
/// and the record that it names.
#[test]
fn each_fault_is_explained_at_every_place() {
    use HashAlgorithm::{Sha1, Sha256};
    const FILES: usize = 24;
    let last = FILES;
    let unknown = ("unknown", false, None);
    let head = ("head-missing", false, Some(0));
    type Expected = (&'static str, bool, Option<u64>);
    let at = |word, at: usize| -> Expected { (word, true, Some(at as u64)) };
    let mut cases: Vec<(Fault, Option<[Expected; 2]>)> = Vec::new();
    // an entry that was added at the end looks like a newer one
    cases.push((Fault::Added(last + 1), None));
    for place in [0, 1, 12, last] {
        cases.push((Fault::Added(place), Some([at("added-entry", place); 2])));
        let changed = ("changed-entry", false, Some(place as u64));
        cases.push((Fault::Changed(place), Some([at("changed-entry", place), changed])));
        cases.push((Fault::ForgedViolation(place), Some([at("forged-violation", place); 2])));
        // the data extended the PCR, and they are as they were
        cases.push((Fault::ChangedDigest(place), None));
        let silent = if place == 0 { head } else { unknown };
        for fault in [Fault::Removed(place), Fault::Replaced(place)] {
            cases.push((fault, Some([silent; 2])));
        }
    }
    for place in [0, 1, 12, last - 1] {
        cases.push((Fault::Swapped(place), Some([at("swapped-entries", place); 2])));
    }
    // the numbers of violations
    for place in [4, 11, 18] {
        cases.push((Fault::HiddenViolation(place), Some([unknown; 2])));
    }
    for count in [1, 2, 12, last] {
        cases.push((Fault::HeadMissing(count), Some([head; 2])));
        cases.push((Fault::TailMissing(count), Some([unknown; 2])));
        cases.push((Fault::EarlierBoot(count), Some([at("earlier-boot", count); 2])));
    }
    for (place, count) in [(1, 1), (5, 3), (12, 10)] {
        let expected = match count {
            // nothing was lost but the entry that the next kernel's takes the place of
            1 => None,
            _ => Some([("lost-in-kexec", false, Some(place as u64)); 2]),
        };
        cases.push((Fault::LostInKexec(place, count), expected));
    }
    for (fault, expected) in cases {
        let mut case = Case::new(FILES);
        case.apply(fault);
        assert_eq!(case.faults, [fault]);
        let judged = case.judge(&values(&case.measured));
        assert_eq!([judged[0].bank, judged[1].bank], [Sha1, Sha256]);
        for (number, judged) in judged.iter().enumerate() {
            case.check(judged);
            let found = match judged.verdict {
                Verdict::Mismatch(explanation) => Some((
                    explanation.hypothesis.word(),
                    explanation.reached.is_some(),
                    explanation.hypothesis.first(),
                )),
                _ => None,
            };
            assert_eq!(found, expected.map(|expected| expected[number]), "{fault:?}");
        }
    }
}

/// Two to four faults together, at random places.
#[test]
fn several_faults_are_never_explained_wrongly() {
    let (mut proven, mut matches) = (0, 0);
    for seed in seeds(600) {
        let mut random = Random(seed);
        let mut case = Case::new(8 + random.below(40));
        for _ in 0..2 + random.below(3) {
            let length = case.list.len();
            let place = random.below(length);
            case.apply(match random.below(KINDS) {
                0 => Fault::Added(random.below(length + 1)),
                1 => Fault::Removed(place),
                2 => Fault::Swapped(place),
                3 => Fault::Changed(place),
                4 => Fault::ChangedDigest(place),
                5 => Fault::Replaced(place),
                6 => Fault::ForgedViolation(place),
                7 => Fault::HiddenViolation(place),
                8 => Fault::HeadMissing(place),
                9 => Fault::TailMissing(place),
                10 => Fault::EarlierBoot(1 + random.below(9)),
                _ => Fault::LostInKexec(place, 1 + random.below(9)),
            });
        }
        for judged in case.judge(&values(&case.measured)) {
            case.check(&judged);
            match judged.verdict {
                Verdict::Match { .. } => matches += 1,
                Verdict::Mismatch(explanation) if explanation.reached.is_some() => proven += 1,
                _ => {}
            }
        }
    }
    // faults at the end, and faults that a proven explanation is true next to
    assert!(matches > 10 && proven > 10, "{matches} {proven}");
}
