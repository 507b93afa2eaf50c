//! The pages about policies: their policies are checked, and their commands must print the output shown.

use std::fs;
use std::path::Path;

use crate::support::*;
use crate::transcript::{assert_lines, blocks, Block};
use ima_format::policy::kernel::{Feature, KernelVersion};
use ima_format::policy::lint::LINTS;
use ima_format::policy::{check, Kernel, Loading, Severity};

const POLICIES: &str = include_str!("../../../../docs/policies.md");
const KERNELS: &str = include_str!("../../../../docs/kernels.md");
const LINT_PAGE: &str = include_str!("../../../../docs/policy-lints.md");

/// The words after `policy` of a block that is a policy.
fn policy_words<'a>(block: &Block<'a>) -> Option<Vec<&'a str>> {
    let mut words = block.info.split(' ');
    (words.next() == Some("policy")).then(|| words.collect())
}

fn examples_are_what_they_are_said_to_be(page: &str) {
    let mut policies = 0;
    for block in blocks(page) {
        let Some(words) = policy_words(&block) else { continue };
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
            for word in policy_words(&block).unwrap_or_default() {
                if let Some(name) = word.strip_prefix("file=") {
                    fs::write(directory.path().join(name), &block.text).unwrap();
                }
            }
            if block.info != "console" {
                continue;
            }
            for (command, expected) in block.commands() {
                shows(&command, &expected, directory.path());
                ran += 1;
            }
        }
        assert!(ran > 0, "the page has lost its commands");
    }
}

/// Runs a command of a page, and compares the output with the page.
fn shows(command: &str, expected: &str, directory: &Path) {
    let words = command.strip_prefix("imactl ").unwrap().split_whitespace();
    let finished = finish(imactl().args(words).current_dir(directory));
    let lines = |text: &str| text.lines().map(|it| it.trim_end().to_owned()).collect::<Vec<_>>();
    assert_lines(&lines(&finished.stdout), &lines(expected), command);
}

#[test]
fn the_page_of_versions_has_the_evidence_for_each() {
    let rows: Vec<Vec<_>> = KERNELS
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"))
        .map(|row| row.split(" | ").collect())
        .filter(|row: &Vec<_>| row.len() == 4 && row[0].parse::<KernelVersion>().is_ok())
        .collect();
    assert!(rows.len() > Feature::ALL.len());
    for row in &rows {
        let since: KernelVersion = row[0].parse().unwrap();
        let (before, from) = since.read_around();
        assert_eq!(row[2], before.unwrap().to_string(), "{row:?}");
        assert_eq!(row[3], from.unwrap().to_string(), "{row:?}");
    }
    for feature in Feature::ALL {
        let since = feature.since().to_string();
        let features = Feature::ALL.iter().filter(|other| other.since() == feature.since()).count();
        let rows = rows.iter().filter(|row| row[0] == since).count();
        assert!(rows >= features, "{since}: {features} features and {rows} rows");
    }
}
