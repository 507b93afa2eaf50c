//! Searches all results of a build for private keys and passphrases: logs, scripts, stamps and signatures of
//! tasks, shared state, packages, images, caches.

use std::collections::HashSet;
use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{bail, ensure, Context, Result};

use crate::output;

/// Directories in which the build itself keeps keys.
const KEPT: [&str; 2] = ["sample-keys", "integrity-kernel-keys"];

/// A secret that must not be found, in its possible forms.
#[derive(Debug)]
pub(super) struct Secret {
    name: String,
    /// Texts to search for.
    texts: Vec<String>,
    /// Bytes to search for, in hexadecimal.
    bytes: Vec<String>,
}

impl Secret {
    pub(super) fn text(name: &str, text: &str) -> Self {
        Self { name: name.to_owned(), texts: vec![text.to_owned()], bytes: Vec::new() }
    }

    /// A private key: the lines of its file, those of its unencrypted form, and its last bytes (a factor of an
    /// RSA key) in binary and in hexadecimal.
    pub(super) fn key(path: &Path, passphrase: Option<&str>) -> Result<Self> {
        let plain = |form: &str| {
            let mut openssl = Command::new("openssl");
            openssl.args(["pkey", "-outform", form, "-in"]).arg(path);
            if let Some(passphrase) = passphrase {
                openssl.args(["-passin", "env:PASSPHRASE"]).env("PASSPHRASE", passphrase);
            }
            output(&mut openssl)
        };
        let lines = |pem: &str| -> Vec<String> {
            let whole = |line: &&str| line.len() == 64 && !line.starts_with('-');
            // the first line of an unencrypted key is the same for all keys of its type
            pem.lines().filter(whole).skip(1).map(str::to_owned).collect()
        };
        let mut texts = lines(&fs::read_to_string(path)?);
        texts.extend(lines(&String::from_utf8(plain("PEM")?)?));
        let der = plain("DER")?;
        // grep matches within lines: of the last bytes, a long enough piece without a line end
        let tail = &der[der.len().saturating_sub(96)..];
        let tail = tail.split(|&byte| byte == b'\n').rfind(|part| part.len() >= 12);
        let tail = tail.with_context(|| format!("{}: no such key", path.display()))?;
        let tail: String = tail.iter().map(|byte| format!("{byte:02x}")).collect();
        texts.push(tail.clone());
        Ok(Self { name: path.display().to_string(), texts, bytes: vec![tail] })
    }
}

/// Fails if one of the secrets is found in a build directory.
pub(super) fn check(build: &Path, secrets: &[Secret]) -> Result<()> {
    let searched = search(build, secrets)?;
    ensure!(searched.archives > 0, "{}: no archive was looked into", build.display());
    eprintln!("   {} files, {} archives in them: nothing", searched.files, searched.archives);
    Ok(())
}

#[derive(Debug, Default)]
struct Searched {
    files: usize,
    archives: usize,
}

fn search(directory: &Path, secrets: &[Secret]) -> Result<Searched> {
    let mut searched = Searched::default();
    let mut seen = HashSet::new();
    let scratch = Scratch::new()?;
    let mut level = Vec::new();
    list(directory, &mut seen, &mut level)?;
    grep(directory, secrets)?;
    searched.files = level.len();
    // archives are nested: shared state has packages, whose payload is an archive
    for depth in 0.. {
        let unpacked = scratch.path.join(depth.to_string());
        fs::create_dir(&unpacked)?;
        for (index, file) in level.iter().enumerate() {
            let unpacked = unpack(file, &unpacked.join(index.to_string()));
            if unpacked.with_context(|| format!("unpack {}", file.display()))? {
                searched.archives += 1;
            }
        }
        level.clear();
        list(&unpacked, &mut seen, &mut level)?;
        if level.is_empty() {
            break;
        }
        grep(&unpacked, secrets)
            .with_context(|| format!("unpacked from {}, at depth {depth}", directory.display()))?;
        ensure!(depth < 6, "archives without end in {}", directory.display());
    }
    Ok(searched)
}

/// The regular files below a directory; hard links once.
fn list(directory: &Path, seen: &mut HashSet<(u64, u64)>, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(directory).with_context(|| format!("{}", directory.display()))? {
        let path = entry?.path();
        let metadata = fs::symlink_metadata(&path)?;
        if metadata.is_dir() {
            if !KEPT.iter().any(|kept| path.ends_with(kept)) {
                list(&path, seen, files)?;
            }
        } else if metadata.is_file() && seen.insert((metadata.dev(), metadata.ino())) {
            files.push(path);
        }
    }
    Ok(())
}

/// Unpacks a file by its magic number: a compressed stream, a package, an archive.
fn unpack(file: &Path, to: &Path) -> Result<bool> {
    let mut start = Vec::new();
    fs::File::open(file)?.take(512).read_to_end(&mut start)?;
    let is_tar = start.get(257..262) == Some(b"ustar");
    let program: &[&str] = match start.as_slice() {
        [0x28, 0xb5, 0x2f, 0xfd, ..] => &["zstd", "-qdc"],
        [0x1f, 0x8b, ..] => &["gzip", "-dc"],
        [0xfd, b'7', b'z', b'X', b'Z', ..] => &["xz", "-dc"],
        [0xed, 0xab, 0xee, 0xdb, ..] => &["rpm2cpio"],
        _ if is_tar => {
            fs::create_dir(to)?;
            let mut tar = Command::new("tar");
            tar.args(["--no-same-owner", "--no-same-permissions", "--exclude=./dev/*", "-xf"]);
            output(tar.arg(file).arg("-C").arg(to))?;
            return Ok(true);
        }
        _ => return Ok(false),
    };
    let mut command = Command::new(program[0]);
    command.args(&program[1..]).arg(file).stdout(fs::File::create(to)?);
    let status = command.stderr(Stdio::null()).status()?;
    // test data of recipes may look like an archive without being one
    Ok(status.success())
}

