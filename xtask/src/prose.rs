//! Plain English in the documents, and in the comments and texts of the code: words and phrases that
//! readers stumble over, and better ones.

use anyhow::{ensure, Context, Result};

use crate::{output, root};

/// A phrase, and its replacement. Each is a word of its own, or several.
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

/// How often *what* may stand in 10,000 words: mostly it is a noun that is not named.
const WHAT_LIMIT: usize = 25;

/// Looks at the Markdown and the product code of the repository.
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

/// A text without its code, in the same lines.
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
    // code in a line may continue in the next one
    let parts = text.split('`').enumerate();
    let parts = parts.map(|(index, part)| match index % 2 {
        0 => part.to_owned(),
        _ => part.matches('\n').collect(),
    });
    parts.collect::<Vec<_>>().join("`")
}

/// The comments and the literals of Rust code, in the same lines. Literals that continue in the next
/// line are not recognised there.
fn texts_of_code(code: &str) -> String {
    let lines = code.lines().map(|line| match line.split_once("//") {
        Some((code, comment)) if !code.contains('"') => comment.to_owned(),
        // between the first and the second quotation mark, the third and the fourth, ...
        _ => line.split('"').skip(1).step_by(2).collect::<Vec<_>>().join("; "),
    });
    prose(&lines.collect::<Vec<_>>().join("\n"))
}

/// The numbers of the lines with these words, once for each time.
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
