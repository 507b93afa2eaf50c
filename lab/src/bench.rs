//! The cost of imactl-init in a boot: time, next to a shell script that does the same; size; memory.

use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use lab::boot::{mounted, Boot};
use lab::image::Tree;
use lab::kernel::{self, Kernel, Series};
use lab::keys::{Algorithm, KeyStore};
use lab::machine::{Clock, Disk, Guest, Machine};
use lab::programs;
use lab::scenario::DEFAULT_POLICY;

/// Measure what imactl-init adds to a boot
///
/// From the kernel's start of /init to the start of the real init, on a root disk with a
/// policy and a certificate: imactl-init, and a busybox shell script that mounts, writes the
/// policy's path and switches root. The machine's clock counts instructions, a nanosecond
/// each, so that the host's speed and load do not matter. The median of some boots each.
#[derive(Debug, Args)]
pub(crate) struct Bench {
    /// Boots of each kind
    #[arg(long, default_value_t = 7)]
    boots: usize,
}

/// A script with the same steps between the kernel and the real init.
const SCRIPT: &str = "#!/bin/busybox sh
/bin/busybox mount -t devtmpfs dev /dev
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sys /sys
/bin/busybox mount -t securityfs securityfs /sys/kernel/security
/bin/busybox mount -o ro /dev/vda /sysroot
/bin/busybox mount -o move /dev /sysroot/dev
/bin/busybox mount -o move /sys /sysroot/sys
echo /etc/ima/ima_policy.default > /sysroot/sys/kernel/security/ima/policy
/bin/busybox mount -o move /proc /sysroot/proc
exec /sysroot/usr/bin/busybox switch_root /sysroot /sbin/init
";

impl Bench {
    pub(crate) fn run(&self) -> Result<()> {
        let program = programs::imactl_init()?;
        let size = std::fs::metadata(program)?.len();
        println!("imactl-init: {size} bytes");
        for series in Series::ALL {
            let kernel = kernel::prepare(series, kernel::Variant::Full)?;
            let store = KeyStore::create(Algorithm::Rsa2048)?;
            let ours = median(self.boots, || ours(&kernel, &store))?;
            let theirs = median(self.boots, || script(&kernel, &store))?;
            let (secured, whole) = ours;
            println!(
                "{series}: certificates and policy {:.1} ms; /init to init {:.1} ms; a shell \
                 script {:.1} ms ({:.1}x)",
                milliseconds(secured),
                milliseconds(whole),
                milliseconds(theirs.1),
                theirs.1.as_secs_f64() / whole.as_secs_f64(),
            );
            println!("{series}: {}", memory(&kernel, &store)?);
        }
        Ok(())
    }
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

type Times = (Duration, Duration);

fn median(boots: usize, boot: impl Fn() -> Result<Times>) -> Result<Times> {
    let mut times = (0..boots).map(|_| boot()).collect::<Result<Vec<_>>>()?;
    times.sort_by_key(|(_, whole)| *whole);
    times.get(times.len() / 2).copied().context("no boots")
}

/// The kernel time of the message with these words.
fn at(guest: &Guest, words: &str) -> Result<Duration> {
    let mut messages = guest.boot_messages().iter();
    let found = messages.find(|message| message.text.contains(words));
    let found = found.with_context(|| format!("the kernel's log has no {words:?}"))?;
    Ok(Duration::from_micros(found.microseconds))
}

fn ours(kernel: &Kernel, store: &KeyStore) -> Result<Times> {
    let boot = Boot::new(kernel, store)?;
    boot.root.sign_all(store)?;
    let guest = boot.clock(Clock::Instructions).append("quiet").up()?;
    let start = at(&guest, "Run /init as init process")?;
    let mounted = at(&guest, "root /dev/vda is")?;
    let secured = at(&guest, "secured in")?;
    Ok((secured - mounted, first_action(&guest)? - start))
}

fn script(kernel: &Kernel, store: &KeyStore) -> Result<Times> {
    let initramfs = Tree::small_initramfs(store, DEFAULT_POLICY)?;
    initramfs.install("/usr/bin/busybox", "busybox-static")?;
    initramfs.write("/init", SCRIPT, 0o755)?;
    initramfs.write("/sysroot/.keep", "", 0o644)?;
    let root = Tree::small_root()?;
    root.sign_all(store)?;
    let (initramfs, root) = (initramfs.initramfs()?, root.ext4(64 << 20)?);
    let machine = Machine::new(kernel).trusting(&store.system_certificate()?).append("quiet");
    let machine = machine.clock(Clock::Instructions);
    let guest = machine.initramfs(&initramfs).disk(&root, Disk::Discarded).boot()?;
    let start = at(&guest, "Run /init as init process")?;
    Ok((Duration::ZERO, first_action(&guest)? - start))
}

/// The time of the first action of the real init, the agent.
fn first_action(guest: &Guest) -> Result<Duration> {
    at(guest, "lab-agent is up")
}

/// The peak memory of the step, as busybox's `time` reports it.
fn memory(kernel: &Kernel, store: &KeyStore) -> Result<String> {
    let boot = Boot::step(kernel, store)?;
    boot.root.sign_all(store)?;
    boot.initramfs.install("/usr/bin/busybox", "busybox-static")?;
    let mut guest = mounted(boot)?;
    let argv = ["/usr/bin/busybox", "time", "-v", "/usr/bin/imactl-init", "/sysroot"];
    let report = guest.execute(&argv)?.exits(0);
    let line = report.lines().find(|line| line.contains("Maximum resident set size"));
    Ok(line.context("busybox time -v tells no memory")?.trim().to_owned())
}
