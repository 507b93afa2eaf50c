//! The libraries that a program finds, as predicted by `imactl preflight` and as found by the loader of this
//! machine in the same root, on several CPUs.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::support::*;

/// A root with a program `/bin/p` that needs `liba.so.1`, and the files that any program needs.
struct Root {
    directory: tempfile::TempDir,
    keys: PathBuf,
}

impl Root {
    /// `None` if it cannot be made or entered.
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
        for line in finish(tool("ldd")?.arg(at.join("p")).env_remove("LD_PRELOAD")).stdout.lines() {
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

    /// Whether the loader starts the program on a CPU that QEMU emulates.
    fn runs_on(&self, model: &str) -> bool {
        let mut chroot = Command::new("chroot");
        chroot.arg(self.at("")).args(["/qemu", "-cpu", model, "/bin/p"]).stderr(Stdio::null());
        chroot.status().unwrap().code() == Some(7)
    }

    /// The verdict on the program, and the whole output.
    fn told(&self) -> (serde_json::Value, Vec<serde_json::Value>) {
        self.told_on(None)
    }

    /// The same with `--cpu`.
    fn told_on(&self, cpu: Option<&str>) -> (serde_json::Value, Vec<serde_json::Value>) {
        let words = args!["preflight", self.at(""), "--policy", "default:appraise", "--no-init"];
        let more = args!["--keys", self.keys, "--json", "--details"];
        let cpu = cpu.into_iter().flat_map(|cpu| args!["--cpu", cpu]);
        let lines = run(words.into_iter().chain(more).chain(cpu)).json();
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

/// QEMU's models, and the names of their CPUs.
const MODELS: [(&str, &str); 4] = [
    ("qemu64", "x86-64"),
    ("Nehalem", "x86-64-v2"),
    ("EPYC", "x86-64-v3-amd"),
    ("Haswell-noTSX", "x86-64-v3-intel"),
];

#[test]
fn the_answer_holds_on_every_cpu() {
    if !cfg!(target_arch = "x86_64") {
        return missing("an x86-64 machine");
    }
    let qemu = Path::new("/usr/bin/qemu-x86_64-static");
    if !qemu.exists() {
        return missing("qemu-x86_64-static is not installed");
    }
    for (runpath, directories, cached) in [
        ("/opt/${PLATFORM}/x", &["opt/x86_64/x"][..], false),
        ("/opt/$PLATFORM", &["opt/haswell"], false),
        ("$ORIGIN/../opt/$PLATFORM", &["opt/haswell", "opt/x86_64"], false),
        ("/opt", &["opt/glibc-hwcaps/x86-64-v2"], false),
        ("/opt", &["opt/glibc-hwcaps/x86-64-v3", "opt/haswell"], false),
        ("/opt", &["opt/tls/haswell/x86_64"], false),
        ("/opt", &["opt/avx512_1", "opt/x86_64/x86_64/tls"], false),
        ("/opt", &["opt/x86_64"], false),
        ("/none", &["opt/l/haswell"], true),
        ("/none", &["opt/l/haswell", "opt/l"], true),
        ("/none", &["opt/l/glibc-hwcaps/x86-64-v3"], true),
    ] {
        let Some(root) = Root::new(runpath) else { return };
        take(qemu, &root.at("qemu"));
        directories.iter().for_each(|directory| root.library(directory));
        if cached {
            let Some(_) = tool("ldconfig") else { return };
            root.write("etc/ld.so.conf", "/opt/l\n");
            root.make_cache();
        }
        root.sign();
        let context = format!("{runpath}, {directories:?}");
        let all: Vec<_> = MODELS
            .iter()
            .map(|(model, cpu)| {
                let (runs, file) = (root.runs_on(model), root.told_on(Some(cpu)).0);
                let said = if runs { "allowed" } else { "incomplete" };
                assert_eq!(file["result"], said, "{context}, {model}: {file:#}");
                runs
            })
            .collect();
        // CPUs that QEMU cannot emulate (x86-64-v4, Xeon Phi) are predicted, too
        let (file, _) = root.told();
        match (all.contains(&true), all.contains(&false)) {
            (true, true) => assert_eq!(file["result"], "unknown", "{context}"),
            (true, false) => assert!(file["result"] != "incomplete", "{context}"),
            _ => assert!(file["result"] != "allowed", "{context}"),
        }
    }
}

#[test]
fn what_some_cpus_take_alone_is_told_as_such() {
    let Some(root) = Root::new("/opt") else { return };
    if !cfg!(target_arch = "x86_64") {
        return missing("an x86-64 machine");
    }
    root.library("opt/glibc-hwcaps/x86-64-v2");
    root.sign();
    let (file, _) = root.told();
    assert_eq!((&file["result"], &file["needs"]["path"]), (&"unknown".into(), &"liba.so.1".into()));
    assert_eq!(file["needs"]["processors"], serde_json::json!(["x86-64"]));
    // an unsigned variant next to a signed one
    root.library("opt");
    root.sign();
    assert_eq!(root.told().0["result"], "allowed");
    run(args!["clear", "--quiet", root.at("opt/glibc-hwcaps/x86-64-v2")]).exits(0);
    let (file, _) = root.told();
    assert_eq!(file["result"], "blocked");
    assert_eq!(file["needs"]["path"], "/opt/glibc-hwcaps/x86-64-v2/liba.so.1");
    let levels = serde_json::json!(["x86-64-v2", "x86-64-v3", "x86-64-v4"]);
    assert_eq!(file["needs"]["processors"], levels);
}

#[test]
fn a_library_of_intel_cpus_alone_is_judged_for_them() {
    let Some(root) = Root::new("/opt/$PLATFORM:/opt") else { return };
    if !cfg!(target_arch = "x86_64") {
        return missing("an x86-64 machine");
    }
    root.library("opt");
    root.sign();
    assert_eq!(root.told().0["result"], "allowed");
    root.library("opt/haswell");
    let (file, _) = root.told();
    assert_eq!(
        (&file["result"], &file["needs"]["cause"]),
        (&"blocked".into(), &"IMA-signature-required".into(),)
    );
    let intel = serde_json::json!(["x86-64-v3-intel", "x86-64-v4-intel"]);
    assert_eq!(file["needs"]["processors"], intel);
    for (cpu, result) in
        [("x86-64-v3-amd", "allowed"), ("x86-64-v3", "blocked"), ("z15", "blocked")]
    {
        assert_eq!(root.told_on(Some(cpu)).0["result"], result, "{cpu}");
    }
}

#[test]
fn a_library_that_demands_a_level_is_for_cpus_of_that_level() {
    let Some(root) = Root::new("/opt") else { return };
    let qemu = Path::new("/usr/bin/qemu-x86_64-static");
    if !cfg!(target_arch = "x86_64") || !qemu.exists() {
        return missing("an x86-64 machine with qemu-x86_64-static");
    }
    take(qemu, &root.at("qemu"));
    let at = root.directory.path();
    for (demanded, runs) in [
        ("x86-64-baseline", [true, true, true, true]),
        ("x86-64-v2", [false, true, true, true]),
        ("x86-64-v3", [false, false, true, true]),
        ("x86-64-v4", [false, false, false, false]),
    ] {
        let mut library = tool("gcc").unwrap();
        library.current_dir(at).args(["-shared", "-nostdlib", "-Wl,-soname,liba.so.1", "a.c"]);
        finish(library.args([&format!("-Wl,-z,{demanded}"), "-o", "liba.so.1"])).exits(0);
        root.library("opt");
        root.sign();
        for ((model, cpu), runs) in MODELS.iter().zip(runs) {
            let said = if runs { "allowed" } else { "incomplete" };
            assert_eq!(root.runs_on(model), runs, "{demanded} on {model}");
            assert_eq!(root.told_on(Some(cpu)).0["result"], said, "{demanded} on {cpu}");
        }
        let (file, _) = root.told();
        match demanded {
            "x86-64-baseline" => assert_eq!(file["result"], "allowed"),
            _ => {
                assert_eq!(file["result"], "unknown", "{file:#}");
                assert_eq!(file["needs"]["path"], "/opt/liba.so.1");
                assert_eq!(file["needs"]["x86_64_level"], demanded[8..].parse::<u8>().unwrap());
            }
        }
    }
}

#[test]
fn an_init_that_starts_on_some_cpus_alone_is_a_finding() {
    let Some(root) = Root::new("/opt/$PLATFORM") else { return };
    if !cfg!(target_arch = "x86_64") {
        return missing("an x86-64 machine");
    }
    root.library("opt/x86_64");
    root.sign();
    let preflight = |cpu: &[&str]| {
        let words = args!["preflight", root.at(""), "--policy", "default:appraise"];
        let more = args!["--init", "/bin/p", "--keys", root.keys];
        run(words.into_iter().chain(more).chain(cpu.iter().map(Into::into)))
    };
    let said = preflight(&[]).exits(1).stdout;
    assert!(
        said.contains("was not found on CPUs x86-64-v3-intel, xeon-phi, x86-64-v4-intel"),
        "{said}"
    );
    assert!(said.contains("unknown: depends on the CPU"), "{said}");
    preflight(&["--cpu", "x86-64-v3-amd", "--cpu", "x86-64-v2"]).exits(0);
}
