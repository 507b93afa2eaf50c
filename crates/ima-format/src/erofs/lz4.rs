//! LZ4 blocks (`doc/lz4_Block_format.md` of lz4), up to the length that is asked for.

/// Fills `unpacked` from the start of `packed`; false if that fails.
pub(super) fn unpack(packed: &[u8], unpacked: &mut [u8]) -> bool {
    fill(packed, unpacked).is_some()
}

fn fill(mut packed: &[u8], unpacked: &mut [u8]) -> Option<()> {
    let mut filled = 0;
    while filled < unpacked.len() {
        let token = take(&mut packed)?;
        let literals = length(token >> 4, &mut packed)?.min(unpacked.len() - filled);
        let source = packed.get(..literals)?;
        unpacked.get_mut(filled..filled + literals)?.copy_from_slice(source);
        packed = packed.get(literals..)?;
        filled += literals;
        if filled == unpacked.len() {
            break;
        }
        let distance = usize::from(u16::from_le_bytes([take(&mut packed)?, take(&mut packed)?]));
        let count = length(token & 15, &mut packed)?.checked_add(4)?;
        let count = count.min(unpacked.len() - filled);
        let start = filled.checked_sub(distance).filter(|_| distance > 0)?;
        repeat(unpacked, start, filled, count)?;
        filled += count;
    }
    Some(())
}

/// Copies from `start` to `end`, which is less than `count` further on where a pattern repeats.
fn repeat(bytes: &mut [u8], start: usize, mut end: usize, mut count: usize) -> Option<()> {
    while count > 0 {
        let now = count.min(end - start);
        bytes.get(start..end.checked_add(now)?)?;
        bytes.copy_within(start..start + now, end);
        end += now;
        count -= now;
    }
    Some(())
}

fn take(packed: &mut &[u8]) -> Option<u8> {
    let (first, rest) = packed.split_first()?;
    *packed = rest;
    Some(*first)
}

/// A length that continues in further bytes.
fn length(start: u8, packed: &mut &[u8]) -> Option<usize> {
    let mut length = usize::from(start);
    if start == 15 {
        loop {
            let byte = take(packed)?;
            length = length.checked_add(usize::from(byte))?;
            if byte != 255 {
                break;
            }
        }
    }
    Some(length)
}

#[cfg(test)]
mod tests {
    use std::vec;

    use super::*;

    #[test]
    fn literals_and_repetitions_are_unpacked_as_far_as_asked() {
        // "abc", then 9 bytes from 3 back, then "xyz"
        let packed = [0x35, b'a', b'b', b'c', 3, 0, 0x30, b'x', b'y', b'z'];
        let mut unpacked = [0; 15];
        assert!(unpack(&packed, &mut unpacked));
        assert_eq!(&unpacked, b"abcabcabcabcxyz");
        let mut start = [0; 5];
        assert!(unpack(&packed, &mut start));
        assert_eq!(&start, b"abcab");
        assert!(!unpack(&packed, &mut [0; 16]), "there is no more");
    }

    #[test]
    fn what_reaches_before_the_start_is_refused() {
        let mut unpacked = vec![0; 40];
        assert!(!unpack(&[0x10, b'a', 2, 0], &mut unpacked));
        assert!(!unpack(&[0x10, b'a', 0, 0], &mut unpacked));
        assert!(!unpack(&[0xf0, 255, 255], &mut unpacked));
        assert!(!unpack(&[], &mut unpacked));
    }
}
