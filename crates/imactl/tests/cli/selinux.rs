//! `sign --evm --selinux-contexts`: the labels are those of libselinux.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use ima::selinux::FileContexts;

use crate::support::*;

/// Rules of all forms; each file with the rules that come after it.
const CONTEXTS: [(&str, &str); 5] = [
    (
        "",
        r"
# the last rule that fits counts, and a path without meta characters before all others
/.*                            system_u:object_r:default_t:s0
/usr/bin/exact                 system_u:object_r:exact_t:s0
/usr/bin(/.*)?                 system_u:object_r:bin_t:s0
/usr/lib/.*\.so(\.[^/]*)*   --  system_u:object_r:lib_t:s0
/usr/lib/.*\.so(\.[^/]*)*   -l  system_u:object_r:link_t:s0
/usr/lib/[^/]+/x{2,3}y?        system_u:object_r:counted_t:s0:c0.c1023
/usr/lib/dir                -d  system_u:object_r:directory_t:s0
/usr/share/(man|doc)/(.*/)?a[]b-]*[[:digit:]]   system_u:object_r:class_t
/usr/share/a\+b\.c             system_u:object_r:escaped_t:s0
/usr/share/a\@.b               system_u:object_r:at_t:s0
/usr/share/a.b                 system_u:object_r:dot_t:s0
/usr/share/lazy.*?end          system_u:object_r:lazy_t:s0
/usr/share/\w+\d\S             system_u:object_r:perl_t:s0
/tmp/.*                        <<none>>
/tmp/kept                      system_u:object_r:kept_t:s0
/var/none                  --  <<none>>
",
    ),
    (".homedirs", "/home/[^/]+/.+  user_u:object_r:home_t:s0\n/home/x/\\.ssh(/.*)? a_u:b_r:c_t\n"),
    (
        ".local",
        "/usr/bin/local.*  system_u:object_r:local_t:s0\n/usr/bin/exact -- a_u:b_r:local_t\n",
    ),
    (".subs", "/srv/root /\n/opt/bin /sbin\n"),
    (".subs_dist", "/sbin /usr/bin\n/lib64 /usr/lib\n/lib /usr/lib\n"),
];

const PATHS: [&str; 40] = [
    "/usr/bin/exact",
    "/usr/bin/exact2",
    "/usr/bin/local",
    "/usr/bin/local/below",
    "/usr/bin",
    "/usr/binary",
    "/usr/lib/a.so",
    "/usr/lib/a/b.so.1.2",
    "/usr/lib/a.so/1",
    "/usr/lib/a/xx",
    "/usr/lib/a/xxxy",
    "/usr/lib/a/x",
    "/usr/lib/a/xxxx",
    "/usr/lib/dir",
    "/usr/share/man/a1",
    "/usr/share/doc/x/y/ab]-b7",
    "/usr/share/doc/x/abc7",
    "/usr/share/info/a1",
    "/usr/share/a+b.c",
    "/usr/share/aab.c",
    "/usr/share/a@xb",
    "/usr/share/a.b",
    "/usr/share/a\nb",
    "/usr/share/a\u{e4}b",
    "/usr/share/lazyendend",
    "/usr/share/lazyendx",
    "/usr/share/ab_1x",
    "/usr/share/ab_1 ",
    "/tmp/a",
    "/tmp/kept",
    "/var/none",
    "/home/x/file",
    "/home/x/.ssh/key",
    "/home/x/.sshd",
    "/srv/root/usr/bin/exact",
    "/opt/bin/local",
    "/sbin/exact",
    "/lib64/a.so",
    "/lib64x/a.so",
    "/usr/bin/local\n",
];

/// The labels that matchpathcon prints for regular files at these paths.
fn of_libselinux(contexts: &Path, paths: &[PathBuf]) -> Option<Vec<String>> {
    let mut labels = Vec::new();
    for paths in paths.chunks(500) {
        let mut matchpathcon = tool("matchpathcon")?;
        matchpathcon.args(["-m", "file", "-n", "-N", "-f"]).arg(contexts).args(paths);
        labels.extend(finish(&mut matchpathcon).exits(0).stdout.lines().map(str::to_owned));
    }
    Some(labels)
}

fn of_imactl(contexts: &FileContexts, path: &Path) -> String {
    let label = contexts.label(path.strip_prefix("/").unwrap());
    let label = label.map(|label| label.strip_suffix(b"\0").unwrap());
    String::from_utf8(label.unwrap_or(b"<<none>>").to_vec()).unwrap()
}

