//! Makes systemd, if it is the first process of the initramfs, switch the root.
//!
//! `systemctl switch-root` is a program of the initramfs, which a policy in force denies. Its call is
//! made here instead, over the private socket that systemd has for root: D-Bus, with one call,
//! `Manager.SwitchRoot(root, init)`.
//!
//! | part of the message | content |
//! |---|---|
//! | fixed header | `l`, type 1 (call) or 2 (reply), 3 (error), flags, version 1; body length, serial |
//! | header fields | an array of (code, variant), padded to 8 bytes |
//! | body | two strings: length, bytes, NUL; each length aligned to 4 bytes |

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use ima_format::printable::Printable;
use rustix::fd::OwnedFd;
use rustix::fs;
use rustix::io::{self, Errno};
use rustix::net::{self, AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use crate::file::{self, Tree};
use crate::text::Reason;

const SOCKET: &str = "/run/systemd/private";
const PROGRAMS: [&[u8]; 2] = [b"usr/lib/systemd/systemd", b"lib/systemd/systemd"];

/// Why the call failed.
#[derive(Debug, PartialEq, Eq)]
pub enum Failure {
    /// No connection, or a protocol error.
    Talk(Errno),
    /// systemd rejected it, with this message.
    Refused(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Talk(errno) => write!(f, "no answer at {SOCKET}: {}", Reason(*errno)),
            Self::Refused(words) => Printable(words.as_bytes()).fmt(f),
        }
    }
}

/// The init for systemd: the value of `init=`, or empty if it is not given or leads to the systemd of
/// the new root, because systemd then hands its state over.
pub fn init<'a>(root: &[u8], init: Option<&'a [u8]>) -> &'a [u8] {
    let Some(init) = init else { return b"" };
    let Ok(tree) = Tree::open(root) else { return init };
    let inode = |name: &[u8]| {
        let status = tree.find(name).and_then(fs::fstat).ok()?;
        Some((status.st_dev, status.st_ino))
    };
    let wanted = inode(init);
    let is_systemd = wanted.is_some() && PROGRAMS.map(inode).contains(&wanted);
    if is_systemd {
        b""
    } else {
        init
    }
}

/// Requests a switch to `root`; `init` is empty for the systemd of that root, which then takes over the
/// state of this one.
pub fn switch_root(root: &[u8], init: &[u8]) -> Result<(), Failure> {
    let socket = connect().map_err(Failure::Talk)?;
    file::write_all(&socket, &call(root, init)).map_err(Failure::Talk)?;
    loop {
        let message = Message::read(&socket).map_err(Failure::Talk)?;
        match message.kind {
            METHOD_RETURN => return Ok(()),
            ERROR => return Err(Failure::Refused(message.first_string())),
            _ => {} // a signal about another change
        }
    }
}

const METHOD_CALL: u8 = 1;
const METHOD_RETURN: u8 = 2;
const ERROR: u8 = 3;
/// The limit on each part of a message; systemd's answers are short.
const LIMIT: usize = 1 << 20;

/// Connects, and authenticates as root: its UID 0 is the text `0`, `30` in hexadecimal.
///
/// `BEGIN` is sent before the answer to `AUTH` is received, as systemd's own client does: if systemd
/// reads a call together with `BEGIN`, the call stays in a buffer that systemd does not process until
/// more data arrives.
fn connect() -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::CLOEXEC;
    let socket = net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    net::connect(&socket, &SocketAddrUnix::new(SOCKET)?)?;
    // The D-Bus specification requires a NUL byte before the authentication.
    file::write_all(&socket, b"\0AUTH EXTERNAL 30\r\nBEGIN\r\n")?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n") {
        let mut byte = [0];
        read_exact(&socket, &mut byte)?;
        answer.extend(byte);
        if answer.len() > 1000 {
            return Err(Errno::BADMSG);
        }
    }
    if !answer.starts_with(b"OK ") {
        return Err(Errno::ACCESS);
    }
    Ok(socket)
}

fn call(root: &[u8], init: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    push_string(&mut body, root);
    push_string(&mut body, init);
    let mut message = Vec::from([b'l', METHOD_CALL, 0, 1]);
    message.extend((body.len() as u32).to_le_bytes());
    message.extend(1_u32.to_le_bytes());
    let mut fields = Vec::new();
    // PATH, INTERFACE, MEMBER and DESTINATION.
    push_field(&mut fields, 1, b'o', b"/org/freedesktop/systemd1");
    push_field(&mut fields, 2, b's', b"org.freedesktop.systemd1.Manager");
    push_field(&mut fields, 3, b's', b"SwitchRoot");
    push_field(&mut fields, 6, b's', b"org.freedesktop.systemd1");
    // A signature has a length of one byte.
    align(&mut fields, 8);
    fields.extend([8, 1, b'g', 0, 2, b's', b's', 0]);
    message.extend((fields.len() as u32).to_le_bytes());
    message.extend(fields); // begins 16 bytes after the start, so the alignment within the fields holds
    align(&mut message, 8);
    message.extend(body);
    message
}

