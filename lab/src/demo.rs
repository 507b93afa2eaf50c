//! `lab demo`: the main use of the project, from keys to a kernel that denies, as a user would do it,
//! and a table of the kernel's answers.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{ensure, Context, Result};
use clap::Args;
use lab::host;
use lab::image::Tree;
use lab::kernel::{self, Series, Variant};
use lab::keys::{Algorithm, KeyStore};
use lab::machine::{Guest, Observation};
use lab::programs;
use lab::protocol::{Action, Attributes, Credentials, Output, Position, Status};
use lab::scenario::{Enforced, DEFAULT_POLICY};

/// Make keys, sign a small Debian, boot it under enforcement, and see what the kernel denies
#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// 6.1, 6.12 or 7
    #[arg(long, default_value = "6.12")]
    kernel: Series,
}

/// The packages in the root file system, in addition to Python.
const PACKAGES: [&str; 3] = ["busybox-static", "coreutils", "dash"];

const SCRIPT: &[u8] = b"#!/bin/sh\necho a script\n";
const OUR_LIBRARY: &str = "/opt/lib/libselinux.so.1";

impl Demo {
    pub(crate) fn run(self) -> Result<()> {
        let kernel = kernel::prepare(self.kernel, Variant::Full)?;
        let workshop = tempfile::Builder::new().prefix("imactl-demo-").tempdir()?;
        let shell = Shell { directory: workshop.path().to_owned() };

        println!("1. Make keys: a CA that goes into the kernel, and what it signs");
        shell.imactl(&["keys", "create", "--sample", "--quiet", "keys"])?;
        shell.imactl(&["keys", "show", "keys/ima_keys/x509_ima.der"])?;
        let store = KeyStore::at(workshop.path().join("keys"));
        let python = python()?;
        let root = root(workshop.path(), &python)?;

        println!("\n2. Sign a root file system: {}, {python}", PACKAGES.join(", "));
        shell.imactl(&["sign", "--keys", "keys", "root"])?;
        let python = format!("root/usr/bin/{python}");
        shell.imactl(&["verify", "--keys", "keys", "root/usr/bin/ls", &python])?;
        add_unsigned_files(&root)?;

        println!("\n3. Boot it, {} under enforcement, and try", self.kernel);
        let start = Instant::now();
        let mut guest = Enforced::new(&kernel, &store, &root, DEFAULT_POLICY)?.boot()?;
        println!("   booted in {:.1} s\n", start.elapsed().as_secs_f64());
        let mut table = Table { guest: &mut guest, surprises: 0 };
        table.head();
        table.fill()?;
        let surprises = table.surprises;
        guest.power_off()?;
        ensure!(surprises == 0, "{surprises} results of the kernel are not as expected");
        Ok(())
    }
}

/// The working directory of the commands.
struct Shell {
    directory: PathBuf,
}

impl Shell {
    /// Runs a command of imactl, with its output visible.
    fn imactl(&self, args: &[&str]) -> Result<()> {
        println!("   $ imactl {}", args.join(" "));
        let mut command = programs::imactl()?;
        let status = command.args(args).current_dir(&self.directory).status()?;
        ensure!(status.success(), "imactl {}: {status}", args.join(" "));
        Ok(())
    }
}

/// The name of Debian's Python in this release, as in `python3.11`.
fn python() -> Result<String> {
    let link = Path::new("/usr/bin/python3");
    host::file(link, "python3-minimal")?;
    let target = std::fs::read_link(link).context("/usr/bin/python3 is not Debian's link")?;
    Ok(target.to_string_lossy().into_owned())
}

fn root(workshop: &Path, python: &str) -> Result<Tree> {
    let root = Tree::at(workshop.join("root"))?;
    root.install_agent("/usr/sbin/init")?;
    for package in PACKAGES {
        root.install_package(package)?;
    }
    root.install_package(&format!("{python}-minimal"))?;
    root.install_package(&format!("lib{python}-minimal"))?;
    root.symlink("/usr/bin/python3", python)?;
    if !root.path("/usr/bin/sh").exists() {
        root.symlink("/usr/bin/sh", "dash")?;
    }
    root.write("/opt/signed.sh", SCRIPT, 0o755)?;
    root.copy("/usr/bin/cat", "/opt/tampered")?;
    Ok(root)
}

/// Adds unsigned and changed files after the signing.
fn add_unsigned_files(root: &Tree) -> Result<()> {
    let unknown = KeyStore::create(Algorithm::Rsa2048)?;
    root.tamper("/opt/tampered")?;
    root.write("/opt/unsigned.sh", SCRIPT, 0o755)?;
    root.copy("/usr/bin/true", "/opt/unsigned")?;
    root.copy("/usr/bin/true", "/opt/unknown-key")?;
    root.sign(&unknown, &["/opt/unknown-key"])?;
    root.copy("/usr/lib/x86_64-linux-gnu/libselinux.so.1", OUR_LIBRARY)?;
    root.write("/etc/ima/unsigned_policy", "dont_appraise\n", 0o644)
}

