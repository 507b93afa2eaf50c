//! `lab`: the lab's commands for use without a test.

mod bench;
mod demo;
mod foreign;
mod signed;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};
use lab::host::{self, Missing};
use lab::image::Tree;
use lab::kernel::{self, Architecture, Series, Variant};
use lab::keys::{Algorithm, KeyStore};
use lab::machine::Tpm;
use lab::protocol::Action;
use lab::scenario::{enforce, in_ci, Enforced, DEFAULT_POLICY};

/// Kernels and machines that enforce file integrity
#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Kernels(Kernels),
    Shell(Shell),
    Demo(demo::Demo),
    Bench(bench::Bench),
    Image(foreign::Foreign),
    Boot(signed::Boot),
}

/// Build kernels, or find them in the cache; prints where they are
#[derive(Debug, Args)]
struct Kernels {
    /// 6.1, 6.12 or 7 [default: all]
    series: Vec<Series>,
    /// First look for a newer Linux 7 in Debian's archive
    #[arg(long)]
    newest: bool,
    /// x86_64, arm64 or arm [default: x86_64; without SERIES, Linux 6.12 of the others as well]
    #[arg(long)]
    architecture: Option<Architecture>,
    /// The variant, named after the option that the kernels lack; all builds each variant
    #[arg(long, default_value = "full")]
    variant: String,
}

/// A root shell in a machine that enforces a policy, on this terminal
///
/// All programs of the machine are signed. Ctrl-A X ends it.
#[derive(Debug, Args)]
struct Shell {
    /// 6.1, 6.12 or 7
    #[arg(long, default_value = "6.12")]
    kernel: Series,
    /// The variant, named after the option that the kernel lacks
    #[arg(long, default_value = "full")]
    variant: Variant,
    /// The policy [default: the layer's]
    #[arg(long)]
    policy: Option<PathBuf>,
    /// Give it a TPM
    #[arg(long)]
    tpm: bool,
    /// Words for the kernel's command line
    #[arg(long)]
    append: Vec<String>,
}

fn main() -> Result<()> {
    match Cli::parse().command {
        Command::Kernels(kernels) => kernels.run(),
        Command::Shell(shell) => shell.run(),
        Command::Demo(demo) => demo.run(),
        Command::Bench(bench) => bench.run(),
        Command::Image(image) => image.run(),
        Command::Boot(boot) => boot.run(),
    }
}

impl Kernels {
    fn run(&self) -> Result<()> {
        if self.newest {
            kernel::look_for_newest()?;
        }
        let variants = match self.variant.as_str() {
            "all" => Variant::ALL.to_vec(),
            name => vec![name.parse()?],
        };
        for (architecture, series) in self.wanted() {
            for &variant in &variants {
                match kernel::prepare_for(architecture, series, variant) {
                    Ok(kernel) => println!("{}", kernel.directory().display()),
                    // a Debian release has the source of some kernels only, and its archive may be
                    // unreachable
                    Err(error) if self.series.is_empty() && !in_ci() && error.is::<Missing>() => {
                        host::say(&format!("SKIPPED {series} ({architecture}): {error}"));
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }

    /// The named kernels, else all that scenarios run on.
    fn wanted(&self) -> Vec<(Architecture, Series)> {
        let series = if self.series.is_empty() { &Series::ALL[..] } else { &self.series };
        let all = |architecture| series.iter().map(move |&series| (architecture, series));
        match self.architecture {
            Some(architecture) => all(architecture).collect(),
            None if self.series.is_empty() => {
                all(Architecture::X86_64).chain(kernel::FOREIGN).collect()
            }
            None => all(Architecture::X86_64).collect(),
        }
    }
}

impl Shell {
    fn run(self) -> Result<()> {
        let policy = match &self.policy {
            Some(path) => {
                std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?
            }
            None => DEFAULT_POLICY.to_owned(),
        };
        let kernel = kernel::prepare(self.kernel, self.variant)?;
        let store = KeyStore::create(Algorithm::Rsa2048)?;
        let root = Tree::small_root()?;
        root.sign_all(&store)?;
        let mut enforced = Enforced::new(&kernel, &store, &root, &policy)?;
        for word in &self.append {
            enforced.machine = enforced.machine.append(word);
        }
        if self.tpm {
            enforced.machine = enforced.machine.tpm(Tpm::Version2);
        }
        // a user may stay for any time
        enforced.machine = enforced.machine.patience(Duration::from_secs(7 * 24 * 3600));

        let mut guest = enforced.machine.boot_on_terminal()?;
        enforce(&mut guest, "ext4")?;
        let argv = ["/bin/busybox", "sh", "-l"].map(str::to_owned).to_vec();
        guest.request(Action::Console { argv })?;
        guest.power_off().map(drop)
    }
}
