//! `imactl policy`: output and exit statuses.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::support::*;

/// A policy in a file of its own.
fn policy(directory: &Path, name: &str, text: &str) -> PathBuf {
    let path = directory.join(name);
    fs::write(&path, text).unwrap();
    path
}

const SIGNED: &str = "appraise func=BPRM_CHECK appraise_type=imasig\n";

#[test]
fn check_shows_the_line_and_what_is_meant() {
    let directory = directory();
    let text = "# mine\nappraise\tfucn=BPRM_CHECK appraise_type=imasig\n";
    let file = policy(directory.path(), "policy", text);
    let ran = run(args!["policy", "check", file]).exits(1);
    let expected = [
        "error[unknown-word]: unknown word \"fucn=BPRM_CHECK\"".to_owned(),
        format!(" --> {}:2:10", file.display()),
        "  |".to_owned(),
        "2 | appraise    fucn=BPRM_CHECK appraise_type=imasig".to_owned(),
        "  |             ^^^^^^^^^^^^^^^".to_owned(),
        "  = hint: did you mean func=BPRM_CHECK?".to_owned(),
        String::new(),
        format!(
            "{}: rejected by Linux 6.12, 1 error: it stops at line 2 and loads no rule of the \
             file",
            file.display()
        ),
    ];
    assert_eq!(ran.stdout.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn check_tells_programs_what_it_tells_people() {
    let directory = directory();
    let file = policy(directory.path(), "policy", "measure\nappraise fowner=root\n");
    let lines = run(args!["policy", "check", "--json", file]).exits(1).json();
    assert_eq!(lines.len(), 2, "{lines:?}");
    let finding = &lines[0];
    assert_eq!(finding["severity"], "error");
    assert_eq!(finding["error"], "not-a-number");
    assert!(finding.get("lint").is_none());
    assert_eq!((&finding["line"], &finding["column"]), (&2.into(), &17.into()));
    assert_eq!(finding["path"], file.to_str().unwrap());
    assert!(finding["hint"].as_str().unwrap().contains("decimal"));
    assert_eq!(lines[1]["accepted"], false);
    assert_eq!(lines[1]["errors"], 1);

    let file = policy(directory.path(), "lint", "appraise func=BPRM_CHECK\n");
    let lines = run(args!["policy", "check", "--json", file]).exits(0).json();
    assert_eq!(lines[0]["lint"], "hash-is-enough");
    assert!(lines[0].get("error").is_none());
    assert_eq!(lines.last().unwrap()["accepted"], true);
}

#[test]
fn warnings_fail_where_they_are_denied() {
    let directory = directory();
    let file = policy(directory.path(), "policy", SIGNED);
    run(args!["policy", "check", file]).exits(0);
    run(args!["policy", "check", "--deny-warnings", file]).exits(1);
    run(args!["policy", "check", "--deny-warnings", "default:appraise"]).exits(0);
}

#[test]
fn comments_switch_lints_off() {
    let directory = directory();
    let text = "# imactl: allow(hash-is-enough)\nappraise func=BPRM_CHECK\n";
    let file = policy(directory.path(), "policy", text);
    let ran = run(args!["policy", "check", file]).exits(0);
    assert!(!ran.stdout.contains("hash-is-enough"), "{}", ran.stdout);
    let file = policy(directory.path(), "unknown", &text.replace("is-enough", "suffices"));
    let ran = run(args!["policy", "check", file]).exits(0);
    assert!(ran.stdout.contains("[hash-is-enough]") && ran.stdout.contains("[unknown-lint]"));
}

#[test]
fn check_goes_by_the_kernels_version() {
    let directory = directory();
    let file = policy(directory.path(), "policy", "measure fgroup=5\n");
    run(args!["policy", "check", "--kernel", "6.1.99-yocto-standard", file]).exits(0);
    let ran = run(args!["policy", "check", "--kernel", "5.15", file]).exits(1);
    assert!(ran.stdout.contains("needs Linux 5.16"), "{}", ran.stdout);
    let ran = run(args!["policy", "check", "--kernel", "4.19", file]).exits(2);
    assert!(ran.stderr.contains("before 5.10"), "{}", ran.stderr);
}

#[test]
fn what_cannot_be_read_is_told_and_the_others_are_checked() {
    let directory = directory();
    let bad = policy(directory.path(), "bad", "measure x\n");
    let missing = directory.path().join("missing");
    let ran = run(args!["policy", "check", missing, bad]).exits(2);
    assert!(ran.stderr.contains("missing: No such file"), "{}", ran.stderr);
    assert!(ran.stdout.contains("error[unknown-word]"), "{}", ran.stdout);
    run(args!["policy", "check", "builtin:no-such"]).exits(2);
}

#[test]
fn fmt_keeps_comments_and_empty_lines() {
    let directory = directory();
    let text =
        "# head\n\n\n\tappraise  appraise_type=imasig func=FILE_MMAP\n#tail\nmeasure uid=007";
    let expected =
        "# head\n\nappraise func=MMAP_CHECK appraise_type=imasig\n#tail\nmeasure uid=7\n";
    let file = policy(directory.path(), "policy", text);
    let ran = run(args!["policy", "fmt", file]).exits(0);
    assert_eq!(ran.stdout, expected);
    let ran = run(args!["policy", "fmt", "--check", file]).exits(1);
    assert_eq!(ran.stdout.trim_end(), file.to_str().unwrap());
    assert_eq!(fs::read_to_string(&file).unwrap(), text, "checked, not changed");
    run(args!["policy", "fmt", "--check", "default:measure", "builtin:tcb"]).exits(0);
}

#[test]
fn fmt_in_place_keeps_the_mode_and_the_link() {
    let directory = directory();
    let file = policy(directory.path(), "policy", "measure   uid=0\n");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    let link = directory.path().join("link");
    std::os::unix::fs::symlink("policy", &link).unwrap();
    run(args!["policy", "fmt", "--in-place", link]).exits(0);
    assert_eq!(fs::read_to_string(&file).unwrap(), "measure uid=0\n");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o640);
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    let inode = fs::metadata(&file).unwrap().ino();
    run(args!["policy", "fmt", "--in-place", file]).exits(0);
    assert_eq!(fs::metadata(&file).unwrap().ino(), inode, "nothing to do, nothing done");
}

#[test]
fn fmt_leaves_alone_what_it_cannot_read() {
    let directory = directory();
    let text = "measure   uid=0\nmeasur\n";
    let file = policy(directory.path(), "policy", text);
    let ran = run(args!["policy", "fmt", "-i", file]).exits(1);
    assert!(ran.stdout.contains("did you mean measure?"), "{}", ran.stdout);
    assert_eq!(fs::read_to_string(&file).unwrap(), text);
}

#[test]
fn explain_tells_each_rule_and_the_whole() {
    let ran = run(args!["policy", "explain", "default:appraise"]).exits(0);
    for part in ["func=MODULE_CHECK", "allowed to run:", "not restricted:"] {
        assert!(ran.stdout.contains(part), "{part} in {}", ran.stdout);
    }
    let lines = run(args!["policy", "explain", "--json", "default:appraise"]).exits(0).json();
    assert_eq!(lines.iter().filter(|line| line["type"] == "rule").count(), 7);
    assert!(lines.iter().any(|line| line["type"] == "topic"));
}

#[test]
fn explain_takes_policies_as_loaded_one_after_the_other() {
    let directory = directory();
    let first = policy(directory.path(), "first", "dont_measure fsname=tmpfs\n");
    let second = policy(directory.path(), "second", "# two\nmeasure func=BPRM_CHECK\n");
    let lines = run(args!["policy", "explain", "--json", first, second]).exits(0).json();
    let place = |number: usize| (lines[number]["file"].clone(), lines[number]["line"].clone());
    assert_eq!(place(0), (first.to_str().unwrap().into(), 1.into()));
    assert_eq!(place(1), (second.to_str().unwrap().into(), 2.into()));
    let bad = policy(directory.path(), "bad", "measure\nmeasure x\n");
    let ran = run(args!["policy", "explain", bad]).exits(2);
    assert!(ran.stderr.contains("bad:2:9: unknown word"), "{}", ran.stderr);
    assert!(ran.stderr.contains("imactl policy check"), "{}", ran.stderr);
}

#[test]
fn policies_that_need_not_be_written_are_printed() {
    let directory = directory();
    for kind in ["appraise", "strict", "measure"] {
        let printed = run(args!["policy", "default", "--kind", kind]).exits(0).stdout;
        let file = policy(directory.path(), kind, &printed);
        run(args!["policy", "check", "--deny-warnings", file]).exits(0);
    }
    let listed = run(args!["policy", "builtin"]).exits(0).stdout;
    for name in ["arch", "ima_tcb", "tcb", "secure_boot", "appraise_tcb", "critical_data"] {
        assert!(listed.contains(name));
        let printed = run(args!["policy", "builtin", name]).exits(0).stdout;
        run(args!["policy", "check", policy(directory.path(), name, &printed)]).exits(0);
    }
    let ran = run(args!["policy", "builtin", "tbc"]).exits(2);
    assert!(ran.stderr.contains("known: arch, ima_tcb"), "{}", ran.stderr);
}

#[test]
fn the_configuration_of_a_kernel_settles_what_depends_on_it() {
    let directory = directory();
    let rule = "appraise func=MODULE_CHECK appraise_type=imasig|modsig\n";
    let rules = policy(directory.path(), "modsig", rule);
    let check = |more: &[&str]| {
        let mut check = imactl();
        check.args(["policy", "check", "--json"]).args(more).arg(&rules);
        finish(&mut check)
    };
    let name = |found: &crate::support::Run, key: &str| {
        let found = found.json();
        let mut names = found.iter().filter_map(|it| it[key].as_str().map(str::to_owned));
        names.find(|name| name.contains("config"))
    };
    let assumed = check(&[]).exits(0);
    assert_eq!(name(&assumed, "lint").as_deref(), Some("depends-on-configuration"));
    let explained = run(args!["policy", "explain", rules]).exits(0).stdout;
    assert!(explained.contains("appraise_type need CONFIG_IMA_APPRAISE_MODSIG"), "{explained}");

    let head = "#\n# Automatically generated file; DO NOT EDIT.\n\
        # Linux/x86 6.12.57 Kernel Configuration\n#\nCONFIG_64BIT=y\nCONFIG_IMA=y\n\
        CONFIG_IMA_APPRAISE=y\n";
    let without = policy(directory.path(), "without", head);
    let refused = check(&["--kernel-config", without.to_str().unwrap()]).exits(1);
    assert_eq!(name(&refused, "error").as_deref(), Some("not-configured"));
    assert_eq!(refused.json().pop().unwrap()["kernel"], "6.12");
    // compressed, as /proc/config.gz
    let with = policy(directory.path(), "with", &format!("{head}CONFIG_IMA_APPRAISE_MODSIG=y\n"));
    let Some(mut gzip) = tool("gzip") else { return };
    finish(gzip.arg(&with)).exits(0);
    let with = directory.path().join("with.gz");
    let settled = check(&["--kernel-config", with.to_str().unwrap()]).exits(0);
    assert_eq!(name(&settled, "lint"), None, "{}", settled.stdout);

    let arch = |config: &str| {
        let config = policy(directory.path(), "config", &format!("{head}{config}"));
        run(args!["policy", "builtin", "arch", "--kernel-config", config]).exits(0).stdout
    };
    assert_eq!(arch(""), "", "no CONFIG_IMA_ARCH_POLICY");
    assert_eq!(
        arch("CONFIG_IMA_ARCH_POLICY=y\nCONFIG_MODULE_SIG=y\n"),
        "appraise func=KEXEC_KERNEL_CHECK appraise_type=imasig\n\
         measure func=KEXEC_KERNEL_CHECK\nmeasure func=MODULE_CHECK\n"
    );
    for wrong in [rule, "CONFIG_EVM=y\n", "CONFIG_IMA=y\n"] {
        let wrong = policy(directory.path(), "wrong", wrong);
        check(&["--kernel-config", wrong.to_str().unwrap()]).exits(2);
    }
}

#[test]
fn diff_shows_rules_and_events() {
    let directory = directory();
    let before = policy(directory.path(), "before", SIGNED);
    let after = policy(directory.path(), "after", &format!("dont_appraise fsname=tmpfs\n{SIGNED}"));
    let ran = run(args!["policy", "diff", before, after]).exits(1);
    let expected = [
        "appraise at BPRM_CHECK".to_owned(),
        format!("- appraised: a signature, not blacklisted  ({}:1: {})", before.display(), SIGNED)
            .replace('\n', ""),
        format!("+ nothing  ({}:1: dont_appraise fsname=tmpfs)", after.display()),
        "  func=BPRM_CHECK uid=0 fowner=0 fsname=tmpfs".to_owned(),
        String::new(),
    ];
    assert_eq!(ran.stdout.lines().collect::<Vec<_>>(), expected);
    let lines = run(args!["policy", "diff", "--json", before, after]).exits(1).json();
    assert_eq!(lines[0]["decision"], "appraise");
    assert_eq!(lines[0]["before"]["line"], 1);
    assert_eq!(lines.last().unwrap()["differences"], 1);
    let ran = run(args!["policy", "diff", before, before]).exits(0);
    assert_eq!(ran.stdout, "the decisions are the same\n");
    run(args!["policy", "diff", before, directory.path().join("missing")]).exits(2);
}

#[test]
fn simulate_names_the_rule_that_decides() {
    let ran = run(args!["policy", "simulate", "default:appraise", "--func", "BPRM_CHECK"]).exits(0);
    assert!(ran.stdout.contains("appraise  yes, default:appraise:21:"), "{}", ran.stdout);
    let event = ["--func", "BPRM_CHECK", "--uid", "1000"];
    let lines =
        run(["policy", "simulate", "default:appraise", "--json"].into_iter().chain(event)).exits(0);
    assert_eq!(lines.json()[0]["appraise"]["done"], false);
    let ran = run(args!["policy", "simulate", "default:appraise", "--func", "BPRM"]).exits(2);
    assert!(ran.stderr.contains("known: FILE_CHECK"), "{}", ran.stderr);
    let ran = run(args!["policy", "simulate", "default:appraise"]).exits(2);
    assert!(ran.stderr.contains("--func"), "{}", ran.stderr);
}

#[test]
fn simulate_takes_events_from_a_file() {
    let directory = directory();
    let events = "{\"func\": \"FILE_CHECK\", \"mask\": \"MAY_READ|MAY_WRITE\"}\n\n\
                  {\"func\": \"KEY_CHECK\", \"keyring\": \".ima\"}\n";
    let events = policy(directory.path(), "events", events);
    let rules = policy(
        directory.path(),
        "policy",
        "measure func=FILE_CHECK mask=MAY_READ\nmeasure func=KEY_CHECK keyrings=.ima pcr=11\n",
    );
    let lines =
        run(args!["policy", "simulate", rules, "--events", events, "--json"]).exits(0).json();
    assert_eq!(lines[0]["measure"]["done"], false, "the mask is compared exactly");
    assert_eq!((&lines[1]["measure"]["line"], &lines[1]["pcr"]), (&2.into(), &11.into()));
    fs::write(&events, "{\"func\": \"FILE_CHECK\"}\n{\"fun\": 1}\n").unwrap();
    let ran = run(args!["policy", "simulate", rules, "--events", events]).exits(2);
    assert!(ran.stderr.contains("events:2: unknown field `fun`"), "{}", ran.stderr);
}

#[test]
fn simulate_tells_what_becomes_of_a_file() {
    let directory = directory();
    if !security_attributes(directory.path()) {
        return;
    }
    let (keys, stranger) = (store(directory.path(), "p-256"), store(directory.path(), "p-384"));
    let file = directory.path().join("file");
    fs::write(&file, "content").unwrap();
    let simulate = |more: &[&std::ffi::OsStr]| {
        let words = args!["policy", "simulate", "default:appraise", "--func", "BPRM_CHECK"];
        let json = words.into_iter().chain(more.iter().map(Into::into)).chain(args!["--json"]);
        run(json).exits(0).json().remove(0)
    };
    let with_file = |more: &[&str]| {
        let mut words = vec!["--file".as_ref(), file.as_os_str(), "--keys".as_ref()];
        words.push(keys.as_os_str());
        words.extend(more.iter().map(AsRef::<std::ffi::OsStr>::as_ref));
        simulate(&words)
    };
    let bare = with_file(&[]);
    assert_eq!(
        (&bare["verdict"], &bare["cause"]),
        (&"denied".into(), &"IMA-signature-required".into())
    );
    assert_eq!(with_file(&["--mode", "log"])["verdict"], "tolerated");
    assert_eq!(with_file(&["--uid", "1000"])["verdict"], "allowed");
    run(args!["sign", "--quiet", "--keys", keys, file]).exits(0);
    assert_eq!(with_file(&[])["verdict"], "allowed");
    let others =
        simulate(&["--file".as_ref(), file.as_os_str(), "--keys".as_ref(), stranger.as_os_str()]);
    assert_eq!(
        (&others["verdict"], &others["cause"]),
        (&"denied".into(), &"invalid-signature".into())
    );
    assert!(others["unknown_key"].is_string(), "{others}");

    // the same for a file that is not available; on the command line, and in a file of events
    let attribute = hex_of(&security_ima(&file).unwrap());
    let digest = "sha256:ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73";
    let words = ["--attribute", &attribute, "--digest", digest, "--keys"].map(std::ffi::OsStr::new);
    let stated = simulate(&[&words[..], &[keys.as_os_str()]].concat());
    assert_eq!(stated["verdict"], "allowed", "{stated}");
    let other = format!("sha256:{}", "0".repeat(64));
    let lines: Vec<_> =
        [(attribute.as_str(), other.as_str()), ("none", digest), ("0x0404", digest)]
            .iter()
            .map(|(attribute, digest)| {
                serde_json::json!({"func": "BPRM_CHECK", "attribute": attribute, "digest": digest})
                    .to_string()
            })
            .collect();
    let events = policy(directory.path(), "events", &lines.join("\n"));
    let words = args!["policy", "simulate", "default:appraise", "--events", events, "--json"];
    let lines = run(words.into_iter().chain(args!["--keys", keys])).exits(0).json();
    let causes: Vec<_> = lines.iter().map(|line| line["cause"].as_str().unwrap()).collect();
    assert_eq!(causes, ["invalid-signature", "IMA-signature-required", "IMA-signature-required"]);

    let simulate = |more: &[&str]| {
        let words = args!["policy", "simulate", "default:appraise", "--func", "BPRM_CHECK"];
        let keys = args!["--keys", keys];
        run(words.into_iter().chain(keys).chain(more.iter().map(Into::into))).exits(2).stderr
    };
    let said = simulate(&["--attribute", &attribute]);
    assert!(said.contains("sha256 digest") && said.contains("--digest ALG:HEX"), "{said}");
    assert!(simulate(&["--attribute", "03xx"]).contains("not hexadecimal at character 3"));
    assert!(simulate(&["--digest", "sha256:00"]).contains("not a digest"));
}

fn hex_of(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn sign_refuses_what_the_kernel_refuses() {
    let directory = directory();
    let keys = store(directory.path(), "p-256");
    let good = policy(directory.path(), "good", SIGNED);
    let bad = policy(directory.path(), "bad", "measure x\n");
    let sign = |extra: &[&std::ffi::OsStr]| {
        let words = args!["policy", "sign", "--keys", keys, "--detached"];
        run(words.into_iter().chain(extra.iter().map(|word| word.to_os_string())))
    };
    let signature = |file: &Path| file.with_extension("sig").exists();
    let ran = sign(&[good.as_os_str(), bad.as_os_str()]).exits(1);
    assert!(ran.stdout.contains("error[unknown-word]"), "{}", ran.stdout);
    assert!(ran.stderr.contains("nothing signed"), "{}", ran.stderr);
    assert!(!signature(&good) && !signature(&bad));
    sign(&[good.as_os_str()]).exits(0);
    sign(&["--no-check".as_ref(), bad.as_os_str()]).exits(0);
    assert!(signature(&good) && signature(&bad));
}

#[test]
fn secure_boot_brings_rules_and_enforces() {
    let directory = directory();
    let file = policy(directory.path(), "policy", "dont_appraise func=KEXEC_KERNEL_CHECK\n");
    let simulate = |options: &[&str]| {
        let event = ["--func", "KEXEC_KERNEL_CHECK", "--attribute", "none", "--json"];
        let mut simulate = imactl();
        finish(simulate.args(["policy", "simulate"]).args(event).args(options).arg(&file)).exits(0)
    };
    assert_eq!(simulate(&[]).json()[0]["verdict"], "allowed");
    let event = simulate(&["--secure-boot"]).json()[0].clone();
    assert_eq!(event["verdict"], "denied");
    assert_eq!(event["appraise"]["file"], "builtin:arch");
    let log = ["--ima-appraise", "log", "--secure-boot"];
    assert_eq!(simulate(&log[..2]).json()[0]["verdict"], "allowed");
    let ignored = simulate(&log);
    assert_eq!(ignored.json()[0]["verdict"], "denied");
    assert!(ignored.stderr.contains("ignores this ima_appraise="), "{}", ignored.stderr);
    // naming them does not add the rules twice
    let explain = |args: &[&str]| {
        let mut explain = imactl();
        finish(explain.args(["policy", "explain"]).args(args).arg(&file)).exits(0).stdout
    };
    let named = explain(&["builtin:arch", "--secure-boot"]);
    assert_eq!(named, explain(&["--secure-boot"]));
    assert_eq!(named, explain(&["builtin:arch"]));
    // only without these rules does it say that they come first
    let text = "CONFIG_IMA=y\nCONFIG_IMA_APPRAISE=y\nCONFIG_IMA_ARCH_POLICY=y\n";
    let config = policy(directory.path(), "arch", text);
    let config = ["--kernel", "6.12", "--kernel-config", config.to_str().unwrap()];
    let before = "the rules of builtin:arch come before these";
    assert!(explain(&config).contains(before));
    for first in ["--secure-boot", "builtin:arch"] {
        let listed = explain(&[&[first], &config[..]].concat());
        assert!(listed.contains("func=KEXEC_KERNEL_CHECK"), "{listed}");
        assert!(!listed.contains(before), "{listed}");
    }
    // a kernel without these rules
    let config = policy(directory.path(), "config", "CONFIG_IMA=y\nCONFIG_IMA_APPRAISE=y\n");
    let config = ["--secure-boot", "--kernel", "6.12", "--kernel-config", config.to_str().unwrap()];
    assert_eq!(simulate(&config).json()[0]["verdict"], "allowed");
}

#[test]
fn versions_that_were_not_read_are_marked() {
    let directory = directory();
    let file = policy(directory.path(), "policy", SIGNED);
    for (kernel, source) in [("6.12", "read"), ("6.6", "history"), ("7.9", "history")] {
        let checked = run(args!["policy", "check", "--json", "--kernel", kernel, file]).exits(0);
        assert_eq!(checked.json().last().unwrap()["kernel_source"], source, "{kernel}");
        let said = run(args!["policy", "check", "--kernel", kernel, file]).exits(0).stderr;
        assert_eq!(said.contains("was not read"), source == "history", "{kernel}: {said}");
        let said = run(args!["policy", "builtin", "arch", "--kernel", kernel]).exits(0).stderr;
        assert_eq!(said.contains("was not read"), source == "history", "{kernel}: {said}");
    }
}
