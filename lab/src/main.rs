//! `lab`: what people want of the lab without a test.

mod bench;
mod demo;
mod foreign;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};
use lab::host::{self, Missing};
use lab::image::Tree;
use lab::kernel::{self, Series, Variant};
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
}

/// Build kernels, or find them in the cache; prints where they are
#[derive(Debug, Args)]
struct Kernels {
    /// 6.1 or 6.12 [default: both]
    series: Vec<Series>,
    /// What the kernels lack; all is each of the variants
    #[arg(long, default_value = "full")]
    variant: String,
}

/// A root shell in a machine that enforces a policy, on this terminal
///
/// All programs of the machine are signed. Ctrl-A X ends it.
#[derive(Debug, Args)]
struct Shell {
    /// 6.1 or 6.12
    #[arg(long, default_value = "6.12")]
    kernel: Series,
    /// What the kernel lacks
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
    }
}

impl Kernels {
    fn run(&self) -> Result<()> {
        let series = if self.series.is_empty() { &Series::ALL[..] } else { &self.series };
        let variants = match self.variant.as_str() {
            "all" => Variant::ALL.to_vec(),
            name => vec![name.parse()?],
        };
        for &series in series {
            for &variant in &variants {
                match kernel::prepare(series, variant) {
                    Ok(kernel) => println!("{}", kernel.directory().display()),
                    // a release of Debian has the source of some kernels only
                    Err(error) if self.series.is_empty() && !in_ci() && error.is::<Missing>() => {
                        host::say(&format!("SKIPPED Linux {}: {error}", series.name()));
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
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
        // nobody knows how long people stay
        enforced.machine = enforced.machine.patience(Duration::from_secs(7 * 24 * 3600));

        let mut guest = enforced.machine.boot_on_terminal()?;
        enforce(&mut guest, "ext4")?;
        let argv = ["/bin/busybox", "sh", "-l"].map(str::to_owned).to_vec();
        guest.request(Action::Console { argv })?;
        guest.power_off().map(drop)
    }
}
