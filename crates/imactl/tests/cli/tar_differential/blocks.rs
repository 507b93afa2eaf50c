//! Blocks and records of archives.

pub(super) const BLOCK: usize = 512;
pub(super) const POSIX: &[u8] = b"ustar\x0000";

/// The usual values of numbers in the header.
pub(super) fn plain_value(at: usize) -> u64 {
    match at {
        100 => 0o644,
        136 => 0o14_000_000_000,
        _ => 0,
    }
}

pub(super) fn octal(value: u64) -> Vec<u8> {
    format!("{value:011o}\0").into_bytes()
}

pub(super) fn parse(field: &[u8]) -> u64 {
    let digits = field.iter().filter(|byte| byte.is_ascii_digit());
    digits.fold(0, |value, byte| value.wrapping_mul(8) + u64::from(byte - b'0'))
}

pub(super) fn padded(bytes: &[u8]) -> Vec<u8> {
    let mut padded = bytes.to_vec();
    padded.resize(bytes.len().next_multiple_of(BLOCK), 0);
    padded
}

pub(super) fn plain_header(name: &[u8], size: usize, typeflag: u8) -> [u8; BLOCK] {
    let mut header = [0; BLOCK];
    header[..name.len()].copy_from_slice(name);
    header[100..124].copy_from_slice(b"0000644\x000000000\x000000000\0");
    header[124..136].copy_from_slice(&octal(size as u64));
    header[136..148].copy_from_slice(b"14000000000\0");
    header[156] = typeflag;
    header[257..265].copy_from_slice(POSIX);
    seal(&mut header);
    header
}

pub(super) fn seal(header: &mut [u8; BLOCK]) {
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
}

pub(super) fn record(keyword: &[u8], value: &[u8]) -> Vec<u8> {
    let text = keyword.len() + value.len() + 3;
    let mut length = text + 1;
    while length != text + length.to_string().len() {
        length = text + length.to_string().len();
    }
    [format!("{length} ").as_bytes(), keyword, b"=", value, b"\n"].concat()
}
