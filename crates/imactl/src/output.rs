//! Output: aligned, coloured text, or JSON lines.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use clap::{Args, ValueEnum};
use ima::container::Part;
use ima_format::hex::Hex;
use ima_format::printable::is_unsafe;
use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};

use crate::printable::{Colors, Printable};

/// Output
#[derive(Debug, Args)]
pub(crate) struct OutputArgs {
    /// Print JSON lines (fields: docs/json.md)
    #[arg(long, global = true, help_heading = "Output")]
    json: bool,
    /// Print findings and errors only
    #[arg(short, long, global = true, help_heading = "Output")]
    quiet: bool,
    /// Print a line for each file, not only a summary
    #[arg(short, long, global = true, conflicts_with = "quiet", help_heading = "Output")]
    verbose: bool,
    /// Colour the output
    #[arg(
        long,
        global = true,
        value_name = "WHEN",
        default_value = "auto",
        help_heading = "Output"
    )]
    color: Color,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Color {
    Auto,
    Always,
    Never,
}

/// How much is printed for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    /// Findings and errors.
    Quiet,
    /// Results that most users want to see.
    Normal,
    /// Everything.
    Verbose,
}

/// The meaning of a word, shown by its colour.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Style {
    Plain,
    Good,
    Bad,
    Warning,
    Dim,
    Bold,
}

/// A result: its fields for programs, and a line for people made of these fields.
pub(crate) trait Entry: Serialize {
    /// The lowest level at which people see it.
    fn level(&self) -> Level;

    /// The line for people.
    fn text(&self, output: &Output) -> String;

    /// Another line below it.
    fn below(&self) -> Option<String> {
        None
    }
}

/// Standard output for results, standard error for everything else.
pub(crate) struct Output {
    answer: BufWriter<Box<dyn Write>>,
    level: Level,
    json: bool,
    colored: bool,
    /// The same for standard error.
    colors_errors: bool,
    warned: Vec<String>,
}

