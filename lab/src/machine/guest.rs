//! A running machine, and its agent.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::{bail, Result};
use lab_agent::{Access, Action, Credentials, Heard, Hello, KernelMessage, Message, Request};

use super::process::Process;
use super::{keep_console, Ended, Observation, Record};
use crate::audit::AuditRecord;

/// How long QEMU may take to exit after its guest ended.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// A running machine. It is killed when dropped; if its test failed, the log of its console is kept.
#[derive(Debug)]
pub struct Guest {
    process: Process,
    port: BufReader<UnixStream>,
    patience: Duration,
    requests: u64,
    agent: u32,
    audit: Vec<AuditRecord>,
    messages: Vec<KernelMessage>,
}

impl Guest {
    pub(super) fn meet(mut process: Process, patience: Duration) -> Result<Self> {
        let Some(port) = process.port(patience) else {
            return Err(ended(&mut process, "connecting to the agent's port", LAST_WORDS).into());
        };
        port.set_nonblocking(false)?;
        port.set_read_timeout(Some(patience))?;
        port.set_write_timeout(Some(patience))?;
        let mut guest = Self {
            process,
            port: BufReader::new(port),
            patience,
            requests: 0,
            agent: 0,
            audit: Vec::new(),
            messages: Vec::new(),
        };
        match guest.receive("waiting for the agent")? {
            Message::Hello(hello) => guest.greet(hello)?,
            Message::Reply(reply) => bail!("the agent began with {reply:?}"),
        }
        Ok(guest)
    }

    fn greet(&mut self, hello: Hello) -> Result<()> {
        heard_all(&hello.heard)?;
        self.agent = hello.pid;
        self.audit = hello.heard.audit.iter().map(AuditRecord::from).collect();
        self.messages = hello.heard.messages;
        Ok(())
    }

    /// The agent's process ID; 1 if it is the init.
    pub fn agent(&self) -> u32 {
        self.agent
    }

    /// Audit records from power-on until the agent last started.
    pub fn boot_audit(&self) -> &[AuditRecord] {
        &self.audit
    }

    /// Kernel messages from power-on until the agent last started.
    pub fn boot_messages(&self) -> &[KernelMessage] {
        &self.messages
    }

    /// Whether one of these kernel messages has the words.
    pub fn boot_says(&self, words: &str) -> bool {
        self.messages.iter().any(|message| message.text.contains(words))
    }

    /// The output on the serial console so far.
    pub fn console(&self) -> String {
        self.process.console()
    }

    /// Makes the agent perform an action.
    pub fn request(&mut self, action: Action) -> Result<Observation> {
        self.perform(action, None)
    }

    /// Makes the agent perform an action with other credentials.
    pub fn request_as(&mut self, credentials: &Credentials, action: Action) -> Result<Observation> {
        self.perform(action, Some(credentials.clone()))
    }

    /// Executes a program by its path, with only a usual `PATH` in its environment.
    pub fn execute(&mut self, argv: &[&str]) -> Result<Observation> {
        self.request(execution(argv, &[]))
    }

    /// Executes a program with additional variables in its environment.
    pub fn execute_with(
        &mut self,
        environment: &[(&str, &str)],
        argv: &[&str],
    ) -> Result<Observation> {
        self.request(execution(argv, environment))
    }

    /// Executes a program with other credentials.
    pub fn execute_as(&mut self, credentials: &Credentials, argv: &[&str]) -> Result<Observation> {
        self.request_as(credentials, execution(argv, &[]))
    }

    /// Mounts a file system writable.
    pub fn mount(&mut self, source: &str, kind: &str, target: &str) -> Result<Observation> {
        self.request(Action::Mount {
            source: source.to_owned(),
            target: target.to_owned(),
            kind: kind.to_owned(),
            access: Access::ReadWrite,
            options: String::new(),
        })
    }

    /// Copies a file, without its attributes.
    pub fn copy(&mut self, from: &str, to: &str) -> Result<Observation> {
        self.request(Action::Copy {
            from: from.to_owned(),
            to: to.to_owned(),
            attributes: lab_agent::Attributes::Dropped,
        })
    }

    /// Reads a file of the guest.
    pub fn read(&mut self, path: &str) -> Result<Observation> {
        self.request(Action::Read { path: path.to_owned() })
    }

