//! `imactl status`
//!
//! A value that cannot be read is unknown, never absent: without root most are hidden, and a script
//! that uses `--require` must not treat a hidden value as a good one.

use std::io;

use clap::{Args, ValueEnum};
use ima::system::{Appraisal, AppraiseMode, EvmState, Ima, Machine, Members, Status, BLACKLIST};
use ima_format::policy::ast::Func;
use ima_format::policy::decide::{AccessSet, Credentials, Decider, Event, FileFacts};
use ima_format::policy::{read, Loading};
use serde::Serialize;

use crate::error::Result;
use crate::output::{count, plural, Level, Output, Style};
use crate::Outcome;

/// Show what this machine's kernel measures, appraises and trusts
///
/// Root is not required, but without it some parts are unknown, and marked so. The exit status is 1
/// if the kernel has no IMA, securityfs is not mounted, or --require is not met.
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// Exit with status 1 unless the kernel is in this state
    #[arg(long, value_name = "STATE")]
    require: Option<Required>,
}

/// A state that a boot script or a service asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Required {
    /// Appraisal is enforced, and a rule demands signatures of executed files. Unknown parts count
    /// as missing: run it as root
    Enforced,
}

#[derive(Serialize)]
struct JsonPolicy<'a> {
    rules: Vec<&'a str>,
    actions: std::collections::BTreeMap<&'a str, u64>,
}

#[derive(Serialize)]
struct JsonKeyring<'a> {
    name: &'a str,
    state: &'static str,
    keys: Option<Vec<JsonKey<'a>>>,
}

#[derive(Serialize)]
struct JsonKey<'a> {
    key_id: Option<String>,
    description: &'a str,
}

#[derive(Serialize)]
struct JsonTpm<'a> {
    name: &'a str,
    version: Option<u8>,
    banks: &'a [String],
}

#[derive(Serialize)]
struct JsonUnseen<'a> {
    what: &'a str,
    why: &'a str,
}

impl StatusArgs {
    pub(crate) fn run(&self, output: &mut Output) -> Result<Outcome> {
        let status = Machine::here().status();
        print_json(&status, output)?;
        for (field, value) in lines(&status, output) {
            output.line(Level::Normal, format_args!("{field:<14} {value}"))?;
        }
        let missing = not_enforced(&status);
        if self.require == Some(Required::Enforced) && !missing.is_empty() {
            let word = output.paint(Style::Bad, "not enforced");
            output.line(Level::Quiet, format_args!("{word}: {}", missing.join("; ")))?;
            return Ok(Outcome::Finding);
        }
        Ok(if status.ima == Ima::Present { Outcome::Good } else { Outcome::Finding })
    }
}

/// The reasons why this kernel does not demand signatures of executed files; empty if it does.
fn not_enforced(status: &Status) -> Vec<&'static str> {
    if status.ima != Ima::Present {
        return vec!["the kernel has no IMA, or securityfs is not mounted"];
    }
    let mut missing = Vec::new();
    match status.appraisal.in_force {
        Some(AppraiseMode::Enforce) => {}
        Some(_) => missing.push("the appraisal mode is not enforce (ima_appraise=)"),
        None => missing.push("the appraisal mode is unknown"),
    }
    match status.policy.as_deref() {
        None => missing.push("the policy is not readable (root, and CONFIG_IMA_READ_POLICY)"),
        Some(policy) if !demands_signatures(policy) => {
            missing.push("no rule in force demands signatures of executed files");
        }
        Some(_) => {}
    }
    missing
}

/// Whether a policy, as the kernel shows it, demands a signature of a program that root owns and
/// executes. The first matching rule decides.
fn demands_signatures(policy: &str) -> bool {
    let kernel = super::policy::running();
    let reading = read(policy.as_bytes(), &kernel, Loading::ReadBack);
    let decider = Decider::new(&reading.policy, &kernel, AppraiseMode::Enforce);
    let execution =
        Event::on_file(Func::BprmCheck, AccessSet::EXEC, Credentials::ROOT, FileFacts::on_ext4());
    let decision = decider.decide(&execution);
    // a rule that imactl cannot parse could be the one that decides: treat as not demanded
    reading.refusals.is_empty() && decision.appraise.does() && decision.demands.signature
}

