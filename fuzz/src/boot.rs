//! The parsers that run before anything is verified: those of imactl-init.

use ima_format::blacklist::Entry;
use ima_format::boot::{AppraiseMode, Words};
use ima_format::keyring::{listed, Description};
use ima_format::modsig;
use ima_format::partition::partuuid;
use ima_format::printable::{is_unsafe, Printable};
use ima_format::superblock::{all, HEAD_SIZE};
use ima_format::x509::Certificate;
use imactl_init::cmdline::{CommandLine, Mode, RootCertificates};
use imactl_init::evm::Configuration;

fn holds(bytes: &[u8], wanted: &str) -> bool {
    bytes.windows(wanted.len()).any(|window| window == wanted.as_bytes())
}

/// A configuration, a NUL and a command line: nothing is weaker than enforcing that does not say
/// so in full.
pub fn command_line(bytes: &[u8]) {
    let at = bytes.iter().position(|byte| *byte == 0).unwrap_or(0);
    let (configuration, line) = bytes.split_at(at);
    let read = CommandLine::configured(configuration, line);
    if read.mode == Mode::Permissive {
        assert!(holds(bytes, "permissive"));
    }
    if read.appraise != AppraiseMode::Enforce {
        assert!(holds(line, "appraise="));
    }
    assert_eq!(CommandLine::configured(line, b"").appraise, AppraiseMode::Enforce);
    if !holds(bytes, "imactl.root") {
        assert_eq!(read.root_certificates, RootCertificates::Load);
    }
    let mut evm = Configuration::default();
    if evm.read(configuration).is_ok() {
        let paths = [evm.key_path(), &*evm.master_key_path()].map(|path| path.starts_with(b"/"));
        assert_eq!(paths, [false; 2], "inside the tree");
    }
    let words = Words::new(line);
    let sizes = words.map(|(name, value)| name.len() + value.map_or(0, <[u8]>::len));
    assert!(sizes.sum::<usize>() <= line.len());
}

/// Keyrings have names without spaces; a description is a part of what the kernel returned.
pub fn keyring(bytes: &[u8]) {
    for found in listed(bytes) {
        assert!(!found.name.contains(|character: char| character.is_ascii_whitespace()));
    }
    let Some(found) = Description::parse(bytes) else { return };
    assert!(bytes.ends_with(found.text) || bytes.ends_with(b"\0"));
    if let Some((names, identifier)) = found.key_identifier() {
        assert_eq!([names, b": ", identifier].concat(), found.text);
    }
    assert!(!found.is_keyring(".ima") || bytes.starts_with(b"keyring;0;0;"));
}

/// The fields are parts of the certificate, or the error points into it.
pub fn x509(der: &[u8]) {
    let range = der.as_ptr_range();
    let inside = |part: &[u8]| {
        let part_range = part.as_ptr_range();
        part.is_empty() || (range.start <= part_range.start && part_range.end <= range.end)
    };
    match Certificate::parse(der) {
        Err(error) => assert!(error.offset <= der.len(), "{error}"),
        Ok(certificate) => {
            let identifiers =
                [certificate.subject_key_identifier, certificate.authority_key_identifier];
            let names = [certificate.subject, certificate.issuer, certificate.serial];
            assert!(names.into_iter().chain(identifiers.into_iter().flatten()).all(inside));
            assert!(!certificate.usage.to_string().is_empty());
        }
    }
}

/// An entry leads back; a signed one is split at its first line feed.
pub fn blacklist(bytes: &[u8]) {
    if let Some(entry) = Entry::parse(bytes) {
        assert_eq!(entry.to_string().as_bytes(), bytes);
    }
    if let Some((text, signature)) = Entry::split_signed(bytes) {
        assert_eq!([text, b"\n", signature].concat(), bytes);
    }
}

/// An appended signature: the fields of its message are parts of it, or the error points into it; a
/// trailer leads to a message that the file has.
pub fn modsig(bytes: &[u8]) {
    let start = bytes.len().saturating_sub(modsig::TRAILER_SIZE);
    let (before, trailer) = bytes.split_at(start);
    match modsig::message_length(trailer, bytes.len() as u64) {
        Err(error) => assert!(error.offset < modsig::TRAILER_SIZE, "{error}"),
        Ok(Some(length)) => {
            assert!(length < before.len());
            assert_eq!(modsig::trailer(length as u32), trailer);
        }
        Ok(None) => {}
    }
    match modsig::Message::parse(bytes) {
        Err(error) => assert!(error.offset <= bytes.len(), "{error}"),
        Ok(message) => assert!(message.signers.iter().all(|it| it.signature.len() < bytes.len())),
    }
}

/// The head of a device, and what it has at 64 KiB.
pub fn superblock(bytes: &[u8]) {
    let (head, at_btrfs) = bytes.split_at(bytes.len().min(HEAD_SIZE));
    for found in all(head, at_btrfs) {
        assert!(!found.types.is_empty());
        assert!(found.label.map_or(true, |label| !label.is_empty() && label.len() <= 3 * 512));
        assert!(found.uuid.map_or(true, |uuid| matches!(uuid.len(), 9 | 36)));
    }
}

/// A disk with either size of blocks: an identifier has one of two forms.
pub fn partition(disk: &[u8]) {
    let read = |offset: u64, buffer: &mut [u8]| {
        assert!(buffer.len() <= 512);
        let offset = usize::try_from(offset).ok()?;
        buffer.copy_from_slice(disk.get(offset..)?.get(..buffer.len())?);
        Some(())
    };
    for block_size in [512, 4096] {
        for number in [0, 1, 2, 128, u32::MAX] {
            let found = partuuid(&read, block_size, number);
            assert!(found.map_or(true, |id| id.len() == 36 || id.split_once('-').is_some()));
        }
    }
}

/// No byte of what is shown can mislead, and text that cannot is shown as it is.
pub fn printable(bytes: &[u8]) {
    let shown = Printable(bytes).to_string();
    assert!(!shown.contains(is_unsafe));
    if let Ok(text) = std::str::from_utf8(bytes) {
        assert_eq!(shown == text, !text.contains(is_unsafe));
    }
}
