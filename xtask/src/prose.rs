//! Plain English in documents, comments and messages: finds words and phrases that are hard to read, and
//! suggests better ones.

use anyhow::{ensure, Context, Result};

use crate::{output, root};

/// A word or phrase, and its replacement.
const PHRASES: [(&str, &str); 18] = [
    ("all the same", "anyway"),
    ("anew", "again"),
    ("beside", "next to"),
    ("deal with", "process"),
    ("deals with", "processes"),
    ("dealt with", "handled"),
    ("disc", "disk"),
    ("discs", "disks"),
    ("goes on", "continues"),
    ("hang on", "depend on"),
    ("hangs on", "depends on"),
    ("mend", "fix"),
    ("mended", "fixed"),
    ("passes over", "skips"),
    ("stranger", "unknown key"),
    ("taken for", "treated as"),
    ("takes for", "treats as"),
    ("will do", "works"),
];

/// The limit on *what* per 10,000 words: usually it replaces a missing noun.
const WHAT_LIMIT: usize = 19;

/// Checks the Markdown files and the product code of the repository.
pub(crate) fn check() -> Result<()> {
    let mut list = std::process::Command::new("git");
    list.args(["ls-files", "*.md", "crates/*/src/*.rs"]).current_dir(root());
    let names = String::from_utf8(output(&mut list)?).context("git ls-files")?;
    let (mut found, mut whats, mut words) = (String::new(), 0, 0);
    for name in names.lines() {
        let text = std::fs::read_to_string(root().join(name)).with_context(|| name.to_owned())?;
        let text = match name.ends_with(".rs") {
            true => texts_of_code(&text),
            false => {
                let text = prose(&text);
                words += text.split_whitespace().count();
                whats += lines_with(&text, "what").len();
                text
            }
        };
        for (phrase, better) in PHRASES {
            for line in lines_with(&text, phrase) {
                found += &format!("\n  {name}:{line}: {phrase}: {better}");
            }
        }
    }
    ensure!(found.is_empty(), "plain English:{found}");
    let share = whats * 10_000 / words.max(1);
    ensure!(
        share <= WHAT_LIMIT,
        "plain English: {share} times \"what\" in 10,000 words of Markdown"
    );
    Ok(())
}

/// A text without its code; line numbers stay.
fn prose(markdown: &str) -> String {
    let mut is_code = false;
    let lines = markdown.lines().map(|line| {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        if is_code || is_fence {
            ""
        } else {
            line
        }
    });
    let text = lines.collect::<Vec<_>>().join("\n");
    // code may continue in the next line
    let parts = text.split('`').enumerate();
    let parts = parts.map(|(index, part)| match index % 2 {
        0 => part.to_owned(),
        _ => part.matches('\n').collect(),
    });
    parts.collect::<Vec<_>>().join("`")
}

/// The comments and string literals of Rust code; line numbers stay. Literals over several lines are not
/// recognised after the first line.
fn texts_of_code(code: &str) -> String {
    let lines = code.lines().map(|line| match line.split_once("//") {
        Some((code, comment)) if !code.contains('"') => comment.to_owned(),
        // the text between each odd and the next even quotation mark
        _ => line.split('"').skip(1).step_by(2).collect::<Vec<_>>().join("; "),
    });
    prose(&lines.collect::<Vec<_>>().join("\n"))
}

/// The line numbers of these words, once for each occurrence.
fn lines_with(text: &str, words: &str) -> Vec<usize> {
    let is_word = |character: char| character.is_alphanumeric() || character == '-';
    let text = text.to_lowercase();
    let found = text.match_indices(words).filter(|(start, _)| {
        let (before, after) = (&text[..*start], &text[start + words.len()..]);
        !before.ends_with(is_word) && !after.starts_with(is_word)
    });
    found.map(|(start, _)| text[..start].matches('\n').count() + 1).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_words_in_comments_and_literals_alone() {
        let text = texts_of_code("let disc = 1; // a disc\nsay(\"the disc\", disc);\n/// `disc`\n");
        assert_eq!(lines_with(&text, "disc"), [1, 2]);
    }

    #[test]
    fn finds_words_in_prose_alone() {
        let text = prose("Discs, `disc` and discos\n```\ndisc\n```\non a disc `a\nb` disc-like\n");
        assert_eq!(lines_with(&text, "disc"), [5]);
        assert_eq!(lines_with(&text, "discs"), [1]);
    }
}
