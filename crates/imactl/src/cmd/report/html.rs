//! HTML: untrusted text, tables, bars.
//!
//! All text passes through [`text`]: it escapes characters that HTML interprets, and those that [`Printable`]
//! escapes on a terminal, because a browser also obeys characters that change the direction of writing.

use ima_format::printable::Printable;
use indicatif::HumanCount;

/// The maximum number of rows of a table, so that a page stays usable whatever its inputs are.
pub(super) const ROWS: usize = 1000;

/// The maximum number of rows of a table that is shown open.
const OPEN: usize = 12;

/// Untrusted text, escaped for HTML.
pub(super) fn text(text: impl AsRef<[u8]>) -> String {
    let mut escaped = String::new();
    for character in Printable(text.as_ref()).to_string().chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

/// A number with separators.
pub(super) fn number(number: u64) -> String {
    HumanCount(number).to_string()
}

/// A path, a digest or a key: always left to right, in any script.
pub(super) fn code(foreign: impl AsRef<[u8]>) -> String {
    format!("<code dir=\"ltr\">{}</code>", text(foreign))
}

/// The meaning of a word or a part of a bar. The word or a legend gives it as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    Good,
    Bad,
    Doubtful,
    Neutral,
}

impl Tone {
    pub(super) const fn class(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Bad => "bad",
            Self::Doubtful => "doubtful",
            Self::Neutral => "neutral",
        }
    }
}

/// A question that the page answers at the top.
pub(super) struct Answered {
    pub(super) question: &'static str,
    pub(super) tone: Tone,
    pub(super) word: &'static str,
    /// The full answer.
    pub(super) said: String,
}

/// The content of a table cell.
#[derive(Debug, Clone)]
pub(super) enum Cell {
    Text(String),
    /// In a monospaced font.
    Code(Vec<u8>),
    Number(u64),
    /// A number; zero is shown as a dash.
    Count(u64),
    Word(Tone, String),
}

impl Cell {
    fn is_filled(&self) -> bool {
        match self {
            Self::Text(words) => !words.is_empty(),
            Self::Code(foreign) => !foreign.is_empty(),
            Self::Number(_) | Self::Count(_) | Self::Word(..) => true,
        }
    }

    fn write(&self, page: &mut String) {
        *page += &match self {
            Self::Text(words) => format!("<td>{}</td>", text(words)),
            Self::Code(foreign) => format!("<td>{}</td>", code(foreign)),
            Self::Count(0) => "<td class=\"number\" data-value=\"0\">–</td>".to_owned(),
            Self::Number(value) | Self::Count(value) => {
                format!("<td class=\"number\" data-value=\"{value}\">{}</td>", number(*value))
            }
            Self::Word(tone, word) => {
                format!("<td><span class=\"{}\">{}</span></td>", tone.class(), text(word))
            }
        }
    }
}

/// A table that can be folded. A script sorts and filters its rows, if the browser runs scripts.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) title: String,
    /// How many rows are left out, and which command prints them.
    pub(super) note: Option<String>,
    pub(super) columns: &'static [&'static str],
    pub(super) rows: Vec<Vec<Cell>>,
}

impl Table {
    /// Writes the table; nothing if it is empty.
    pub(super) fn write(&self, page: &mut String) {
        let Self { title, note, columns, rows } = self;
        let Some(first) = rows.first() else { return };
        let open = if rows.len() <= OPEN { " open" } else { "" };
        let title = text(title);
        *page += &format!("<details class=\"table\"{open}>\n<summary>{title}</summary>\n");
        if let Some(note) = note {
            *page += &format!("<p class=\"note\">{}</p>\n", text(note));
        }
        *page += &format!(
            "<div class=\"scroll\" role=\"region\" tabindex=\"0\" aria-label=\"{title}\">\n<table>\n<thead><tr>"
        );
        // leave out columns without content
        let is_used =
            |column: usize| rows.iter().any(|row| row.get(column).is_some_and(Cell::is_filled));
        let used: Vec<_> = (0..columns.len()).map(is_used).collect();
        for ((column, cell), _) in columns.iter().zip(first).zip(&used).filter(|(_, used)| **used) {
            let class = match cell {
                Cell::Number(_) | Cell::Count(_) => " class=\"number\"",
                _ => "",
            };
            *page += &format!("<th scope=\"col\"{class}>{}</th>", text(column));
        }
        *page += "</tr></thead>\n<tbody>\n";
        for row in rows {
            *page += "<tr>";
            let cells = row.iter().zip(&used).filter(|(_, used)| **used);
            cells.for_each(|(cell, _)| cell.write(page));
            *page += "</tr>\n";
        }
        *page += "</tbody>\n</table>\n</div>\n</details>\n";
    }
}

/// A part of a bar.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part {
    pub(super) tone: Tone,
    pub(super) label: &'static str,
    pub(super) count: u64,
}

/// Writes a bar with its legend; nothing if all parts are empty.
pub(super) fn bar(title: &str, parts: &[Part], page: &mut String) {
    let total: u64 = parts.iter().map(|part| part.count).sum();
    if total == 0 {
        return;
    }
    let share = |count: u64| count as f64 * 100.0 / total as f64;
    *page += &format!(
        "<svg class=\"bar\" viewBox=\"0 0 100 4\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\"{}\">",
        text(title)
    );
    let mut before = 0.0_f64;
    for Part { tone, count, .. } in parts.iter().filter(|part| part.count > 0) {
        // a few of very many must still be visible
        let width = share(*count).max(0.4);
        let at = before.min(100.0 - width);
        *page += &format!(
            "<rect class=\"{}\" x=\"{at:.2}\" y=\"0\" width=\"{width:.2}\" height=\"4\"/>",
            tone.class()
        );
        before += share(*count);
    }
    *page += "</svg>\n<ul class=\"legend\">\n";
    for Part { tone, label, count } in parts {
        let share = match (*count, share(*count)) {
            (0, _) => "none".to_owned(),
            (_, share) if share < 0.1 => "under 0.1 %".to_owned(),
            (_, share) => format!("{share:.1} %"),
        };
        *page += &format!(
            "<li><span class=\"swatch {}\"></span>{label} <b>{}</b> <span class=\"share\">{share}</span></li>\n",
            tone.class(),
            number(*count),
        );
    }
    *page += "</ul>\n";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_is_no_markup_and_changes_no_direction() {
        let name = "<script>'&\"\u{202e}\u{1b}[31m".as_bytes();
        let escaped = "&lt;script&gt;&#39;&amp;&quot;\\xe2\\x80\\xae\\x1b[31m";
        assert_eq!(text(name), escaped);
        let mut page = String::new();
        let cells = vec![Cell::Code(name.to_vec()), Cell::Word(Tone::Bad, "<b>".into())];
        let title = "<i>".to_owned();
        Table { title, note: Some("<u>".into()), columns: &["a", "b"], rows: vec![cells] }
            .write(&mut page);
        for markup in ["<script", "<b>", "<i>", "<u>", "\u{202e}", "\u{1b}"] {
            assert!(!page.contains(markup), "{markup} in {page}");
        }
        assert!(page.contains(escaped), "{page}");
    }

    #[test]
    fn few_of_many_are_to_be_seen_in_a_bar() {
        let mut page = String::new();
        let part = |tone, count| Part { tone, label: "x", count };
        bar("all", &[part(Tone::Good, 999_999), part(Tone::Bad, 1)], &mut page);
        assert!(page.contains("class=\"bad\" x=\"99.60\" y=\"0\" width=\"0.40\""), "{page}");
        assert!(page.contains("under 0.1 %"), "{page}");
    }
}
