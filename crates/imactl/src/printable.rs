//! Untrusted text (names of files, members and commands, subjects) for terminals and logs: characters
//! that could forge output are shown as `\xNN`.

use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use ima_format::printable::{is_unsafe, show};

/// Whether colours of [`Output`](crate::output::Output) are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Colors {
    /// Keep the escape sequences of [`CODES`].
    Kept,
    /// Escape all escape sequences.
    None,
}

/// The parameters of the escape sequences that this program writes itself.
pub(crate) const CODES: [&str; 6] = ["0", "1", "2", "32", "1;31", "1;33"];

/// A text in one line. Control characters (including line ends), and Unicode characters that change the
/// direction of writing or end a line, are shown as the bytes of their UTF-8. Tabs stay.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Printable<'a> {
    text: &'a str,
    colors: Colors,
}

impl<'a> Printable<'a> {
    /// Untrusted text without colours.
    pub(crate) fn new(text: &'a str) -> Self {
        Self::painted(text, Colors::None)
    }

    /// A line that may have colours.
    pub(crate) fn painted(text: &'a str, colors: Colors) -> Self {
        Self { text, colors }
    }
}

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.text;
        while let Some(at) = rest.find(is_unsafe) {
            let (plain, tail) = rest.split_at(at);
            f.write_str(plain)?;
            if let (Colors::Kept, Some(length)) = (self.colors, color(tail)) {
                let (sequence, after) = tail.split_at(length);
                f.write_str(sequence)?;
                rest = after;
                continue;
            }
            let mut characters = tail.chars();
            characters.next().map_or(Ok(()), |character| show(f, character))?;
            rest = characters.as_str();
        }
        f.write_str(rest)
    }
}

/// The length of the colour sequence at the start of a text.
fn color(text: &str) -> Option<usize> {
    let parameters = text.strip_prefix("\x1b[")?;
    let end = parameters.find('m')?;
    CODES.contains(&&parameters[..end]).then_some(2 + end + 1)
}

/// A path as a word of a shell command line. Characters that are not printable are quoted as bash, ksh
/// and zsh read them: `$'\x1b'`.
pub(crate) fn shell_word(path: &Path) -> String {
    let bytes = path.as_os_str().as_bytes();
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/._-+,:@%".contains(byte);
    let text = std::str::from_utf8(bytes).ok();
    match text {
        Some(text) if !bytes.is_empty() && bytes.iter().all(plain) => text.to_owned(),
        Some(text) if !text.contains(|character| is_unsafe(character) || character == '\t') => {
            format!("'{}'", text.replace('\'', r"'\''"))
        }
        _ => {
            let word = bytes.iter().map(|byte| match byte {
                b'\'' | b'\\' => format!("\\{}", char::from(*byte)),
                0x20..=0x7e => char::from(*byte).to_string(),
                byte => format!("\\x{byte:02x}"),
            });
            format!("$'{}'", word.collect::<String>())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;

    #[test]
    fn a_shell_reads_words_as_they_are() {
        for (name, word) in [
            (&b"/opt/a-b_c.d"[..], "/opt/a-b_c.d"),
            (b"/opt/a b", "'/opt/a b'"),
            (b"/opt/$(reboot);'x", r"'/opt/$(reboot);'\''x'"),
            ("/opt/\u{e4}".as_bytes(), "'/opt/\u{e4}'"),
            (b"/opt/a\nb\xff'\\", r"$'/opt/a\x0ab\xff\'\\'"),
        ] {
            let path = Path::new(OsStr::from_bytes(name));
            assert_eq!(shell_word(path), word);
            let echo = format!("printf %s {}", shell_word(path));
            let mut bash = std::process::Command::new("bash");
            if let Ok(said) = bash.arg("-c").arg(echo).output() {
                assert_eq!(said.stdout, name, "{word}");
            }
        }
    }

    #[test]
    fn what_a_terminal_obeys_is_shown_as_bytes() {
        let shown = |text: &str| Printable::new(text).to_string();
        assert_eq!(shown("a\x1b[2J\nerror: b\t\u{9b}1m\u{202e}c"), {
            "a\\x1b[2J\\x0aerror: b\t\\xc2\\x9b1m\\xe2\\x80\\xaec"
        });
        assert_eq!(shown("\x1b[32mgood\x1b[0m"), "\\x1b[32mgood\\x1b[0m");
        assert_eq!(shown("\u{e4} \u{1f512}"), "\u{e4} \u{1f512}");
    }

    #[test]
    fn of_a_painted_line_its_own_colours_stay() {
        let shown = |text: &str| Printable::painted(text, Colors::Kept).to_string();
        assert_eq!(shown("\x1b[1;31mbad\x1b[0m"), "\x1b[1;31mbad\x1b[0m");
        assert_eq!(shown("\x1b[5mx\x1b[0"), "\\x1b[5mx\\x1b[0");
    }
}
