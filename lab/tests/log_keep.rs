//! `imactl log keep` on a kernel that can stage its list, with a TPM: killed repeatedly, on a full disk,
//! with concurrent readers; and the memory that it frees.

use std::time::Instant;

use anyhow::{bail, Context, Result};
use lab::host;
use lab::image::Tree;
use lab::kernel::{Kernel, Series};
use lab::keys::{Algorithm, KeyStore};
use lab::machine::{Guest, Tpm};
use lab::protocol::{Access, Action};
use lab::scenario::{run, Enforced, DEFAULT_POLICY};
use serde_json::Value;

use crate::measurement::{MEASURED, SECURITYFS, TPM};

const IMACTL: &str = "/usr/bin/imactl";
/// A directory on a file system that is not measured.
const STATE: &str = "/run/keep";
const SERVED: &str = "/run/served";
/// Defaults; `LAB_KEEP_KILLS` and `LAB_KEEP_ENTRIES` override them.
const KILLS: u32 = 40;
const ENTRIES: u32 = 2000;

fn asked(variable: &str, usual: u32) -> u32 {
    std::env::var(variable).ok().and_then(|value| value.parse().ok()).unwrap_or(usual)
}

/// Adds entries: `measure.sh NAME COUNT` reads COUNT new files.
const MEASURE: &str = "\
#!/bin/sh
i=0
while [ $i -lt $2 ]; do
  echo $1.$i > /opt/data
  read line < /opt/data
  i=$((i + 1))
done
";

