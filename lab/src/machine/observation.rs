//! The result of one action in the guest, and assertions on it. An assertion that fails panics, and
//! prints everything that was observed.

use std::fmt;

use lab_agent::{Action, Bytes, Credentials, Errno, Failure, KernelMessage, Output, Status};

use crate::audit::AuditRecord;

/// An action, its result, and the kernel's messages during it.
#[derive(Debug, Clone)]
pub struct Observation {
    /// The action.
    pub action: Action,
    /// The credentials of the action, if they are not the agent's.
    pub credentials: Option<Credentials>,
    /// The result.
    pub outcome: Result<Output, Failure>,
    /// Audit records written during the action.
    pub audit: Vec<AuditRecord>,
    /// Other kernel messages written during the action.
    pub messages: Vec<KernelMessage>,
}

impl Observation {
    /// Asserts that the kernel allowed it, that an executed program succeeded, and that no integrity
    /// record reports a failure.
    #[track_caller]
    pub fn is_allowed(&self) -> &Self {
        match &self.outcome {
            Err(failure) => panic!("denied ({failure}), to be allowed: {self}"),
            Ok(Output::Exited { status, .. }) if *status != Status::Code(0) => {
                panic!("ended with {status:?}: {self}")
            }
            Ok(_) => {}
        }
        if let Some(record) = self.integrity_failures().next() {
            panic!("allowed, but audited as a failure ({record}): {self}");
        }
        self
    }

    /// Asserts that the kernel denied it with this error and cause; returns the record.
    #[track_caller]
    pub fn is_denied(&self, errno: Errno, cause: &str) -> &AuditRecord {
        self.fails(errno);
        self.audited(cause)
    }

    /// Asserts that the kernel denied it with this error, and wrote no integrity record.
    #[track_caller]
    pub fn is_denied_silently(&self, errno: Errno) -> &Self {
        self.fails(errno);
        if let Some(record) = self.integrity_failures().next() {
            panic!("denied, but not silently ({record}): {self}");
        }
        self
    }

    /// Asserts that it failed with this error; audit records are not checked.
    #[track_caller]
    pub fn fails(&self, errno: Errno) -> &Self {
        match &self.outcome {
            Err(failure) if failure.errno == errno => self,
            _ => panic!("to fail with {errno}: {self}"),
        }
    }

    /// Asserts that the program exited with this code; returns its standard error.
    #[track_caller]
    pub fn exits(&self, code: i32) -> String {
        match &self.outcome {
            Ok(Output::Exited { status: Status::Code(found), stderr, .. }) if *found == code => {
                stderr.text()
            }
            _ => panic!("to exit with {code}: {self}"),
        }
    }

    /// Asserts that there is an integrity record of a failure with this cause, and returns it.
    #[track_caller]
    pub fn audited(&self, cause: &str) -> &AuditRecord {
        self.integrity_failures()
            .find(|record| record.cause() == Some(cause))
            .unwrap_or_else(|| panic!("no audit record with cause={cause}: {self}"))
    }

    /// Asserts that there is a kernel message with these words.
    #[track_caller]
    pub fn says(&self, words: &str) -> &Self {
        if !self.messages.iter().any(|message| message.text.contains(words)) {
            panic!("no kernel message with {words:?}: {self}");
        }
        self
    }

    /// The bytes that were read, or standard output.
    #[track_caller]
    pub fn content(&self) -> &[u8] {
        match &self.outcome {
            Ok(Output::Content(Bytes(bytes)) | Output::Exited { stdout: Bytes(bytes), .. }) => {
                bytes
            }
            _ => panic!("nothing was read: {self}"),
        }
    }

    /// The content as text; bytes that are not UTF-8 are replaced.
    #[track_caller]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(self.content()).into_owned()
    }

    /// Integrity records that report a failure.
    pub fn integrity_failures(&self) -> impl Iterator<Item = &AuditRecord> {
        self.audit.iter().filter(|record| record.is_integrity() && record.is_failure())
    }
}

impl fmt::Display for Observation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.action)?;
        if let Some(credentials) = &self.credentials {
            write!(f, "\n  as {credentials:?}")?;
        }
        match &self.outcome {
            Ok(output) => write!(f, "\n  {output:?}")?,
            Err(failure) => write!(f, "\n  {failure}")?,
        }
        self.audit.iter().try_for_each(|record| write!(f, "\n  audit {record}"))?;
        self.messages.iter().try_for_each(|message| write!(f, "\n  kernel {}", message.text))
    }
}
