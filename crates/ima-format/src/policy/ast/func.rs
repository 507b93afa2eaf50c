//! The hooks at which the kernel consults its policy, as one table.

use core::fmt;

use super::{Access, AccessSet, Key, KeyClass};
use crate::policy::version::Feature;

/// The cache flag of a hook's appraisal result (`IMA_*_APPRAISE`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)] // the kernel's names
pub enum Subaction {
    File,
    Mmap,
    Bprm,
    Read,
    Creds,
}

/// The keys that a rule with a hook may have (`ima_validate_rule`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// A file.
    File,
    /// A file that may have an appended signature.
    AppendedSignature,
    /// Kexec's command line; the kernel file is known.
    Cmdline,
    /// A key.
    Key,
    /// Data of a subsystem.
    Data,
    /// The change of an attribute.
    Setxattr,
}

macro_rules! hooks {
    ($($(#[$doc:meta])* $variant:ident $name:literal $form:ident $subaction:ident $access:ident
        $since:expr;)+) => {
        /// `enum ima_hooks`: where the kernel consults its policy.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Func {
            $($(#[$doc])* $variant,)+
        }

        impl Func {
            /// All hooks, in the kernel's order.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// Its spelling in a policy.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }

            /// The feature that added it; `None` if every version of the table has it.
            pub const fn since(self) -> Option<Feature> {
                match self {
                    $(Self::$variant => $since,)+
                }
            }

            /// The cache flag of the appraisal result for this hook (`ima_get_cache_status`).
            pub const fn subaction(self) -> Subaction {
                match self {
                    $(Self::$variant => Subaction::$subaction,)+
                }
            }

            /// The access with which the kernel always calls the hook; `MAY_READ` for `FILE_CHECK`, which is called
            /// with any.
            pub const fn access(self) -> AccessSet {
                match self {
                    $(Self::$variant => AccessSet::$access,)+
                }
            }

            const fn form(self) -> Form {
                match self {
                    $(Self::$variant => Form::$form,)+
                }
            }
        }
    };
}

hooks! {
    /// A file is opened (also spelled `PATH_CHECK`).
    FileCheck "FILE_CHECK" File File READ None;
    /// A file is mapped with `PROT_EXEC` in effect (also spelled `FILE_MMAP`).
    MmapCheck "MMAP_CHECK" File Mmap EXEC None;
    /// A file is mapped with `PROT_EXEC` requested.
    MmapCheckReqprot "MMAP_CHECK_REQPROT" File Mmap EXEC Some(Feature::MmapCheckReqprot);
    /// A program is executed; the credentials are those of the caller.
    BprmCheck "BPRM_CHECK" File Bprm EXEC None;
    /// A program is executed; the credentials are those of the new program.
    CredsCheck "CREDS_CHECK" File Creds EXEC None;
    /// Owner, mode or times were changed; no rule can name it.
    PostSetattr "POST_SETATTR" File File NONE None;
    /// The kernel reads a module from a file.
    ModuleCheck "MODULE_CHECK" AppendedSignature Read READ None;
    /// The kernel reads firmware from a file.
    FirmwareCheck "FIRMWARE_CHECK" File Read READ None;
    /// `kexec_file_load` reads a kernel.
    KexecKernelCheck "KEXEC_KERNEL_CHECK" AppendedSignature Read READ None;
    /// `kexec_file_load` reads an initramfs.
    KexecInitramfsCheck "KEXEC_INITRAMFS_CHECK" AppendedSignature Read READ None;
    /// The kernel reads an IMA policy from a file; since Linux 7.3 it is also called, without a file, for a policy
    /// that is written as text.
    PolicyCheck "POLICY_CHECK" File Read READ None;
    /// The command line of a kernel that kexec will start.
    KexecCmdline "KEXEC_CMDLINE" Cmdline Read NONE None;
    /// A key is created or updated.
    KeyCheck "KEY_CHECK" Key Read NONE None;
    /// Kernel data that a subsystem passes to IMA.
    CriticalData "CRITICAL_DATA" Data Read NONE Some(Feature::CriticalData);
    /// `security.ima` is written: which hash algorithms it may use.
    SetxattrCheck "SETXATTR_CHECK" Setxattr Read NONE Some(Feature::AppraiseAlgos);
}

impl Func {
    /// The old spellings that the kernel still accepts.
    pub const ALIASES: &'static [(&'static str, Self)] =
        &[("PATH_CHECK", Self::FileCheck), ("FILE_MMAP", Self::MmapCheck)];

    /// The hook with exactly this spelling.
    pub fn from_name(name: &[u8]) -> Option<Self> {
        Self::ALL.iter().copied().find(|value| value.name().as_bytes() == name)
    }

    /// Whether a file may have an appended signature.
    pub fn takes_appended_signature(self) -> bool {
        self.form() == Form::AppendedSignature
    }

    /// Whether a rule with this `func=`, or without one, may have `key`.
    pub fn takes(func: Option<Self>, key: Key) -> bool {
        use KeyClass::{Any, FileSystem, Label, Owner, Subject};
        let of_a_file = matches!(key.class(), FileSystem | Subject | Owner | Label);
        let option = matches!(
            key,
            Key::Mask | Key::Pcr | Key::PermitDirectio | Key::AppraiseAlgos | Key::AppraiseType
        );
        key.class() == Any
            || match func.map_or(Form::File, Self::form) {
                Form::File => of_a_file || option || key == Key::DigestType,
                Form::AppendedSignature => of_a_file || option || key == Key::AppraiseFlag,
                Form::Cmdline => of_a_file || key == Key::Pcr,
                Form::Key => matches!(key, Key::Uid | Key::Gid | Key::Pcr | Key::Keyrings),
                Form::Data => matches!(key, Key::Uid | Key::Gid | Key::Pcr | Key::Label),
                Form::Setxattr => key == Key::AppraiseAlgos || key.class() == Label,
            }
    }

    /// Whether the hook is ever called with exactly this access, which `mask=` compares.
    pub fn is_asked_with(self, access: Access) -> bool {
        match self {
            Self::FileCheck => access != Access::Append,
            _ => self.access().is_exactly(access),
        }
    }
}

impl fmt::Display for Func {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
