//! `lab image`: boots an image that was built elsewhere, under enforcement.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{bail, ensure, Context, Result};
use clap::Args;
use lab::image::Image;
use lab::kernel::{self, Kernel, Series, Variant};
use lab::keys::KeyStore;
use lab::machine::{Disk, Guest, Machine};
use lab::protocol::{Errno, Output, Status};

/// The time limit of a command.
const LONG: Duration = Duration::from_secs(900);

/// Boot an image that was built elsewhere, under enforcement
///
/// The initramfs must load the certificate and the policy. The disk is an ext4 file system with
/// the lab's agent as /sbin/init, a static /bin/busybox, and a script /bin/script.
#[derive(Debug, Args)]
pub(crate) struct Foreign {
    /// The root file system
    #[arg(long)]
    disk: PathBuf,
    /// The initramfs
    #[arg(long)]
    initramfs: PathBuf,
    /// The key store that the image was signed with
    #[arg(long)]
    keys: PathBuf,
    /// Run commands from standard input instead of the trial: one shell command per line, as a JSON
    /// string; for each, print an array of its status and output
    #[arg(long)]
    commands: bool,
    /// 6.1, 6.12 or 7 [default: all]
    kernel: Vec<Series>,
}

impl Foreign {
    pub(crate) fn run(self) -> Result<()> {
        let store = KeyStore::at(self.keys.clone());
        let series = if self.kernel.is_empty() { &Series::ALL[..] } else { &self.kernel };
        for &series in series {
            let mut guest = self.boot(&kernel::prepare(series, Variant::Full)?, &store)?;
            if self.commands {
                obey(&mut guest)?;
                guest.power_off()?;
                continue;
            }
            try_out(&mut guest)?;
            guest.power_off()?;
            println!("Linux {series}: signed files run, others do not");
        }
        Ok(())
    }

    fn boot(&self, kernel: &Kernel, store: &KeyStore) -> Result<Guest> {
        let disk = Image::copy_of(&self.disk)?;
        let machine = Machine::new(kernel)
            .trusting(&store.system_certificate()?)
            .append("root=/dev/vda rw ima_appraise=enforce")
            .initramfs_file(&self.initramfs)
            .disk(&disk, Disk::Discarded);
        // a command may be any program, such as a package manager
        let machine = if self.commands { machine.patience(LONG) } else { machine };
        let guest = machine.boot()?;
        ensure!(guest.boot_says("rules in force"), "no policy was loaded:\n{}", guest.console());
        ensure!(guest.agent() == 1, "the agent is not the root's init");
        Ok(guest)
    }
}

fn try_out(guest: &mut Guest) -> Result<()> {
    guest.execute(&["/bin/busybox", "true"])?.is_allowed();
    guest.execute(&["/bin/script"])?.is_allowed();
    guest.copy("/bin/busybox", "/opt/copy")?.is_allowed();
    let copied = guest.execute(&["/opt/copy", "true"])?;
    copied.is_denied(Errno::EACCES, "IMA-signature-required");
    guest.execute(&["/bin/busybox", "sh", "-c", "echo '# more' >> /bin/script"])?.is_allowed();
    let changed = guest.execute(&["/bin/script"])?;
    changed.is_denied(Errno::EACCES, "invalid-signature");
    Ok(())
}

fn obey(guest: &mut Guest) -> Result<()> {
    for line in io::stdin().lines() {
        let command: String = serde_json::from_str(&line?).context("not a JSON string")?;
        let script = format!("{{ {command}\n}} 2>&1");
        let answer = match guest.execute(&["/bin/busybox", "sh", "-c", &script])?.outcome {
            Ok(Output::Exited { status: Status::Code(code), stdout, .. }) => (code, stdout),
            other => bail!("{command}: {other:?}"),
        };
        println!("{}", serde_json::to_string(&(answer.0, String::from_utf8_lossy(&answer.1 .0)))?);
    }
    Ok(())
}
