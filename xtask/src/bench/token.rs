//! Keys in a token (SoftHSM), compared with evmctl using OpenSSL's PKCS#11 engine, with a key in a file, and
//! with pkcs11-tool, which makes one signature per run (RSA only: it computes ECDSA in several parts,
//! which SoftHSM rejects).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use super::trees::{clear, many_small_files};
use super::{line, timed, Bench, Goal};
use crate::run;

const MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";
const PIN: &str = "1234";
/// The keys, and their names for pkcs11-tool.
const KEYS: [(&str, &str); 2] = [("rsa-2048", "rsa:2048"), ("p-256", "EC:secp256r1")];
/// The number of signatures made by pkcs11-tool.
const TOOL_RUNS: u32 = 20;

/// Signs the 10,000 files of benchmark A.
pub(super) fn token(bench: &Bench) -> Result<()> {
    let root = many_small_files(bench)?;
    let directory = make_token(bench)?;
    // used by imactl, evmctl and pkcs11-tool
    std::env::set_var("SOFTHSM2_CONF", directory.join("softhsm2.conf"));
    std::env::set_var("PKCS11_MODULE_PATH", MODULE);
    std::env::set_var("IMACTL_BENCH_PIN", PIN);
    let root_text = root.to_str().context("a path that is text")?;
    println!("token: 10,000 files of 1-16 KiB, keys in SoftHSM");
    for (label, _) in KEYS {
        let uri = format!("pkcs11:token=bench;object={label};type=private");
        clear(bench, root_text)?;
        let mut evmctl = Command::new("evmctl");
        evmctl
            .args(["ima_sign", "-r", "-a", "sha256", "--engine", "pkcs11", "--keyid", "00000001"]);
        evmctl.args(["--key", &format!("{uri}?pin-value={PIN}"), root_text]);
        let theirs = timed(evmctl.stderr(Stdio::null()))?;

        let keys = bench.keys(label)?;
        let from_file = ["sign", "--quiet", "--keys", &keys, root_text];
        let from_file = bench.imactl(&from_file, || clear(bench, root_text))?.seconds;
        let sign = ["sign", "-q", "--passphrase-env", "IMACTL_BENCH_PIN", "--key", &uri, root_text];
        let ours = bench.imactl(&sign, || clear(bench, root_text))?;
        let mut notes = format!("key in a file {from_file:.2} s");
        if label.starts_with("rsa") {
            let tool = tool_seconds(&directory, label)?;
            notes += &format!("; pkcs11-tool {tool:.3} s a signature");
        }
        line(&format!("sign {label}"), ours, "evmctl", theirs, Goal::None, &notes);
    }
    Ok(())
}

/// A token with [`KEYS`], made once.
fn make_token(bench: &Bench) -> Result<PathBuf> {
    let directory = bench.directory.join("token");
    let configuration = directory.join("softhsm2.conf");
    if configuration.exists() {
        return Ok(directory);
    }
    let tokens = directory.join("tokens");
    fs::create_dir_all(&tokens)?;
    let staged = directory.join("softhsm2.conf.new");
    fs::write(&staged, format!("directories.tokendir = {}\n", tokens.display()))?;
    let mut util = Command::new("softhsm2-util");
    util.args(["--init-token", "--free", "--label", "bench", "--so-pin", "12345678", "--pin", PIN]);
    run({
        util.env("SOFTHSM2_CONF", &staged).stdout(Stdio::null());
        util
    })?;
    for (label, kind) in KEYS {
        let mut tool = pkcs11_tool(&staged);
        tool.args(["--keypairgen", "--key-type", kind, "--label", label]);
        run(tool)?;
    }
    fs::rename(staged, configuration)?;
    Ok(directory)
}

fn pkcs11_tool(configuration: &Path) -> Command {
    let mut tool = Command::new("pkcs11-tool");
    tool.args(["--module", MODULE, "--token-label", "bench", "--login", "--pin", PIN]);
    tool.env("SOFTHSM2_CONF", configuration).stdout(Stdio::null()).stderr(Stdio::null());
    tool
}

/// Seconds per signature of pkcs11-tool, including process start and login.
fn tool_seconds(directory: &Path, label: &str) -> Result<f64> {
    let digest = directory.join("digest");
    fs::write(&digest, [7; 32])?;
    let mut seconds = 0.0;
    for _ in 0..TOOL_RUNS {
        let mut tool = pkcs11_tool(&directory.join("softhsm2.conf"));
        tool.args(["--sign", "--mechanism", "RSA-PKCS", "--label", label, "--input-file"]);
        seconds += timed(tool.arg(&digest).arg("--output-file").arg(directory.join("signature")))?;
    }
    Ok(seconds / f64::from(TOOL_RUNS))
}
