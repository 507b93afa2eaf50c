//! `imactl log keep` on a kernel that can stage its list, with a TPM: killed again and again, on a full
//! disk, next to readers, and what it frees.

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
/// On a file system that is not measured.
const STATE: &str = "/run/keep";
const SERVED: &str = "/run/served";
/// `LAB_KEEP_KILLS` and `LAB_KEEP_ENTRIES` ask for more.
const KILLS: u32 = 40;
const ENTRIES: u32 = 2000;

fn asked(variable: &str, usual: u32) -> u32 {
    std::env::var(variable).ok().and_then(|value| value.parse().ok()).unwrap_or(usual)
}

/// Adds entries: `measure.sh NAME COUNT` reads so many new files.
const MEASURE: &str = "\
#!/bin/sh
i=0
while [ $i -lt $2 ]; do
  echo $1.$i > /opt/data
  read line < /opt/data
  i=$((i + 1))
done
";

/// Kills `log keep --once` in every part of a run: `kill.sh KILLS`. Each twentieth run is not killed, but
/// shows how long the others take. Prints how many were killed, and how many of these left staged entries.
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
    // thousands of audit records would be more than the kernel holds
    let measured = MEASURED.lines().filter(|rule| !rule.starts_with("audit"));
    let policy = measured.chain([DEFAULT_POLICY]).collect::<Vec<_>>().join("\n");
    let root = ("ext4", root.ext4(512 << 20)?);
    let mut enforced = Enforced::with_root(kernel, &store, root, &policy)?;
    enforced.machine = enforced.machine.tpm(Tpm::Version2).append("loglevel=4");
    // without it a digest of each deleted entry stays, and next to it the memory of the rest
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

/// How many entries a file of the kernel has.
fn number(guest: &mut Guest, path: &str) -> Result<u64> {
    guest.read(path)?.text().trim().parse().context("a number")
}

/// Segments and kernel are one list, which results in every bank; gives how many entries it has.
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

/// Starts the service, and gives its process.
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
    // nobody waits for it: its directory in /proc stays
    let ends = format!("until [ -z \"$(busybox cat /proc/{process}/cmdline)\" ]; do :; done");
    shell(guest, &format!("kill {process}; {ends}; busybox rm -r {SERVED}")).map(drop)
}

fn verify(guest: &mut Guest, list: &str) -> Result<()> {
    let argv = [IMACTL, "log", "verify", "--json", "--ignore-violations", "--pcrs", TPM, list];
    guest.execute(&argv)?.is_allowed();
    Ok(())
}

/// Both published files result in the PCRs as they are, a look after the last entry.
fn is_fresh(guest: &mut Guest) -> Result<()> {
    shell(guest, "busybox usleep 500000")?;
    for name in ["binary_runtime_measurements", "ascii_runtime_measurements"] {
        verify(guest, &format!("{SERVED}/{name}"))?;
    }
    Ok(())
}

/// Entries stay in the kernel if the disk is full, and are moved when there is room.
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
    // meanwhile the list is published, whole
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

/// Killed at any time it loses nothing and keeps nothing twice.
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

/// The service under load: what it serves is the list, and the kernel's memory is free again.
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
    // another one is refused
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

    // what is served is the whole list, in the kernel's form
    let all = replays(guest)?;
    is_fresh(guest)?;
    let lines = shell(guest, &format!("busybox wc -l < {ascii}"))?;
    assert_eq!(lines.trim(), all.to_string());
    // always up to date: also right after an entry was added
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
fn a_kernel_without_staging_is_refused() {
    run(Series::Linux6_12, |kernel| {
        let mut guest = boot(kernel)?;
        let refused = guest.execute(&[IMACTL, "log", "keep", "--once", STATE])?.exits(2);
        assert!(refused.contains("the kernel cannot stage its measurement list"), "{refused}");
        Ok(())
    });
}
