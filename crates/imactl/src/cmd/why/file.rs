//! Why a file of this machine is denied.

use std::io;
use std::path::Path;

use ima::preflight::{Answer, Attributes, Refusal, Unknown};
use ima::system::{Appraisal, AppraiseMode, EvmState};
use ima::verify::Verdict;
use ima::why::{self, Account};
use ima_format::policy::decide::{Cause, Operation};
use ima_format::policy::Kernel;
use serde::Serialize;

use super::{cause, ActiveEvm, Held, Trust};
use crate::cmd::policy::Loaded;
use crate::error::Result;
use crate::output::{Level, Output, Style};
use crate::printable::shell_word;
use crate::Outcome;

/// The state of the machine that files are checked against.
pub(super) struct Grounds<'a> {
    pub(super) loaded: &'a Loaded,
    pub(super) kernel: &'a Kernel,
    pub(super) appraisal: Appraisal,
    pub(super) evm: EvmState,
    pub(super) trust: &'a Trust,
    /// EVM and its keys, if it is active.
    pub(super) active: Option<&'a ActiveEvm>,
    pub(super) ask: bool,
}

#[derive(Serialize)]
struct JsonEvm {
    state: &'static str,
    considered: bool,
    attribute: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    verdict: Option<String>,
}

#[derive(Serialize)]
struct JsonUse {
    #[serde(rename = "use")]
    operation: &'static str,
    answer: &'static str,
    cause: Option<&'static str>,
    rule: Option<String>,
}

pub(super) fn explain(path: &Path, grounds: &Grounds<'_>, output: &mut Output) -> Result<Outcome> {
    let asked = why::Grounds {
        policy: &grounds.loaded.policy,
        kernel: grounds.kernel,
        trusted: &grounds.trust.trusted,
        others: &grounds.trust.others,
        revoked: &grounds.trust.revoked,
        evm: grounds.active.map(|active| &active.evm),
        evm_others: grounds.active.and_then(|active| active.others.as_deref()),
    };
    let account = match why::ask(path, &asked) {
        Ok(account) => account,
        Err(error) => {
            let text = error.to_string();
            output.json(&serde_json::json!({
                "type": "error", "path": path.to_string_lossy(), "error": text
            }))?;
            output.complain(Style::Bad, "error:", &text);
            return Ok(Outcome::Failed);
        }
    };
    let told = Told { account: &account, grounds };
    let asked = grounds.ask.then(|| match why::map_executable(&account.path) {
        Ok(()) => "mapped it executable".to_owned(),
        Err(error) => format!("denied mapping it executable: {error}"),
    });
    match output.is_json() {
        true => told.print_json(asked.as_deref(), output)?,
        false => told.print(asked.as_deref(), output)?,
    }
    Ok(match told.first() {
        answer if told.depends_on_unseen_keys(answer) => Outcome::Failed,
        Answer::Denied(_) if told.key_not_at_hand().is_some() => Outcome::Failed,
        Answer::Denied(_) => Outcome::Finding,
        Answer::Unknown(_) => Outcome::Failed,
        Answer::Allowed { .. } => Outcome::Good,
    })
}

struct Told<'a> {
    account: &'a Account,
    grounds: &'a Grounds<'a>,
}

