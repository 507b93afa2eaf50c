//! Manifests: the same from every container and from other tools, and compared with lists.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use ima_format::hex::Hex;
use serde_json::Value;

use crate::support::*;

/// A root with all kinds of names, a hard link, and a signed file if attributes can be set.
fn root(directory: &Path) -> PathBuf {
    let root = directory.join("root");
    let files: &[(&str, &[u8])] = &[
        ("usr/bin/program", b"program"),
        ("usr/bin/with space", b"space"),
        ("etc/empty", b""),
        ("etc/gr\u{fc}n", b"green"),
    ];
    write_tree(&root, files);
    let odd = std::ffi::OsStr::from_bytes(b"odd\xff");
    fs::write(root.join("etc").join(odd), b"odd").unwrap();
    fs::hard_link(root.join("usr/bin/program"), root.join("usr/bin/link")).unwrap();
    std::os::unix::fs::symlink("program", root.join("usr/bin/symbolic")).unwrap();
    root
}

fn create(arguments: &[&std::ffi::OsStr]) -> String {
    let mut command = imactl();
    finish(command.args(["manifest", "create"]).args(arguments)).exits(0).stdout
}

fn lines(manifest: &str) -> Vec<Value> {
    manifest.lines().skip(1).map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn every_container_has_the_same_manifest() {
    let (Some(mut tar), Some(mut mke2fs)) = (tool("tar"), tool("mke2fs")) else { return };
    let directory = directory();
    let directory = directory.path();
    let root = root(directory);
    if security_attributes(directory) {
        let keys = store(directory, "p-256");
        run(args!["sign", "-q", "--keys", keys, root.join("usr/bin/program")]).exits(0);
    }
    let archive = directory.join("root.tar");
    tar.args(["-c", "--xattrs", "--xattrs-include=security.*", "-C"]).arg(&root);
    finish(tar.arg("-f").arg(&archive).arg(".")).exits(0);
    let image = directory.join("root.ext4");
    mke2fs.args(["-q", "-F", "-t", "ext4", "-d"]).arg(&root).arg(&image).arg("8M");
    finish(&mut mke2fs).exits(0);

    let manifest = create(&[root.as_os_str()]);
    for other in [&archive, &image] {
        assert_eq!(create(&[other.as_os_str()]), manifest, "{}", other.display());
    }
    assert_eq!(create(&["-j1".as_ref(), root.as_os_str()]), manifest);
    let listed = lines(&manifest);
    assert_eq!(listed.len(), 6);
    // GNU coreutils as the reference
    for line in &listed {
        let path = match line["path_bytes"].as_str() {
            Some(bytes) => {
                let bytes = ima_format::hex::decode(bytes.as_bytes()).unwrap();
                PathBuf::from(std::ffi::OsStr::from_bytes(&bytes))
            }
            None => line["path"].as_str().unwrap().into(),
        };
        let file = root.join(path.strip_prefix("/").unwrap());
        let content = fs::File::open(&file).unwrap();
        let sum = finish(tool("sha256sum").unwrap().stdin(content)).exits(0).stdout;
        assert_eq!(line["digests"][0], format!("sha256:{}", &sum[..64]), "{line}");
        let stat = finish(tool("stat").unwrap().args(["-c", "%04a %u %g"]).arg(&file)).stdout;
        let ours = format!("{} {} {}", line["mode"].as_str().unwrap(), line["uid"], line["gid"]);
        assert_eq!(ours, stat.trim());
    }
    let signed = listed.iter().filter(|line| line["key_ids"].is_array()).count();
    assert!(signed == 2 || !security_attributes(directory), "the file and its hard link");
}

/// Compares mode and owner, too.
#[test]
fn disks_and_container_images_have_the_same_manifest() {
    let directory = directory();
    let directory = directory.path();
    let root = root(directory);
    for (name, mode) in [("usr/bin/program", 0o4755), ("etc/empty", 0o640)] {
        fs::set_permissions(root.join(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    let manifest = create(&[root.as_os_str()]);
    assert!(manifest.contains(r#""mode":"4755""#) && manifest.contains(r#""mode":"0640""#));

    let Some(mut mke2fs) = tool("mke2fs") else { return };
    let image = directory.join("root.ext4");
    mke2fs.args(["-q", "-F", "-t", "ext4", "-d"]).arg(&root).arg(&image).arg("8M");
    finish(&mut mke2fs).exits(0);
    let disk = directory.join("disk");
    let script = "label: gpt\nstart=1MiB, size=8MiB, name=a\nstart=9MiB, size=8MiB, name=b\n";
    let parts = [(1, &*image), (9, &*image)];
    if crate::disk::disk(&disk, script, &parts).is_some() {
        assert_eq!(create(&["--partition=b".as_ref(), disk.as_os_str()]), manifest);
        let said = run(args!["manifest", "create", disk]).exits(2).stderr;
        assert!(said.contains("--partition"), "{said}");
    }

    // a lower layer, in which a file has another mode and content
    let lower = directory.join("lower");
    write_tree(&lower, &[("etc/empty", b"not empty"), ("removed", b"")]);
    let marked = directory.join("root");
    fs::write(marked.join(".wh.removed"), b"").unwrap();
    let layout = crate::oci::Layout::new(&directory.join("layout"));
    let Some(layers) = [&lower, &marked].map(|layer| layout.layer(layer, "")).into_iter().collect()
    else {
        return;
    };
    let layers: Vec<_> = layers;
    layout.index(&[layout.image(&layers)]);
    let metadata = fs::metadata(&root).unwrap();
    let owner = |uid, gid| format!(r#""uid":{uid},"gid":{gid}"#);
    let expected = manifest.replace(&owner(metadata.uid(), metadata.gid()), &owner(0, 0));
    assert_eq!(create(&[layout.root.as_os_str()]), expected);
}

#[test]
fn manifests_are_merged_compared_and_based_on_each_other() {
    let directory = directory();
    let directory = directory.path();
    let root = root(directory);
    let (one, other, merged) =
        (directory.join("one"), directory.join("other"), directory.join("merged"));
    run(args!["manifest", "create", "-o", one, root]).exits(0);
    run(args!["manifest", "diff", one, one]).exits(0);
    fs::write(root.join("usr/bin/with space"), b"changed").unwrap();
    fs::write(root.join("usr/bin/new"), b"new").unwrap();
    fs::remove_file(root.join("etc/empty")).unwrap();
    run(args!["manifest", "create", "-o", other, root]).exits(0);
    let differences = run(args!["manifest", "diff", "--json", one, other]).exits(1).json();
    let found: Vec<_> = differences
        .iter()
        .map(|line| (line["path"].as_str().unwrap(), line["difference"].as_str().unwrap()))
        .collect();
    let expected =
        [("/etc/empty", "removed"), ("/usr/bin/new", "added"), ("/usr/bin/with space", "changed")];
    assert_eq!(found, expected);
    run(args!["manifest", "merge", "-o", merged, one, other]).exits(0);
    let text = fs::read_to_string(&merged).unwrap();
    assert_eq!(run(args!["manifest", "merge", other, merged]).exits(0).stdout, text);
    let both = lines(&text).into_iter().find(|line| line["path"] == "/usr/bin/with space").unwrap();
    assert_eq!(both["digests"].as_array().unwrap().len(), 2);
    // only new files
    let new = create(&["--base".as_ref(), one.as_os_str(), root.as_os_str()]);
    let paths: Vec<_> = lines(&new).iter().map(|line| line["path"].clone()).collect();
    assert_eq!(paths, ["/usr/bin/new", "/usr/bin/with space"]);
    // not a manifest
    for text in [
        "",
        "{}",
        "{\"type\":\"manifest\",\"version\":2}",
        "{\"type\":\"manifest\",\"version\":1}\n{\"path\":\"/a\",\"digests\":[\"sha256:00\"]}",
        "{\"type\":\"manifest\",\"version\":1}\n{\"path\":\"/a\",\"digests\":[]}\n\
         {\"path\":\"/a\",\"digests\":[]}",
    ] {
        fs::write(&one, text).unwrap();
        run(args!["manifest", "merge", one]).exits(2);
    }
}

/// Keylime's policy, parsed with Python.
#[test]
fn keylime_reads_the_digests_and_keys() {
    let directory = directory();
    let directory = directory.path();
    let root = root(directory);
    let keys = store(directory, "rsa-2048");
    let manifest = directory.join("manifest");
    run(args!["manifest", "create", "-o", manifest, root]).exits(0);
    let policy = directory.join("policy.json");
    let options = args![
        "manifest",
        "export",
        "--to",
        "keylime",
        "--keys",
        keys,
        "--excludes",
        "/tmp/.*",
        "-o",
        policy,
        manifest
    ];
    let said = run(options).exits(0).stderr;
    assert!(said.contains("left out: not UTF-8"), "{said}");
    let policy: Value = serde_json::from_slice(&fs::read(&policy).unwrap()).unwrap();
    let digests = policy["digests"].as_object().unwrap();
    assert_eq!(digests.len(), 5);
    let program = ima::digest::Hasher::new(ima::HashAlgorithm::Sha256).unwrap().digest(b"space");
    // as the kernel writes it in the list
    assert_eq!(
        digests["/usr/bin/with_space"][0],
        Hex(program.unwrap().as_bytes()).to_string().as_str()
    );
    assert_eq!(policy["meta"]["version"], 1);
    assert_eq!((&policy["ima"]["log_hash_alg"], &policy["release"]), (&"sha1".into(), &0.into()));
    let keyring: Value =
        serde_json::from_str(policy["verification-keys"].as_str().unwrap()).unwrap();
    // the same key as openssl writes it
    let mut openssl = tool("openssl").unwrap();
    openssl.args(["x509", "-inform", "DER", "-noout", "-pubkey", "-in"]);
    let pem = finish(openssl.arg(keys.join("ima_keys/x509_ima.der"))).exits(0).stdout;
    let base64: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    assert_eq!(keyring["pubkeys"], serde_json::json!([base64]));
    assert_eq!(keyring["keyids"].as_array().unwrap().len(), 1);
}

#[test]
fn cyclonedx_has_a_component_for_each_digest() {
    let directory = directory();
    let directory = directory.path();
    let root = root(directory);
    let (one, other) = (directory.join("one"), directory.join("other"));
    run(args!["manifest", "create", "-o", one, root]).exits(0);
    fs::write(root.join("usr/bin/with space"), b"changed").unwrap();
    run(args!["manifest", "create", "--hash", "sha512", "-o", other, root]).exits(0);
    let said = run(args!["manifest", "export", "--to", "cyclonedx", one, other]).exits(0);
    assert!(said.stderr.contains("left out: not UTF-8"), "{}", said.stderr);
    let bill = &said.json()[0];
    assert_eq!((&bill["bomFormat"], &bill["specVersion"]), (&"CycloneDX".into(), &"1.6".into()));
    let components = bill["components"].as_array().unwrap();
    assert_eq!(components.len(), 2 * 5);
    let space = components.iter().filter(|it| it["name"] == "/usr/bin/with space");
    let hashes: Vec<_> = space.map(|it| it["hashes"][0]["alg"].as_str().unwrap()).collect();
    assert_eq!(hashes, ["SHA-256", "SHA-512"]);
}

/// Packs the files that `find` finds in a tree as cpio, compressed by a program.
fn packed(root: &Path, find: &[&str], compressor: &[&str]) -> Option<Vec<u8>> {
    let found = finish(tool("find")?.arg(".").args(find).current_dir(root)).exits(0).stdout;
    // directories come first
    let mut names: Vec<_> = found.lines().collect();
    names.sort_unstable();
    let list = root.with_extension("names");
    fs::write(&list, names.join("\n")).unwrap();
    let mut cpio = tool("cpio")?;
    cpio.args(["--quiet", "-o", "-H", "newc"]).current_dir(root);
    let archive = cpio.stdin(fs::File::open(&list).unwrap()).output().unwrap();
    assert!(archive.status.success(), "{archive:?}");
    let Some((program, options)) = compressor.split_first() else { return Some(archive.stdout) };
    let (unpacked, mut compress) = (root.with_extension("cpio"), tool(program)?);
    fs::write(&unpacked, archive.stdout).unwrap();
    let output = compress.args(options).stdin(fs::File::open(&unpacked).unwrap()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    Some(output.stdout)
}

#[test]
fn an_initramfs_is_what_the_kernel_unpacks() {
    let directory = directory();
    let directory = directory.path();
    let [first, second, whole] = ["first", "second", "whole"].map(|name| directory.join(name));
    write_tree(&first, &[("usr/bin/tool", b"old"), ("usr/bin/other", b"other"), ("init", b"init")]);
    std::os::unix::fs::symlink("usr/bin", first.join("bin")).unwrap();
    fs::hard_link(first.join("init"), first.join("usr/bin/again")).unwrap();
    // through the link of the first archive
    write_tree(&second, &[("bin/tool", b"new"), ("usr/with space", b"space")]);
    write_tree(
        &whole,
        &[
            ("usr/bin/tool", b"new"),
            ("usr/bin/other", b"other"),
            ("init", b"init"),
            ("usr/bin/again", b"init"),
            ("usr/with space", b"space"),
        ],
    );
    let digests = |manifest: &str| -> Vec<_> {
        let line = |line: &Value| (line["path"].to_string(), line["digests"].to_string());
        lines(manifest).iter().map(line).collect()
    };
    let expected = digests(&create(&[whole.as_os_str()]));
    let compressors: [&[&str]; 5] =
        [&[], &["gzip", "-c"], &["zstd", "-qc"], &["xz", "-c"], &["bzip2", "-c"]];
    let (microcode, image) = (directory.join("microcode"), directory.join("initramfs.img"));
    fs::create_dir(&microcode).unwrap();
    for compressor in compressors {
        let Some(early) = packed(&microcode, &[], &[]) else { return };
        let Some(one) = packed(&first, &[], compressor) else { return };
        // an entry for the directory bin would replace the link
        let Some(other) = packed(&second, &["-type", "f"], compressor) else { return };
        let aligned = |mut bytes: Vec<u8>| {
            bytes.resize(bytes.len().next_multiple_of(512), 0);
            bytes
        };
        fs::write(&image, [aligned(early), aligned(one.clone()), other].concat()).unwrap();
        let made = create(&["--initramfs".as_ref(), image.as_os_str()]);
        assert_eq!(digests(&made), expected, "{compressor:?}");
        // a truncated archive is an error, not a shorter manifest
        let trailer = one.windows(7).position(|bytes| bytes == b"TRAILER");
        let cut = trailer.map_or(one.len() * 2 / 3, |at| at - 50);
        fs::write(&image, &one[..cut]).unwrap();
        let cut = run(args!["manifest", "create", "--initramfs", image]).exits(2);
        assert!(cut.stderr.contains("archive 1"), "{compressor:?}: {}", cut.stderr);
    }
    fs::write(&image, b"no archive").unwrap();
    let ran = run(args!["manifest", "create", "--initramfs", image]).exits(2);
    assert!(ran.stderr.contains("not cpio (newc)"), "{}", ran.stderr);
}
