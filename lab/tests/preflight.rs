//! `imactl preflight` predicts the result of booting a root.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use lab::image::Tree;
use lab::keys::{Algorithm, KeyStore};
use lab::on_each_kernel;
use lab::protocol::{Errno, Output, Status};
use lab::scenario::{Enforced, DEFAULT_POLICY};
use serde_json::Value;

/// The JSON lines about files, by path.
fn preflight(root: &Tree, store: &KeyStore, version: &str) -> Result<BTreeMap<String, Value>> {
    let mut preflight = lab::programs::imactl()?;
    preflight.args(["preflight", "--json", "--details", "--policy", "default:appraise"]);
    preflight.args(["--kernel", version, "--keys"]).arg(store.directory()).arg(root.directory());
    let output = preflight.output()?;
    // some file is denied
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    let mut lines = BTreeMap::new();
    for line in String::from_utf8(output.stdout)?.lines() {
        let line: Value = serde_json::from_str(line)?;
        if line["type"] == "file" {
            lines.insert(line["path"].as_str().context("a path")?.to_owned(), line);
        }
    }
    Ok(lines)
}

on_each_kernel! {
    fn programs_do_as_predicted(kernel) {
        let store = KeyStore::create(Algorithm::P256)?;
        let unknown = KeyStore::create(Algorithm::P256)?;
        let root = Tree::small_root()?;
        for name in ["unsigned", "tampered", "unknown-key"] {
            root.copy("/usr/bin/true", &format!("/usr/bin/{name}"))?;
        }
        root.write("/usr/bin/script", "#!/bin/sh\n", 0o755)?;
        root.write("/usr/bin/script-of-unsigned", "#!/usr/bin/unsigned\n", 0o755)?;
        root.write("/usr/bin/script-of-held-up", "#!/usr/bin/ls\n", 0o755)?;
        root.sign_all(&store)?;
        root.sign(&unknown, &["/usr/bin/unknown-key"])?;
        root.tamper("/usr/bin/tampered")?;
        let clear = |path: &str| {
            let file = root.path(path);
            let content = std::fs::read(&file)?;
            let mode = std::fs::metadata(&file)?.permissions();
            std::fs::remove_file(&file)?;
            std::fs::write(&file, content)?;
            std::fs::set_permissions(&file, mode)
        };
        clear("/usr/bin/unsigned")?;
        let library = "libselinux.so.1";
        let paths = ["/usr/lib/x86_64-linux-gnu", "/lib/x86_64-linux-gnu"];
        let library = paths.iter().map(|path| format!("{path}/{library}"));
        let library = library.into_iter().find(|path| root.path(path).exists());
        clear(&library.context("ls of coreutils has libselinux")?)?;

        let predicted = preflight(&root, &store, kernel.version())?;
        let mut guest = Enforced::new(kernel, &store, &root, DEFAULT_POLICY)?.boot()?;
        let mut results = BTreeMap::new();
        for (path, line) in predicted.iter().filter(|(path, _)| path.starts_with("/usr/bin/")) {
            let observed = guest.execute(&[path])?;
            match line["result"].as_str() {
                Some("allowed") => drop(observed.is_allowed()),
                Some("denied") => {
                    let cause = line["cause"].as_str().context("a cause")?;
                    observed.is_denied(Errno::EACCES, cause);
                }
                Some("blocked") => {
                    let cause = line["needs"]["cause"].as_str().context("a cause")?;
                    observed.audited(cause);
                    match (line["use"].as_str(), &observed.outcome) {
                        // the loader fails, also the one of a script's interpreter
                        (_, Ok(Output::Exited { status: Status::Code(127), .. })) => {}
                        (Some("script"), Err(failure)) if failure.errno == Errno::EACCES => {}
                        _ => panic!("to be blocked: {observed}"),
                    }
                }
                other => panic!("{other:?}: {line}"),
            }
            *results.entry(line["result"].to_string()).or_insert(0) += 1;
        }
        assert_eq!(results.len(), 3, "all were tried: {results:?}");
        Ok(())
    }
}
