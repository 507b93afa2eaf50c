//! Generated policies, files and operations: the kernel decides as `ima_format::policy::decide` predicts.
//!
//! A machine has many small policies at once, loaded as one: the rules of each match a group of their own
//! (`fgroup=`), and each case has its own file in one of the groups. The prediction is compared with the
//! observation: whether each operation succeeds, the causes in the kernel's audit records, the digests
//! in the audit log, and, at the end, the PCRs under which each file is in the measurement list.
//!
//! Each kernel has its own cases. A file that was opened for writing is not used again: if a digest in
//! `security.ima` covers it, Linux 6.1 may store a new digest when it is closed, and its value depends on
//! the state of the file's `iint`.

mod evidence;
pub(crate) mod files;
mod rules;

use std::collections::BTreeMap;

use anyhow::{ensure, Context, Result};
use ima_format::policy::decide::{
    AccessSet, AppraiseMode, Credentials as Ids, Decider, Event, FileFacts, Inode, Labels,
    OpenFile, Operation, Verdict,
};
use ima_format::policy::kernel::LsmRules;
use ima_format::policy::{read, Kernel as PolicyKernel, KernelVersion, Loading};
use lab::audit::Kind;
use lab::kernel::{Kernel, Series};
use lab::keys::{Algorithm, KeyStore};
use lab::machine::{Disk, Guest, Machine, Observation};
use lab::on_each_kernel;
use lab::protocol::{Action, Attributes, Credentials, Errno, OpenFor, Output, Status};
use lab::random::{cases, seed, Random};

use evidence::{read_on, Known};
use files::{Content, FileSpec, Files, System};

/// The number of cases of a machine.
const ENFORCED: usize = 2_400;
const LOGGED: usize = 400;
const FIXED: usize = 400;

/// An operation on the file of a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Deed {
    Execute,
    Map,
    Protect,
    Open(OpenFor),
    Module,
    Firmware,
    Policy,
}

/// A file, the operations on it, and the users who perform them.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub(crate) file: FileSpec,
    pub(crate) deeds: Vec<(Deed, Who)>,
}

/// A user who performs an operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Who(pub(crate) Option<Credentials>);

impl Who {
    /// The IDs that the policy compares.
    fn ids(&self) -> Ids {
        let Some(credentials) = &self.0 else { return Ids::ROOT };
        let (uid, gid) = (credentials.uid, credentials.gid);
        let held = |bit: u64| {
            let held = match credentials.capabilities {
                Some(mask) => mask & bit != 0,
                None => uid.effective == 0,
            };
            match held {
                true => ima_format::policy::decide::Capability::Held,
                false => ima_format::policy::decide::Capability::Absent,
            }
        };
        Ids {
            uid: uid.real,
            euid: uid.effective,
            suid: uid.saved,
            gid: gid.real,
            egid: gid.effective,
            sgid: gid.saved,
            cap_setuid: held(lab::protocol::CAP_SETUID),
            cap_setgid: held(lab::protocol::CAP_SETGID),
        }
    }
}

on_each_kernel! {
    fn files_are_decided_as_predicted(kernel) {
        machine(kernel, AppraiseMode::Enforce, cases(ENFORCED))
    }

    fn what_is_only_logged_is_predicted(kernel) {
        machine(kernel, AppraiseMode::Log, cases(ENFORCED) * LOGGED / ENFORCED)
    }

    fn what_is_mended_is_predicted(kernel) {
        machine(kernel, AppraiseMode::Fix, cases(ENFORCED) * FIXED / ENFORCED)
    }
}

/// The observation of one operation.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    refused: bool,
    causes: Vec<String>,
    audited: usize,
}

