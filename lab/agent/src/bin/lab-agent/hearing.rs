//! What the kernel says: its audit records and its log, attributed to the action during
//! which it said them.
//!
//! Audit records pass through a queue that a kernel thread empties later. So that none is
//! missed or counted to the next action, the agent puts a record of its own into the queue
//! after each action and reads until that one comes by: all before it belong to the action
//! (`kernel/audit.c`, `kauditd_thread` keeps their order). They are read as a member of the
//! multicast group of readers, so that the kernel still prints them on the console.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::time::Duration;

use lab_agent::{AuditLine, Heard, KernelMessage};
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{self, sockopt, AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

/// `AUDIT_NLGRP_READLOG` (1) as a mask of groups.
const READERS: u32 = 1;
/// `AUDIT_USER_AVC`: the one user record that is taken before audit is switched on.
const AUDIT_USER_AVC: u16 = 1107;
/// `NLMSG_ERROR`
const NLMSG_ERROR: u16 = 2;
/// `NLM_F_REQUEST`
const NLM_F_REQUEST: u16 = 1;
/// `struct nlmsghdr`: length u32, type u16, flags u16, sequence u32, port u32.
const NLMSG_HEADER: usize = 16;
/// The prefix of what the agent itself writes to the kernel's log.
const NOTE: &str = "lab: ";

/// The agent's ears.
pub(crate) struct Hearing {
    audit: Option<AuditQueue>,
    log: File,
    notes: File,
}

impl Hearing {
    /// The kernel's command line has to lift the limits of `printk` and of the audit queue.
    pub(crate) fn open() -> io::Result<Self> {
        let log = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open("/dev/kmsg")?;
        let notes = OpenOptions::new().write(true).open("/dev/kmsg")?;
        Ok(Self { audit: AuditQueue::open()?, log, notes })
    }

    /// Writes a line to the kernel's log, for who reads the console.
    pub(crate) fn note(&mut self, text: &str) {
        let mut line = format!("<6>{NOTE}{text}");
        // the kernel takes about 1,000 bytes a record (PRINTKRB_RECORD_MAX)
        let end = (0..=800.min(line.len())).rev().find(|&end| line.is_char_boundary(end));
        line.truncate(end.unwrap_or(0));
        // A note is for people; that it could not be written changes no result.
        let _ = self.notes.write_all(line.as_bytes());
    }

    /// Tells the log, for good, when the agent came up.
    pub(crate) fn announce(&mut self) {
        let _ = self.notes.write_all(b"<6>lab-agent is up");
    }

    /// All since the kernel was started; audit records as its log has them.
    pub(crate) fn since_boot(&mut self) -> io::Result<Heard> {
        let mut heard = Heard::default();
        // Behind the fence, all earlier records have reached the log.
        let (queued, lost) = self.drain_audit();
        drop(queued);
        heard.lost = lost;
        for message in self.drain_log(&mut heard.lost)? {
            match audit_line(&message.text) {
                Some(line) if line.kind == AUDIT_USER_AVC => {}
                Some(line) => heard.audit.push(line),
                None => heard.messages.push(message),
            }
        }
        Ok(heard)
    }

    /// All since the last call.
    pub(crate) fn since_last(&mut self) -> io::Result<Heard> {
        let (audit, mut lost) = self.drain_audit();
        let mut messages = self.drain_log(&mut lost)?;
        messages.retain(|message| audit_line(&message.text).is_none());
        Ok(Heard { audit, messages, lost })
    }

    fn drain_audit(&mut self) -> (Vec<AuditLine>, Option<String>) {
        let Some(queue) = &mut self.audit else { return (Vec::new(), None) };
        let mut lines = Vec::new();
        let lost = queue.drain(&mut lines).err();
        (lines, lost.map(|error| format!("audit: {error}")))
    }

    /// Reads `/dev/kmsg` as far as it goes: `level,sequence,microseconds,flags;text`.
    fn drain_log(&mut self, lost: &mut Option<String>) -> io::Result<Vec<KernelMessage>> {
        let mut messages = Vec::new();
        let mut record = [0; 8192];
        loop {
            let length = match self.log.read(&mut record) {
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(messages),
                Err(error) if error.raw_os_error() == Some(libc::EPIPE) => {
                    *lost = Some("the kernel's log has overtaken its reader".into());
                    continue;
                }
                Err(error) => return Err(error),
            };
            let text = String::from_utf8_lossy(&record[..length]);
            let Some((prefix, text)) = text.split_once(';') else { continue };
            let mut fields = prefix.split(',').map(|field| field.parse::<u64>().unwrap_or(0));
            let priority = fields.next().unwrap_or(0);
            let microseconds = fields.nth(1).unwrap_or(0);
            let text = text.lines().next().unwrap_or_default();
            if !text.starts_with(NOTE) {
                let level = (priority & 7) as u8;
                messages.push(KernelMessage { microseconds, level, text: text.to_owned() });
            }
        }
    }
}

/// An audit record in the kernel's log: `audit: type=1800 audit(...): ...`.
fn audit_line(text: &str) -> Option<AuditLine> {
    let (kind, text) = text.strip_prefix("audit: type=")?.split_once(' ')?;
    Some(AuditLine { kind: kind.parse().ok()?, text: text.to_owned() })
}

/// A reader of the kernel's audit queue.
struct AuditQueue {
    socket: OwnedFd,
    fences: u32,
}

impl AuditQueue {
    /// `None` where the kernel has no audit.
    fn open() -> io::Result<Option<Self>> {
        let socket = match net::socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            Some(net::netlink::AUDIT),
        ) {
            Ok(socket) => socket,
            Err(rustix::io::Errno::PROTONOSUPPORT | rustix::io::Errno::AFNOSUPPORT) => {
                return Ok(None)
            }
            Err(error) => return Err(error.into()),
        };
        sockopt::set_socket_recv_buffer_size_force(&socket, 16 << 20)?;
        sockopt::set_socket_timeout(
            &socket,
            sockopt::Timeout::Recv,
            Some(Duration::from_secs(20)),
        )?;
        net::bind(&socket, &SocketAddrNetlink::new(0, READERS))?;
        Ok(Some(Self { socket, fences: 0 }))
    }

    /// Puts a fence into the queue and reads up to it.
    fn drain(&mut self, lines: &mut Vec<AuditLine>) -> io::Result<()> {
        self.fences += 1;
        let fence = format!("lab-fence-{}-{}", std::process::id(), self.fences);
        let length = (NLMSG_HEADER + fence.len() + 1) as u32;
        let mut message = Vec::with_capacity(length as usize);
        message.extend_from_slice(&length.to_ne_bytes());
        message.extend_from_slice(&AUDIT_USER_AVC.to_ne_bytes());
        message.extend_from_slice(&NLM_F_REQUEST.to_ne_bytes());
        message.extend_from_slice(&self.fences.to_ne_bytes());
        message.extend_from_slice(&0u32.to_ne_bytes());
        message.extend_from_slice(fence.as_bytes());
        message.push(0);
        net::sendto(&self.socket, &message, SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;

        let fence = format!("msg='{fence}'");
        let mut buffer = vec![0; 16 << 10];
        loop {
            let (length, _) = net::recv(&self.socket, &mut buffer[..], RecvFlags::empty())?;
            let Some(payload) = buffer[..length].get(NLMSG_HEADER..) else { continue };
            let kind = u16::from_ne_bytes([buffer[4], buffer[5]]);
            let text = String::from_utf8_lossy(payload);
            let text = text.trim_end_matches(['\0', '\n']);
            match kind {
                NLMSG_ERROR => {
                    let errno = payload.get(..4).and_then(|bytes| bytes.try_into().ok());
                    let errno = i32::from_ne_bytes(errno.unwrap_or_default());
                    return Err(io::Error::from_raw_os_error(-errno));
                }
                AUDIT_USER_AVC if text.ends_with(&fence) => return Ok(()),
                _ => lines.push(AuditLine { kind, text: text.to_owned() }),
            }
        }
    }
}
