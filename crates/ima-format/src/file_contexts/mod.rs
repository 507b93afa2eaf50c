//! SELinux's file contexts: the label that a target's policy has for a path.
//!
//! Mirrors `process_line` in libselinux's `label_file.h`, `read_spec_entries` in `label_support.c`,
//! and `selabel_subs_init` and `selabel_apply_subs` in `label_file.c` (libselinux 3.4 to 3.11). One
//! rule per line; words are separated by white space, and words after the last field are ignored:
//!
//! | field | |
//! |---|---|
//! | pattern | a path, or a regular expression for the whole of it ([`Pattern`]) |
//! | type, optional | `--` regular files; `-b` `-c` `-d` `-l` `-p` `-s` other files |
//! | context | the label, or `<<none>>`: files get no label |
//!
//! A line that starts with `#` is a comment. Files of substitutions have two words per line: a path,
//! and the path whose labels what is below it gets; the last line that fits counts. Those of the
//! administrator (`.subs`) are applied before those of the distribution (`.subs_dist`).
//!
//! libselinux reads any byte but white space in a context and asks the policy for its validity. There
//! is no policy here: a context has at least a user, a role and a type.

mod pattern;

use alloc::vec::Vec;
use core::fmt;

use crate::{Error, ErrorKind};

pub use pattern::Pattern;

/// The first bytes of a compiled file (`SELINUX_MAGIC_COMPILED_FCONTEXT`).
const COMPILED: u32 = 0xf97c_ff8a;

/// A rule that applies to regular files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule<'a> {
    /// The paths.
    pub pattern: Pattern,
    /// Their label; `None` if they get none.
    pub context: Option<&'a [u8]>,
    /// Where it is in the text.
    pub offset: usize,
}

/// What is wrong with a file of contexts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It is compiled.
    Compiled,
    /// A rule has no context.
    NoContext,
    /// A word has a byte that is not printable ASCII.
    NotAscii,
    /// An unknown file type.
    Type,
    /// A context without user, role and type.
    Context,
    /// `^`, `$`, or `|` outside parentheses.
    Anchor,
    /// An escape that is not one of a character or of a class.
    Escape,
    /// `(?` or `(*`.
    Extension,
    /// A parenthesis or bracket without its counterpart.
    Unbalanced,
    /// A repetition of nothing, of a repetition, or possessive.
    Repetition,
    /// A brace that is not a repetition.
    Brace,
    /// A repeated slash after a fixed name.
    Slash,
    /// A class that is not made of characters, ranges and named classes.
    Class,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Compiled => "compiled file contexts, which are not read",
            Self::NoContext => "rule without a context",
            Self::NotAscii => "not printable ASCII",
            Self::Type => "unknown file type",
            Self::Context => "context without user, role and type",
            Self::Anchor => "unsupported ^, $, or | outside parentheses",
            Self::Escape => "unsupported escape",
            Self::Extension => "unsupported group",
            Self::Unbalanced => "unbalanced parenthesis or bracket",
            Self::Repetition => "unsupported repetition",
            Self::Brace => "brace that is not a repetition",
            Self::Slash => "unsupported repetition of a slash",
            Self::Class => "unsupported character class",
        })
    }
}

impl From<Fault> for ErrorKind {
    fn from(fault: Fault) -> Self {
        Self::FileContexts(fault)
    }
}

/// The rules of a text that apply to regular files, in its order.
///
/// # Errors
/// A line that is not a rule, a pattern that this crate does not support, and its offset.
pub fn rules(text: &[u8]) -> Result<Vec<Rule<'_>>, Error> {
    let magic = text.get(..4).unwrap_or_default();
    if [COMPILED.to_be_bytes(), COMPILED.to_le_bytes()].iter().any(|it| it == magic) {
        return Err(Error::new(Fault::Compiled, 0));
    }
    lines(text).filter_map(|(offset, line)| rule(offset, line).transpose()).collect()
}

