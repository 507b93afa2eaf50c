//! A kernel with a TPM, simulated in memory, that stops at any step: each entry must be there exactly once.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{Seek, Write};
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use ima_format::hash::{Digest, HashAlgorithm};
use ima_format::measure::{PcrValue, PcrValues};

use super::*;
use crate::attest::keep::Publisher;
use crate::attest::replay::{extend, zeros, ONES};
use crate::digest::Hasher;

const BANKS: [HashAlgorithm; 2] = [HashAlgorithm::Sha1, HashAlgorithm::Sha256];

/// The list of a kernel, entry by entry, and its TPM.
#[derive(Debug, Default)]
struct State {
    staged: Vec<Vec<u8>>,
    current: Vec<Vec<u8>>,
    /// All entries since the TPM was reset.
    all: Vec<Vec<u8>>,
    values: Vec<Digest>,
    /// Steps until the process is killed.
    steps: u32,
    is_suspended: bool,
}

#[derive(Debug, Clone, Default)]
struct Fake(Rc<RefCell<State>>);

fn hash(bank: HashAlgorithm, bytes: &[u8]) -> Digest {
    Hasher::new(bank).unwrap().digest(bytes).unwrap()
}

/// An `ima-ng` entry of a file, or a violation of it.
fn record(name: &str, violation: bool) -> Vec<u8> {
    let field = |bytes: &[u8]| [&(bytes.len() as u32).to_le_bytes()[..], bytes].concat();
    let digest = [b"sha256:\0", hash(HashAlgorithm::Sha256, name.as_bytes()).as_bytes()].concat();
    let data = [field(&digest), field(&[name.as_bytes(), b"\0"].concat())].concat();
    let digest = match violation {
        true => vec![0; 20],
        false => hash(HashAlgorithm::Sha1, &data).as_bytes().to_vec(),
    };
    [&10_u32.to_le_bytes()[..], &digest, &field(b"ima-ng"), &field(&data)].concat()
}

impl Fake {
    fn new() -> Self {
        let fake = Self::default();
        fake.reset();
        fake
    }

    /// Reboots the machine.
    fn reset(&self) {
        let values = BANKS.map(|bank| zeros(bank).unwrap()).to_vec();
        *self.0.borrow_mut() = State { values, steps: u32::MAX, ..State::default() };
        self.measure("boot_aggregate");
    }

    fn add(&self, record: Vec<u8>, is_violation: bool) {
        let mut state = self.0.borrow_mut();
        // skips PCR, digest, and the name of the template
        let data = record[4 + 20 + 4 + 6 + 4..].to_vec();
        for (bank, value) in BANKS.iter().zip(&mut state.values) {
            let digest = hash(*bank, &data);
            let by = if is_violation { &ONES[..bank.digest_size()] } else { digest.as_bytes() };
            extend(&mut Hasher::new(*bank).unwrap(), value, by).unwrap();
        }
        state.current.push(record.clone());
        state.all.push(record);
    }

    fn measure(&self, name: &str) {
        self.add(record(name, false), false);
    }

    /// Adds the same violation again; it may be repeated.
    fn violate(&self) {
        self.add(record("/var/log/x", true), true);
    }

    /// A step of a process that may be killed here; the machine continues meanwhile.
    fn step(&self) -> Result<(), KeepError> {
        let mut state = self.0.borrow_mut();
        if state.steps == 0 {
            return Err(KeepError::Changed);
        }
        state.steps -= 1;
        let number = state.all.len();
        drop(state);
        match number % 3 {
            0 => self.violate(),
            _ => self.measure(&format!("/usr/bin/{number}")),
        }
        Ok(())
    }

    fn content(&self, part: Part) -> Vec<u8> {
        let state = self.0.borrow();
        match part {
            Part::Staged => state.staged.concat(),
            Part::Current => state.current.concat(),
        }
    }
}