impl Told<'_> {
    /// The kernel's answer for the file's main purpose.
    fn first(&self) -> &Answer {
        const UNTOUCHED: &Answer = &Answer::Allowed { appraised: false };
        self.account.answers.first().map_or(UNTOUCHED, |(_, answer)| answer)
    }

    /// The key ID of the signature, if `.ima` has that key and its certificate is not available.
    fn key_not_at_hand(&self) -> Option<ima::KeyId> {
        let Verdict::UnknownKey(key_id) = self.account.attribute else { return None };
        if self.grounds.trust.is_revoked(key_id) {
            return None;
        }
        match &self.grounds.trust.held {
            Held::Keys(held) => held.contains(&key_id).then_some(key_id),
            Held::NoKeyring | Held::Unseen => None,
        }
    }

    /// Whether an answer depends on keys in `.ima` that cannot be read.
    fn depends_on_unseen_keys(&self, answer: &Answer) -> bool {
        let by_key = match answer {
            Answer::Allowed { appraised } => {
                *appraised && matches!(self.account.attribute, Verdict::ValidSignature { .. })
            }
            Answer::Denied(refusal) => {
                refusal.cause == Cause::InvalidSignature
                    && matches!(self.account.attribute, Verdict::UnknownKey(key_id)
                        if !self.grounds.trust.is_revoked(key_id))
            }
            Answer::Unknown(_) => false,
        };
        by_key && self.grounds.trust.held == Held::Unseen
    }

    /// The reason for the first denial, and how to fix it.
    fn reason(&self) -> Option<(String, String)> {
        let account = self.account;
        let refused = account.answers.iter().find_map(|(_, answer)| match answer {
            Answer::Denied(refusal) => Some(refusal),
            _ => None,
        })?;
        // specific causes first: the match at the end assumes that only the attribute is at fault
        if let (Some(verdict), Some(meaning)) = (&account.evm, of_evm(refused.cause)) {
            return Some((verdict.to_string(), meaning.fix.into()));
        }
        let path = shell_word(&account.path);
        let sign = format!("imactl sign --keys DIR {path}");
        let name = &account.mount.name;
        if account.mount.attributes == Attributes::None {
            return Some((
                format!("{name} does not support security.ima: no file on it can be signed"),
                "move it to a file system with security attributes: ext4, squashfs, erofs".into(),
            ));
        }
        if refused.cause == Cause::DeniedHashAlgorithm {
            return Some((
                format!("{}, and the rule's appraise_algos= allows others", account.attribute),
                format!("imactl sign --hash sha256 --keys DIR {path}"),
            ));
        }
        if refused.cause == Cause::Blacklisted {
            return Some((
                "its digest is in the kernel's .blacklist: this content is revoked".into(),
                "install a version of it that is not; the entry itself stays until the next boot"
                    .into(),
            ));
        }
        if let Some(revoked) = self.revoked_key(&sign) {
            return Some(revoked);
        }
        if let (Held::Unseen, Verdict::UnknownKey(key_id)) =
            (&self.grounds.trust.held, &account.attribute)
        {
            return Some((
                format!("signed by key {key_id}; the keys in .ima cannot be read"),
                "run it as root, or ask the kernel with --ask".into(),
            ));
        }
        if let Some(key_id) = self.key_not_at_hand() {
            return Some((
                format!(
                    "signed by key {key_id}, which is in .ima; without its certificate the \
                signature cannot be checked here"
                ),
                "give the certificate with --cert, or ask the kernel with --ask".into(),
            ));
        }
        Some(match &account.attribute {
            Verdict::Missing(_) => ("it has no signature".into(), sign),
            Verdict::DigestOnly { matches: true } => {
                ("it has a digest, and the rule demands a signature".into(), sign)
            }
            Verdict::DigestOnly { matches: false } | Verdict::InvalidHash => {
                ("its digest does not match: it was changed".into(), sign)
            }
            Verdict::UnknownKey(key_id) => self.unknown_key(*key_id, sign),
            Verdict::InvalidSignature(key_id) => match &account.signer {
                Some(signer) => (
                    format!(
                        "the signature names key {key_id}, but was made by key {} ({})",
                        signer.key_id(),
                        signer.subject()
                    ),
                    sign,
                ),
                None => (
                    format!(
                        "key {key_id} did not sign this content: it was changed after it was \
                    signed"
                    ),
                    format!("reinstall it, or, if the change is intended: {sign}"),
                ),
            },
            Verdict::Malformed { error, .. } => {
                (format!("its attribute is malformed: {error}"), sign)
            }
            other => match cause::of(refused.cause.operation().unwrap_or(""), refused.cause.name())
            {
                Some(meaning) => (format!("{other}: {}", meaning.why), meaning.fix.into()),
                None => (other.to_string(), sign),
            },
        })
    }

    /// The same for a signature by a revoked key, or by a key whose certificate is revoked.
    fn revoked_key(&self, sign: &str) -> Option<(String, String)> {
        let Verdict::UnknownKey(key_id) = self.account.attribute else { return None };
        let trust = self.grounds.trust;
        let signer = self.account.signer.as_ref();
        let why = if trust.is_revoked(key_id) {
            format!("signed by key {key_id}, which is in .ima_blacklist: it is revoked")
        } else if signer.is_some_and(|signer| trust.is_denied(signer)) {
            format!(
                "signed by key {key_id}, whose certificate is in .blacklist (tbs:): no keyring \
                 accepts it"
            )
        } else {
            return None;
        };
        Some((why, format!("sign it with another key: {sign}")))
    }

    fn unknown_key(&self, key_id: ima::KeyId, sign: String) -> (String, String) {
        let held = match &self.grounds.trust.held {
            Held::NoKeyring | Held::Unseen => String::new(),
            Held::Keys(held) if held.is_empty() => "; .ima has no keys".into(),
            Held::Keys(held) => {
                let held: Vec<_> = held.iter().map(ToString::to_string).collect();
                format!("; .ima has {}", held.join(", "))
            }
        };
        match &self.account.signer {
            Some(signer) if signer.key_id() == key_id => (
                format!("signed by key {key_id} ({}), which is not in .ima", signer.subject()),
                "imactl keys load CERT, or put it into /etc/keys as x509_ima_NAME.der for the \
                 next boot"
                    .into(),
            ),
            Some(signer) => (
                format!(
                    "the signature names key {key_id}, which is not in .ima, but was made by key {} \
                     ({})",
                    signer.key_id(),
                    signer.subject()
                ),
                sign,
            ),
            None => (format!("signed by unknown key {key_id}{held}"), sign),
        }
    }

    fn uses(&self) -> Vec<JsonUse> {
        let answers = self.account.answers.iter();
        let uses = answers.map(|(operation, answer)| {
            let (word, cause, rule) = match answer {
                answer if self.depends_on_unseen_keys(answer) => {
                    ("unknown", Some("the keys in .ima cannot be read"), None)
                }
                Answer::Allowed { appraised: true } => ("allowed", None, None),
                Answer::Allowed { appraised: false } => ("not-appraised", None, None),
                Answer::Unknown(unknown) => ("unknown", Some(unknown_word(*unknown)), None),
                Answer::Denied(Refusal { cause, rule, .. }) => {
                    ("denied", Some(cause.name()), rule.and_then(|rule| self.rule(rule)))
                }
            };
            JsonUse { operation: verb(*operation), answer: word, cause, rule }
        });
        uses.collect()
    }

    fn rule(&self, number: usize) -> Option<String> {
        self.grounds.loaded.policy.rules().nth(number).map(ToString::to_string)
    }

    fn print_json(&self, asked: Option<&str>, output: &mut Output) -> io::Result<()> {
        let account = self.account;
        let (why, fix) = self.reason().unzip();
        let evm = JsonEvm {
            state: match self.grounds.evm {
                EvmState::Present(evm) if evm.is_active() => "active",
                EvmState::Present(_) => "inactive",
                EvmState::Absent => "absent",
                EvmState::Unknown => "unknown",
            },
            considered: account.considers_evm,
            attribute: account.has_evm,
            verdict: account.evm.as_ref().map(ToString::to_string),
        };
        output
            .object("file")
            .path(account.path.as_path())
            .field("purpose", account.purpose.name())
            .field("file_system", account.mount.name.to_string())
            .field("attribute", account.attribute.to_string())
            .field("evm", evm)
            .field("uses", self.uses())
            .optional("why", why)
            .optional("fix", fix)
            .optional("asked", asked)
            .end()
    }

    fn print(&self, asked: Option<&str>, output: &mut Output) -> io::Result<()> {
        let account = self.account;
        let path = output.paint(Style::Bold, &account.path.display().to_string());
        let (purpose, system) = (account.purpose.name(), &account.mount.name);
        let head = format!("{path}: {purpose}, on {system}; {}", account.attribute);
        output.line(Level::Quiet, &head)?;
        for JsonUse { operation, answer, cause, rule } in self.uses() {
            let (word, style) = match answer {
                "denied" => ("denied", Style::Bad),
                "unknown" => ("unknown", Style::Warning),
                "not-appraised" => ("allowed", Style::Plain),
                _ => ("allowed", Style::Good),
            };
            let word = output.paint(style, &format!("{word:<10}"));
            let why = match (answer, cause, rule) {
                ("not-appraised", ..) => "no rule matches".to_owned(),
                (_, Some(cause), Some(rule)) => format!("{cause}, by: {rule}"),
                (_, cause, _) => cause.unwrap_or_default().to_owned(),
            };
            let line = format!("  {operation:<9}{word}{}", output.paint(Style::Dim, &why));
            output.line(Level::Normal, line.trim_end())?;
        }
        for (field, text) in self.remarks(asked) {
            output.line(
                Level::Quiet,
                format_args!("  {:<9}{text}", output.paint(Style::Bold, field)),
            )?;
        }
        Ok(())
    }

    fn remarks(&self, asked: Option<&str>) -> Vec<(&'static str, String)> {
        let account = self.account;
        let mut remarks = Vec::new();
        if let Some((why, fix)) = self.reason() {
            remarks.push(("why", why));
            remarks.push(("fix", fix));
        }
        if let Some(asked) = asked {
            remarks.push(("asked", format!("the kernel {asked}")));
        }
        if let Some(interpreter) = &account.interpreter {
            let text = format!("its interpreter {} is a file of its own", interpreter.display());
            remarks.push(("note", text));
        }
        if account.not_executable {
            remarks.push(("note", "not executable: no x in its mode".into()));
        }
        if account.noexec {
            remarks.push(("note", "its file system is mounted noexec".into()));
        }
        remarks.extend(self.evm().map(|text| ("note", text)));
        remarks.extend(self.appraisal().map(|text| ("note", text)));
        remarks
    }

    /// EVM's verdict, and whether the answers take it into account.
    fn evm(&self) -> Option<String> {
        let EvmState::Present(evm) = self.grounds.evm else { return None };
        let active = format!("EVM is active ({evm})");
        let text = match (&self.account.evm, self.account.considers_evm) {
            (Some(verdict), true) => format!("{active}: {verdict}"),
            (Some(verdict), false) => format!("{active}, not considered: {verdict}; try --ask"),
            (None, _) => format!("{active}, not considered: its verdict is unknown; try --ask"),
        };
        evm.is_active().then_some(text)
    }

    /// Whether denials are enforced.
    fn appraisal(&self) -> Option<String> {
        let Appraisal { asked, in_force, reason } = self.grounds.appraisal;
        match (in_force, reason) {
            (Some(AppraiseMode::Enforce), None) => None,
            (Some(AppraiseMode::Enforce), Some(reason)) => {
                Some(format!("ima_appraise={} has no effect: {reason}", asked.name()))
            }
            (Some(mode), _) => {
                Some(format!("ima_appraise={}: denials are not enforced", mode.name()))
            }
            (None, reason) => Some(format!(
                "whether denials are enforced is unknown: ima_appraise={}, and {}",
                asked.name(),
                reason.unwrap_or_default()
            )),
        }
    }
}

/// The meaning of a denial by EVM.
fn of_evm(cause: Cause) -> Option<cause::Meaning> {
    match cause {
        Cause::MissingHmac | Cause::InvalidHmac | Cause::InvalidFailImmutable => {
            cause::of("appraise_data", cause.name())
        }
        _ => None,
    }
}

fn unknown_word(unknown: Unknown) -> &'static str {
    match unknown {
        Unknown::Verity => "it is allowed if fs-verity is enabled on it (fsverity measure)",
        Unknown::Labels => "a rule asks for a security module's label",
    }
}

const fn verb(operation: Operation) -> &'static str {
    match operation {
        Operation::MapExecutable => "map",
        Operation::LoadModule => "module",
        Operation::LoadFirmware => "firmware",
        Operation::LoadPolicy => "policy",
        _ => "execute",
    }
}
