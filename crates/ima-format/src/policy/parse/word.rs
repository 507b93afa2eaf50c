//! A word of a rule: an action, or a key with its operator and value.
//!
//! Mirrors `policy_tokens` and `match_token`: spellings are exact, and a key without a value is an unknown word.

use alloc::string::{String, ToString};

use crate::policy::ast::{Access, Action, Comparison, Func, Key};
use crate::policy::fault::{quoted, Fault};
use crate::policy::suggest::nearest;

/// The result of `match_token` for a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token<'a> {
    Action(Action),
    /// `permit_directio`, which has no value.
    Flag(Key),
    Condition {
        key: Key,
        comparison: Comparison,
        value: &'a [u8],
    },
}

pub(super) fn token(word: &[u8]) -> Result<Token<'_>, Fault> {
    if let Some(action) = Action::from_name(word) {
        return Ok(Token::Action(action));
    }
    if word == Key::PermitDirectio.name().as_bytes() {
        return Ok(Token::Flag(Key::PermitDirectio));
    }
    let Some((name, comparison, value)) = split(word) else {
        return Err(unknown(word));
    };
    let key = Key::ALL.iter().copied().find(|key| {
        key.name().as_bytes() == name
            && *key != Key::PermitDirectio
            && (comparison == Comparison::Equal || key.compares_ids())
    });
    match key {
        Some(key) if value.is_empty() => Err(Fault::EmptyValue(key)),
        Some(key) => Ok(Token::Condition { key, comparison, value }),
        None => Err(unknown(word)),
    }
}

fn split(word: &[u8]) -> Option<(&[u8], Comparison, &[u8])> {
    let at = word.iter().position(|byte| matches!(byte, b'=' | b'<' | b'>'))?;
    let comparison = match word.get(at)? {
        b'<' => Comparison::Less,
        b'>' => Comparison::Greater,
        _ => Comparison::Equal,
    };
    Some((word.get(..at)?, comparison, word.get(at + 1..)?))
}

fn unknown(word: &[u8]) -> Fault {
    Fault::UnknownWord { word: quoted(word), meant: meant(word) }
}

/// A suggestion for a word that is neither an action nor a condition.
fn meant(word: &[u8]) -> Option<String> {
    let actions = Action::ALL.iter().map(|action| action.name());
    let keys = Key::ALL.iter().map(|key| key.name());
    let Some((name, comparison, value)) = split(word) else {
        if let Some(key) = Key::ALL.iter().find(|key| key.name().as_bytes() == word) {
            return Some(key.name().to_string() + "= and a value, without a space");
        }
        let funcs = Func::ALL.iter().map(|func| func.name());
        if let Some(func) = nearest(word, funcs) {
            return Some("func=".to_string() + func);
        }
        return nearest(word, actions.chain(keys)).map(String::from);
    };
    // `uid!=0`: the kernel has no such operator, and without the `!` the word would mean the opposite
    if name.ends_with(b"!") {
        return None;
    }
    let name = nearest(name, keys)?;
    let key = Key::ALL.iter().find(|key| key.name() == name)?;
    if *key == Key::PermitDirectio {
        return Some(name.to_string());
    }
    // `fmask=0022` is an option of mount(8), not a misspelt mask=
    let access = value.strip_prefix(b"^").unwrap_or(value);
    if *key == Key::Mask && nearest(access, Access::ALL.iter().map(|it| it.name())).is_none() {
        return None;
    }
    let symbol = if key.compares_ids() { comparison.symbol() } else { '=' };
    Some(name.to_string() + symbol.to_string().as_str() + quoted(value).as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn suggestion(word: &str) -> Option<String> {
        match token(word.as_bytes()) {
            Err(Fault::UnknownWord { meant, .. }) => meant,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn spellings_are_exact() {
        assert_eq!(token(b"measure"), Ok(Token::Action(Action::Measure)));
        assert_eq!(token(b"permit_directio"), Ok(Token::Flag(Key::PermitDirectio)));
        let expected =
            Token::Condition { key: Key::Euid, comparison: Comparison::Less, value: b"10" };
        assert_eq!(token(b"euid<10"), Ok(expected));
        assert_eq!(token(b"func="), Err(Fault::EmptyValue(Key::Func)));
        for word in ["Measure", "measure=", "permit_directio=1", "func<BPRM_CHECK", "=", "pcr>1"] {
            assert!(matches!(token(word.as_bytes()), Err(Fault::UnknownWord { .. })), "{word}");
        }
    }

    #[test]
    fn a_value_may_hold_operators() {
        let expected =
            Token::Condition { key: Key::Label, comparison: Comparison::Equal, value: b"a=b<c" };
        assert_eq!(token(b"label=a=b<c"), Ok(expected));
    }

    #[test]
    fn suggests_what_may_have_been_meant() {
        assert_eq!(suggestion("apraise").as_deref(), Some("appraise"));
        assert_eq!(suggestion("FUNC=BPRM_CHECK").as_deref(), Some("func=BPRM_CHECK"));
        assert_eq!(suggestion("fownr=0").as_deref(), Some("fowner=0"));
        assert_eq!(suggestion("BPRM_CHEK").as_deref(), Some("func=BPRM_CHECK"));
        assert_eq!(suggestion("func").as_deref(), Some("func= and a value, without a space"));
        assert_eq!(suggestion("uid!=0"), None);
        assert_eq!(suggestion("fmask=0022"), None);
        assert_eq!(suggestion("fmask=MAY_EXEC").as_deref(), Some("mask=MAY_EXEC"));
        assert_eq!(suggestion("banana"), None);
    }
}