impl KernelList for Fake {
    fn open(&self, part: Part) -> Result<File, KeepError> {
        self.step()?;
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&self.content(part)).unwrap();
        file.rewind().unwrap();
        Ok(file)
    }

    fn count(&self) -> Result<u64, KeepError> {
        Ok(self.0.borrow().current.len() as u64)
    }

    fn stage(&self) -> Result<Stage, KeepError> {
        self.step()?;
        let mut state = self.0.borrow_mut();
        if state.is_suspended {
            return Err(KeepError::Suspended);
        }
        if state.staged.is_empty() {
            state.staged = std::mem::take(&mut state.current);
        }
        Ok(if state.staged.is_empty() { Stage::Empty } else { Stage::Staged })
    }

    fn delete(&self, segment: &Path) -> Result<(), KeepError> {
        self.step()?;
        if self.content(Part::Staged) != fs::read(segment).unwrap() {
            return Err(KeepError::Changed);
        }
        let mut state = self.0.borrow_mut();
        if state.is_suspended {
            return Err(KeepError::Suspended);
        }
        state.staged.clear();
        Ok(())
    }

    fn banks(&self) -> Result<Vec<HashAlgorithm>, KeepError> {
        Ok(BANKS.to_vec())
    }

    fn values(&self, pcrs: &BTreeSet<u32>) -> Result<PcrValues, KeepError> {
        self.step()?;
        let mut values = PcrValues::default();
        for value in self.0.borrow().values.iter().filter(|_| pcrs.contains(&10)) {
            values.add(PcrValue { pcr: 10, value: *value }).unwrap();
        }
        Ok(values)
    }
}

/// Opens a keeper. Until its exec, a process that another test has just started holds all locks of this one.
fn open(fake: &Fake, directory: &Path) -> Result<Keeper<Fake>, KeepError> {
    for _ in 0..1000 {
        match Keeper::open(fake.clone(), directory) {
            Err(KeepError::Locked { .. }) => std::thread::sleep(Duration::from_millis(5)),
            opened => return opened,
        }
    }
    Keeper::open(fake.clone(), directory)
}

/// A keeper that starts now must have the whole list.
fn complete(fake: &Fake, directory: &Path) -> Keeper<Fake> {
    fake.0.borrow_mut().steps = u32::MAX;
    let keeper = open(fake, directory).unwrap();
    let mut list = Vec::new();
    keeper.snapshot().unwrap().write_from(0, &mut list).unwrap();
    // created before the step that read it last
    let all = fake.0.borrow().all.concat();
    assert!(all.starts_with(&list) && all.len() - list.len() < 400, "{}", list.len());
    keeper
}

#[test]
fn killed_at_any_step_no_entry_is_lost_or_there_twice() {
    let directory = tempfile::tempdir().unwrap();
    let fake = Fake::new();
    for steps in (0..24).cycle().take(72) {
        fake.0.borrow_mut().steps = steps;
        let killed = open(&fake, directory.path())
            .and_then(|mut keeper| keeper.cycle().and_then(|_| keeper.cycle()));
        drop(killed);
        complete(&fake, directory.path());
    }
    let mut keeper = complete(&fake, directory.path());
    assert!(matches!(keeper.cycle().unwrap(), Cycle::Moved { .. }));
    assert!(keeper.store.segments().len() > 6);
    assert!(fake.0.borrow().all.len() > 300);
}

/// The last segment is equal to the entries that are staged after it: only the PCR shows that they are new.
#[test]
fn the_same_violations_twice_are_kept_twice() {
    let stage = |fake: &Fake| {
        let mut state = fake.0.borrow_mut();
        state.staged = std::mem::take(&mut state.current);
    };
    let first_kernel = Fake::new();
    let directory = tempfile::tempdir().unwrap();
    let mut store = Store::open(directory.path()).unwrap();
    let keep = |store: &mut Store, content: &[u8]| {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        file.rewind().unwrap();
        store.add(file).unwrap();
    };
    keep(&mut store, &first_kernel.content(Part::Current));
    first_kernel.0.borrow_mut().current.clear();
    first_kernel.violate();
    keep(&mut store, &first_kernel.content(Part::Current));
    drop(store);
    // still staged: the entries are already in the segment
    stage(&first_kernel);
    let keeper = complete(&first_kernel, directory.path());
    assert_eq!(keeper.last, Last::Staged);
    drop(keeper);
    // deleted, and staged again: they are not in the segment
    let second_kernel = Fake::new();
    second_kernel.0.borrow_mut().current.clear();
    second_kernel.violate();
    second_kernel.0.borrow_mut().current.clear();
    second_kernel.violate();
    stage(&second_kernel);
    let keeper = complete(&second_kernel, directory.path());
    assert_eq!(keeper.last, Last::Kept);
    assert_eq!(keeper.store.segments().len(), 2);
}