/// Checks that both give the same labels; returns the number of different labels.
fn compare(contexts: &Path, paths: &[PathBuf]) -> Option<usize> {
    let theirs = of_libselinux(contexts, paths)?;
    let ours = FileContexts::read(contexts).unwrap();
    assert_eq!(theirs.len(), paths.len());
    for (path, label) in paths.iter().zip(&theirs) {
        assert_eq!(of_imactl(&ours, path), *label, "{path:?}");
    }
    Some(theirs.iter().collect::<std::collections::HashSet<_>>().len())
}

fn write_contexts(directory: &Path) -> PathBuf {
    for (suffix, text) in CONTEXTS {
        fs::write(directory.join(format!("file_contexts{suffix}")), text).unwrap();
    }
    directory.join("file_contexts")
}

#[test]
fn labels_are_those_of_libselinux() {
    let directory = directory();
    let contexts = write_contexts(directory.path());
    // both without the files next to it
    let alone = directory.path().join("alone");
    fs::write(&alone, CONTEXTS[0].1).unwrap();
    for contexts in [contexts, alone] {
        let Some(labels) = compare(&contexts, &PATHS.map(PathBuf::from)) else { return };
        assert!(labels > 10, "{labels}");
    }
}

/// The reference policy, with paths generated from its own rules, and files of this machine.
#[test]
fn thousands_of_paths_have_the_labels_of_a_distribution() {
    let policies = fs::read_dir("/etc/selinux").into_iter().flatten().flatten();
    let contexts = policies.map(|policy| policy.path().join("contexts/files/file_contexts"));
    let Some(contexts) = contexts.into_iter().find(|path| path.exists()) else {
        return missing("no policy of SELinux with its file contexts");
    };
    let mut paths = Vec::new();
    for line in fs::read_to_string(&contexts).unwrap().lines() {
        let Some(pattern) = line.split_whitespace().next() else { continue };
        let mut one = pattern.replace(r"\.", ".").replace(r"\+", "+");
        for (from, to) in [("[^/]", "n"), ("(/.*)?", "/below/it"), (".*", "any"), ("[0-9]", "7")] {
            one = one.replace(from, to);
        }
        let other = one.replace(['(', ')', '?', '+', '*'], "");
        let short = pattern.replace("(/.*)?", "").replace(['\\', '(', ')', '?', '*'], "");
        // in the form of paths in a container: without `.` and doubled slashes
        let clean =
            |path: String| Path::new("/").join(path.trim_matches('/')).components().collect();
        paths.extend([one, other, short].map(clean));
    }
    let mut found = vec![PathBuf::from("/etc"), PathBuf::from("/usr")];
    while let Some(directory) = found.pop().filter(|_| paths.len() < 22_000) {
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            match entry.file_type().unwrap().is_dir() {
                true => found.push(entry.path()),
                false => paths.push(entry.path()),
            }
        }
    }
    assert!(paths.len() > 10_000, "{}", paths.len());
    let Some(labels) = compare(&contexts, &paths) else { return };
    assert!(labels > 500, "{labels}");
}

