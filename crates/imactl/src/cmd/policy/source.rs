//! Policies as arguments: files, standard input, and built-in ones.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::Args;
use ima_format::policy::ast::{AppraiseType, Policy};
use ima_format::policy::builtin::{Builtin, Preset};
use ima_format::policy::diagnostic::Diagnostic;
use ima_format::policy::kernel::{Built, InForce};
use ima_format::policy::{read, Kernel, Loading};

use ima::input::{self, TEXT_MAX};
use ima::preflight::ModuleCheck;

use crate::error::{hinted, Context, Result};

/// The directory in which the kernel shows the policy in force.
const SECURITYFS: &str = "/sys/kernel/security";

/// The text of a policy.
#[derive(Debug)]
pub(super) struct PolicyText {
    /// The argument, for messages.
    pub(super) name: String,
    pub(super) bytes: Vec<u8>,
    /// How the kernel loads the text.
    pub(super) loading: Loading,
}

impl PolicyText {
    /// Reads the policy that an argument names.
    pub(super) fn of(argument: &Path, kernel: &Kernel) -> Result<Self> {
        let name = argument.display().to_string();
        let mut loading = Loading::File;
        let bytes = if let Some(name) = name.strip_prefix("builtin:") {
            builtin(name)?.text(kernel).into_bytes()
        } else if let Some(name) = name.strip_prefix("default:") {
            preset(name)?.text().as_bytes().to_vec()
        } else if name == "-" {
            input::read_stream(io::stdin(), TEXT_MAX).context("standard input")?
        } else {
            let text = input::read_path(argument, TEXT_MAX)?;
            if fs::canonicalize(argument).is_ok_and(|path| path.starts_with(SECURITYFS)) {
                loading = Loading::ReadBack;
            }
            text
        };
        let name = if name == "-" { String::from("standard input") } else { name };
        Ok(Self { name, bytes, loading })
    }
}

/// The kernel's built-in policy of this name.
pub(super) fn builtin(name: &str) -> Result<Builtin> {
    Builtin::from_name(name.as_bytes()).ok_or_else(|| {
        hinted(
            format!("no built-in policy is called {name:?}"),
            "known: arch, ima_tcb, tcb, secure_boot, appraise_tcb, critical_data",
        )
    })
}

fn preset(name: &str) -> Result<Preset> {
    Preset::from_name(name.as_bytes()).ok_or_else(|| {
        hinted(
            format!("no default policy is called {name:?}"),
            "known: default:appraise, default:strict, default:measure",
        )
    })
}

/// The rules that come before all policies, and that no policy replaces.
const ARCH: &str = "builtin:arch";

/// How the machine is booted
#[derive(Debug, Args)]
#[command(next_help_heading = "Kernel")]
pub(crate) struct BootArgs {
    /// The machine is booted under Secure Boot: a kernel with CONFIG_IMA_ARCH_POLICY has the rules of
    /// builtin:arch before all others and insists on the signatures of modules; every kernel ignores
    /// ima_appraise= unless it enforces
    #[arg(long)]
    secure_boot: bool,
}

impl BootArgs {
    pub(super) fn is_secure(&self) -> bool {
        self.secure_boot
    }

    /// The kernel insists on the signatures of modules if its configuration, or the rules of
    /// [`ARCH`], say so (`arch_get_ima_policy()`).
    pub(crate) fn module_check(&self, kernel: &Kernel) -> ModuleCheck {
        match (self.secure_boot, kernel.arch.policy, kernel.arch.module_sig) {
            _ if kernel.module_sig_force == Built::In => ModuleCheck::Enforced,
            (true, Built::In, Built::In) => ModuleCheck::Enforced,
            _ => ModuleCheck::Optional,
        }
    }

    /// The policies in the order of loading.
    pub(crate) fn load(&self, policies: &[PathBuf], kernel: &Kernel) -> Result<Loaded> {
        let named = policies.iter().any(|policy| policy.as_os_str() == ARCH);
        match self.secure_boot && !named && kernel.arch.policy == Built::In {
            true => Loaded::of(&[&[PathBuf::from(ARCH)], policies].concat(), kernel),
            false => Loaded::of(policies, kernel),
        }
    }
}

/// Policies loaded one after the other: the kernel appends each to those before it.
#[derive(Debug)]
pub(crate) struct Loaded {
    /// All rules.
    pub(crate) policy: Policy,
    /// The file and line of each rule.
    places: Vec<(String, usize)>,
}

impl Loaded {
    /// Whether a rule accepts an appended signature.
    pub(crate) fn allows_modsig(&self) -> bool {
        let mut types = self.policy.rules().filter_map(|rule| rule.appraise_type);
        types.any(AppraiseType::allows_modsig)
    }

    /// Reads policies; an error if `kernel` rejects one.
    pub(crate) fn of<P: AsRef<Path>>(arguments: &[P], kernel: &Kernel) -> Result<Self> {
        let mut loaded = Self { policy: Policy::default(), places: Vec::new() };
        let mut kernel = kernel.clone();
        for argument in arguments {
            let text = PolicyText::of(argument.as_ref(), &kernel)?;
            let reading = read(&text.bytes, &kernel, text.loading);
            if let Some(refusal) = reading.refusals.first() {
                let Diagnostic { message, location, .. } =
                    Diagnostic::of_refusal(refusal, &text.bytes);
                let column = location.map_or(1, |location| location.column);
                let place = format!("{}:{}:{column}", text.name, refusal.line);
                return Err(hinted(
                    format!("{place}: {message}: Linux {} rejects this policy", kernel.version),
                    "imactl policy check shows all errors",
                ));
            }
            let lines = reading.policy.positioned_rules().map(|(place, _)| place.line);
            loaded.places.extend(lines.map(|line| (text.name.clone(), line)));
            loaded.policy.items.extend(reading.policy.items);
            // the kernel adds these rules before the first custom policy
            if text.name != ARCH {
                kernel.in_force = InForce::Custom;
            }
        }
        Ok(loaded)
    }

    /// The location of a rule, counted from 0: `FILE:LINE`.
    pub(crate) fn place(&self, rule: usize) -> String {
        match self.places.get(rule) {
            Some((name, line)) => format!("{name}:{line}"),
            None => format!("rule {}", rule + 1),
        }
    }

    /// The file and line of a rule, counted from 0.
    pub(crate) fn file_and_line(&self, rule: usize) -> Option<(&str, usize)> {
        self.places.get(rule).map(|(name, line)| (name.as_str(), *line))
    }
}
