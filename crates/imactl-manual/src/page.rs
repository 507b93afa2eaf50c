//! The man pages of imactl: one for each command. The options come from the program's own description of its
//! arguments; exit statuses and examples are added here.

use std::io;

use anyhow::{Context, Result};
use clap::Command;
use clap_mangen::Man;
use roff::{bold, roman, Roff};

use crate::examples;
use crate::File;

/// The exit statuses of a command, and their meanings.
type Statuses = &'static [(&'static str, &'static str)];

const STATUSES: Statuses = &[
    ("0", "Everything is as it should be."),
    ("1", "A finding: for instance a missing or invalid signature, or an unsafe key."),
    ("2", "Wrong usage, or part of the work could not be done."),
];

const EVMCTL_STATUSES: Statuses = &[
    ("0", "Everything was done, and all signatures that were verified are valid."),
    ("1", "A file does not verify, or could not be processed."),
    ("125", "An error before the first file."),
];

/// The pages of the program and of each command below it.
pub(crate) fn all() -> Result<Vec<File>> {
    let mut program = imactl::command();
    program.build();
    let mut files = Vec::new();
    add(&program, &[], &mut files)?;
    Ok(files)
}

fn add(command: &Command, parents: &[String], files: &mut Vec<File>) -> Result<()> {
    let name = command.get_display_name().unwrap_or_else(|| command.get_name()).to_owned();
    let text = page(command, &name, parents).with_context(|| name.clone())?;
    files.push((format!("man/man1/{name}.1").into(), text));
    let parents: Vec<_> = parents.iter().cloned().chain([name]).collect();
    for command in commands(command) {
        add(command, &parents, files)?;
    }
    Ok(())
}

/// The commands below a command, without clap's `help`.
pub(crate) fn commands(command: &Command) -> impl Iterator<Item = &Command> {
    command.get_subcommands().filter(|it| it.get_name() != "help")
}

fn page(command: &Command, name: &str, parents: &[String]) -> io::Result<Vec<u8>> {
    let man = Man::new(command.clone());
    let mut text = title(name, 1);
    man.render_name_section(&mut text)?;
    synopsis(command).to_writer(&mut text)?;
    man.render_description_section(&mut text)?;
    if commands(command).next().is_some() {
        subcommands(command).to_writer(&mut text)?;
    }
    man.render_options_section(&mut text)?;
    exit_status(if name == "imactl-evmctl" { EVMCTL_STATUSES } else { STATUSES })
        .to_writer(&mut text)?;
    if let Some(examples) = examples::of(command.get_bin_name().unwrap_or(name)) {
        self::examples(examples).to_writer(&mut text)?;
    }
    see_also(command, name, parents).to_writer(&mut text)?;
    Ok(text)
}

/// The first line, without a date: a version's pages are always the same bytes.
pub(crate) fn title(name: &str, section: u8) -> Vec<u8> {
    let (title, version) = (name.to_uppercase(), env!("CARGO_PKG_VERSION"));
    format!(".TH {title} {section} \"\" \"imactl {version}\" \"Linux file integrity\"\n")
        .into_bytes()
}

/// The usage line of `--help`: a list of all options would be longer than the page's text.
fn synopsis(command: &Command) -> Roff {
    let usage = command.clone().render_usage().to_string();
    let usage = usage.trim_start_matches("Usage: ").to_owned();
    let name = command.get_bin_name().unwrap_or_else(|| command.get_name());
    let arguments = usage.strip_prefix(name).unwrap_or_default().to_owned();
    let mut roff = Roff::new();
    roff.control("SH", ["SYNOPSIS"]).text([bold(name), roman(arguments)]);
    roff
}

fn subcommands(command: &Command) -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", ["COMMANDS"]);
    for command in commands(command) {
        let name = command.get_display_name().unwrap_or_else(|| command.get_name());
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        roff.control("TP", []).text([bold(name), roman("(1)")]).text([roman(about)]);
    }
    roff
}

fn exit_status(statuses: Statuses) -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", ["EXIT STATUS"]);
    for (status, meaning) in statuses {
        roff.control("TP", []).text([bold(*status)]).text([roman(*meaning)]);
    }
    roff
}

fn examples(examples: &[(&str, &str)]) -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", ["EXAMPLES"]);
    for (index, (purpose, line)) in examples.iter().enumerate() {
        if index > 0 {
            roff.control("PP", []);
        }
        roff.text([roman(format!("{purpose}:"))]);
        roff.control("RS", ["4"]).control("EX", []).text([roman(*line)]);
        roff.control("EE", []).control("RE", []);
    }
    roff
}

fn see_also(command: &Command, name: &str, parents: &[String]) -> Roff {
    let below = commands(command).filter_map(Command::get_display_name);
    let pages = parents.iter().map(String::as_str).chain(below).map(|page| format!("{page}(1)"));
    let other = match name {
        "imactl-evmctl" => Some("evmctl(1)"),
        "imactl" | "imactl-initramfs" | "imactl-initramfs-create" => Some("imactl-init(8)"),
        _ => None,
    };
    let pages: Vec<_> = pages.chain(other.map(str::to_owned)).collect();
    let mut roff = Roff::new();
    roff.control("SH", ["SEE ALSO"]).text([roman(pages.join(", "))]);
    roff
}
