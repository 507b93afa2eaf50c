//! The program's tests on an unusual machine: a time zone 14 hours ahead, messages and numbers in German, a
//! umask that denies others all access, one core, and a clock that is years ahead.

use std::fs;
use std::process::Command;

use anyhow::{bail, Context, Result};

use crate::counts::{count, Counts};
use crate::{cargo, output, root, run as succeed};

/// Built first, so that the umask applies only to the run of the tests.
const TESTS: [&str; 5] = ["test", "--package", "imactl", "--test", "cli"];
/// Tests whose time is spent on memory, on generated data, on keys for other programs, and in a browser (which
/// takes minutes on one core with another clock): no setting of the machine changes what they show.
const ONCE: [&str; 5] = [
    "_memory::",
    "_differential::",
    "selinux::thousands_of_paths",
    "interop::",
    "::a_browser_shows_",
];
const LANGUAGE: &str = "de_DE.UTF-8";
/// A day with one digit, after the certificates in the test data have expired.
const CLOCK: &str = "@2029-12-03 12:00:00";

pub(crate) fn run(counts: &mut Counts) -> Result<()> {
    let locales = root().join("target/locales");
    if !locales.join(LANGUAGE).exists() {
        fs::create_dir_all(&locales)?;
        let mut localedef = Command::new("localedef");
        localedef.args(["-i", "de_DE", "-f", "UTF-8"]).arg(locales.join(LANGUAGE));
        if let Err(error) = output(&mut localedef) {
            eprintln!("SKIPPED: localedef: {error:#}");
            if std::env::var_os("CI").is_some() {
                bail!("localedef makes no {LANGUAGE}, and CI must not skip");
            }
            return Ok(());
        }
    }
    let mut build = cargo(&TESTS);
    build.arg("--no-run");
    let program = build.get_program().to_owned();
    succeed(build)?;
    let core = first_core()?;
    let mut tests = Command::new("sh");
    tests.args(["-c", "umask 077; exec \"$@\"", "sh", "taskset", "--cpu-list", &core]);
    tests.args(["faketime", "-f", CLOCK]);
    tests.arg(program).args(TESTS).arg("--").current_dir(root());
    tests.args(ONCE.iter().flat_map(|name| ["--skip", name]));
    // the monotonic clock stays real: timeouts must not take years
    tests.env("NO_FAKE_STAT", "1").env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    tests.env("LOCPATH", locales).env("LANG", LANGUAGE).env("TZ", "Pacific/Kiritimati");
    count(tests.env_remove("LC_ALL").env_remove("LANGUAGE"), counts)
}

/// One core that this process may use.
fn first_core() -> Result<String> {
    let status = fs::read_to_string("/proc/self/status")?;
    let allowed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    let first = allowed.and_then(|list| list.trim().split(['-', ',']).next());
    Ok(first.context("/proc/self/status: no Cpus_allowed_list")?.to_owned())
}
