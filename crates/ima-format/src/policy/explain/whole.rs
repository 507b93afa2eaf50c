//! The effect of a whole policy, from its decisions.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::Topic;
use crate::policy::ast::{Action, Func, Key, Policy, Rule};
use crate::policy::builtin::Builtin;
use crate::policy::decide::{
    AccessSet, Choice, Credentials, Decider, Event, FileFacts, Kind, Operation,
};
use crate::policy::filesystem::{FileSystem, Purpose, FILE_SYSTEMS};
use crate::policy::kernel::{needed_options, Built, Configuration, Needed};

/// The topics that have statements.
pub(super) fn topics(decider: &Decider<'_>) -> Vec<Topic> {
    let whole = Whole { decider };
    [
        Topic { title: "allowed to run", statements: whole.running() },
        Topic { title: "accepted by the kernel", statements: whole.kernel_reads() },
        Topic { title: "allowed to be written", statements: whole.writing() },
        Topic { title: "recorded", statements: whole.records() },
        Topic { title: "not restricted", statements: whole.open() },
        Topic { title: "dependent on the kernel's configuration", statements: whole.options() },
    ]
    .into_iter()
    .filter(|topic| !topic.statements.is_empty())
    .collect()
}

struct Whole<'a> {
    decider: &'a Decider<'a>,
}

/// The requirement for an access, from the weakest to the strongest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Wants {
    Nothing,
    Digest,
    Signature,
}

impl Wants {
    const fn text(self) -> &'static str {
        match self {
            Self::Nothing => "anything",
            Self::Digest => "files with a good digest or signature",
            Self::Signature => "signed files",
        }
    }
}

const USER: Credentials = Credentials::user(1000, 1000);

/// A process that has given up root's id and kept some capability, but not those to change ids.
const CAPABLE: Credentials = USER;