#[test]
fn what_cannot_be_read_alike_is_refused_with_its_line() {
    let directory = directory();
    let contexts = directory.path().join("file_contexts");
    for (text, expected) in [
        ("/a++ u:r:t\n", "line 1, column 4: unsupported repetition"),
        ("# comment\n/a(?=b) u:r:t\n", "line 2, column 3: unsupported group"),
        ("/a -x u:r:t\n", "line 1, column 4: unknown file type"),
        ("/a u:r:t\n/a -- u:r:other\n", "line 2: another label for the same path"),
        (r"/a\@b u:r:t", "line 1, column 3: unsupported escape"),
        ("/(a{65535}){65535} u:r:t\n", "line 1: "),
    ] {
        fs::write(&contexts, text).unwrap();
        let error = FileContexts::read(&contexts).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    let missing = directory.path().join("missing");
    let root = directory.path();
    let store = store(root, "p-256");
    let ran = run(args!["sign", "--evm", "--selinux-contexts", missing, "--keys", store, root]);
    assert!(ran.exits(2).stderr.contains("etc/selinux/targeted/contexts"));
}

/// A tree that the target labels, and its file contexts.
fn root(directory: &Path) -> Option<(PathBuf, PathBuf)> {
    if !security_attributes(directory) {
        return None;
    }
    let root = directory.join("root");
    write_tree(
        &root,
        &[
            ("etc/selinux/config", b"# comment\nSELINUX=enforcing\nSELINUXTYPE=targeted\n"),
            ("usr/bin/exact", b"a"),
            ("usr/bin/tool", b"b"),
            ("tmp/a", b"c"),
        ],
    );
    Some((root, write_contexts(directory)))
}

fn label(file: &Path) -> Option<Vec<u8>> {
    attribute(file, "security.selinux")
}

const EXACT: &[u8] = b"a_u:b_r:local_t\0";
const BIN: &[u8] = b"system_u:object_r:bin_t:s0\0";

#[test]
fn a_root_that_will_be_labelled_is_signed_with_its_labels() {
    let directory = directory();
    let Some((root, contexts)) = root(directory.path()) else { return };
    let store = store(directory.path(), "p-256");
    let sign = |options: &[&OsStr], root: &Path| {
        let args = args!["sign", "--evm", "--keys", store, root];
        run(args.into_iter().chain(options.iter().map(Into::into)))
    };
    let refused = sign(&[], &root).exits(2);
    assert!(refused.stderr.contains("no security.selinux: the target labels"), "{refused:?}");
    assert!(refused.stderr.contains("--selinux-contexts FILE"), "{refused:?}");
    sign(&["--allow-unlabeled".as_ref()], &root).exits(0);
    assert_eq!(label(&root.join("usr/bin/tool")), None);

    let with = ["--selinux-contexts".as_ref(), contexts.as_os_str()];
    sign(&with, &root).exits(0);
    assert_eq!(label(&root.join("usr/bin/exact")).as_deref(), Some(EXACT));
    assert_eq!(label(&root.join("usr/bin/tool")).as_deref(), Some(BIN));
    assert_eq!(label(&root.join("tmp/a")), None);
    run(args!["verify", "--evm", "--keys", store, root]).exits(0);
    if let Some(mut evmctl) = tool("evmctl") {
        let certificate = store.join("evm_keys/x509_evm.der");
        let verified =
            finish(evmctl.args(["verify", "-k"]).arg(certificate).arg(root.join("usr/bin/tool")));
        assert!((verified.stdout + &verified.stderr).contains("verification is OK"));
    }
    // unchanged, until a label changes
    let again = sign(&[with[0], with[1], "--changed".as_ref()], &root).exits(0);
    assert!(again.stdout.contains("signed 0 files, left 4 files unchanged"), "{again:?}");
    let tool = root.join("usr/bin/tool");
    set_attribute(&tool, "security.selinux", b"u:r:other\0");
    let again = sign(&[with[0], with[1], "--changed".as_ref()], &root).exits(0);
    assert!(again.stdout.contains("signed 1 file"), "{again:?}");
    assert_eq!(label(&tool).as_deref(), Some(BIN));

    // its path on the target is unknown
    let named = sign(&with, &tool).exits(2);
    assert!(named.stderr.contains("depends on its path"), "{named:?}");
    let link = directory.path().join("link");
    symlink(&root, &link).unwrap();
    sign(&with, &link.join(".")).exits(0);
}

/// The label is in the archive and in the image, and the same files as in the tree are signed.
#[test]
fn archives_and_images_get_the_labels() {
    let directory = directory();
    let Some((root, contexts)) = root(directory.path()) else { return };
    let (Some(mut tar), Some(mut mke2fs)) = (tool("tar"), tool("mke2fs")) else { return };
    let store = store(directory.path(), "p-256");
    let [archive, signed, image] =
        ["a.tar", "b.tar", "root.ext4"].map(|name| directory.path().join(name));
    finish(tar.arg("-cf").arg(&archive).arg("-C").arg(&root).arg(".")).exits(0);
    finish(
        mke2fs.args(["-q", "-F", "-t", "ext4", "-I", "512", "-d"]).arg(&root).arg(&image).arg("8M"),
    )
    .exits(0);
    let refused = run(args!["sign", "--evm", "--keys", store, image]).exits(2);
    assert!(refused.stderr.contains("no security.selinux"), "{refused:?}");
    let with = args!["sign", "--evm", "--selinux-contexts", contexts, "--keys", store];
    run(with.clone().into_iter().chain(args!["-o", signed, archive])).exits(0);
    run(with.into_iter().chain(args![image])).exits(0);
    run(args!["verify", "--evm", "--keys", store, signed]).exits(0);
    run(args!["verify", "--evm", "--keys", store, image]).exits(0);
    // read with GNU tar and debugfs
    let unpacked = directory.path().join("unpacked");
    unpack(&signed, &unpacked);
    assert_eq!(label(&unpacked.join("usr/bin/exact")).as_deref(), Some(EXACT));
    assert_eq!(label(&unpacked.join("tmp/a")), None);
    assert!(image_has_attribute(&image, "usr/bin/tool", "security.selinux", BIN));
}