fn machine(kernel: &Kernel, mode: AppraiseMode, count: usize) -> Result<()> {
    let offset = match kernel.series() {
        Series::Linux6_1 => 0,
        Series::Linux6_12 => 100,
        Series::Linux7 => 200,
    };
    let version = kernel.version().parse()?;
    let seed = seed(offset + mode as u64);
    let model = PolicyKernel { lsm_rules: LsmRules::Undefined, ..PolicyKernel::new(version) };
    let mut random = Random::new(seed);
    let store = KeyStore::create(Algorithm::P256)?;
    let files = Files::new(&store)?;
    let mut cases: Vec<Case> = (0..count).map(|number| case(number, &files, &mut random)).collect();
    if mode == AppraiseMode::Enforce {
        cases.extend(files::known_cases(count));
    }
    let text = rules::policy(&cases, &files, &model, &mut random);
    let reading = read(text.as_bytes(), &model, Loading::File);
    ensure!(reading.refusals.is_empty(), "{:?}", reading.refusals);
    let decider = Decider::new(&reading.policy, &model, mode);

    let mut guest = boot(kernel, mode, &store, &files, &cases, &text)?;
    let mut wrong = Vec::new();
    let mut listed: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let mut tally = [0_usize; 3];
    for case in &cases {
        let path = case.file.path();
        let mut known = Known::new(&files, &case.file);
        let mut inode = Inode::default();
        for (deed, who) in &case.deeds {
            let (predicted, measured) =
                predict(&decider, &case.file, *deed, who, &mut known, &mut inode);
            let observation = perform(&mut guest, &case.file, *deed, who)?;
            let seen = seen(&observation, *deed)
                .with_context(|| format!("{:?} of {:?}: {observation}", deed, case.file))?;
            tally[0] += 1;
            tally[1] += usize::from(seen.refused);
            tally[2] += usize::from(!seen.causes.is_empty());
            listed.entry(path.clone()).or_default().extend(measured);
            if seen != predicted {
                let rules: Vec<_> = text
                    .lines()
                    .filter(|line| line.ends_with(&format!("fgroup={}", case.file.group())))
                    .collect();
                let file = &case.file;
                wrong.push(format!(
                    "{deed:?} by {:?} of {file:?}\n  of {:?}\n  kernel {seen:?}\n  imactl {predicted:?}\n  {}\n{observation}",
                    who.0, case.deeds, rules.join("\n  ")
                ));
                // the prediction no longer knows the kernel's cached state
                break;
            }
        }
    }
    if wrong.is_empty() {
        wrong.extend(compare_lists(&mut guest, &listed)?);
    }
    let [deeds, refused, causes] = tally;
    println!(
        "{mode:?}, seed {seed}: {} cases, {deeds} operations, {refused} refused, {causes} audited",
        cases.len()
    );
    let shown = wrong.iter().take(12).cloned().collect::<Vec<_>>().join("\n\n");
    assert!(wrong.is_empty(), "{} disagreements:\n{shown}", wrong.len());
    // if all cases had the same result, the test would prove nothing
    let some = if mode == AppraiseMode::Enforce { refused } else { causes };
    assert!(some * 8 > deeds && some * 8 < deeds * 7, "{some} of {deeds}");
    Ok(())
}

fn boot(
    kernel: &Kernel,
    mode: AppraiseMode,
    store: &KeyStore,
    files: &Files,
    cases: &[Case],
    policy: &str,
) -> Result<Guest> {
    let initramfs = lab::image::Tree::small_initramfs(store, policy)?;
    initramfs.write("/interpreter", files::PROGRAM, 0o755)?;
    let module = "/test_firmware.ko";
    initramfs.take(&kernel.module("test_firmware")?, module)?;
    let (key, certificate) = store.module_key();
    kernel.sign_module(&initramfs.path(module), &key, &certificate)?;
    let initramfs = initramfs.initramfs()?;
    let disks = files.disks(cases)?;
    let mut machine = Machine::new(kernel)
        .trusting(&store.system_certificate()?)
        .trusting(&store.module_certificate()?)
        .append(match mode {
            AppraiseMode::Log => "ima_appraise=log",
            AppraiseMode::Fix => "ima_appraise=fix",
            _ => "ima_appraise=enforce",
        })
        .append("loglevel=1")
        .append("log_buf_len=16M")
        .append("firmware_class.path=/mnt")
        .initramfs(&initramfs);
    for (_, image) in &disks {
        machine = machine.disk(image, Disk::Discarded);
    }
    let mut guest = machine.boot()?;
    for (index, (system, _)) in disks.iter().enumerate() {
        let source = format!("/dev/vd{}", char::from(b'a' + index as u8));
        let (target, options) = (system.directory(), system.options());
        guest
            .request(Action::Mount {
                source,
                target,
                kind: system.name().to_owned(),
                access: system.access(),
                options,
            })?
            .is_allowed();
    }
    for system in [System::Tmpfs, System::Ramfs] {
        guest.mount(system.name(), system.name(), &system.directory())?.is_allowed();
    }
    // before a rule is in force
    for case in cases.iter().filter(|case| case.file.system == System::Vfat) {
        let (path, content) = (case.file.path(), case.file.bytes().into());
        guest.request(Action::Write { path, content, mode: case.file.mode })?.is_allowed();
    }
    for case in cases.iter().filter(|case| case.file.system.is_memory()) {
        let (from, to) = (case.file.original(), case.file.path());
        let attributes = match case.file.system {
            System::Tmpfs => Attributes::Kept,
            _ => Attributes::Dropped,
        };
        guest.request(Action::Copy { from, to: to.clone(), attributes })?.is_allowed();
        guest.request(Action::ChangeMode { path: to, mode: case.file.mode })?.is_allowed();
    }
    let load = Action::LoadModule { path: module.to_owned(), parameters: String::new() };
    guest.request(load)?.is_allowed();
    guest.load_policy("/etc/ima/ima_policy.default")?.is_allowed();
    Ok(guest)
}

