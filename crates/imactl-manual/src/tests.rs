use std::collections::BTreeSet;
use std::process::Command;

use super::*;

/// Whether a tool is not installed; says so, which fails in CI.
fn missing(tool: &str) -> bool {
    let found = Command::new("sh").args(["-c", &format!("command -v {tool}")]).output().unwrap();
    if found.status.success() {
        return false;
    }
    eprintln!("SKIPPED: no {tool} (Debian: tools/packages test)");
    assert!(std::env::var_os("CI").is_none(), "no {tool}, and CI must not skip");
    true
}

fn names(command: &clap::Command, names: &mut BTreeSet<String>) {
    names.insert(command.get_bin_name().unwrap_or_else(|| command.get_name()).to_owned());
    for command in page::commands(command) {
        self::names(command, names);
    }
}

#[test]
fn every_command_has_examples_that_the_program_accepts() {
    let mut program = imactl::command();
    program.build();
    let mut commands = BTreeSet::new();
    names(&program, &mut commands);
    let described: BTreeSet<_> =
        examples::EXAMPLES.iter().map(|(name, _)| name.to_string()).collect();
    assert_eq!(described, commands);
    for (name, examples) in examples::EXAMPLES {
        for (_, line) in *examples {
            assert!(line.starts_with(name), "{name}: {line}");
            let line = line.split(" > ").next().unwrap().replace('\'', "");
            if let Err(error) = imactl::command().try_get_matches_from(line.split(' ')) {
                panic!("{line}: {error}");
            }
        }
    }
}

fn pages() -> (tempfile::TempDir, Vec<PathBuf>) {
    let directory = tempfile::tempdir().unwrap();
    let files = manual().unwrap();
    write(&files, directory.path()).unwrap();
    let paths = files.iter().map(|(name, _)| directory.path().join(name)).collect();
    (directory, paths)
}

/// Of mandoc's warnings those that are meant: a page has no date, and clap_mangen puts a line break
/// next to vertical space.
const MEANT: [&str; 2] = ["missing date", "skipping paragraph macro: br"];

/// Fails if a checker complains.
fn accepts(checker: &mut Command) {
    let output = checker.output().unwrap();
    let text = [output.stdout.as_slice(), &output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let complaints = text.lines().filter(|line| !MEANT.iter().any(|it| line.contains(it)));
    assert_eq!(complaints.collect::<Vec<_>>(), [""; 0], "{checker:?}");
}

#[test]
fn mandoc_accepts_the_pages() {
    if missing("mandoc") {
        return;
    }
    let (_directory, pages) = pages();
    accepts(Command::new("mandoc").args(["-Tlint", "-W", "warning"]).args(pages));
}

#[test]
fn groff_accepts_the_pages() {
    if missing("groff") {
        return;
    }
    let (_directory, pages) = pages();
    // the formatter that man runs; -z prints warnings alone
    accepts(Command::new("groff").args(["-man", "-Tutf8", "-ww", "-z"]).args(pages));
}

#[test]
fn a_page_has_the_sections_that_people_look_for() {
    let (_directory, paths) = pages();
    let sign = paths.iter().find(|path| path.ends_with("imactl-sign.1")).unwrap();
    let text = fs::read_to_string(sign).unwrap();
    for section in
        ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXIT STATUS", "EXAMPLES", "SEE ALSO"]
    {
        assert!(
            text.lines().any(|line| line.starts_with(".SH") && line.contains(section)),
            "{section}: {text}"
        );
    }
}

/// What a shell completes, in lines.
fn completed(shell: &str, arguments: &[&str], script: &str) -> String {
    let directory = tempfile::tempdir().unwrap();
    write(&completions::all(), directory.path()).unwrap();
    let mut command = Command::new(shell);
    command.args(arguments).arg(script).current_dir(directory.path());
    let output = command.env("HOME", directory.path()).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && errors.is_empty(), "{shell}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn bash_completes_an_option() {
    if missing("bash") {
        return;
    }
    let script = ". bash-completion/completions/imactl
        COMP_WORDS=(imactl sign --dry) COMP_CWORD=2
        _imactl imactl --dry sign
        printf '%s\\n' \"${COMPREPLY[@]}\"";
    assert_eq!(completed("bash", &["--norc", "-c"], script), "--dry-run\n");
}

#[test]
fn fish_completes_an_option() {
    if missing("fish") {
        return;
    }
    let script = "source fish/vendor_completions.d/imactl.fish
        complete --do-complete 'imactl sign --dry'";
    let text = completed("fish", &["--no-config", "-c"], script);
    assert!(text.starts_with("--dry-run\t"), "{text}");
}

/// zsh completes in its line editor, so in a terminal of its own.
#[test]
fn zsh_completes_an_option() {
    if missing("zsh") {
        return;
    }
    let script = "zmodload zsh/zpty
        zpty z zsh -f -i
        zpty -w z 'fpath=($PWD/zsh/site-functions $fpath); autoload -U compinit; compinit -u -D; PS1=; echo REA''DY'
        zpty -r z text '*READY*READY*'
        zpty -n -w z $'imactl sign --dry\\t'
        zpty -r z text '*--dry-run*' && print found
        zpty -d z";
    assert_eq!(completed("zsh", &["-f", "-c"], script), "found\n");
}