impl Output {
    pub(crate) fn new(args: &OutputArgs) -> Self {
        // no-color.org: an empty value counts as unset
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let colors = |is_terminal: bool| match args.color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => is_terminal && !refused,
        };
        let colored = colors(io::stdout().is_terminal());
        let colors_errors = colors(io::stderr().is_terminal());
        let level = match (args.quiet, args.verbose) {
            (true, _) => Level::Quiet,
            (_, true) => Level::Verbose,
            _ => Level::Normal,
        };
        let answer: Box<dyn Write> = Box::new(io::stdout());
        let answer = BufWriter::with_capacity(1 << 16, answer);
        Self { answer, level, json: args.json, colored, colors_errors, warned: Vec::new() }
    }

    /// Prints on standard error instead, because a result is written to standard output.
    pub(crate) fn give_way(&mut self) {
        self.answer = BufWriter::new(Box::new(io::stderr()));
    }

    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// Whether to show a progress bar.
    pub(crate) fn shows_progress(&self) -> bool {
        io::stderr().is_terminal() && !self.json && self.level > Level::Quiet
    }

    /// Whether lines of this level are printed.
    pub(crate) fn shows(&self, level: Level) -> bool {
        !self.json && level <= self.level
    }

    /// Prints a line for people at a level; nothing in JSON mode. Untrusted names in it can neither add
    /// lines nor escape sequences; only this program's colours are kept.
    pub(crate) fn line(&mut self, level: Level, line: impl fmt::Display) -> io::Result<()> {
        if !self.shows(level) {
            return Ok(());
        }
        let colors = if self.colored { Colors::Kept } else { Colors::None };
        writeln!(self.answer, "{}", Printable::painted(&line.to_string(), colors))
    }

    /// Prints a document unchanged, at every level.
    pub(crate) fn text(&mut self, document: &[u8]) -> io::Result<()> {
        self.answer.write_all(document)
    }

    /// Prints a result as text or JSON.
    pub(crate) fn show(&mut self, entry: &impl Entry) -> io::Result<()> {
        let level = entry.level();
        match self.json {
            true => self.json(entry),
            // most runs show only findings: format other lines only if they are printed
            false if self.shows(level) => {
                let text = entry.text(self);
                self.line(level, text)?;
                entry.below().map_or(Ok(()), |below| self.line(level, below))
            }
            false => Ok(()),
        }
    }

    /// Prints a JSON line; nothing in text mode.
    pub(crate) fn json(&mut self, value: &impl Serialize) -> io::Result<()> {
        if !self.json {
            return Ok(());
        }
        write_json(&mut self.answer, value)?;
        self.answer.write_all(b"\n")
    }

    /// Begins a JSON line of this type; nothing in text mode.
    pub(crate) fn object(&mut self, kind: &str) -> Object<'_> {
        let mut answer = self.json.then_some(&mut self.answer);
        let written = answer.as_mut().map_or(Ok(()), |to| write!(to, "{{\"type\":\"{kind}\""));
        Object { answer, written }
    }

    /// Prints that a path was not processed, as text or JSON; the error names the path.
    pub(crate) fn fail(&mut self, path: &Path, error: &str) -> io::Result<()> {
        if !self.json {
            self.complain(Style::Bad, "error:", error);
        }
        self.object("error").path(path).field("error", error).end()
    }

    /// Prints a warning on standard error; each text once.
    pub(crate) fn warn(&mut self, text: &str) {
        if !self.warned.iter().any(|warned| warned == text) {
            self.complain(Style::Warning, "warning:", text);
            self.warned.push(text.to_owned());
        }
    }

    /// Prints a note on standard error, each text once; nothing with `--quiet`.
    pub(crate) fn note(&mut self, text: &str) {
        if self.level > Level::Quiet && !self.warned.iter().any(|warned| warned == text) {
            self.complain(Style::Dim, "note:", text);
            self.warned.push(text.to_owned());
        }
    }

    /// Prints a message on standard error after a coloured word.
    pub(crate) fn complain(&mut self, style: Style, word: &str, text: &str) {
        let word = match self.colors_errors {
            true => paint_always(style, word),
            false => word.to_owned(),
        };
        // keep the order of both streams; without stderr the message is lost
        drop(self.answer.flush());
        drop(writeln!(io::stderr(), "{word} {}", Printable::new(text)));
    }

    /// A word in its colour, if colours are enabled. Escape sequences in the word are escaped.
    pub(crate) fn paint(&self, style: Style, word: &str) -> String {
        let word = &Printable::new(word).to_string();
        match self.colored {
            true => paint_always(style, word),
            false => word.to_owned(),
        }
    }

    /// Whether standard error is coloured.
    pub(crate) fn colors_errors(&self) -> bool {
        self.colors_errors
    }

    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.answer.flush()
    }
}

/// A JSON line, written field by field.
#[must_use = "end() ends the line"]
pub(crate) struct Object<'a> {
    /// `None` in text mode.
    answer: Option<&'a mut BufWriter<Box<dyn Write>>>,
    /// The first error.
    written: io::Result<()>,
}

impl Object<'_> {
    /// A field; a value that is `None` is null.
    pub(crate) fn field(mut self, name: &str, value: impl Serialize) -> Self {
        if let (Some(answer), Ok(())) = (&mut self.answer, &self.written) {
            let named = write!(answer, ",\"{name}\":");
            self.written = named.and_then(|()| write_json(answer, &value));
        }
        self
    }

    /// A field that is left out without a value.
    pub(crate) fn optional(self, name: &str, value: Option<impl Serialize>) -> Self {
        match value {
            Some(value) => self.field(name, value),
            None => self,
        }
    }

    /// The fields of a value that is an object itself.
    pub(crate) fn fields(mut self, value: impl Serialize) -> Self {
        if let (Some(answer), Ok(())) = (&mut self.answer, &self.written) {
            let mut text = Vec::new();
            self.written = write_json(&mut text, &value).and_then(|()| match text.as_slice() {
                [b'{', fields @ .., b'}'] if !fields.is_empty() => {
                    answer.write_all(b",").and_then(|()| answer.write_all(fields))
                }
                _ => Ok(()),
            });
        }
        self
    }

    /// The fields of a path.
    pub(crate) fn path<'n>(self, name: impl Into<Name<'n>>) -> Self {
        self.fields(name.into())
    }

    /// Ends the line.
    pub(crate) fn end(self) -> io::Result<()> {
        self.written?;
        self.answer.map_or(Ok(()), |answer| answer.write_all(b"}\n"))
    }
}