const fn word(ima: Ima) -> &'static str {
    match ima {
        Ima::Present => "present",
        Ima::NoSecurityfs => "unknown",
        Ima::Absent => "absent",
    }
}

/// The rules of a policy as the kernel shows it: one per line.
fn rules(policy: &str) -> Vec<&str> {
    policy.lines().map(str::trim).filter(|rule| !rule.is_empty()).collect()
}

fn actions<'a>(rules: &[&'a str]) -> std::collections::BTreeMap<&'a str, u64> {
    let mut actions = std::collections::BTreeMap::new();
    for action in rules.iter().filter_map(|rule| rule.split(' ').next()) {
        *actions.entry(action).or_default() += 1;
    }
    actions
}

fn print_json(status: &Status, output: &mut Output) -> io::Result<()> {
    let policy = status.policy.as_deref().map(|policy| {
        let rules = rules(policy);
        JsonPolicy { actions: actions(&rules), rules }
    });
    let keyrings = status.keyrings.iter().map(|keyring| JsonKeyring {
        name: &keyring.name,
        state: match keyring.members {
            Members::Absent => "absent",
            Members::Hidden => "hidden",
            Members::Unreadable => "unreadable",
            Members::Keys(_) => "shown",
        },
        keys: keyring.keys().map(|keys| keys.iter().map(json_key).collect()),
    });
    let tpms = status.tpms.iter();
    let tpms = tpms.map(|tpm| JsonTpm { name: &tpm.name, version: tpm.version, banks: &tpm.banks });
    let (evm, evm_state) = match status.evm {
        EvmState::Present(evm) => (Some(evm.0), "present"),
        EvmState::Absent => (None, "absent"),
        EvmState::Unknown => (None, "unknown"),
    };
    let covered = status.evm_xattrs.as_deref().map(|names| names.lines().collect::<Vec<_>>());
    let unseen = status.unseen.iter().map(|it| JsonUnseen { what: &it.what, why: &it.why });
    output
        .object("status")
        .field("release", &status.release)
        .field("ima", word(status.ima))
        .field("appraise", status.appraisal.in_force.map(AppraiseMode::name))
        .field("appraise_asked", status.appraisal.asked.name())
        .optional("appraise_reason", status.appraisal.reason)
        .field("arguments", &status.arguments)
        .field("policy", policy)
        .field("keyrings", keyrings.collect::<Vec<_>>())
        .field("measurements", status.measurements)
        .field("violations", status.violations)
        .field("template", &status.template)
        .field("hash", &status.hash)
        .field("tpms", tpms.collect::<Vec<_>>())
        .field("evm", evm)
        .field("evm_state", evm_state)
        .field("evm_xattrs", covered)
        .field("unseen", unseen.collect::<Vec<_>>())
        .field("not_enforced", not_enforced(status))
        .end()
}

fn json_key(key: &ima::system::Key) -> JsonKey<'_> {
    let key_id = key.key_id.map(|key_id| key_id.to_string());
    JsonKey { key_id, description: &key.description }
}