impl Whole<'_> {
    /// The requirement for an operation on an ordinary file of root.
    fn wants(&self, operation: Operation, caller: Credentials, executed: Credentials) -> Wants {
        self.wants_on(operation, caller, executed, &FileFacts::on_ext4())
    }

    fn wants_on(
        &self,
        operation: Operation,
        caller: Credentials,
        executed: Credentials,
        file: &FileFacts,
    ) -> Wants {
        let events = operation.events(self.decider.kernel().version);
        let wants = events.into_iter().map(|event| {
            let credentials = event.behalf.credentials(&caller, &executed);
            let event = Event::on_file(event.func, event.access, credentials, file.clone());
            let decision = self.decider.decide(&event);
            match (decision.appraise, decision.demands.signature) {
                (Choice::Do(_), true) => Wants::Signature,
                (Choice::Do(_), false) => Wants::Digest,
                _ => Wants::Nothing,
            }
        });
        wants.max().unwrap_or(Wants::Nothing)
    }

    /// The options that rules need, if the configuration is unknown or lacks them.
    fn options(&self) -> Vec<String> {
        let kernel = self.decider.kernel();
        let needed = self.decider.rules().iter().flat_map(|rule| needed_options(rule));
        let mut needed: Vec<_> = needed.map(|(key, needed)| (needed.option, key, needed)).collect();
        needed.sort_by_key(|(option, ..)| *option);
        needed.dedup_by_key(|(option, ..)| *option);
        let statement = |(option, key, needed): (&str, Key, Needed)| {
            let key = key.name();
            match (kernel.configuration, (needed.built)(kernel)) {
                (Configuration::Assumed, _) => Some(format!("Rules with {key} need {option}.")),
                (Configuration::Read, Built::Out) => {
                    Some(format!("Rules with {key} need {option}, which this kernel lacks."))
                }
                (Configuration::Read, Built::In) => None,
            }
        };
        let mut statements: Vec<_> = needed.into_iter().filter_map(statement).collect();
        if kernel.appraise == Built::Out && self.appraises() {
            let text = "This kernel lacks CONFIG_IMA_APPRAISE: nothing is appraised.";
            statements.push(text.to_string());
        }
        let arch = kernel.configuration == Configuration::Read && kernel.arch.policy == Built::In;
        if arch && !self.starts_with_arch() {
            let text = "Under Secure Boot the rules of builtin:arch come before these.";
            statements.push(text.to_string());
        }
        statements
    }

    /// Whether the rules of builtin:arch are the first of these.
    fn starts_with_arch(&self) -> bool {
        let kernel = self.decider.kernel();
        let text = Builtin::Arch.text(kernel);
        let mut rules = self.decider.rules().iter().copied();
        Policy::parse(text.as_bytes(), kernel)
            .is_ok_and(|arch| arch.rules().all(|rule| rules.next() == Some(rule)))
    }

    fn appraises(&self) -> bool {
        self.decider.active_kinds().contains(&Kind::Appraise)
    }

    fn running(&self) -> Vec<String> {
        let mut statements = Vec::new();
        if !self.appraises() {
            return ["Anybody may run anything: nothing is appraised.".to_string()].into();
        }
        for (who, caller) in [("Root", Credentials::ROOT), ("Other users", USER)] {
            let executed = caller.executing(None, None);
            let programs = self.wants(Operation::Execute, caller, executed);
            let scripts = self.wants(Operation::ExecuteScript, caller, executed);
            let libraries = self.wants(Operation::MapExecutable, caller, executed);
            if programs == scripts && programs == libraries {
                let text = programs.text();
                statements.push(format!("{who}: programs, scripts and shared libraries: {text}."));
                continue;
            }
            for (what, wants) in
                [("programs", programs), ("scripts", scripts), ("shared libraries", libraries)]
            {
                statements.push(format!("{who}: {what}: {}.", wants.text()));
            }
        }
        let setuid = self.wants(Operation::Execute, USER, USER.executing(Some(0), None));
        let text = setuid.text();
        statements.push(format!("Set-user-ID programs of root's, by other users: {text}."));
        statements
    }

    fn kernel_reads(&self) -> Vec<String> {
        if !self.appraises() {
            return Vec::new();
        }
        let operations = [
            ("Modules", Operation::LoadModule),
            ("Firmware", Operation::LoadFirmware),
            ("Policies", Operation::LoadPolicy),
            ("Kernels by kexec", Operation::KexecKernel),
            ("Initramfs images by kexec", Operation::KexecInitramfs),
        ];
        let mut statements: Vec<_> = operations
            .into_iter()
            .map(|(what, operation)| {
                let root = self.wants(operation, Credentials::ROOT, Credentials::ROOT);
                let other = self.wants(operation, CAPABLE, CAPABLE);
                if other < root {
                    let (root, other) = (root.text(), other.text());
                    return format!(
                        "{what}: {root}; of a process with the capability but not root's id: \
                         {other}."
                    );
                }
                let mut statement = format!("{what}: {}", root.text());
                for wants in [Wants::Digest, Wants::Nothing] {
                    let places = self.places(operation, |on| on == wants && on < root);
                    if !places.is_empty() {
                        statement += &format!("; from {}: {}", places.join(", "), wants.text());
                    }
                }
                statement + "."
            })
            .collect();
        for (func, refused) in [
            (Func::PolicyCheck, "Rules written as text are rejected: a policy has to be a file."),
            (
                Func::ModuleCheck,
                "init_module is denied, unless the kernel itself insists on module signatures.",
            ),
            (Func::KexecKernelCheck, "kexec_load is denied: a kernel has to be a file."),
        ] {
            if self.decider.has_appraise_rule(func) {
                statements.push(refused.to_string());
            }
        }
        statements
    }

    fn writing(&self) -> Vec<String> {
        let mut statements = Vec::new();
        let write = Operation::Open(AccessSet::WRITE);
        let wants = self.wants(write, Credentials::ROOT, Credentials::ROOT);
        if wants > Wants::Nothing {
            statements.push(String::from(
                "Signed files cannot be opened for writing, even by root; they are replaced.",
            ));
        }
        if wants == Wants::Digest {
            statements.push(String::from(
                "The digest of a file without a signature follows when it is written.",
            ));
        }
        if let Some(algorithms) = self.decider.setxattr_algorithms() {
            let algorithms = algorithms.to_string().replace(',', ", ");
            statements.push(format!("security.ima is written with {algorithms} only."));
        }
        let mapped = Event::on_file(
            Func::MmapCheck,
            AccessSet::EXEC,
            Credentials::ROOT,
            FileFacts::on_ext4(),
        );
        if self.decider.refuses_mprotect(&mapped) {
            statements.push(String::from(
                "A mapping of a file cannot be made executable afterwards by root.",
            ));
        }
        statements
    }

    fn records(&self) -> Vec<String> {
        let read = AccessSet::READ;
        let uses: [(&str, &str, Func, AccessSet); 4] = [
            ("executes", "execute", Func::BprmCheck, AccessSet::EXEC),
            ("maps to be executed", "map to be executed", Func::MmapCheck, AccessSet::EXEC),
            ("opens for reading", "open for reading", Func::FileCheck, read),
            ("opens for writing", "open for writing", Func::FileCheck, AccessSet::WRITE),
        ];
        let mut statements = Vec::new();
        for (kind, verb) in [
            (Kind::Measure, "measured"),
            (Kind::Audit, "audited"),
            (Kind::Hash, "given its digest in security.ima"),
        ] {
            for (who, credentials) in [("root", Credentials::ROOT), ("other users", USER)] {
                let done: Vec<_> = uses
                    .iter()
                    .filter(|(.., func, access)| self.does(kind, *func, *access, credentials))
                    .map(|(one, many, ..)| if credentials == USER { *many } else { *one })
                    .collect();
                if !done.is_empty() {
                    statements.push(format!("Files that {who} {} are {verb}.", done.join(", ")));
                }
            }
            let taken: Vec<_> = [
                ("modules", Func::ModuleCheck),
                ("firmware", Func::FirmwareCheck),
                ("policies", Func::PolicyCheck),
                ("kernels by kexec", Func::KexecKernelCheck),
            ]
            .into_iter()
            .filter(|(_, func)| self.does(kind, *func, read, Credentials::ROOT))
            .map(|(what, _)| what)
            .collect();
            if !taken.is_empty() {
                statements
                    .push(format!("Files that the kernel reads are {verb}: {}.", taken.join(", ")));
            }
        }
        statements.extend(self.unmeasured());
        let rules = self.decider.rules().iter();
        let data = |func: Func| {
            rules.clone().any(|rule| rule.action == Action::Measure && rule.func == Some(func))
        };
        for (func, what) in [
            (Func::CriticalData, "Data that subsystems report as critical is measured."),
            (Func::KexecCmdline, "The command line of a kernel for kexec is measured."),
        ] {
            if data(func) {
                statements.push(what.to_string());
            }
        }
        statements.extend(self.keyrings());
        statements
    }

    /// File systems whose files are not measured, although those of others are.
    fn unmeasured(&self) -> Option<String> {
        let root = Credentials::ROOT;
        let measured = |func, access, file: &FileFacts| {
            let event = Event::on_file(func, access, root, file.clone());
            self.decider.decide(&event).measure.does()
        };
        let hooks = [
            (Func::BprmCheck, AccessSet::EXEC),
            (Func::MmapCheck, AccessSet::EXEC),
            (Func::FileCheck, AccessSet::READ),
        ];
        let ordinary = FileFacts::on_ext4();
        let left_out = |fsmagic: u64, name: &str| {
            let file =
                FileFacts { fsmagic, fsname: name.as_bytes().to_vec(), ..FileFacts::on_ext4() };
            hooks.iter().any(|(func, access)| {
                measured(*func, *access, &ordinary) && !measured(*func, *access, &file)
            })
        };
        let mut names: Vec<_> = FILE_SYSTEMS
            .iter()
            .filter(|system| left_out(system.magic, system.name))
            .map(|system| system.name)
            .collect();
        names.sort_unstable();
        names.dedup();
        let names = names.join(", ");
        (!names.is_empty()).then(|| format!("Not measured, or not all of it: files on {names}."))
    }

    /// The keyrings whose keys are measured.
    fn keyrings(&self) -> Option<String> {
        let rules = self
            .decider
            .rules()
            .iter()
            .filter(|rule| rule.action == Action::Measure && rule.func == Some(Func::KeyCheck));
        let mut named: Vec<String> = Vec::new();
        for rule in rules {
            match &rule.keyrings {
                None => return Some("Keys that are added to keyrings are measured.".to_string()),
                Some(list) => named.extend(list.names().iter().map(|name| name.to_text())),
            }
        }
        let named = named.join(", ");
        (!named.is_empty()).then(|| format!("Keys that are added to {named} are measured."))
    }

    fn does(&self, kind: Kind, func: Func, access: AccessSet, credentials: Credentials) -> bool {
        let event = Event::on_file(func, access, credentials, FileFacts::on_ext4());
        self.decider.decide(&event).choice(kind).does()
    }

    /// File systems on which an operation by root has this requirement.
    fn places(&self, operation: Operation, wanted: impl Fn(Wants) -> bool) -> Vec<&'static str> {
        let root = Credentials::ROOT;
        let takes = |system: &&FileSystem| {
            let fsname = system.name.as_bytes().to_vec();
            let file = FileFacts { fsmagic: system.magic, fsname, ..FileFacts::on_ext4() };
            wanted(self.wants_on(operation, root, root, &file))
        };
        let files = FILE_SYSTEMS.iter().filter(|system| system.purpose != Purpose::Pseudo);
        let mut names: Vec<_> = files.filter(takes).map(|system| system.name).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    fn open(&self) -> Vec<String> {
        let mut statements = Vec::new();
        let root = Credentials::ROOT;
        if !self.appraises() {
            statements.push(String::from(
                "Everything: nothing is denied, and changed files run. A record counts as far \
                 as somebody compares it, away from this machine.",
            ));
            let unseen: Vec<_> = [
                ("programs", Func::BprmCheck, AccessSet::EXEC),
                ("shared libraries", Func::MmapCheck, AccessSet::EXEC),
                ("modules", Func::ModuleCheck, AccessSet::READ),
                ("firmware", Func::FirmwareCheck, AccessSet::READ),
                ("policies", Func::PolicyCheck, AccessSet::READ),
            ]
            .into_iter()
            .filter(|(_, func, access)| !self.does(Kind::Measure, *func, *access, root))
            .map(|(what, ..)| what)
            .collect();
            if !unseen.is_empty() {
                let unseen = unseen.join(", ");
                statements.push(format!("Root uses these without any measurement: {unseen}."));
            }
            return statements;
        }
        let executes = self.wants(Operation::Execute, root, root);
        let reads = self.wants(Operation::Open(AccessSet::READ), root, root);
        if executes > reads {
            statements.push(String::from(
                "A script given to its interpreter as an argument (sh script.sh) is data, and \
                 what root opens as data is not appraised like programs.",
            ));
        }
        let unheld = self.places(Operation::Execute, |on| on < executes);
        if !unheld.is_empty() {
            statements.push(format!("From {}, root runs any program.", unheld.join(", ")));
        }
        let of_users = FileFacts { owner: 1000, group: 1000, ..FileFacts::on_ext4() };
        if self.wants_on(Operation::Execute, root, root, &of_users) < executes {
            statements.push(String::from("Files of other users are run by root as they are."));
        }
        let any = |test: &dyn Fn(&Rule) -> bool| self.decider.rules().iter().any(|rule| test(rule));
        if any(&|rule| rule.action == Action::Appraise && rule.permit_directio) {
            statements.push(String::from("Files opened with O_DIRECT may pass unchecked."));
        }
        let weak = |rule: &Rule| rule.action == Action::Appraise && rule.appraise_type.is_none();
        if any(&|rule| weak(rule) && rule.func != Some(Func::SetxattrCheck)) {
            statements.push(String::from(
                "Where a digest is enough, anyone who can write a file as root, or offline, can \
                 also write its digest; only EVM binds digests to this machine.",
            ));
        }
        if any(&|rule| !rule.labels.is_empty()) {
            statements.push(String::from(
                "Rules about labels were taken not to match: what they do depends on the \
                 security module.",
            ));
        }
        statements
    }
}
