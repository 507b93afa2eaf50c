//! A finding with its line of the policy, as compilers show it.

use std::io;

use ima_format::policy::diagnostic::{Diagnostic, Location, Severity};

use crate::output::{Level, Output, Style};

/// The maximum number of columns of a line that are shown.
const WIDTH: usize = 120;

/// Prints a finding for people.
pub(super) fn print(
    found: &Diagnostic,
    name: &str,
    text: &[u8],
    level: Level,
    output: &mut Output,
) -> io::Result<()> {
    for line in render(found, name, text, output) {
        output.line(level, &line)?;
    }
    output.line(level, "")
}

fn render(found: &Diagnostic, name: &str, text: &[u8], output: &Output) -> Vec<String> {
    let style = style(found.severity);
    let head = output.paint(style, &format!("{}[{}]", found.severity, found.name));
    let mut lines = vec![format!("{head}{} {}", output.paint(Style::Bold, ":"), found.message)];
    let gutter = found.location.map_or(1, |location| location.line.to_string().len());
    let dim = |text: &str| output.paint(Style::Dim, text);
    let margin = " ".repeat(gutter);
    match found.location {
        Some(location) => {
            let Location { line, column, .. } = location;
            lines.push(format!("{margin}{} {name}:{line}:{column}", dim("-->")));
            lines.push(format!("{margin} {}", dim("|")));
            let (shown, marks) = excerpt(text, &location);
            lines.push(format!("{} {shown}", dim(&format!("{line} |"))));
            lines.push(format!("{margin} {} {}", dim("|"), output.paint(style, &marks)));
        }
        None => lines.push(format!("{margin}{} {name}", dim("-->"))),
    }
    if let Some(reason) = found.reason {
        lines.push(format!("{margin} {} why: {reason}", dim("=")));
    }
    if let Some(hint) = &found.hint {
        lines.push(format!("{margin} {} hint: {hint}", dim("=")));
    }
    lines
}

pub(super) const fn style(severity: Severity) -> Style {
    match severity {
        Severity::Error => Style::Bad,
        Severity::Warning => Style::Warning,
        Severity::Note => Style::Bold,
    }
}

/// The line around a location, and carets under the location. Bytes that are not text are
/// escaped, so that they are visible and have no effect on the terminal.
fn excerpt(text: &[u8], location: &Location) -> (String, String) {
    let span = location.span;
    let start = span.start.min(text.len()) - (location.column - 1).min(span.start.min(text.len()));
    let line = text[start..].split(|byte| *byte == b'\n').next().unwrap_or_default();
    let from = (location.column - 1).min(line.len());
    let to = span.end.saturating_sub(start).clamp(from, line.len());
    let [mut before, inside, mut after] =
        [&line[..from], &line[from..to], &line[to..]].map(visible);
    let marked = inside.chars().take(WIDTH).count().max(1);
    let room = WIDTH.saturating_sub(marked);
    let long = before.chars().count();
    if long + after.chars().count() > room {
        let kept = long.min(room / 2);
        if kept < long {
            before = format!("...{}", before.chars().skip(long - kept).collect::<String>());
        }
        if after.chars().count() > room - kept {
            after = after.chars().take(room - kept).chain("...".chars()).collect();
        }
    }
    let marks = format!("{}{}", " ".repeat(before.chars().count()), "^".repeat(marked));
    let inside: String = inside.chars().take(WIDTH).collect();
    (format!("{before}{inside}{after}"), marks)
}

fn visible(bytes: &[u8]) -> String {
    let mut shown = String::new();
    for character in String::from_utf8_lossy(bytes).chars() {
        match character {
            '\t' => shown.push_str("    "),
            character if character.is_control() => shown.extend(character.escape_default()),
            character => shown.push(character),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use ima_format::policy::lexer::Span;

    fn shown(text: &[u8], line: usize, column: usize, start: usize, end: usize) -> [String; 2] {
        let span = Span { start, end };
        let (line, marks) = excerpt(text, &Location { line, column, span });
        [line, marks]
    }

    #[test]
    fn carets_stand_under_what_is_meant() {
        let text = b"# one\nmeasure\tfnc=X end\n";
        assert_eq!(shown(text, 2, 9, 14, 19), ["measure    fnc=X end", "           ^^^^^"]);
        assert_eq!(shown(text, 2, 18, 23, 23), ["measure    fnc=X end", "                    ^"]);
    }

    #[test]
    fn control_characters_do_nothing_to_the_terminal() {
        let [line, marks] = shown(b"measure \x1b[2J\r\n", 1, 9, 8, 13);
        assert_eq!(line, "measure \\u{1b}[2J\\r");
        assert_eq!(marks, format!("        {}", "^".repeat(11)));
    }

    #[test]
    fn long_lines_are_shown_around_the_place() {
        let text = [vec![b'a'; 300], b" HERE ".to_vec(), vec![b'b'; 300]].concat();
        let [line, marks] = shown(&text, 1, 302, 301, 305);
        assert!(line.chars().count() <= WIDTH + 6, "{line}");
        assert_eq!(line.find("HERE"), marks.find('^'));
        assert!(line.starts_with("...a") && line.ends_with("b..."));
    }

    #[test]
    fn the_end_of_a_text_can_be_shown() {
        assert_eq!(shown(b"measure", 1, 8, 7, 7), ["measure", "       ^"]);
        assert_eq!(shown(b"", 1, 1, 0, 0), ["", "^"]);
    }
}
