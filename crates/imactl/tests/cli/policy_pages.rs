//! The pages about policies say what the program does: their policies are checked, their
//! commands are run.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support::*;
use ima_format::policy::lint::LINTS;
use ima_format::policy::{check, Kernel, Loading, Severity};

const POLICIES: &str = include_str!("../../../../docs/policies.md");
const LINT_PAGE: &str = include_str!("../../../../docs/policy-lints.md");

/// A fenced block: what stands behind the fence, and its text.
struct Block<'a> {
    info: &'a str,
    text: String,
}

fn blocks(page: &str) -> Vec<Block<'_>> {
    let mut blocks = Vec::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        let Some(info) = line.strip_prefix("```") else { continue };
        let text: Vec<_> = lines.by_ref().take_while(|line| *line != "```").collect();
        blocks.push(Block { info, text: text.join("\n") + "\n" });
    }
    blocks
}

impl Block<'_> {
    /// The words behind `policy`, for blocks that are policies.
    fn policy_words(&self) -> Option<Vec<&str>> {
        let mut words = self.info.split(' ');
        (words.next() == Some("policy")).then(|| words.collect())
    }
}

fn examples_are_what_they_are_said_to_be(page: &str) {
    let mut policies = 0;
    for block in blocks(page) {
        let Some(words) = block.policy_words() else { continue };
        policies += 1;
        let found = check(block.text.as_bytes(), &Kernel::default(), Loading::File);
        let refused = found.iter().any(|it| it.severity == Severity::Error);
        assert_eq!(refused, words.contains(&"refused"), "{}\n{found:#?}", block.text);
        let finds = |name: &str| found.iter().any(|it| it.name == name);
        for word in words {
            match word.split_once('=') {
                Some(("finds", name)) => assert!(finds(name), "{name} in\n{}", block.text),
                Some(("passes", name)) => assert!(!finds(name), "{name} in\n{}", block.text),
                Some(("file", _)) => {}
                _ => assert_eq!(word, "refused"),
            }
        }
    }
    assert!(policies >= 5, "the page has lost its examples");
}

#[test]
fn the_page_about_policies_has_true_examples() {
    examples_are_what_they_are_said_to_be(POLICIES);
}

#[test]
fn the_page_about_lints_has_true_examples() {
    examples_are_what_they_are_said_to_be(LINT_PAGE);
}

#[test]
fn the_page_about_lints_and_the_catalogue_agree() {
    let one_line = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let page = one_line(LINT_PAGE);
    for lint in LINTS {
        let heading = format!("### {} ({})", lint.name, lint.severity);
        assert!(LINT_PAGE.lines().any(|line| line == heading), "no {heading:?}");
        assert!(page.contains(&one_line(lint.reason)), "{}: another reason", lint.name);
    }
    let headings = LINT_PAGE.lines().filter_map(|line| line.strip_prefix("### "));
    for heading in headings {
        let name = heading.split(' ').next().unwrap();
        assert!(LINTS.iter().any(|lint| lint.name == name), "{name} is no lint");
    }
}

#[test]
fn the_pages_commands_print_what_they_show() {
    for page in [POLICIES, LINT_PAGE] {
        let directory = directory();
        let mut ran = 0;
        for block in blocks(page) {
            for word in block.policy_words().unwrap_or_default() {
                if let Some(name) = word.strip_prefix("file=") {
                    fs::write(directory.path().join(name), &block.text).unwrap();
                }
            }
            if block.info == "console" {
                ran += console(&block.text, directory.path());
            }
        }
        assert!(ran > 0, "the page has lost its commands");
    }
}

/// Runs the commands behind `$`; what follows is their output, `...` stands for any lines.
fn console(text: &str, directory: &Path) -> u32 {
    let mut commands = 0;
    for part in text.split("$ imactl ").skip(1) {
        let (command, expected) = part.split_once('\n').unwrap();
        let mut imactl: Command = imactl();
        let finished = finish(imactl.args(command.split(' ')).current_dir(directory));
        commands += 1;
        assert_matches(&finished.stdout, expected, command);
    }
    commands
}

#[track_caller]
fn assert_matches(found: &str, expected: &str, command: &str) {
    let trimmed = |text: &str| text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n");
    let found = trimmed(found);
    let mut rest = found.as_str();
    let parts: Vec<_> = expected.split("...\n").map(trimmed).collect();
    for (index, part) in parts.iter().enumerate() {
        let part = part.trim_end_matches('\n');
        let at = rest.find(part);
        let at = at.unwrap_or_else(|| panic!("{command}: no\n{part}\nin\n{found}"));
        assert!(index > 0 || at == 0, "{command} begins otherwise:\n{found}");
        rest = &rest[at + part.len()..];
    }
    assert!(expected.ends_with("...\n") || rest.trim().is_empty(), "{command} goes on:\n{rest}");
}
