//! Transcripts in pages: commands, and the output shown for them.
//!
//! The tests of the program and those of the lab both use this file.

/// A fenced block of a page: the words after the fence, and its text.
pub(crate) struct Block<'a> {
    pub(crate) info: &'a str,
    pub(crate) text: String,
}

pub(crate) fn blocks(page: &str) -> Vec<Block<'_>> {
    let mut blocks = Vec::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        let Some(info) = line.strip_prefix("```") else { continue };
        let text: Vec<_> = lines.by_ref().take_while(|line| *line != "```").collect();
        blocks.push(Block { info, text: text.join("\n") + "\n" });
    }
    blocks
}

/// The commands of a page after `$`, and the output shown for each.
pub(crate) fn transcripts(page: &str) -> Vec<(String, String)> {
    let blocks = blocks(page).into_iter().filter(|block| block.info == "console");
    blocks.flat_map(|block| block.commands()).collect()
}

impl Block<'_> {
    /// The commands of a transcript, and the output shown for each.
    pub(crate) fn commands(&self) -> Vec<(String, String)> {
        let text = format!("\n{}", self.text);
        let mut parts = text.split("\n$ ");
        assert_eq!(parts.next(), Some(""), "a transcript begins with a command");
        parts.map(command_and_output).collect()
    }
}

/// A command, which continues after a backslash or a pipe, and its output.
fn command_and_output(text: &str) -> (String, String) {
    let mut command = String::new();
    let mut lines = text.lines();
    for line in lines.by_ref() {
        command += line;
        command.push('\n');
        if !line.ends_with('\\') && !line.ends_with('|') {
            break;
        }
    }
    (command, lines.collect::<Vec<_>>().join("\n"))
}

/// A text with its numbers, key IDs and months replaced by placeholders.
fn without_numbers(text: &str) -> Vec<String> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let alike = |word: &str| {
        let is_hex = word.len() >= 8 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
        if is_hex || MONTHS.contains(&word) {
            return "#".to_owned();
        }
        let digit = |c: char| c.is_ascii_digit();
        let mut parts = word.split(digit).filter(|part| !part.is_empty()).collect::<Vec<_>>();
        if word.contains(digit) {
            parts.insert(parts.len().min(1), "#");
        }
        parts.concat()
    };
    let line = |line: &str| {
        let mut result = String::new();
        for word in line.trim_end().split_inclusive(|c: char| !c.is_ascii_alphanumeric()) {
            let end = word.trim_end_matches(|c: char| !c.is_ascii_alphanumeric()).len();
            result += &alike(&word[..end]);
            result += &word[end..];
        }
        result
    };
    // OpenSSL pads days below ten with a second blank
    text.lines().map(|text| line(text).replace("#  #", "# #")).collect()
}

/// Checks output against the expected one, in which `...` stands for any lines; numbers may differ.
#[track_caller]
pub(crate) fn assert_fits(found: &str, expected: &str, command: &str) {
    assert_lines(&without_numbers(found), &without_numbers(expected), command);
}

/// Checks lines of output against the expected ones, in which `...` stands for any lines.
#[track_caller]
pub(crate) fn assert_lines(found: &[String], shown: &[String], command: &str) {
    let mut rest = found;
    let parts = shown.split(|line| line == "...");
    for (index, part) in parts.enumerate() {
        let at = rest.windows(part.len().max(1)).position(|window| window == part);
        let at = if part.is_empty() { Some(0) } else { at };
        let at = at.unwrap_or_else(|| panic!("{command}{part:#?}\nis not in\n{rest:#?}"));
        assert!(index > 0 || at == 0, "{command}begins otherwise: {rest:#?}");
        rest = &rest[at + part.len()..];
    }
    let open = shown.last().is_some_and(|last| last == "...");
    assert!(open || rest.is_empty(), "{command}goes on:\n{rest:#?}");
}
