//! Plain English in the documents: words and phrases that readers stumble over, and better ones.

use anyhow::{ensure, Context, Result};

use crate::{output, root};

/// A phrase, and its replacement. Each is a word of its own, or several.
const PHRASES: [(&str, &str); 12] = [
    ("all the same", "anyway"),
    ("anew", "again"),
    ("beside", "next to"),
    ("deal with", "process"),
    ("deals with", "processes"),
    ("dealt with", "handled"),
    ("disc", "disk"),
    ("discs", "disks"),
    ("goes on", "continues"),
    ("mend", "fix"),
    ("stranger", "unknown key"),
    ("will do", "works"),
];

/// How often *what* may stand in 10,000 words: mostly it is a noun that is not named.
const WHAT_LIMIT: usize = 25;

/// Texts that are not yet revised.
const PENDING: [&str; 1] = ["crates/imactl-init/README.md"];

/// Looks at the Markdown of the repository.
pub(crate) fn check() -> Result<()> {
    let names =
        output(std::process::Command::new("git").args(["ls-files", "*.md"]).current_dir(root()))?;
    let names = String::from_utf8(names).context("git ls-files")?;
    let (mut found, mut whats, mut words) = (String::new(), 0, 0);
    for name in names.lines() {
        let text = std::fs::read_to_string(root().join(name)).with_context(|| name.to_owned())?;
        let text = prose(&text);
        words += text.split_whitespace().count();
        whats += lines_with(&text, "what").len();
        for (phrase, better) in PHRASES.iter().filter(|_| !PENDING.contains(&name)) {
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
    fn finds_words_in_prose_alone() {
        let text = prose("Discs, `disc` and discos\n```\ndisc\n```\non a disc `a\nb` disc-like\n");
        assert_eq!(lines_with(&text, "disc"), [5]);
        assert_eq!(lines_with(&text, "discs"), [1]);
    }
}