/// The expected result of an attempt.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Expected {
    Allowed,
    Denied,
}

struct Table<'a> {
    guest: &'a mut Guest,
    surprises: u32,
}

impl Table<'_> {
    fn head(&self) {
        println!("   {:<52} {:<9} the kernel's reason", "as root, unless stated otherwise", "");
        println!("   {}", "-".repeat(96));
    }

    fn row(&mut self, what: &str, seen: &Observation, expected: Expected) {
        let was = match &seen.outcome {
            Ok(Output::Exited { status: Status::Code(0), .. }) => Expected::Allowed,
            Ok(Output::Exited { .. }) | Err(_) => Expected::Denied,
            Ok(_) => Expected::Allowed,
        };
        let (word, code) = match was {
            Expected::Allowed => ("allowed", "32"),
            Expected::Denied => ("denied", "31"),
        };
        let word = match std::io::stdout().is_terminal() {
            true => format!("\x1b[{code}m{word:<9}\x1b[0m"),
            false => format!("{word:<9}"),
        };
        let cause = seen.integrity_failures().next().and_then(|record| record.cause());
        let unknown = seen.messages.iter().find(|message| message.text.contains("unknown key"));
        let cause = match (cause, &seen.outcome) {
            (Some(cause), _) if unknown.is_some() => format!("{cause}: unknown key"),
            (Some(cause), _) => cause.to_owned(),
            (None, Err(failure)) => failure.errno.to_string(),
            (None, _) => String::new(),
        };
        println!("   {what:<52} {word} {cause}");
        if was != expected {
            self.surprises += 1;
            println!("   ^ not the expected result\n{seen}");
        }
    }

    fn execute(&mut self, what: &str, argv: &[&str], expected: Expected) -> Result<()> {
        let seen = self.guest.execute(argv)?;
        self.row(what, &seen, expected);
        Ok(())
    }

    fn fill(&mut self) -> Result<()> {
        use Expected::{Allowed, Denied};
        self.execute("ls, signed", &["/usr/bin/ls", "/"], Allowed)?;
        let hello = ["/usr/bin/python3", "-c", "print('hello')"];
        self.execute("python3, signed, with its libraries", &hello, Allowed)?;
        self.execute("an unsigned program", &["/opt/unsigned"], Denied)?;
        self.execute("a program changed after signing", &["/opt/tampered"], Denied)?;
        self.execute("a program signed with an unknown key", &["/opt/unknown-key"], Denied)?;

        let seen = self.guest.copy("/usr/bin/ls", "/opt/ls-copy")?;
        seen.is_allowed();
        self.execute("a copy of ls, made just now", &["/opt/ls-copy", "/"], Denied)?;
        self.guest.mount("none", "tmpfs", "/tmp")?.is_allowed();
        let (from, to) = ("/usr/bin/ls".to_owned(), "/tmp/ls".to_owned());
        self.guest
            .request(Action::Copy { from, to, attributes: Attributes::Dropped })?
            .is_allowed();
        self.execute("the same copy on a tmpfs", &["/tmp/ls", "/"], Denied)?;
        let user = Credentials::user(1000);
        let seen = self.guest.execute_as(&user, &["/opt/ls-copy", "/"])?;
        self.row("the same copy, run by an ordinary user", &seen, Allowed);

        let preload = [("LD_LIBRARY_PATH", "/opt/lib")];
        let seen = self.guest.execute_with(&preload, &["/usr/bin/ls", "/"])?;
        self.row("ls with an unsigned library", &seen, Denied);
        self.execute("./unsigned.sh", &["/opt/unsigned.sh"], Denied)?;
        self.execute("sh unsigned.sh", &["/usr/bin/sh", "/opt/unsigned.sh"], Allowed)?;
        self.execute("./signed.sh", &["/opt/signed.sh"], Allowed)?;

        self.execute("true, signed", &["/usr/bin/true"], Allowed)?;
        let path = "/usr/bin/true".to_owned();
        let content = b"!".to_vec().into();
        self.guest.request(Action::Patch { path, position: Position::End, content })?.is_allowed();
        self.execute("true, with a byte just added to it", &["/usr/bin/true"], Denied)?;

        let seen = self.guest.load_policy("/etc/ima/unsigned_policy")?;
        self.row("an unsigned policy", &seen, Denied);
        Ok(())
    }
}