fn perform(guest: &mut Guest, file: &FileSpec, deed: Deed, who: &Who) -> Result<Observation> {
    let path = file.path();
    let action = match deed {
        Deed::Execute => Action::Execute { argv: vec![path], environment: Vec::new() },
        Deed::Map => Action::MapExecutable { path },
        Deed::Protect => Action::ProtectExecutable { path },
        Deed::Open(access) => Action::Open { path, access },
        Deed::Module => Action::LoadModule { path, parameters: String::new() },
        Deed::Firmware => {
            Action::RequestFirmware { name: path.trim_start_matches("/mnt/").to_owned() }
        }
        Deed::Policy => Action::LoadPolicy { path },
    };
    match &who.0 {
        None => guest.request(action),
        Some(credentials) => guest.request_as(credentials, action),
    }
}

/// The observed behaviour of the kernel.
fn seen(observation: &Observation, deed: Deed) -> Result<Seen> {
    let refused = match (&observation.outcome, deed) {
        (Ok(Output::Exited { status, .. }), _) => match status {
            Status::Code(0) => false,
            Status::Signal(_) => true,
            Status::Code(_) => anyhow::bail!("an exit status of its own"),
        },
        (Ok(_), _) => false,
        (Err(failure), Deed::Protect) if failure.errno == Errno::EPERM => true,
        (Err(failure), _) if failure.errno == Errno::EACCES => true,
        // denied in the first directory, then not found in the others
        (Err(failure), Deed::Firmware) if failure.errno == Errno::ENOENT => true,
        // IMA allowed it, but it is not a module or policy
        (Err(failure), Deed::Module) => {
            ensure!(
                failure.errno == Errno::ENOEXEC
                    || failure.errno == Errno::EKEYREJECTED
                    || failure.errno == Errno::EBADMSG
                    || failure.errno == Errno::ENODATA
                    || failure.errno == Errno::EINVAL
            );
            false
        }
        (Err(failure), Deed::Policy) => {
            ensure!(failure.errno == Errno::EINVAL);
            false
        }
        (Err(failure), _) => anyhow::bail!("an error of another kind: {failure}"),
    };
    let causes = observation
        .integrity_failures()
        .filter(|record| record.kind == Kind::Data && record.operation() != Some("failed-mprotect"))
        .filter_map(|record| record.cause().map(str::to_owned))
        .filter(|cause| cause != "failed-mprotect")
        .collect();
    let audited = observation.audit.iter().filter(|record| record.kind == Kind::Rule).count();
    Ok(Seen { refused, causes, audited })
}

