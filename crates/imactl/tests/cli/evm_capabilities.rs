//! `sign --evm --capabilities`: capabilities that the target's package manager sets later.

use std::fs;
use std::path::{Path, PathBuf};

use crate::evm::CAPABILITY;
use crate::support::*;

const LIST: &str =
    "# getcap -r /\n/usr/bin/ping cap_net_raw=ep\n/usr/bin/more cap_setuid,cap_bpf=p\n";
/// As OpenEmbedded writes it into images (`pkg_postinst_ontarget`).
const SCRIPT: &[u8] = b"#!/bin/sh\nset -e\nif [ -n \"$D\" ]; then exit 1; fi\n\
    /usr/sbin/setcap cap_net_raw=ep /usr/bin/ping\n";

/// A tree, and a list of capabilities.
fn root(directory: &Path) -> Option<(PathBuf, PathBuf)> {
    if !security_attributes(directory) {
        return None;
    }
    let (root, list) = (directory.join("root"), directory.join("list"));
    let files: [(&str, &[u8]); 3] =
        [("usr/bin/ping", b"a"), ("usr/bin/more", b"b"), ("usr/bin/other", b"c")];
    write_tree(&root, &files);
    set_attribute(&root.join("usr/bin/other"), "security.capability", CAPABILITY);
    fs::write(&list, LIST).unwrap();
    Some((root, list))
}

fn capability(root: &Path, name: &str) -> Option<Vec<u8>> {
    attribute(&root.join("usr/bin").join(name), "security.capability")
}

#[test]
fn capabilities_of_a_list_are_set_and_signed() {
    let directory = directory();
    let Some((root, list)) = root(directory.path()) else { return };
    let store = store(directory.path(), "p-256");
    let sign = args!["sign", "--evm", "--capabilities", list, "--keys", store, root];
    let signed = run(sign.clone()).exits(0);
    assert!(!signed.stderr.contains("--capabilities"), "{signed:?}");
    run(args!["verify", "--evm", "--keys", store, root]).exits(0);
    assert_eq!(capability(&root, "ping").as_deref(), Some(CAPABILITY));
    // not in the list
    assert_eq!(capability(&root, "other").as_deref(), Some(CAPABILITY));
    if let (Some(mut getcap), Some(mut setcap)) = (tool("getcap"), tool("setcap")) {
        let [ping, more] = ["ping", "more"].map(|name| root.join("usr/bin").join(name));
        let shown = finish(getcap.arg(&ping).arg(&more)).exits(0).stdout;
        assert!(shown.contains("ping cap_net_raw=ep\n"), "{shown}");
        // the same bytes, so that the target finds nothing to change
        finish(setcap.arg("cap_setuid,cap_bpf=p").arg(&more)).exits(0);
        run(args!["verify", "--evm", "--keys", store, root]).exits(0);
    }
    let again = run(sign.iter().cloned().chain(args!["--changed"])).exits(0);
    assert!(again.stdout.contains("signed 0 files, left 3 files unchanged"), "{again:?}");

    fs::write(&list, "/bin/ping cap_net_raw=ep\n").unwrap();
    let signed = run(sign.clone()).exits(0);
    assert!(signed.stderr.contains("/bin/ping: in --capabilities, but no file"), "{signed:?}");
    fs::write(&list, "\n/usr/bin/ping all=ep\n").unwrap();
    let refused = run(sign).exits(2);
    assert!(refused.stderr.contains("line 2: all=ep: not capabilities by name"), "{refused:?}");
    let ping = root.join("usr/bin/ping");
    fs::write(&list, LIST).unwrap();
    let named = run(args!["sign", "--evm", "--capabilities", list, "--keys", store, ping]).exits(2);
    assert!(named.stderr.contains("depends on its path"), "{named:?}");
}

#[test]
fn archives_and_images_get_the_capabilities() {
    let directory = directory();
    let Some((root, list)) = root(directory.path()) else { return };
    let (Some(mut tar), Some(mut mke2fs)) = (tool("tar"), tool("mke2fs")) else { return };
    let store = store(directory.path(), "p-256");
    let [archive, signed, image] =
        ["a.tar", "b.tar", "root.ext4"].map(|name| directory.path().join(name));
    fs::hard_link(root.join("usr/bin/ping"), root.join("usr/bin/second")).unwrap();
    finish(tar.arg("-cf").arg(&archive).arg("-C").arg(&root).arg(".")).exits(0);
    finish(mke2fs.args(["-q", "-F", "-t", "ext4", "-d"]).arg(&root).arg(&image).arg("8M")).exits(0);
    let with = args!["sign", "--evm", "--capabilities", list, "--keys", store];
    run(with.clone().into_iter().chain(args!["-o", signed, archive])).exits(0);
    run(with.into_iter().chain(args![image])).exits(0);
    run(args!["verify", "--evm", "--keys", store, signed]).exits(0);
    run(args!["verify", "--evm", "--keys", store, image]).exits(0);
    // read with GNU tar and debugfs
    let unpacked = directory.path().join("unpacked");
    unpack(&signed, &unpacked);
    assert_eq!(capability(&unpacked, "ping").as_deref(), Some(CAPABILITY));
    run(args!["verify", "--evm", "--keys", store, unpacked]).exits(0);
    assert!(image_has_attribute(&image, "usr/bin/ping", "security.capability", CAPABILITY));
}

#[test]
fn a_root_that_sets_capabilities_at_its_first_boot_is_refused() {
    let directory = directory();
    let Some((root, list)) = root(directory.path()) else { return };
    let Some(mut mke2fs) = tool("mke2fs") else { return };
    let (store, image) = (store(directory.path(), "p-256"), directory.path().join("root.ext4"));
    let (scripts, empty) = (root.join("etc/rpm-postinsts"), directory.path().join("empty"));
    fs::write(&empty, "").unwrap();
    fs::create_dir_all(&scripts).unwrap();
    fs::write(scripts.join("100-other"), "echo my-setcap setcapable\n").unwrap();
    run(args!["sign", "--evm", "--keys", store, root]).exits(0);
    fs::write(scripts.join("101-iputils-ping"), SCRIPT).unwrap();
    finish(mke2fs.args(["-q", "-F", "-t", "ext4", "-d"]).arg(&root).arg(&image).arg("8M")).exits(0);
    for input in [&root, &image] {
        let refused = run(args!["sign", "--evm", "--keys", store, input]).exits(2);
        let reason = "/etc/rpm-postinsts/101-iputils-ping: calls setcap at the first boot";
        assert!(refused.stderr.contains(reason), "{refused:?}");
        assert!(refused.stderr.contains("give --capabilities FILE"), "{refused:?}");
        run(args!["sign", "--keys", store, input]).exits(0);
        for list in [&list, &empty] {
            run(args!["sign", "--evm", "--capabilities", list, "--keys", store, input]).exits(0);
        }
    }
}
