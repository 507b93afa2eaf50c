//! Quotes made by swtpm with tpm2-tools, compared with the verdicts of tpm2_checkquote and openssl.

use std::net::TcpListener;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicU16, Ordering};

use super::*;

/// A TPM with a key for each signature scheme.
pub(crate) struct Tpm {
    process: Child,
    port: u16,
    directory: tempfile::TempDir,
}

impl Drop for Tpm {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// Two free adjacent ports; different ones for each test.
fn port() -> u16 {
    static TAKEN: AtomicU16 = AtomicU16::new(0);
    let is_free = |port: &u16| {
        [*port, port + 1].iter().all(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
    };
    let start = 20_000 + (std::process::id() % 5_000) as u16 * 2;
    let next = || start + TAKEN.fetch_add(2, Ordering::Relaxed);
    std::iter::repeat_with(next).find(is_free).unwrap()
}

impl Tpm {
    pub(crate) fn start() -> Option<Self> {
        let (mut swtpm, _) = (tool("swtpm")?, tool("tpm2_quote")?);
        let (directory, port) = (directory(), port());
        swtpm.args(["socket", "--tpm2", "--flags", "not-need-init,startup-clear", "--tpmstate"]);
        swtpm.arg(format!("dir={}", directory.path().display()));
        swtpm.arg("--server").arg(format!("type=tcp,port={port}"));
        swtpm.arg("--ctrl").arg(format!("type=tcp,port={}", port + 1));
        swtpm.stdout(Stdio::null()).stderr(Stdio::null());
        let tpm = Self { process: swtpm.spawn().unwrap(), port, directory };
        let connects = || std::net::TcpStream::connect(("127.0.0.1", port + 1)).is_ok();
        (0..100).take_while(|_| !connects()).for_each(|_| thread::sleep(Duration::from_millis(20)));
        Some(tpm)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A program in the directory, which finds the TPM.
    pub(crate) fn command(&self, name: &str) -> Command {
        let mut command = Command::new(name);
        command.current_dir(&self.directory).stdin(Stdio::null());
        command.env("TPM2TOOLS_TCTI", format!("swtpm:port={}", self.port));
        command
    }

    #[track_caller]
    pub(crate) fn tool(&self, name: &str, args: &[&str]) {
        let run = |name: &str, args: &[&str]| finish(self.command(name).args(args)).exits(0);
        run(name, args);
        run("tpm2_flushcontext", &["-t"]);
    }

    /// Makes a key, and writes its public area and PEM.
    pub(crate) fn create_key(&self, name: &str, algorithm: &str, attributes: &str) {
        let (context, area, pem) =
            (format!("{name}.ctx"), format!("{name}.area"), format!("{name}.pem"));
        self.tool(
            "tpm2_createprimary",
            &["-C", "o", "-G", algorithm, "-g", "sha256", "-c", &context, "-a", attributes],
        );
        self.tool("tpm2_readpublic", &["-c", &context, "-f", "tss", "-o", &area]);
        self.tool("tpm2_readpublic", &["-c", &context, "-f", "pem", "-o", &pem]);
    }

    /// Quotes, and returns the files of the message, the signature and the values.
    pub(crate) fn quote(&self, key: &str, scheme: &str, pcrs: &str) -> [PathBuf; 3] {
        let files = ["msg", "sig", "pcrs"].map(|kind| self.path(&format!("{key}.{kind}")));
        let [message, signature, values] = &files;
        let [message, signature, values] =
            [message, signature, values].map(|path| path.to_str().unwrap());
        self.tool(
            "tpm2_quote",
            &[
                "-c",
                &format!("{key}.ctx"),
                "--scheme",
                scheme,
                "-l",
                pcrs,
                "-q",
                "00c0ffee",
                "-m",
                message,
                "-s",
                signature,
                "-o",
                values,
                "-g",
                "sha256",
            ],
        );
        files
    }

    /// Extends the PCRs as the kernel does.
    pub(crate) fn measure(&self, entries: &[Entry]) {
        for entry in entries {
            let digests = [HashAlgorithm::Sha1, HashAlgorithm::Sha256].map(|bank| {
                let by = match entry.violation {
                    true => vec![0xff; bank.digest_size()],
                    false => entry.template_digest(bank),
                };
                format!("{bank}={}", ima_format::hex::Hex(&by))
            });
            self.tool("tpm2_pcrextend", &[&format!("{}:{}", entry.pcr, digests.join(","))]);
        }
    }
}

pub(crate) const RESTRICTED: &str =
    "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|restricted|sign";
const SCHEMES: [(&str, &str, &str); 3] = [
    ("ssa", "rsa:rsassa-sha256:null", "rsassa"),
    ("pss", "rsa:rsapss-sha256:null", "rsapss"),
    ("ec", "ecc:ecdsa-sha256:null", "ecdsa"),
];

/// `log verify` with a quote: its JSON line, and whether the PCR matches.
#[track_caller]
fn verify(files: &[PathBuf; 3], ak: &Path, nonce: &str, list: &Path, code: i32) -> (Value, bool) {
    let [message, signature, values] = files;
    let options = args![
        "log",
        "verify",
        "--json",
        "--quote",
        message,
        "--signature",
        signature,
        "--ak",
        ak,
        "--nonce",
        nonce,
        "--pcrs",
        values,
        list
    ];
    let lines = run(options).exits(code).json();
    let pcrs = of_type(&lines, "pcr");
    let matches = !pcrs.is_empty() && pcrs.iter().all(|line| line["verdict"] == "match");
    (of_type(&lines, "quote")[0].clone(), matches)
}

/// The verdict of tpm2_checkquote.
fn checkquote(files: &[PathBuf; 3], ak: &Path, nonce: &str) -> bool {
    let [message, signature, values] = files;
    let mut command = Command::new("tpm2_checkquote");
    command.arg("-u").arg(ak).arg("-m").arg(message).arg("-s").arg(signature).arg("-f").arg(values);
    finish(command.args(["-g", "sha256", "-q", nonce])).code == Some(0)
}

#[test]
fn quotes_of_every_scheme_are_verified() {
    let Some(tpm) = Tpm::start() else { return };
    let entries = [file(USUAL.endian, "/init", b"init"), file(USUAL.endian, "/bin/sh", b"sh")];
    tpm.measure(&entries);
    let list = write(tpm.directory.path(), "list", &binary(USUAL, &entries));
    for (key, algorithm, scheme) in SCHEMES {
        tpm.create_key(key, algorithm, RESTRICTED);
        let files = tpm.quote(key, scheme, "sha1:10,11+sha256:0,10");
        for ak in [tpm.path(&format!("{key}.pem")), tpm.path(&format!("{key}.area"))] {
            let (quote, matches) = verify(&files, &ak, "00c0ffee", &list, 0);
            assert!(matches && quote["good"] == true, "{quote}");
            // tpm2-tools 5.4 does not support RSAPSS
            if key != "pss" {
                assert!(checkquote(&files, &ak, "00c0ffee"));
                assert!(!checkquote(&files, &ak, "00c0ffef"));
            }
            let (quote, _) = verify(&files, &ak, "00c0ffef", &list, 1);
            assert_eq!(quote["faults"], serde_json::json!(["nonce"]));
        }
        // bits changed in the attestation, and in the signature
        let [message, signature, values] = files.clone();
        for (number, path) in [&message, &signature].into_iter().enumerate() {
            let good = fs::read(path).unwrap();
            let mut bad = good.clone();
            *bad.last_mut().unwrap() ^= 1;
            fs::write(path, bad).unwrap();
            let (quote, matches) = verify(&files, &tpm.path("ssa.pem"), "00c0ffee", &list, 1);
            let ak = tpm.path(&format!("{key}.pem"));
            let own = verify(&files, &ak, "00c0ffee", &list, 1).0;
            assert!(
                matches && quote["faults"][0] == "signature" && own["faults"][0] == "signature"
            );
            assert_eq!(own["faults"].as_array().unwrap().len(), 2 - number, "{own}");
            assert!(!checkquote(&files, &ak, "00c0ffee"));
            fs::write(path, good).unwrap();
        }
        // values that were not quoted
        let mut other = Pcrs::after(&entries);
        let text = other.write(&tpm.path("values"));
        let text = [message.clone(), signature.clone(), text];
        let (quote, _) = verify(&text, &tpm.path(&format!("{key}.pem")), "00c0ffee", &list, 1);
        assert_eq!(quote["faults"], serde_json::json!(["not-given", "not-given"]));
        other.0.insert((HashAlgorithm::Sha1, 11), vec![0; 20]);
        other.0.insert((HashAlgorithm::Sha256, 0), vec![0; 32]);
        other.write(&text[2]);
        verify(&text, &tpm.path(&format!("{key}.pem")), "00c0ffee", &list, 0);
        other.extend(HashAlgorithm::Sha256, 0, &[1; 32]);
        other.write(&text[2]);
        let (quote, _) = verify(&text, &tpm.path(&format!("{key}.pem")), "00c0ffee", &list, 1);
        assert_eq!(quote["faults"], serde_json::json!(["values"]));
        assert!(fs::metadata(values).unwrap().len() > 0);
    }
}

/// A value that the quote does not cover is not compared.
#[test]
fn only_quoted_values_are_compared() {
    let Some(tpm) = Tpm::start() else { return };
    let entries = [file(USUAL.endian, "/init", b"init")];
    tpm.measure(&entries);
    tpm.create_key("ec", "ecc:ecdsa-sha256:null", RESTRICTED);
    let [message, signature, _] = tpm.quote("ec", "ecdsa", "sha256:10");
    let mut pcrs = Pcrs::after(&entries);
    pcrs.0.retain(|(bank, _), _| bank.digest_size() <= 32);
    pcrs.extend(HashAlgorithm::Sha1, 10, &[1; 20]);
    let files = [message, signature, pcrs.write(&tpm.path("values"))];
    let list = write(tpm.directory.path(), "list", &binary(USUAL, &entries));
    assert!(verify(&files, &tpm.path("ec.pem"), "00c0ffee", &list, 0).1);
}

/// A key that is not restricted signs any input, including a forged quote.
#[test]
fn a_key_that_is_not_restricted_proves_nothing() {
    let Some(tpm) = Tpm::start() else { return };
    let entries = [file(USUAL.endian, "/init", b"init")];
    tpm.measure(&entries);
    let free = RESTRICTED.replace("|restricted", "");
    tpm.create_key("free", "ecc:ecdsa-sha256:null", &free);
    let files = tpm.quote("free", "ecdsa", "sha1:10+sha256:10");
    let list = write(tpm.directory.path(), "list", &binary(USUAL, &entries));
    let (quote, matches) = verify(&files, &tpm.path("free.area"), "00c0ffee", &list, 1);
    assert!(matches && quote["faults"] == serde_json::json!(["not-restricted"]), "{quote}");
    // not a quote
    let [message, signature, values] = files;
    let swapped = [signature.clone(), message.clone(), values.clone()];
    let options = |files: &[PathBuf; 3], ak: &Path| {
        let [message, signature, values] = files;
        run(args![
            "log",
            "verify",
            "--quote",
            message,
            "--signature",
            signature,
            "--ak",
            ak,
            "--pcrs",
            values,
            list
        ])
        .exits(2)
        .stderr
    };
    let said = options(&swapped, &tpm.path("free.area"));
    assert!(said.contains("unsupported signature scheme 0xff54"), "{said}");
    let said = options(&[message, signature, values], &list);
    assert!(said.contains("no public key"), "{said}");
}
