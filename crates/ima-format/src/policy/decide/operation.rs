//! Operations of a process, as the sequence of events that the kernel makes of them.

use alloc::vec::Vec;

use super::event::Credentials;
use crate::policy::ast::{AccessSet, Func};
use crate::policy::kernel::{Feature, KernelVersion};

/// An operation on one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// It is executed, and is a program (ELF).
    Execute,
    /// It is executed, and is a script. Its interpreter is a separate file, which is executed too.
    ExecuteScript,
    /// It is the loader (`PT_INTERP`) of a program that is executed.
    LoadProgram,
    /// It is opened for reading and mapped with `PROT_EXEC`, as shared libraries are.
    MapExecutable,
    /// It is opened: for reading, writing, or both.
    Open(AccessSet),
    /// The kernel reads it as a module (`finit_module`).
    LoadModule,
    /// The kernel reads it as firmware.
    LoadFirmware,
    /// The kernel reads it as an IMA policy.
    LoadPolicy,
    /// The kernel reads it as a kernel (`kexec_file_load`).
    KexecKernel,
    /// The kernel reads it as an initramfs (`kexec_file_load`).
    KexecInitramfs,
}

/// The process whose credentials an event uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Behalf {
    /// The process that asked for the operation.
    Caller,
    /// The process during `execve`, before the set-user-ID bit takes effect: only its saved ids have changed.
    Prepared,
    /// The same with its future ids, but its present capabilities: `ima_match_rules` takes the ids from
    /// `bprm->cred`, the capabilities from `current`.
    Committing,
    /// The process after `execve`: a set-user-ID program has another effective user. If such an event is denied, the
    /// process is killed; the call does not return.
    Executed,
    /// The kernel itself, as root.
    Kernel,
}

impl Behalf {
    /// The credentials that are compared, when `caller` executes a program that makes it `executed`.
    pub fn credentials(self, caller: &Credentials, executed: &Credentials) -> Credentials {
        match self {
            Self::Caller => *caller,
            Self::Prepared => Credentials { suid: caller.euid, sgid: caller.egid, ..*caller },
            Self::Committing => Credentials {
                cap_setuid: caller.cap_setuid,
                cap_setgid: caller.cap_setgid,
                ..*executed
            },
            Self::Executed => *executed,
            Self::Kernel => Credentials::ROOT,
        }
    }
}

/// One event of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct OperationEvent {
    /// The hook.
    pub func: Func,
    /// The access.
    pub access: AccessSet,
    /// The credentials that are compared.
    pub behalf: Behalf,
}

impl Operation {
    /// Its events, in order. If one is denied, those after it do not happen.
    pub fn events(self, version: KernelVersion) -> Vec<OperationEvent> {
        let event = |func, access, behalf| OperationEvent { func, access, behalf };
        let exec = |func, behalf| event(func, AccessSet::EXEC, behalf);
        let read = |func, behalf| event(func, AccessSet::READ, behalf);
        let opened = |access| event(Func::FileCheck, access, Behalf::Caller);
        let mapped = |behalf| {
            let asked = version.has(Feature::MmapCheckReqprot);
            let asked = asked.then(|| exec(Func::MmapCheckReqprot, behalf));
            asked.into_iter().chain([exec(Func::MmapCheck, behalf)])
        };
        let creds_check = match version.has(Feature::CredsCheckSeesSetuid) {
            true => Behalf::Committing,
            false => Behalf::Prepared,
        };
        let executed = [
            opened(AccessSet::EXEC),
            exec(Func::BprmCheck, Behalf::Caller),
            exec(Func::CredsCheck, creds_check),
        ];
        let kernel_read = |func| [opened(AccessSet::READ), read(func, Behalf::Caller)].to_vec();
        match self {
            Self::Execute => executed.into_iter().chain(mapped(Behalf::Executed)).collect(),
            // with the final credentials, the hook sees the file of the last interpreter
            // (`bprm_creds_from_file`), which is an operation of its own
            Self::ExecuteScript if version.has(Feature::CredsCheckSeesSetuid) => {
                let [opened, checked, _] = executed;
                [opened, checked].to_vec()
            }
            Self::ExecuteScript => executed.to_vec(),
            Self::LoadProgram => {
                [opened(AccessSet::EXEC)].into_iter().chain(mapped(Behalf::Executed)).collect()
            }
            Self::MapExecutable => {
                [opened(AccessSet::READ)].into_iter().chain(mapped(Behalf::Caller)).collect()
            }
            Self::Open(access) => [opened(access)].to_vec(),
            Self::LoadModule => kernel_read(Func::ModuleCheck),
            Self::LoadFirmware => {
                [read(Func::FileCheck, Behalf::Kernel), read(Func::FirmwareCheck, Behalf::Kernel)]
                    .to_vec()
            }
            Self::LoadPolicy => kernel_read(Func::PolicyCheck),
            Self::KexecKernel => kernel_read(Func::KexecKernelCheck),
            Self::KexecInitramfs => kernel_read(Func::KexecInitramfsCheck),
        }
    }
}
