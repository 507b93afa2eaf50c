//! Which libraries a program comes to: what `imactl preflight` says, and what the loader of this
//! machine does in the same root.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::support::*;

/// A root with a program `/bin/p` that needs `liba.so.1`, and what any program needs.
struct Root {
    directory: tempfile::TempDir,
    keys: PathBuf,
}

impl Root {
    /// `None` where it cannot be made, or not be entered.
    fn new(runpath: &str) -> Option<Self> {
        let directory = directory();
        if !security_attributes(directory.path()) {
            return None;
        }
        if directory.path().metadata().unwrap().uid() != 0 {
            missing("root, who may enter another root");
            return None;
        }
        let (at, root) = (directory.path(), directory.path().join("root"));
        fs::write(at.join("a.c"), "int a(void) { return 7; }\n").unwrap();
        fs::write(at.join("p.c"), "int a(void);\nint main(void) { return a(); }\n").unwrap();
        let mut library = tool("gcc")?;
        library.current_dir(at).args(["-shared", "-nostdlib", "-Wl,-soname,liba.so.1", "a.c"]);
        finish(library.args(["-o", "liba.so.1"])).exits(0);
        let mut program = tool("gcc")?;
        program.current_dir(at).args(["p.c", "liba.so.1", "-o", "p"]);
        finish(program.arg(format!("-Wl,-rpath,{runpath}"))).exits(0);
        for line in finish(tool("ldd")?.arg(at.join("p"))).stdout.lines() {
            if let Some(path) = line.split_whitespace().find(|word| word.starts_with('/')) {
                take(Path::new(path), &root.join(&path[1..]));
            }
        }
        take(&at.join("p"), &root.join("bin/p"));
        let keys = store(at, "p-256");
        Some(Self { directory, keys })
    }

    fn at(&self, path: &str) -> PathBuf {
        self.directory.path().join("root").join(path)
    }

    fn library(&self, directory: &str) {
        take(&self.directory.path().join("liba.so.1"), &self.at(directory).join("liba.so.1"));
    }

    fn write(&self, path: &str, text: &str) {
        fs::create_dir_all(self.at(path).parent().unwrap()).unwrap();
        fs::write(self.at(path), text).unwrap();
    }

    fn make_cache(&self) {
        finish(tool("ldconfig").unwrap().arg("-r").arg(self.at(""))).exits(0);
    }

    /// Whether the loader starts the program.
    fn runs(&self) -> bool {
        let mut chroot = Command::new("chroot");
        chroot.arg(self.at("")).arg("/bin/p").stderr(Stdio::null());
        chroot.status().unwrap().code() == Some(7)
    }

    /// What is said of the program, and all that is said.
    fn told(&self) -> (serde_json::Value, Vec<serde_json::Value>) {
        let words = args!["preflight", self.at(""), "--policy", "default:appraise", "--no-init"];
        let more = args!["--keys", self.keys, "--json", "--details"];
        let lines = run(words.into_iter().chain(more)).json();
        let file = lines.iter().find(|line| line["path"] == "/bin/p").unwrap().clone();
        (file, lines)
    }

    fn sign(&self) {
        run(args!["sign", "--quiet", "--keys", self.keys, self.at("")]).exits(0);
    }
}

fn take(from: &Path, to: &Path) {
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    fs::copy(from, to).unwrap();
}

#[test]
fn a_configuration_without_its_cache_is_of_no_use() {
    let Some(root) = Root::new("/none") else { return };
    let Some(_) = tool("ldconfig") else { return };
    root.library("opt/l");
    root.write("etc/ld.so.conf", "/opt/l\n");
    root.sign();
    let warning = |lines: &[serde_json::Value]| {
        let found = lines.iter().find(|line| line["type"] == "warning");
        found.map(|line| line["message"].as_str().unwrap().to_owned()).unwrap_or_default()
    };
    let (file, lines) = root.told();
    assert_eq!((root.runs(), &file["result"]), (false, &"incomplete".into()));
    assert!(warning(&lines).contains("does not look into /opt/l"), "{lines:#?}");
    root.make_cache();
    let (file, lines) = root.told();
    assert_eq!((root.runs(), &file["result"]), (true, &"allowed".into()));
    assert_eq!(warning(&lines), "");
    fs::remove_file(root.at("etc/ld.so.conf")).unwrap();
    let (file, _) = root.told();
    assert_eq!((root.runs(), &file["result"]), (true, &"allowed".into()));
    fs::rename(root.at("opt/l/liba.so.1"), root.at("opt/liba.so.1")).unwrap();
    let (file, lines) = root.told();
    assert_eq!((root.runs(), &file["result"]), (false, &"incomplete".into()));
    assert!(warning(&lines).contains("/opt/l/liba.so.1"), "{lines:#?}");
}

#[test]
fn tokens_of_search_paths_are_expanded() {
    for (runpath, directory, runs) in [
        ("/opt/$LIB", "opt/lib/x86_64-linux-gnu", true),
        ("/opt/${PLATFORM}/x", "opt/x86_64/x", true),
        ("/opt/$LIBX", "opt/lib/x86_64-linux-gnuX", false),
    ] {
        let Some(root) = Root::new(runpath) else { return };
        if !root.at("lib/x86_64-linux-gnu/libc.so.6").exists() {
            return missing("a machine with these names");
        }
        root.library(directory);
        root.sign();
        let said = if runs { "allowed" } else { "incomplete" };
        assert_eq!((root.runs(), &root.told().0["result"]), (runs, &said.into()), "{runpath}");
    }
}

#[test]
fn what_some_processors_take_alone_is_told_as_such() {
    let Some(root) = Root::new("/opt") else { return };
    if !cfg!(target_arch = "x86_64") {
        return missing("an x86-64 machine");
    }
    root.library("opt/glibc-hwcaps/x86-64-v2");
    root.sign();
    let (file, _) = root.told();
    assert_eq!((&file["result"], &file["needs"]["path"]), (&"unknown".into(), &"liba.so.1".into()));
    assert_eq!(file["needs"]["processors"], serde_json::json!(["x86-64"]));
    // an unsigned variant beside a signed one
    root.library("opt");
    root.sign();
    assert_eq!(root.told().0["result"], "allowed");
    run(args!["clear", "--quiet", root.at("opt/glibc-hwcaps/x86-64-v2")]).exits(0);
    let (file, _) = root.told();
    assert_eq!(file["result"], "held-up");
    assert_eq!(file["needs"]["path"], "/opt/glibc-hwcaps/x86-64-v2/liba.so.1");
    let levels = serde_json::json!(["x86-64-v2", "x86-64-v3", "x86-64-v4"]);
    assert_eq!(file["needs"]["processors"], levels);
}
