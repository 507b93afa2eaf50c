//! Numbers as the kernel parses them.
//!
//! Mirrors `kstrtoul()` and `kstrtoint()` in `lib/kstrtox.c`, including the forms that they accept: a leading `+`,
//! leading zeros, `-0`.

/// Why bytes are not a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NumberFault {
    /// No digit of the base, or another character after the digits (`-EINVAL`).
    Malformed,
    /// The number exceeds the type (`-ERANGE`).
    TooLarge,
}

/// `kstrtoull(text, base, ...)` for `base` 10 or 16.
pub(super) fn unsigned(text: &[u8], base: u32) -> Result<u64, NumberFault> {
    digits(text.strip_prefix(b"+").unwrap_or(text), base)
}

/// `kstrtoint(text, 10, ...)`.
pub(super) fn signed(text: &[u8]) -> Result<i32, NumberFault> {
    let value = match text.strip_prefix(b"-") {
        // no `+` after the minus sign
        Some(magnitude) => -i128::from(digits(magnitude, 10)?),
        None => i128::from(unsigned(text, 10)?),
    };
    i32::try_from(value).map_err(|_| NumberFault::TooLarge)
}

fn digits(text: &[u8], base: u32) -> Result<u64, NumberFault> {
    let digits = match text {
        [b'0', b'x' | b'X', digits @ ..] if base == 16 => digits,
        _ => text,
    };
    let mut value = Some(0_u64);
    let mut count = 0_usize;
    for byte in digits {
        let Some(digit) = char::from(*byte).to_digit(base) else {
            break;
        };
        value = value
            .and_then(|value| value.checked_mul(u64::from(base)))
            .and_then(|value| value.checked_add(u64::from(digit)));
        count += 1;
    }
    match value {
        None => Err(NumberFault::TooLarge),
        Some(value) if count > 0 && count == digits.len() => Ok(value),
        Some(_) => Err(NumberFault::Malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unsigned_takes_what_kstrtoul_takes() {
        assert_eq!(unsigned(b"0", 10), Ok(0));
        assert_eq!(unsigned(b"+0012", 10), Ok(12));
        assert_eq!(unsigned(b"18446744073709551615", 10), Ok(u64::MAX));
        assert_eq!(unsigned(b"0x9fA0", 16), Ok(0x9fa0));
        assert_eq!(unsigned(b"+0XEF53", 16), Ok(0xef53));
        assert_eq!(unsigned(b"ffffffffffffffff", 16), Ok(u64::MAX));
    }

    #[test]
    fn unsigned_refuses_what_kstrtoul_refuses() {
        for text in ["", "+", "++1", "-1", "1 ", "1a", "0x10", "a"] {
            assert_eq!(unsigned(text.as_bytes(), 10), Err(NumberFault::Malformed), "{text}");
        }
        for text in ["0x", "g", "0xg", "0x0x1", "1_0"] {
            assert_eq!(unsigned(text.as_bytes(), 16), Err(NumberFault::Malformed), "{text}");
        }
        assert_eq!(unsigned(b"18446744073709551616", 10), Err(NumberFault::TooLarge));
        assert_eq!(unsigned(b"0x10000000000000000", 16), Err(NumberFault::TooLarge));
    }

    #[test]
    fn signed_takes_minus_zero_but_no_two_signs() {
        assert_eq!(signed(b"-0"), Ok(0));
        assert_eq!(signed(b"+7"), Ok(7));
        assert_eq!(signed(b"-2147483648"), Ok(i32::MIN));
        assert_eq!(signed(b"2147483648"), Err(NumberFault::TooLarge));
        assert_eq!(signed(b"-+1"), Err(NumberFault::Malformed));
        assert_eq!(signed(b"+-1"), Err(NumberFault::Malformed));
    }
}