fn lines(status: &Status, output: &Output) -> Vec<(&'static str, String)> {
    let mut lines = vec![
        ("kernel", status.release.clone().unwrap_or_else(|| "?".to_owned())),
        (
            "IMA",
            match status.ima {
                Ima::Present => output.paint(Style::Good, "present"),
                Ima::Absent => output.paint(Style::Bad, "not in this kernel"),
                Ima::NoSecurityfs => output.paint(
                    Style::Bad,
                    "unknown: securityfs is not mounted \
                     (mount -t securityfs securityfs /sys/kernel/security)",
                ),
            },
        ),
    ];
    if !status.arguments.is_empty() {
        lines.push(("command line", status.arguments.join(" ")));
    }
    if status.ima == Ima::Present {
        lines.push(("appraisal", appraisal(status)));
        lines.push(("policy", policy(status)));
        let list = [status.template.as_deref(), status.hash.as_deref()];
        let list: Vec<_> = list.into_iter().flatten().collect();
        let number = |number: Option<u64>, noun| match number {
            Some(number) => count(number, noun),
            None => format!("? {}", plural(noun)),
        };
        let measured = number(status.measurements, "entry");
        let violated = number(status.violations, "violation");
        let list = if list.is_empty() { String::new() } else { format!(" ({})", list.join(", ")) };
        lines.push(("measured", format!("{measured}{list}, {violated}")));
    }
    keyrings(status, output, &mut lines);
    for tpm in &status.tpms {
        let version = tpm.version.map_or_else(|| "?".to_owned(), |version| format!("{version}.x"));
        let banks = if tpm.banks.is_empty() { "none shown".into() } else { tpm.banks.join(", ") };
        lines.push(("TPM", format!("{}, version {version}, PCR banks {banks}", tpm.name)));
    }
    if status.tpms.is_empty() {
        lines.push(("TPM", "none: measurements are not anchored".to_owned()));
    }
    lines.push((
        "EVM",
        match (status.evm, status.ima) {
            (EvmState::Present(evm), _) => evm.to_string(),
            (EvmState::Absent, _) => "not in this kernel".to_owned(),
            (EvmState::Unknown, Ima::NoSecurityfs) => {
                "unknown: securityfs is not mounted".to_owned()
            }
            (EvmState::Unknown, _) => "unknown: only root can see it".to_owned(),
        },
    ));
    if let Some(names) = &status.evm_xattrs {
        lines.push(("EVM covers", names.lines().collect::<Vec<_>>().join(", ")));
    }
    for unseen in &status.unseen {
        let text = format!("{}: {}", unseen.what, unseen.why);
        lines.push(("not seen", output.paint(Style::Dim, &text)));
    }
    lines
}

fn appraisal(status: &Status) -> String {
    let Appraisal { asked, in_force, reason } = status.appraisal;
    let mode = in_force.map_or("unknown", AppraiseMode::name);
    match reason {
        Some(reason) => format!("{mode}; the command line asks for {}: {reason}", asked.name()),
        None => format!("ima_appraise={mode}"),
    }
}

fn policy(status: &Status) -> String {
    let Some(policy) = &status.policy else {
        return "not readable here (root, and CONFIG_IMA_READ_POLICY)".to_owned();
    };
    let rules = rules(policy);
    let counts = actions(&rules);
    let counts: Vec<_> =
        counts.iter().map(|(action, number)| format!("{number} {action}")).collect();
    match rules.is_empty() {
        true => "no rule".to_owned(),
        false => format!("{}: {}", count(rules.len() as u64, "rule"), counts.join(", ")),
    }
}

fn keyrings(status: &Status, output: &Output, lines: &mut Vec<(&'static str, String)>) {
    for keyring in &status.keyrings {
        let seen = match &keyring.members {
            Members::Absent => "absent".to_owned(),
            Members::Hidden => "hidden: not seen without root".to_owned(),
            Members::Unreadable => "not readable here".to_owned(),
            Members::Keys(keys) => match keyring.name == BLACKLIST {
                true => count(keys.len() as u64, "entry"),
                false => count(keys.len() as u64, "key"),
            },
        };
        lines.push(("keyring", format!("{} {seen}", output.paint(Style::Bold, &keyring.name))));
        // firmware adds hundreds of entries
        let keys = keyring.keys().filter(|_| keyring.name != BLACKLIST);
        for key in keys.into_iter().flatten() {
            let key_id = key.key_id.map_or_else(|| "?".to_owned(), |key_id| key_id.to_string());
            lines.push(("", format!("  {key_id:<8} {}", key.description)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_the_policies_that_demand_signatures() {
        const RULE: &str = "appraise func=BPRM_CHECK euid=0 appraise_type=imasig \n";
        for (policy, demands) in [
            (RULE.to_owned(), true),
            ("appraise fowner=0 appraise_type=imasig\n".to_owned(), true),
            (format!("dont_appraise fsmagic=0x1021994 \n{RULE}"), true),
            (format!("dont_appraise func=BPRM_CHECK \n{RULE}"), false),
            (format!("{RULE}what is this\n"), false),
            ("appraise func=BPRM_CHECK \n".to_owned(), false),
            ("measure func=BPRM_CHECK\n".to_owned(), false),
            ("appraise func=MODULE_CHECK appraise_type=imasig\n".to_owned(), false),
            (String::new(), false),
        ] {
            assert_eq!(demands_signatures(&policy), demands, "{policy}");
        }
    }
}