/// The result of `decide`, and the PCRs under which the file is measured.
fn predict(
    decider: &Decider<'_>,
    file: &FileSpec,
    deed: Deed,
    who: &Who,
    known: &mut Known<'_>,
    inode: &mut Inode,
) -> (Seen, Vec<u8>) {
    let caller = who.ids();
    let facts = file.facts(known.files);
    let script = file.content == Content::Script;
    let executed = if script {
        // its interpreter has no set-user-ID bit
        caller.executing(None, None)
    } else {
        caller.executing(file.setuid(), file.setgid())
    };
    let operation = match deed {
        Deed::Execute if script => Operation::ExecuteScript,
        Deed::Execute => Operation::Execute,
        Deed::Map => Operation::MapExecutable,
        Deed::Protect => Operation::Open(AccessSet::READ),
        Deed::Open(access) => Operation::Open(access_set(access)),
        Deed::Module => Operation::LoadModule,
        Deed::Firmware => Operation::LoadFirmware,
        Deed::Policy => Operation::LoadPolicy,
    };
    let mut predicted = Seen { refused: false, causes: Vec::new(), audited: 0 };
    let mut measured = Vec::new();
    let event_of = |func, access, credentials, facts: &FileFacts| Event {
        func,
        access,
        credentials,
        file: Some(facts.clone()),
        labels: Labels::None,
        data: None,
    };
    for asked in operation.events(decider.kernel().version) {
        let credentials = asked.behalf.credentials(&caller, &executed);
        let event = event_of(asked.func, asked.access, credentials, &facts);
        let attribute = known.attribute();
        let open = OpenFile {
            direct: deed == Deed::Open(OpenFor::ReadDirect),
            writable: is_written(deed),
            fixable: file.system != System::Squashfs,
            ..OpenFile::at_rest(file.size(), read_on(file.system, &attribute))
        };
        let outcome = decider.process(&event, &open, inode, known);
        let outcome = outcome.unwrap_or_else(|never| match never {});
        let spoken = outcome.causes.iter().filter(|cause| cause.operation().is_some());
        predicted.causes.extend(spoken.map(|cause| cause.name().to_owned()));
        predicted.audited += usize::from(outcome.audited);
        measured.extend(outcome.measured);
        if outcome.fixed {
            known.fix(decider.kernel());
        }
        if outcome.verdict == Verdict::Denied {
            predicted.refused = true;
            return (predicted, measured);
        }
    }
    // tmpfs counts changes since 6.6
    let uncounted = match file.system {
        System::Ext4 | System::Squashfs => false,
        System::Tmpfs => decider.kernel().version == KernelVersion::V6_1,
        System::Ramfs | System::Vfat => true,
    };
    if is_written(deed) && uncounted {
        let complaint = inode.complaint_at_close(known);
        let complaint = complaint.unwrap_or_else(|never| match never {});
        predicted.causes.extend(complaint.map(|cause| cause.name().to_owned()));
    }
    if deed == Deed::Protect {
        let event =
            event_of(ima_format::policy::ast::Func::MmapCheck, AccessSet::EXEC, caller, &facts);
        predicted.refused = decider.refuses_mprotect(&event);
    }
    (predicted, measured)
}

fn access_set(access: OpenFor) -> AccessSet {
    use ima_format::policy::ast::Access;
    match access {
        OpenFor::Read | OpenFor::ReadDirect => AccessSet::READ,
        OpenFor::Write => AccessSet::WRITE,
        OpenFor::Append => AccessSet::WRITE.with(Access::Append),
        OpenFor::ReadWrite => AccessSet::READ.with(Access::Write),
    }
}

/// Whether the file is opened for writing.
fn is_written(deed: Deed) -> bool {
    matches!(deed, Deed::Open(OpenFor::Write | OpenFor::Append | OpenFor::ReadWrite))
}

/// Compares the measurement list with the prediction for each file.
fn compare_lists(guest: &mut Guest, predicted: &BTreeMap<String, Vec<u8>>) -> Result<Vec<String>> {
    let list = guest.read("/sys/kernel/security/ima/ascii_runtime_measurements")?.text();
    let mut found: BTreeMap<&str, Vec<u8>> = BTreeMap::new();
    for line in list.lines() {
        let mut words = line.split(' ').filter(|word| !word.is_empty());
        let pcr = words.next().and_then(|word| word.parse().ok()).context("a PCR")?;
        if let Some(path) = words.find(|word| word.starts_with("/mnt/")) {
            found.entry(path).or_default().push(pcr);
        }
    }
    let mut wrong = Vec::new();
    for (path, pcrs) in predicted {
        let mut seen = found.remove(path.as_str()).unwrap_or_default();
        let mut pcrs = pcrs.clone();
        seen.sort_unstable();
        pcrs.sort_unstable();
        if seen != pcrs {
            wrong.push(format!("{path}: in the list for PCRs {seen:?}, predicted {pcrs:?}"));
        }
    }
    wrong.extend(found.keys().map(|path| format!("{path} is in the list, and is no case")));
    Ok(wrong)
}

/// A file, and one to three operations on it.
fn case(number: usize, files: &Files, random: &mut Random) -> Case {
    let file = files.spec(number, random);
    let mut deeds = Vec::new();
    for _ in 0..*random.weighted(&[(60, 1), (30, 2), (10, 3)]) {
        let deed = files::deed(&file, random);
        deeds.push((deed, files::who(deed, random)));
        if is_written(deed) {
            // closing it changes the kernel's cached state
            break;
        }
    }
    Case { file, deeds }
}
