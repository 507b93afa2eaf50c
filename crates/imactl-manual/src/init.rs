//! The man page of imactl-init: its README in roff. Of Markdown it converts what the README uses: headings,
//! paragraphs, tables, numbered lists, code and links.

use std::io;

use roff::{bold, roman, Inline, Roff};

use crate::{page, File};

const README: &str = include_str!("../../imactl-init/README.md");

/// Sections for developers begin here.
const END: &str = "\n## Building";

/// The page `imactl-init(8)`.
pub(crate) fn page() -> io::Result<File> {
    let text = README.split(END).next().unwrap_or(README);
    let mut roff = Roff::new();
    roff.control("SH", ["NAME"])
        .text([roman("imactl-init - load IMA and EVM keys and policies in an initramfs")])
        .control("SH", ["SYNOPSIS"]);
    for (index, call) in calls(text).enumerate() {
        if index > 0 {
            roff.control("br", []);
        }
        roff.text([bold("imactl-init"), roman(call)]);
    }
    let mut follows_heading = true;
    for block in text.split("\n\n") {
        follows_heading = self::block(block, follows_heading, &mut roff);
    }
    roff.control("SH", ["SEE ALSO"]).text([roman("imactl(1), imactl-initramfs-create(1)")]);
    let mut page = page::title("imactl-init", 8);
    roff.to_writer(&mut page)?;
    Ok(("man/man8/imactl-init.8".into(), page))
}

/// The arguments of each call under the program's own name, from the first column of a table.
fn calls(text: &str) -> impl Iterator<Item = &str> {
    let calls = text.lines().filter_map(|line| line.strip_prefix("| `imactl-init"));
    calls.filter_map(|line| line.split('`').next())
}

/// Converts the lines between two empty lines; returns whether they are a heading.
fn block(block: &str, follows_heading: bool, roff: &mut Roff) -> bool {
    if block.starts_with("# ") {
        roff.control("SH", ["DESCRIPTION"]);
    } else if let Some(heading) = block.strip_prefix("## ") {
        roff.control("SH", [heading.to_uppercase().as_str()]);
    } else if block.starts_with('|') {
        table(block, roff);
    } else if block.starts_with("1. ") {
        list(block, roff);
    } else {
        if !follows_heading {
            roff.control("PP", []);
        }
        roff.text(inline(block));
    }
    block.starts_with('#')
}

/// Converts a table: the first column tags the others, each of which is preceded by its title if there are several.
fn table(block: &str, roff: &mut Roff) {
    let cells =
        |row| -> Vec<&str> { str::trim_matches(row, '|').split('|').map(str::trim).collect() };
    let mut rows = block.lines().map(cells);
    let titles = rows.next().unwrap_or_default();
    for row in rows.skip(1) {
        let others = titles.iter().zip(&row).skip(1).filter(|(_, cell)| !cell.is_empty());
        let others = others.map(|(title, cell)| match titles.len() {
            2 => cell.to_string(),
            _ => format!("{title}: {cell}"),
        });
        let text = others.collect::<Vec<_>>().join("; ");
        roff.control("TP", []).text(inline(row[0])).text(inline(&text));
    }
}

fn list(block: &str, roff: &mut Roff) {
    let number = |line: &str| line.split_once(". ").map(|(number, _)| number.to_owned());
    let is_item = |line: &str| line.starts_with(|first: char| first.is_ascii_digit());
    let mut text = String::new();
    let mut lines = block.lines().peekable();
    while let Some(line) = lines.next() {
        text += line;
        text.push('\n');
        if lines.peek().map_or(true, |next| is_item(next)) {
            let number = number(&text).unwrap_or_default() + ".";
            roff.control("IP", [number.as_str(), "4"]).text(inline(text[number.len()..].trim()));
            text.clear();
        }
    }
}

/// Text with code in bold type.
fn inline(text: &str) -> Vec<Inline> {
    let text = without_links(text.split_whitespace().collect::<Vec<_>>().join(" "));
    let parts = text.split('`').enumerate().filter(|(_, part)| !part.is_empty());
    parts.map(|(index, part)| if index % 2 == 0 { roman(part) } else { bold(part) }).collect()
}

/// Replaces links by their texts, and by the paths of other documents.
fn without_links(mut text: String) -> String {
    while let Some((before, after)) = text.split_once("](") {
        let (Some((before, label)), Some((destination, after))) =
            (before.rsplit_once('['), after.split_once(')'))
        else {
            break;
        };
        text = match destination.starts_with('#') {
            true => format!("{before}{label}{after}"),
            false => format!("{before}{label} ({}){after}", destination.trim_start_matches("../")),
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn converted(markdown: &str) -> String {
        let mut roff = Roff::new();
        block(markdown, true, &mut roff);
        roff.to_roff()
    }

    #[test]
    fn converts_tables_lists_and_links() {
        assert_eq!(
            converted(
                "| code | step | `/init` |\n|---|---|---|\n| 1 | none | stops |\n| 2 | | halts |"
            ),
            ".TP\n1\nstep: none; \\fB/init\\fR: stops\n.TP\n2\n\\fB/init\\fR: halts\n"
        );
        assert_eq!(
            converted("| option | effect |\n|---|---|\n| `ro` | as in the\tkernel |"),
            ".TP\n\\fBro\\fR\nas in the kernel\n"
        );
        assert_eq!(
            converted("1. One,\n   in two lines.\n2. Two."),
            ".IP 1. 4\nOne, in two lines.\n.IP 2. 4\nTwo.\n"
        );
        assert_eq!(
            converted("See [below](#evm) and `x [Y]` in\n[boot](../../docs/boot.md)."),
            "See below and \\fBx [Y]\\fR in boot (docs/boot.md).\n"
        );
    }

    #[test]
    fn the_page_has_calls_exit_statuses_and_options_but_no_markdown() {
        let (name, page) = page().unwrap();
        let page = String::from_utf8(page).unwrap();
        assert!(name.ends_with("imactl-init.8"));
        for expected in [
            "\\fBimactl\\-init\\fR [\\-\\-enforce] [ROOT]\n",
            ".SH \"EXIT STATUS\"\n",
            ".TP\n8\na revocation of the initramfs was not loaded\n",
            ".SH \"KERNEL COMMAND LINE\"\n",
            "\\fBimactl.timeout=SECONDS\\fR\n",
        ] {
            assert!(page.contains(expected), "{expected}: {page}");
        }
        let markdown = page.lines().find(|line| line.contains('`') || line.contains("]("));
        assert_eq!(markdown, None);
        assert!(!page.contains("xtask"), "a section for developers");
    }
}