/// Kills `log keep --once` at all points of a run: `kill.sh KILLS`. Each twentieth run is not killed, to
/// measure a full run. Prints how many runs were killed, and how many of these left staged entries.
const KILL: &str = "\
#!/bin/sh
now() {
  read up idle < /proc/uptime
  now=${up%.*}${up#*.}
}
staged=/sys/kernel/security/ima/binary_runtime_measurements_staged
i=0 killed=0 left=0
while [ $killed -lt $1 ] || [ $left = 0 -a $killed -lt $((10 * $1)) ]; do
  /opt/measure.sh kill$i 5
  now; start=$now
  /usr/bin/imactl --quiet log keep --once /run/keep &
  /opt/measure.sh more$i 3
  if [ $((i % 20)) = 0 ]; then
    wait $!
    now; took=$((now - start))
  else
    busybox usleep $((took * 100 * (40 + 3 * (i % 20))))
    kill -9 $! && killed=$((killed + 1))
    wait $!
    [ $(busybox wc -c < $staged) = 0 ] || left=$((left + 1))
  fi
  i=$((i + 1))
done 2>/dev/null
echo $killed $left
";

fn boot(kernel: &Kernel) -> Result<Guest> {
    let store = KeyStore::create(Algorithm::P256)?;
    let root = Tree::small_root()?;
    root.install_imactl()?;
    root.install("/usr/bin/socat", "socat")?;
    root.write("/opt/measure.sh", MEASURE, 0o755)?;
    root.write("/opt/kill.sh", KILL, 0o755)?;
    root.sign_all(&store)?;
    // thousands of audit records would overflow the kernel's buffer
    let measured = MEASURED.lines().filter(|rule| !rule.starts_with("audit"));
    let policy = measured.chain([DEFAULT_POLICY]).collect::<Vec<_>>().join("\n");
    let root = ("ext4", root.ext4(512 << 20)?);
    let mut enforced = Enforced::with_root(kernel, &store, root, &policy)?;
    enforced.machine = enforced.machine.tpm(Tpm::Version2).append("loglevel=4");
    // without it the kernel keeps a digest of each deleted entry, which also keeps memory around it in use
    enforced.machine = enforced.machine.append("ima_flush_htable");
    enforced.machine = enforced.machine.patience(std::time::Duration::from_secs(3600));
    let mut guest = enforced.boot()?;
    guest.mount("tmpfs", "tmpfs", "/run")?.is_allowed();
    Ok(guest)
}

fn shell(guest: &mut Guest, command: &str) -> Result<String> {
    let done = guest.execute(&["/usr/bin/sh", "-c", command])?;
    done.is_allowed();
    Ok(done.text())
}

fn measure(guest: &mut Guest, name: &str, entries: u32) -> Result<()> {
    shell(guest, &format!("/opt/measure.sh {name} {entries}")).map(drop)
}

/// The number of entries in a file of the kernel.
fn number(guest: &mut Guest, path: &str) -> Result<u64> {
    guest.read(path)?.text().trim().parse().context("a number")
}

/// Checks that segments and kernel are one list that replays to every bank; returns the number of entries.
fn replays(guest: &mut Guest) -> Result<u64> {
    let list = format!("{SECURITYFS}/binary_runtime_measurements");
    let command = format!(
        "{IMACTL} log verify --json --ignore-violations --pcrs {TPM} \
         $(busybox find {STATE}/boot-* -type f | busybox sort) {list}_staged {list}"
    );
    let lines = shell(guest, &command)?;
    let lines: Vec<Value> = lines.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let extended = lines.iter().filter(|line| line["type"] == "pcr" && line["entries"] != 0);
    for line in extended {
        assert_eq!((&line["verdict"], &line["unverified"]), (&"match".into(), &0.into()), "{line}");
    }
    let summary = lines.iter().find(|line| line["type"] == "summary");
    Ok(summary.and_then(|line| line["entries"].as_u64()).unwrap_or_default())
}

fn keep_once(guest: &mut Guest) -> Result<()> {
    guest.execute(&[IMACTL, "log", "keep", "--once", STATE])?.is_allowed();
    Ok(())
}

/// Starts the service, and returns its process ID.
fn serve(guest: &mut Guest) -> Result<String> {
    guest.request(Action::MakeDirectory { path: SERVED.into() })?.is_allowed();
    let process = shell(
        guest,
        &format!(
            "{IMACTL} log keep --entries 100 --publish {SERVED} --socket {SERVED}/socket {STATE} \
             >{SERVED}/out 2>&1 & echo $!"
        ),
    )?;
    let ascii = format!("{SERVED}/ascii_runtime_measurements");
    shell(guest, &format!("until [ -s {ascii} ]; do busybox usleep 100000; done"))?;
    Ok(process)
}

fn stop(guest: &mut Guest, process: &str) -> Result<()> {
    let process = process.trim();
    // the process stays a zombie, so its directory in /proc remains
    let ends = format!("until [ -z \"$(busybox cat /proc/{process}/cmdline)\" ]; do :; done");
    shell(guest, &format!("kill {process}; {ends}; busybox rm -r {SERVED}")).map(drop)
}

fn verify(guest: &mut Guest, list: &str) -> Result<()> {
    let argv = [IMACTL, "log", "verify", "--json", "--ignore-violations", "--pcrs", TPM, list];
    guest.execute(&argv)?.is_allowed();
    Ok(())
}

/// Checks that both published files replay to the current PCRs, after the next poll.
fn is_fresh(guest: &mut Guest) -> Result<()> {
    shell(guest, "busybox usleep 500000")?;
    for name in ["binary_runtime_measurements", "ascii_runtime_measurements"] {
        verify(guest, &format!("{SERVED}/{name}"))?;
    }
    Ok(())
}

/// If the disk is full, entries stay in the kernel; they are moved when there is space.
fn a_full_disk(guest: &mut Guest) -> Result<()> {
    guest.request(Action::MakeDirectory { path: STATE.into() })?.is_allowed();
    guest.request(Action::Mount {
        source: "tmpfs".into(),
        target: STATE.into(),
        kind: "tmpfs".into(),
        access: Access::ReadWrite,
        options: "size=16k".into(),
    })?;
    measure(guest, "full", 200)?;
    let refused = guest.execute(&[IMACTL, "log", "keep", "--once", STATE])?.exits(2);
    assert!(refused.contains("No space left on device"), "{refused}");
    assert!(refused.contains("the entries stay in the kernel"), "{refused}");
    assert!(replays(guest)? >= 200);
    // meanwhile the complete list is published
    let service = serve(guest)?;
    measure(guest, "unmoved", 120)?;
    is_fresh(guest)?;
    assert!(shell(guest, &format!("busybox cat {SERVED}/out"))?.contains("No space left"));
    stop(guest, &service)?;
    shell(guest, &format!("busybox mount -o remount,size=64m {STATE}"))?;
    keep_once(guest)?;
    assert!(replays(guest)? >= 200);
    assert!(number(guest, &format!("{SECURITYFS}/runtime_measurements_count"))? < 20);
    Ok(())
}

/// If it is killed at any time, no entry is lost, and none is stored twice.
fn kills(guest: &mut Guest) -> Result<()> {
    let (before, started) = (replays(guest)?, Instant::now());
    let kills = asked("LAB_KEEP_KILLS", KILLS);
    let said = shell(guest, &format!("/opt/kill.sh {kills}"))?;
    let numbers = said.split_whitespace().map(str::parse).collect::<Result<Vec<u32>, _>>()?;
    let [killed, staged] = numbers[..] else { bail!("how many were killed: {said}") };
    keep_once(guest)?;
    let entries = replays(guest)? - before;
    host::say(&format!(
        "{killed} runs killed, {staged} of them with staged entries; {entries} entries in {:?}",
        started.elapsed()
    ));
    assert!(staged > 0 && entries >= u64::from(8 * kills), "{said} {entries}");
    Ok(())
}

/// The service under load: it serves the complete list, and the kernel's memory is freed.
fn serves_and_frees(guest: &mut Guest) -> Result<()> {
    let memory = |guest: &mut Guest| -> Result<u64> {
        shell(guest, "busybox sed -n 's/^SUnreclaim: *//p' /proc/meminfo")
            .and_then(|text| Ok(text.trim().trim_end_matches(" kB").parse()?))
    };
    let before = memory(guest)?;
    let entries = asked("LAB_KEEP_ENTRIES", ENTRIES);
    let started = Instant::now();
    measure(guest, "load", entries)?;
    let (took, full) = (started.elapsed(), memory(guest)?);
    let service = serve(guest)?;
    let ascii = format!("{SERVED}/ascii_runtime_measurements");
    // a second service is refused
    let second = guest.execute(&[IMACTL, "log", "keep", "--once", STATE])?;
    measure(guest, "while", 500)?;
    shell(guest, "busybox sleep 5")?;
    assert!(
        second.exits(2).contains("another imactl log keep is using this directory"),
        "{second}"
    );
    let freed = memory(guest)?;
    host::say(&format!(
        "{entries} entries in {took:?}; unreclaimable slab {before}, {full}, {freed} kB"
    ));
    assert!(freed < full, "{before} {full} {freed}");

    // the socket serves the complete list, in the kernel's form
    let all = replays(guest)?;
    is_fresh(guest)?;
    let lines = shell(guest, &format!("busybox wc -l < {ascii}"))?;
    assert_eq!(lines.trim(), all.to_string());
    // the published list is up to date directly after a new entry
    measure(guest, "fresh", 20)?;
    let connect = format!("socat -u UNIX-CONNECT:{SERVED}/socket CREATE:{SERVED}/received");
    shell(guest, &connect)?;
    verify(guest, &format!("{SERVED}/received"))?;
    is_fresh(guest)?;
    stop(guest, &service)?;
    assert!(replays(guest)? >= u64::from(entries + 520));
    Ok(())
}

#[test]
fn entries_move_to_files_whatever_happens() {
    run(Series::Linux7, |kernel| {
        let mut guest = boot(kernel)?;
        a_full_disk(&mut guest)?;
        kills(&mut guest)?;
        serves_and_frees(&mut guest)
    });
}

#[test]
fn log_keep_reports_a_kernel_without_staging() {
    run(Series::Linux6_12, |kernel| {
        let mut guest = boot(kernel)?;
        let refused = guest.execute(&[IMACTL, "log", "keep", "--once", STATE])?.exits(2);
        assert!(refused.contains("the kernel cannot stage its measurement list"), "{refused}");
        Ok(())
    });
}