/// A header field: code, signature of the variant, value.
fn push_field(fields: &mut Vec<u8>, code: u8, kind: u8, value: &[u8]) {
    align(fields, 8);
    fields.extend([code, 1, kind, 0]);
    push_string(fields, value);
}

fn push_string(bytes: &mut Vec<u8>, string: &[u8]) {
    align(bytes, 4);
    bytes.extend((string.len() as u32).to_le_bytes());
    bytes.extend(string);
    bytes.push(0);
}

fn align(bytes: &mut Vec<u8>, to: usize) {
    bytes.resize(bytes.len().next_multiple_of(to), 0);
}

struct Message {
    kind: u8,
    body: Vec<u8>,
}

impl Message {
    fn read(socket: &OwnedFd) -> Result<Self, Errno> {
        let mut header = [0; 16];
        read_exact(socket, &mut header)?;
        let word = |offset: usize| {
            let bytes = header.get(offset..)?.get(..4)?.try_into().ok()?;
            Some(u32::from_le_bytes(bytes) as usize)
        };
        // The lengths of the body, and of the array of header fields.
        let (Some(body), Some(fields), [b'l', kind, ..]) = (word(4), word(12), header) else {
            return Err(Errno::BADMSG); // systemd answers in its own byte order, which is ours
        };
        if body > LIMIT || fields > LIMIT {
            return Err(Errno::BADMSG);
        }
        read_exact(socket, &mut alloc::vec![0; fields.next_multiple_of(8)])?;
        let mut body = alloc::vec![0; body];
        read_exact(socket, &mut body)?;
        Ok(Self { kind, body })
    }

    /// The message of an error.
    fn first_string(&self) -> String {
        let text = self.body.get(4..).unwrap_or_default();
        let end = text.iter().position(|&byte| byte == 0).unwrap_or(text.len());
        String::from_utf8_lossy(text.get(..end).unwrap_or_default()).into_owned()
    }
}

fn read_exact(socket: &OwnedFd, mut buffer: &mut [u8]) -> Result<(), Errno> {
    while !buffer.is_empty() {
        match io::retry_on_intr(|| io::read(socket, &mut *buffer))? {
            0 => return Err(Errno::PIPE),
            count => buffer = buffer.get_mut(count..).unwrap_or_default(),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_laid_out_in_words_of_four_and_eight() {
        let message = call(b"/sysroot", b"");
        let word = |at: usize| u32::from_le_bytes(message[at..at + 4].try_into().unwrap()) as usize;
        let body = (16 + word(12)).next_multiple_of(8);
        assert_eq!(message.len(), body + word(4));
        assert_eq!(message[body..], *b"\x08\0\0\0/sysroot\0\0\0\0\0\0\0\0\0");
        let (name, at) = (b"SwitchRoot\0", 16);
        assert!(message[at..body].windows(name.len()).any(|window| window == name));
    }

    #[test]
    fn answers_are_told_apart() {
        let flags = SocketFlags::CLOEXEC;
        let pair = net::socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None);
        let (socket, theirs) = pair.unwrap();
        let body = b"\x0a\0\0\0not today!\0";
        let mut answer = Vec::from(*b"l\x03\x01\x01");
        answer.extend((body.len() as u32).to_le_bytes());
        answer.extend(*b"\x07\0\0\0\x05\0\0\0\x05\x01u\0\0\0\0\0");
        answer.extend(body);
        file::write_all(&theirs, &answer).unwrap();
        drop(theirs);
        let message = Message::read(&socket).unwrap();
        assert_eq!((message.kind, &*message.first_string()), (ERROR, "not today!"));
        assert_eq!(Message::read(&socket).err(), Some(Errno::PIPE));
    }

    #[test]
    fn the_systemd_of_the_new_root_needs_no_naming() {
        let root = std::env::temp_dir().join(std::format!("imactl-systemd-{}", std::process::id()));
        std::fs::create_dir_all(root.join("usr/lib/systemd")).unwrap();
        std::fs::create_dir_all(root.join("sbin")).unwrap();
        std::fs::write(root.join("usr/lib/systemd/systemd"), "x").unwrap();
        std::fs::write(root.join("sbin/other"), "x").unwrap();
        std::os::unix::fs::symlink("/usr/lib/systemd/systemd", root.join("sbin/init")).unwrap();
        let of = |name: &'static [u8]| init(root.as_os_str().as_encoded_bytes(), Some(name));
        assert_eq!(of(b"/sbin/init"), b"");
        assert_eq!(of(b"/sbin/other"), b"/sbin/other");
        assert_eq!(of(b"/sbin/absent"), b"/sbin/absent");
        assert_eq!(init(b"/", None), b"");
        std::fs::remove_dir_all(root).unwrap();
    }
}
