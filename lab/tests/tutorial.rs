//! The tutorial: the output of its commands, up to the machine that denies, is as shown.

use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use lab::kernel::{self, Series, Variant};
use lab::scenario::run_on_host;
use lab::{host, programs};

use crate::transcript::{assert_fits, transcripts};

/// The command in the page, and the program that replaces it.
const LAB: (&str, &str) = ("cargo run -q -p lab --", env!("CARGO_BIN_EXE_lab"));

#[test]
fn the_tutorial_shows_the_output_of_its_commands() {
    run_on_host(|| {
        host::root()?;
        host::file(Path::new("/bin/busybox"), "busybox-static")?;
        host::program("mke2fs", "e2fsprogs")?;
        kernel::prepare(Series::Linux6_12, Variant::Full)?;
        let page = fs::read_to_string(host::checkout().join("docs/tutorial.md"))?;
        let directory = tempfile::tempdir()?;
        let path = path()?;
        for (command, expected) in transcripts(&page) {
            let command = command.replace(LAB.0, LAB.1);
            let mut shell = Command::new("sh");
            shell.args(["-c", &command]).current_dir(directory.path()).env("PATH", &path);
            let done = shell.env_remove("IMACTL_KEYS").output()?;
            let text = [done.stderr, done.stdout].concat();
            // lines on the console end with CR LF
            assert_fits(&String::from_utf8_lossy(&text).replace('\r', ""), &expected, &command);
        }
        Ok(())
    });
}

/// `PATH` with our programs before those of the host.
fn path() -> Result<String> {
    let imactl = programs::imactl()?;
    let ours = [Path::new(imactl.get_program()), programs::imactl_init()?];
    let ours: Option<Vec<_>> = ours.iter().map(|program| program.parent()?.to_str()).collect();
    let ours = ours.context("a path that is not UTF-8")?.join(":");
    Ok(format!("{ours}:/usr/sbin:/usr/bin:/sbin:/bin"))
}
