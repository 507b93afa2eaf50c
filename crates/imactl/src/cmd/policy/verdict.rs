//! The kernel's verdict on the file of an event.

use ima::preflight::{Subject, Trial, TrialError};
use ima::verify::Keyring;
use ima_format::hash::Digest;
use ima_format::hex;
use ima_format::policy::ast::Func;
use ima_format::policy::decide::{Cause, Event, Operation, Verdict};
use ima_format::policy::KernelVersion;

use super::event::EventArgs;
use super::source::Loaded;
use crate::error::{hinted, Context, Result};
use crate::output::Style;

impl EventArgs {
    /// The file of the event; `None` if no option describes it.
    pub(super) fn subject(&self) -> Result<Option<Subject>> {
        if let Some(path) = &self.file {
            return Ok(Some(Subject::file(path).at(path)?));
        }
        if self.attribute.is_none() && self.digest.is_empty() {
            return Ok(None);
        }
        let attribute = self.attribute.as_deref().map(attribute).transpose()?.flatten();
        let digests = self.digest.iter().map(|text| digest(text)).collect::<Result<_>>()?;
        Ok(Some(Subject::Stated { attribute, digests }))
    }

    /// The event that the kernel looks up in its policy for this file.
    pub(super) fn about(&self, subject: Option<&Subject>, version: KernelVersion) -> Result<Event> {
        let Some((owner, group, mode)) = subject.and_then(Subject::access) else {
            return self.resolve();
        };
        let mut event = Self {
            fowner: self.fowner.or(Some(owner)),
            fgroup: self.fgroup.or(Some(group)),
            ..self.clone()
        }
        .resolve()?;
        // CREDS_CHECK compares the credentials after execve: a set-group-ID bit counts only together
        // with the group's execute bit, as in `bprm_fill_uid()`
        if event.func == Func::CredsCheck && (self.euid, self.egid) == (None, None) {
            let setuid = (mode & 0o4000 != 0).then_some(owner);
            let setgid = (mode & 0o2010 == 0o2010).then_some(group);
            let executed = event.credentials.executing(setuid, setgid);
            let events = Operation::Execute.events(version);
            if let Some(asked) = events.iter().find(|asked| asked.func == event.func) {
                event.credentials = asked.behalf.credentials(&event.credentials, &executed);
            }
        }
        Ok(event)
    }
}

/// `security.ima` in hexadecimal, as `getfattr -e hex` and `imactl inspect --raw` print it.
fn attribute(text: &str) -> Result<Option<Vec<u8>>> {
    if text == "none" {
        return Ok(None);
    }
    let digits = text.strip_prefix("0x").unwrap_or(text);
    hex::decode(digits.as_bytes()).map(Some).map_err(|offset| {
        let message = format!("--attribute is not hexadecimal at character {}", offset + 1);
        hinted(
            message,
            "imactl inspect --raw prints security.ima; the value none means no attribute",
        )
    })
}

/// `ALG:HEX`
fn digest(text: &str) -> Result<Digest> {
    let parsed = text.split_once(':').and_then(|(name, digits)| {
        let bytes = hex::decode(digits.as_bytes()).ok()?;
        Digest::new(name.parse().ok()?, &bytes)
    });
    parsed.ok_or_else(|| {
        hinted(format!("not a digest: {text:?}"), "it is ALG:HEX, as in sha256:9f86d081...")
    })
}

/// The result of an event, and the reason.
pub(super) struct Told {
    /// `allowed`, `tolerated`, `denied`, `unknown`.
    pub(super) verdict: &'static str,
    pub(super) cause: Option<Cause>,
    pub(super) unknown_key: Option<String>,
    pub(super) fixed: bool,
    words: String,
    pub(super) style: Style,
}

/// Applies the policy to an event on its file.
pub(super) fn tell(
    subject: &Subject,
    event: &Event,
    (loaded, decider): (&Loaded, &ima_format::policy::decide::Decider<'_>),
    keyring: &Keyring,
) -> Result<Told> {
    let grounds = (&loaded.policy, decider.kernel(), decider.mode());
    let trial = subject.try_event(event, grounds, keyring).map_err(|error| match error {
        TrialError::DigestWanted(algorithm) => hinted(
            format!("the kernel goes by the file's {algorithm} digest"),
            "give it: --digest ALG:HEX, or the file itself: --file PATH",
        ),
        error => error.into(),
    })?;
    Ok(Told::of(&trial))
}

impl Told {
    fn of(trial: &Trial) -> Self {
        let Trial { outcome, unknown_key, verity } = trial;
        let cause = outcome.causes.last().copied();
        let because = match (cause, unknown_key) {
            (Some(cause), Some(key)) => format!("{cause}: no such key is known: {key}"),
            (Some(cause), None) => match cause.operation() {
                Some(_) => cause.to_string(),
                None => format!("{cause}, without an audit record"),
            },
            (None, _) => String::new(),
        };
        let appraised = outcome.decision.appraise.does();
        let labels = !outcome.decision.undetermined.is_empty();
        let (verdict, style, words) = match outcome.verdict {
            _ if cause == Some(Cause::NoVerityDigest) => {
                let words = "it depends on the file's fs-verity digest";
                ("unknown", Style::Warning, words.to_owned())
            }
            _ if labels => ("unknown", Style::Warning, "it depends on labels".to_owned()),
            Verdict::Denied => ("denied", Style::Bad, because),
            Verdict::Tolerated => {
                let words = match outcome.fixed {
                    true => format!("{because}; a digest takes the attribute's place"),
                    false => because,
                };
                ("tolerated", Style::Warning, words)
            }
            Verdict::Allowed if !appraised => {
                ("allowed", Style::Good, "no rule has it appraised".to_owned())
            }
            Verdict::Allowed if *verity => {
                let words = "allowed if fs-verity is enabled on the file, without a salt";
                ("unknown", Style::Warning, words.to_owned())
            }
            Verdict::Allowed => match outcome.fixed {
                true => ("allowed", Style::Good, "a digest takes the attribute's place".to_owned()),
                false => ("allowed", Style::Good, because),
            },
        };
        Self {
            verdict,
            cause,
            unknown_key: unknown_key.map(|key| key.to_string()),
            fixed: outcome.fixed,
            words,
            style,
        }
    }

    /// The reason, to be printed after the verdict.
    pub(super) fn reason(&self) -> String {
        match self.words.as_str() {
            "" => String::new(),
            words => format!(", {words}"),
        }
    }
}