    /// Makes the kernel load a policy file.
    pub fn load_policy(&mut self, path: &str) -> Result<Observation> {
        self.request(Action::LoadPolicy { path: path.to_owned() })
    }

    /// Changes the root and executes `init`. If that is an agent, the result is `Ok(None)` once it is up;
    /// otherwise it is the observation of the failure.
    pub fn switch_root(&mut self, root: &str, init: &str) -> Result<Option<Observation>> {
        let action = Action::SwitchRoot { root: root.to_owned(), argv: vec![init.to_owned()] };
        self.send(&action, None)?;
        match self.receive(&format!("switching root to {init}"))? {
            Message::Hello(hello) => self.greet(hello).map(|()| None),
            Message::Reply(reply) => observe(action, None, reply).map(Some),
        }
    }

    /// Starts the kernel that was loaded, and waits for the agent in its initramfs.
    pub fn start_kernel(&mut self) -> Result<()> {
        self.send(&Action::StartKernel, None)?;
        match self.receive("starting the loaded kernel")? {
            Message::Hello(hello) => self.greet(hello),
            Message::Reply(reply) => bail!("the loaded kernel was not started: {reply:?}"),
        }
    }

    /// Powers the machine off, and returns its record.
    pub fn power_off(mut self) -> Result<Record> {
        self.send(&Action::PowerOff, None)?;
        Ok(self.process.end(self.patience))
    }

    /// Waits for its end without a request.
    pub fn end(mut self) -> Record {
        self.process.end(self.patience)
    }

    fn perform(&mut self, action: Action, credentials: Option<Credentials>) -> Result<Observation> {
        self.send(&action, credentials.as_ref())?;
        match self.receive(&format!("{action:?}"))? {
            Message::Reply(reply) if reply.id == self.requests => {
                observe(action, credentials, reply)
            }
            other => bail!("the agent answered {action:?} with {other:?}"),
        }
    }

    fn send(&mut self, action: &Action, credentials: Option<&Credentials>) -> Result<()> {
        self.requests += 1;
        let request = Request {
            id: self.requests,
            action: action.clone(),
            credentials: credentials.cloned(),
        };
        let mut line = serde_json::to_vec(&request)?;
        line.push(b'\n');
        match self.port.get_mut().write_all(&line) {
            Ok(()) => Ok(()),
            Err(_) => Err(ended(&mut self.process, &format!("{action:?}"), LAST_WORDS).into()),
        }
    }

    fn receive(&mut self, during: &str) -> Result<Message> {
        let mut line = String::new();
        let patience = match self.port.read_line(&mut line) {
            Ok(length) if length > 0 && line.ends_with('\n') => {
                return Ok(serde_json::from_str(&line)?)
            }
            // the read timed out
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Duration::ZERO,
            _ => LAST_WORDS,
        };
        Err(ended(&mut self.process, during, patience).into())
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        if std::thread::panicking() {
            keep_console(&self.process.console());
        }
    }
}

fn execution(argv: &[&str], environment: &[(&str, &str)]) -> Action {
    let path = ("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    let owned = |&(name, value): &(&str, &str)| (name.to_owned(), value.to_owned());
    Action::Execute {
        argv: argv.iter().map(|&word| word.to_owned()).collect(),
        environment: [path].iter().chain(environment).map(owned).collect(),
    }
}

fn observe(
    action: Action,
    credentials: Option<Credentials>,
    reply: lab_agent::Reply,
) -> Result<Observation> {
    heard_all(&reply.heard)?;
    Ok(Observation {
        action,
        credentials,
        outcome: reply.outcome,
        audit: reply.heard.audit.iter().map(AuditRecord::from).collect(),
        messages: reply.heard.messages,
    })
}

/// An error if messages were lost: then the absence of a message proves nothing.
fn heard_all(heard: &Heard) -> Result<()> {
    match &heard.lost {
        None => Ok(()),
        Some(reason) => bail!("the agent did not hear all that the kernel said: {reason}"),
    }
}

fn ended(process: &mut Process, during: &str, patience: Duration) -> Ended {
    Ended { during: during.to_owned(), record: process.end(patience) }
}