#[test]
fn a_boot_and_a_kexec_are_told_apart() {
    let directory = tempfile::tempdir().unwrap();
    let fake = Fake::new();
    let mut keeper = complete(&fake, directory.path());
    keeper.cycle().unwrap();
    // the kernel is about to start another one when the entries are kept, but not deleted
    fake.measure("/usr/sbin/kexec");
    keeper.kernel.stage().unwrap();
    fake.0.borrow_mut().is_suspended = true;
    let staged = keeper.kernel.open(Part::Staged).unwrap();
    keeper.store.add(staged).unwrap();
    drop(keeper);
    assert!(matches!(complete(&fake, directory.path()).cycle(), Err(KeepError::Suspended)));
    // the next kernel has them at the head of its list
    let mut state = fake.0.borrow_mut();
    let staged = std::mem::take(&mut state.staged);
    state.current = [staged, std::mem::take(&mut state.current)].concat();
    state.is_suspended = false;
    drop(state);
    let mut keeper = complete(&fake, directory.path());
    assert_eq!(keeper.store.segments().len(), 1);
    keeper.cycle().unwrap();
    drop(keeper);
    complete(&fake, directory.path());
    // after a reboot
    fake.reset();
    let mut keeper = complete(&fake, directory.path());
    assert_eq!(keeper.store.segments().len(), 0);
    keeper.cycle().unwrap();
    assert!(keeper.store.segments()[0].ends_with("boot-00000002/00000001"));
}

/// A new segment that cannot be read at once is read in the next cycle, before it is compared with the PCRs.
#[test]
fn a_cycle_continues_after_a_segment_could_not_be_read() {
    let directory = tempfile::tempdir().unwrap();
    let fake = Fake::new();
    let mut keeper = complete(&fake, directory.path());
    keeper.cycle().unwrap();
    fake.measure("/usr/bin/late");
    keeper.kernel.stage().unwrap();
    let staged = keeper.kernel.open(Part::Staged).unwrap();
    keeper.store.add(staged).unwrap();
    keeper.last = Last::Added;
    let segment = keeper.store.segments().last().unwrap().clone();
    let away = directory.path().join("away");
    std::fs::rename(&segment, &away).unwrap();
    assert!(keeper.cycle().is_err());
    assert_eq!(keeper.entries().unwrap(), None);
    std::fs::rename(&away, &segment).unwrap();
    assert!(matches!(keeper.cycle(), Ok(Cycle::Moved { .. })));
    assert!(keeper.entries().unwrap().is_some());
}

#[test]
fn nothing_is_deleted_that_is_not_in_the_pcr() {
    let directory = tempfile::tempdir().unwrap();
    let fake = Fake::new();
    let mut keeper = complete(&fake, directory.path());
    keeper.cycle().unwrap();
    // another program removed an entry
    fake.measure("/opt/hidden");
    fake.0.borrow_mut().current.pop();
    fake.measure("/opt/seen");
    assert!(matches!(keeper.cycle(), Err(KeepError::Mismatch { .. })));
    assert!(!fake.0.borrow().staged.is_empty());
    drop(keeper);
    let opened = open(&fake, directory.path());
    assert!(matches!(opened, Err(KeepError::Mismatch { .. })));
}

#[test]
fn segments_must_be_there_and_have_one_keeper() {
    let directory = tempfile::tempdir().unwrap();
    let fake = Fake::new();
    let mut keeper = complete(&fake, directory.path());
    keeper.cycle().unwrap();
    keeper.cycle().unwrap();
    let second = Keeper::open(fake.clone(), directory.path());
    assert!(matches!(second, Err(KeepError::Locked { .. })));
    let first = keeper.store.segments()[0].clone();
    drop(keeper);
    fs::remove_file(&first).unwrap();
    match open(&fake, directory.path()) {
        Err(KeepError::Gap { path }) => assert_eq!(path, first),
        other => panic!("{other:?}"),
    }
}

#[test]
fn published_files_grow_with_the_list() {
    let (directory, served) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let fake = Fake::new();
    let mut keeper = complete(&fake, directory.path());
    let mut publisher = Publisher::create(served.path(), &keeper).unwrap();
    let read = |name: &str| fs::read(served.path().join(name)).unwrap();
    for _ in 0..5 {
        publisher.update(&keeper).unwrap();
        let (binary, all) = (read("binary_runtime_measurements"), fake.0.borrow().all.concat());
        assert!(all.starts_with(&binary) && !binary.is_empty());
        let lines = read("ascii_runtime_measurements").iter().filter(|it| **it == b'\n').count();
        let all = fake.0.borrow().all.clone();
        let records = all.iter().scan(0, |end, record| {
            *end += record.len();
            Some(*end)
        });
        assert_eq!(records.filter(|end| *end <= binary.len()).count(), lines);
        keeper.cycle().unwrap();
    }
}
