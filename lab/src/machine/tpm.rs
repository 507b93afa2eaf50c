//! A TPM 2.0 in software: swtpm, on a socket in the machine's directory.

use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{ensure, Result};

use crate::host;

/// Starts swtpm with the state in a directory; without one, the TPM is new.
pub(super) fn start(directory: &Path, state: Option<&Path>) -> Result<Child> {
    let state = state.map_or_else(|| directory.join("tpm"), Path::to_owned);
    std::fs::create_dir_all(&state)?;
    let socket = directory.join("tpm.socket");
    let mut swtpm = host::command("swtpm", "swtpm")?;
    swtpm.args(["socket", "--tpm2", "--terminate", "--tpmstate"]);
    swtpm.arg(format!("dir={}", state.display()));
    swtpm.arg("--ctrl").arg(format!("type=unixio,path={}", socket.display()));
    let mut child =
        swtpm.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let deadline = Instant::now() + Duration::from_secs(10);
    while !socket.exists() && child.try_wait()?.is_none() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(5));
    }
    if !socket.exists() {
        // do not leave it running after an error
        let _ = child.kill();
        let _ = child.wait();
    }
    ensure!(socket.exists(), "swtpm did not open {}", socket.display());
    Ok(child)
}
