//! Output: aligned, coloured text, or JSON lines.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, BufWriter, IsTerminal, Write};
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

/// How much is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    /// Findings and errors, which must not be missed.
    Quiet,
    /// Results that most users want to see.
    Normal,
    /// Everything.
    Verbose,
}

/// How a word is meant.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Style {
    Plain,
    Good,
    Bad,
    Warning,
    Dim,
    Bold,
}

/// A result: its fields for programs, and a line for people that is made of them.
pub(crate) trait Entry: Serialize {
    /// From which level on people see it.
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
    /// The same of standard error.
    colors_errors: bool,
    warned: Vec<String>,
}

impl Output {
    pub(crate) fn new(args: &OutputArgs) -> Self {
        // no-color.org: an empty value is none
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

    /// Leaves standard output to a file that is written there, and prints on standard error.
    pub(crate) fn give_way(&mut self) {
        self.answer = BufWriter::new(Box::new(io::stderr()));
    }

    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// Whether a progress bar is wanted.
    pub(crate) fn shows_progress(&self) -> bool {
        io::stderr().is_terminal() && !self.json && self.level > Level::Quiet
    }

    /// Whether people asked for this much.
    pub(crate) fn shows(&self, level: Level) -> bool {
        !self.json && level <= self.level
    }

    /// Prints a line for people, if they asked for that much. In JSON nothing. Whatever names
    /// are in it, it stays one line, and a terminal obeys no part of it but its colours.
    pub(crate) fn line(&mut self, level: Level, line: impl fmt::Display) -> io::Result<()> {
        if !self.shows(level) {
            return Ok(());
        }
        let colors = if self.colored { Colors::Kept } else { Colors::None };
        writeln!(self.answer, "{}", Printable::painted(&line.to_string(), colors))
    }

    /// Prints a document that is the answer, as it is, however much is asked for.
    pub(crate) fn text(&mut self, document: &[u8]) -> io::Result<()> {
        self.answer.write_all(document)
    }

    /// Prints a result, in the form that is wanted.
    pub(crate) fn show(&mut self, entry: &impl Entry) -> io::Result<()> {
        let level = entry.level();
        match self.json {
            true => self.json(entry),
            // most runs show the findings alone: the others need not be painted
            false if self.shows(level) => {
                let text = entry.text(self);
                self.line(level, text)?;
                entry.below().map_or(Ok(()), |below| self.line(level, below))
            }
            false => Ok(()),
        }
    }

    /// Prints a JSON line; nothing where text is wanted.
    pub(crate) fn json(&mut self, value: &impl Serialize) -> io::Result<()> {
        if !self.json {
            return Ok(());
        }
        let mut serializer = Serializer::with_formatter(&mut self.answer, Escaped);
        value.serialize(&mut serializer)?;
        self.answer.write_all(b"\n")
    }

    /// Warns on standard error, once for each text.
    pub(crate) fn warn(&mut self, text: &str) {
        if !self.warned.iter().any(|warned| warned == text) {
            self.complain(Style::Warning, "warning:", text);
            self.warned.push(text.to_owned());
        }
    }

    /// Says on standard error what is good to know, once for each text, unless people asked
    /// for less.
    pub(crate) fn note(&mut self, text: &str) {
        if self.level > Level::Quiet && !self.warned.iter().any(|warned| warned == text) {
            self.complain(Style::Dim, "note:", text);
            self.warned.push(text.to_owned());
        }
    }

    /// Says something on standard error after a coloured word.
    pub(crate) fn complain(&mut self, style: Style, word: &str, text: &str) {
        let word = match self.colors_errors {
            true => paint_always(style, word),
            false => word.to_owned(),
        };
        // the answer so far comes first, and without stderr there is nobody to tell
        drop(self.answer.flush());
        drop(writeln!(io::stderr(), "{word} {}", Printable::new(text)));
    }

    /// A word in its colour, if colours are wanted. Of the word itself nothing is obeyed.
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

/// JSON in which nothing stands that a terminal or an editor obeys: what [`Printable`] shows as
/// bytes is escaped.
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
            // none of them needs a pair of surrogates
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

/// How a file is called: its path, and the container, and the part of it, that it is in.
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

/// The error of one path, in JSON.
#[derive(Debug, Serialize)]
pub(crate) struct JsonError {
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
    #[serde(flatten)]
    pub(crate) path: JsonPath,
    pub(crate) error: String,
}

/// A name in JSON: the path as text, its bytes in hexadecimal where it is not UTF-8, and the
/// container.
#[derive(Debug, Serialize)]
pub(crate) struct JsonPath {
    #[serde(skip_serializing_if = "Option::is_none")]
    container: Option<String>,
    /// By its noun.
    #[serde(flatten)]
    part: Option<BTreeMap<&'static str, String>>,
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_bytes: Option<String>,
}

impl<'a, N: Into<Name<'a>>> From<N> for JsonPath {
    fn from(name: N) -> Self {
        use std::os::unix::ffi::OsStrExt;
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

/// Several of something: `files`, `entries`.
pub(crate) fn plural(noun: &str) -> String {
    match noun.strip_suffix('y') {
        Some(stem) => format!("{stem}ies"),
        None => format!("{noun}s"),
    }
}