/// Fails if grep finds one of the secrets below a directory: one search for all, and if that matches, one
/// for each.
fn grep(directory: &Path, secrets: &[Secret]) -> Result<()> {
    if holding(directory, &secrets.iter().collect::<Vec<_>>())?.is_empty() {
        return Ok(());
    }
    for secret in secrets {
        let files = holding(directory, &[secret])?;
        ensure!(files.is_empty(), "{} was found in:\n{files}", secret.name);
    }
    bail!("{}: something was found, and is gone", directory.display())
}

/// The files with one of the secrets.
fn holding(directory: &Path, secrets: &[&Secret]) -> Result<String> {
    let texts: Vec<_> = secrets.iter().flat_map(|secret| secret.texts.clone()).collect();
    let escaped = |hex: &String| -> String {
        let pairs = hex.as_bytes().chunks(2);
        pairs.map(|pair| format!("\\x{}", String::from_utf8_lossy(pair))).collect()
    };
    let bytes: Vec<_> =
        secrets.iter().flat_map(|secret| secret.bytes.iter().map(escaped)).collect();
    let mut files = String::new();
    // grep -P accepts only one pattern
    for (kind, patterns) in [("-Fi", texts), ("-P", vec![bytes.join("|")])] {
        if patterns.concat().is_empty() {
            continue;
        }
        let mut grep = Command::new("grep");
        grep.env("LC_ALL", "C").args(["-rla", "--devices=skip", kind]);
        grep.args(KEPT.iter().map(|kept| format!("--exclude-dir={kept}")));
        for pattern in &patterns {
            grep.args(["-e", pattern]);
        }
        let found = grep.arg(directory).output().context("grep")?;
        match found.status.code() {
            Some(0 | 1) => files += &String::from_utf8_lossy(&found.stdout),
            _ => bail!("grep: {}", String::from_utf8_lossy(&found.stderr)),
        }
    }
    Ok(files)
}

/// A directory that is removed when dropped.
#[derive(Debug)]
struct Scratch {
    path: PathBuf,
}

impl Scratch {
    fn new() -> Result<Self> {
        let made = output(Command::new("mktemp").args(["-d", "-t", "imactl-leaks.XXXXXX"]))?;
        Ok(Self { path: PathBuf::from(String::from_utf8(made)?.trim_end()) })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // the rest is in the directory for temporary files
        let _ = fs::remove_dir_all(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(directory: &Path) -> PathBuf {
        let path = directory.join("secret.key");
        let mut openssl = Command::new("openssl");
        openssl.args([
            "genpkey",
            "-quiet",
            "-algorithm",
            "RSA",
            "-pkeyopt",
            "rsa_keygen_bits:2048",
        ]);
        output(openssl.arg("-out").arg(&path)).unwrap();
        path
    }

    fn found(build: &Path, secrets: &[Secret]) -> bool {
        match search(build, secrets) {
            Ok(_) => false,
            Err(error) if format!("{error:#}").contains("was found in") => true,
            Err(error) => panic!("{error:#}"),
        }
    }

    #[test]
    fn finds_keys_and_passphrases_however_they_are_packed() {
        let scratch = Scratch::new().unwrap();
        let path = key(&scratch.path);
        let secrets = [Secret::key(&path, None).unwrap(), Secret::text("passphrase", "geheimes")];
        let build = scratch.path.join("build");
        fs::create_dir(&build).unwrap();
        fs::write(build.join("log"), "harmless").unwrap();
        assert!(!found(&build, &secrets), "nothing is there");

        let leak = build.join("leak");
        let mut openssl = Command::new("openssl");
        openssl.args(["pkey", "-outform", "DER", "-in"]).arg(&path);
        let der = output(&mut openssl).unwrap();
        let pem = fs::read(&path).unwrap();
        for content in [&der[..], &pem, b"export PIN='geheimes'"] {
            fs::write(&leak, content).unwrap();
            assert!(found(&build, &secrets), "as it is");
            for script in [
                "zstd -q --rm leak",
                "gzip leak",
                "mkdir -p d && gzip leak && mv leak.gz d && tar -cf - d | zstd -q > s.tar.zst && rm -r d",
            ] {
                fs::write(&leak, content).unwrap();
                let mut shell = Command::new("sh");
                output(shell.args(["-ec", script]).current_dir(&build)).unwrap();
                assert!(!leak.exists());
                assert!(found(&build, &secrets), "{script}");
                output(Command::new("sh").args(["-c", "rm leak.* s.*; :"]).current_dir(&build))
                    .unwrap();
            }
        }
    }

    #[test]
    fn the_builds_own_key_stores_are_no_leak() {
        let scratch = Scratch::new().unwrap();
        let path = key(&scratch.path);
        let secrets = [Secret::key(&path, None).unwrap()];
        let kept = scratch.path.join("build/sample-keys");
        fs::create_dir_all(&kept).unwrap();
        fs::copy(&path, kept.join("a.key")).unwrap();
        assert!(!found(&scratch.path.join("build"), &secrets));
    }
}