/// The rule of a line, if it has one for regular files.
fn rule(offset: usize, line: &[u8]) -> Result<Option<Rule<'_>>, Error> {
    let mut words = words(offset, line);
    let Some((offset, pattern)) = words.next().filter(|(_, word)| !word.starts_with(b"#")) else {
        return Ok(None);
    };
    let rest = [words.next(), words.next()];
    for (offset, word) in [Some((offset, pattern))].into_iter().chain(rest).flatten() {
        if let Some(at) = word.iter().position(|byte| !byte.is_ascii_graphic()) {
            return Err(Error::new(Fault::NotAscii, offset + at));
        }
    }
    let (kind, (at, context)) = match rest {
        [Some(kind), Some(context)] => (Some(kind), context),
        [Some(context), None] => (None, context),
        [None, _] => return Err(Error::new(Fault::NoContext, offset)),
    };
    match kind {
        None | Some((_, b"--")) => {}
        Some((_, [b'-', b'b' | b'c' | b'd' | b'l' | b'p' | b's'])) => return Ok(None),
        Some((at, _)) => return Err(Error::new(Fault::Type, at)),
    }
    let context = Some(context).filter(|context| *context != b"<<none>>");
    let mut parts = context.into_iter().flat_map(|context| context.splitn(4, |it| *it == b':'));
    if context.is_some() && (0..3).any(|_| parts.next().map_or(true, <[u8]>::is_empty)) {
        return Err(Error::new(Fault::Context, at));
    }
    let pattern = Pattern::parse(pattern).map_err(|error| error.after(offset))?;
    Ok(Some(Rule { pattern, context, offset }))
}

/// Paths whose labels are those of other paths.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Substitutions(Vec<(Vec<u8>, Vec<u8>)>);

impl Substitutions {
    /// Reads a text.
    pub fn parse(text: &[u8]) -> Self {
        let pair = |(offset, line)| {
            let mut words = words(offset, line);
            let (_, from) = words.next().filter(|(_, word)| !word.starts_with(b"#"))?;
            Some((from.to_vec(), words.next()?.1.to_vec()))
        };
        let mut pairs: Vec<_> = lines(text).filter_map(pair).collect();
        pairs.reverse();
        Self(pairs)
    }

    /// The path whose label a path gets, if it is another one.
    pub fn apply(&self, path: &[u8]) -> Option<Vec<u8>> {
        self.0.iter().find_map(|(from, to)| {
            let below = path.strip_prefix(&**from)?;
            let below = match below.split_first() {
                Some((b'/', below)) if to == b"/" => below,
                Some((b'/', _)) | None => below,
                Some(_) => return None,
            };
            Some([to, below].concat())
        })
    }
}

/// The lines of a text, with their offsets.
fn lines(text: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let mut next = 0;
    text.split(|byte| *byte == b'\n').map(move |line| {
        let offset = next;
        next += line.len() + 1;
        (offset, line)
    })
}

/// The words of a line, with their offsets.
fn words(offset: usize, line: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let mut next = offset;
    // as isspace(3)
    let words = line.split(|byte| byte.is_ascii_whitespace() || *byte == 0x0b).map(move |word| {
        let offset = next;
        next += word.len() + 1;
        (offset, word)
    });
    words.filter(|(_, word)| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_rule_or_an_error_with_its_offset() {
        let text = b"# comment\n\n /a  --\tu:r:t:s0:c1 ignored\n/b -d u:r:t\n/c <<none>>";
        let rules = rules(text).unwrap();
        assert_eq!(
            rules,
            [
                Rule {
                    pattern: Pattern::Literal(b"/a".to_vec()),
                    context: Some(b"u:r:t:s0:c1"),
                    offset: 12
                },
                Rule { pattern: Pattern::Literal(b"/c".to_vec()), context: None, offset: 51 },
            ]
        );
        for (text, fault, offset) in [
            (&b"\n/a"[..], Fault::NoContext, 1),
            (b"/a -x u:r:t", Fault::Type, 3),
            (b"/a --", Fault::Context, 3),
            (b"/a u:r:", Fault::Context, 3),
            (b"/\xc3\xa4 u:r:t", Fault::NotAscii, 1),
            (b"#\n/a(b u:r:t", Fault::Unbalanced, 5),
            (b"\xf9\x7c\xff\x8a\0\0", Fault::Compiled, 0),
            (b"\x8a\xff\x7c\xf9\0\0", Fault::Compiled, 0),
        ] {
            assert_eq!(super::rules(text), Err(Error::new(fault, offset)), "{text:?}");
        }
    }

    #[test]
    fn the_last_substitution_that_fits_counts() {
        let text =
            b"# comment\n/run /var/run\n/usr/lib64 /usr/lib\n/lib64 / \n/alone\n/run /other\n";
        let substitutions = Substitutions::parse(text);
        for (path, expected) in [
            ("/run/a", Some("/other/a")),
            ("/run", Some("/other")),
            ("/running", None),
            ("/usr/lib64/x/y", Some("/usr/lib/x/y")),
            ("/lib64/a", Some("/a")),
            ("/alone", None),
        ] {
            let substituted = substitutions.apply(path.as_bytes());
            assert_eq!(substituted.as_deref(), expected.map(str::as_bytes), "{path}");
        }
    }
}