fn write_json(answer: &mut impl Write, value: &impl Serialize) -> io::Result<()> {
    Ok(value.serialize(&mut Serializer::with_formatter(answer, Escaped))?)
}

/// JSON without characters that a terminal or an editor obeys: characters that [`Printable`] shows as
/// bytes are escaped.
struct Escaped;

impl Formatter for Escaped {
    fn write_string_fragment<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let mut rest = fragment;
        while let Some(at) = rest.find(is_unsafe) {
            let (plain, tail) = rest.split_at(at);
            writer.write_all(plain.as_bytes())?;
            let mut characters = tail.chars();
            // all of them are in the basic plane: no surrogate pairs
            if let Some(character) = characters.next() {
                write!(writer, "\\u{:04x}", u32::from(character))?;
            }
            rest = characters.as_str();
        }
        writer.write_all(rest.as_bytes())
    }
}

fn paint_always(style: Style, word: &str) -> String {
    let code = match style {
        Style::Plain => return word.to_owned(),
        Style::Good => "32",
        Style::Bad => "1;31",
        Style::Warning => "1;33",
        Style::Dim => "2",
        Style::Bold => "1",
    };
    format!("\x1b[{code}m{word}\x1b[0m")
}

/// The name of a file: its path, and the container and its part that have the file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Name<'a> {
    pub(crate) container: Option<&'a Path>,
    pub(crate) part: Option<&'a Part>,
    pub(crate) path: &'a Path,
}

impl<'a> From<&'a Path> for Name<'a> {
    fn from(path: &'a Path) -> Self {
        Self { container: None, part: None, path }
    }
}

impl<'a> From<&'a [u8]> for Name<'a> {
    fn from(path: &'a [u8]) -> Self {
        Path::new(OsStr::from_bytes(path)).into()
    }
}

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(container) = self.container {
            write!(f, "{}: ", Printable::new(&container.to_string_lossy()))?;
        }
        if let Some(part) = self.part {
            write!(f, "{part}: ")?;
        }
        Printable::new(&self.path.to_string_lossy()).fmt(f)
    }
}

impl Serialize for Name<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        JsonPath::from(*self).serialize(serializer)
    }
}

/// A name as JSON: the path as text, its bytes in hexadecimal if it is not UTF-8, and the
/// container.
#[derive(Debug, Serialize)]
pub(crate) struct JsonPath {
    #[serde(skip_serializing_if = "Option::is_none")]
    container: Option<String>,
    /// The name of the part, by its noun.
    #[serde(flatten)]
    part: Option<BTreeMap<&'static str, String>>,
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_bytes: Option<String>,
}

impl<'a, N: Into<Name<'a>>> From<N> for JsonPath {
    fn from(name: N) -> Self {
        let Name { container, part, path } = name.into();
        let path_bytes = match path.to_str() {
            Some(_) => None,
            None => Some(Hex(path.as_os_str().as_bytes()).to_string()),
        };
        Self {
            container: container.map(|container| container.to_string_lossy().into_owned()),
            part: part.map(|part| BTreeMap::from([(part.noun, part.name.clone())])),
            path: path.to_string_lossy().into_owned(),
            path_bytes,
        }
    }
}

/// A count with its noun: `1 file`, `12,345 files`.
pub(crate) fn count(number: u64, noun: &str) -> String {
    let counted = indicatif::HumanCount(number);
    match number {
        1 => format!("{counted} {noun}"),
        _ => format!("{counted} {}", plural(noun)),
    }
}

/// The plural of a noun: `files`, `entries`, `keys`.
pub(crate) fn plural(noun: &str) -> String {
    match noun.strip_suffix('y') {
        Some(stem) if !stem.ends_with(['a', 'e', 'o', 'u']) => format!("{stem}ies"),
        _ => format!("{noun}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nouns_have_their_plural() {
        for (noun, expected) in [("file", "files"), ("entry", "entries"), ("key", "keys")] {
            assert_eq!(plural(noun), expected);
        }
    }
}
