//! Containers are detected from content; a file that is named like a container but is not one is refused.

use std::fs;
use std::process::Stdio;

use crate::support::*;

/// The output of `program` for `content`.
fn packed(program: &str, content: &[u8]) -> Option<Vec<u8>> {
    use std::io::Write;
    let mut command = tool(program)?;
    let mut child = command.arg("-c").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(content).unwrap();
    Some(child.wait_with_output().unwrap().stdout)
}

#[test]
fn what_is_called_a_container_and_is_none_is_refused_with_a_reason() {
    let directory = directory();
    let keys = store(directory.path(), "p-256");
    let noise: Vec<u8> = (0..3_000_u32).map(|number| (number * 7 % 251) as u8).collect();
    let mut ext = vec![0; 4096];
    (ext[1024], ext[1028], ext[1024 + 24], ext[1024 + 76]) = (16, 64, 2, 1);
    ext[1024 + 56..1024 + 58].copy_from_slice(&[0x53, 0xef]);
    let gzip = packed("gzip", &ext).unwrap();
    let cpio = [&b"070701"[..], &[b'0'; 104]].concat();
    let lz4 = [&[0x04, 0x22, 0x4d, 0x18][..], &noise].concat();
    let deb = [&b"!<arch>\ndebian-binary   1342943816  0     0     100644  4"[..], &noise].concat();
    for (name, content, said) in [
        ("disk.wic", &noise, "file name says an image"),
        ("disk.raw", &noise, "file name says an image"),
        ("broken.tar", &noise, "file name says a tar archive, but its content is not one"),
        ("broken.img", &noise, "file system or disk, but its content is not one"),
        ("broken.SQUASHFS", &noise, "file name says an image"),
        ("zeros.img", &vec![0; 4096], "file name says an image"),
        ("empty.tar", &Vec::new(), "file name says a tar archive"),
        ("a.tar.lz4", &lz4, "compressed by lz4"),
        ("e.ext4.gz", &gzip, "an image of a file system or disk, compressed by gzip"),
        ("cut.tgz", &gzip[..10].to_vec(), "compressed by gzip, and does not unpack"),
        ("i.cpio", &cpio, "a cpio archive"),
        ("initrd.img", &cpio, "a cpio archive"),
        ("p.rpm", &noise, "file name says an RPM package"),
        ("p.deb", &deb, "a Debian or opkg package"),
    ] {
        let path = directory.path().join(name);
        fs::write(&path, content).unwrap();
        for verb in ["sign", "verify", "inspect", "clear"] {
            let keys = args!["--keys", keys];
            let keys = keys.into_iter().filter(|_| matches!(verb, "sign" | "verify"));
            let refused = run(args![verb, path].into_iter().chain(keys)).exits(2);
            assert!(refused.stderr.contains(said), "{verb} {name}: {}", refused.stderr);
            assert!(refused.stderr.contains("--kind tree"), "{verb} {name}: {}", refused.stderr);
        }
        assert_eq!(&fs::read(&path).unwrap(), content);
    }
    // in a tree they are plain files
    run(args!["sign", "--detached", "--keys", keys, directory.path()]).exits(0);
    assert!(directory.path().join("disk.wic.sig").exists());
    let disk = directory.path().join("disk.wic");
    run(args!["verify", "--kind", "tree", "--detached", "--keys", keys, disk]).exits(0);
}

#[test]
fn blocks_of_zeros_are_an_empty_archive() {
    let directory = directory();
    let keys = store(directory.path(), "p-256");
    let zeros = vec![0; 10_240];
    for (name, content) in [("a.tar", zeros.clone()), ("a.tar.gz", packed("gzip", &zeros).unwrap())]
    {
        let path = directory.path().join(name);
        fs::write(&path, content).unwrap();
        let signed = run(args!["sign", "--json", "--keys", keys, path]).exits(0);
        assert_eq!(signed.json()[0]["signed"], 0, "{name}");
        run(args!["verify", "--allow-empty", "--keys", keys, path]).exits(0);
    }
    assert!(fs::read(directory.path().join("a.tar")).unwrap() == zeros);
}

#[test]
fn what_cannot_be_done_is_told_with_what_to_do() {
    let directory = directory();
    let keys = store(directory.path(), "p-256");
    let package =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/rpm/format_4.rpm");
    let refused = run(args!["sign", "--keys", keys, "-o", "x.rpm", package]).exits(2);
    assert!(refused.stderr.contains("hint: --output-dir DIR"), "{}", refused.stderr);
    let mut streamed = imactl();
    streamed.args(args!["verify", "--keys", keys, "-"]).stdin(fs::File::open(&package).unwrap());
    let refused = finish(&mut streamed).exits(2);
    assert!(refused.stderr.contains("-: an RPM package, not a tar archive"), "{}", refused.stderr);
    assert!(refused.stderr.contains("cannot be streamed"), "{}", refused.stderr);
    let missing = run(args!["verify", "--cert", directory.path().join("no"), package]).exits(2);
    assert_eq!(missing.stderr.matches("No such file").count(), 1, "{}", missing.stderr);
}

/// Archives inside a container are not its files: their signatures protect no program.
#[test]
fn a_container_of_archives_is_refused() {
    let directory = directory();
    let keys = store(directory.path(), "p-256");
    let layout = br#"{"imageLayoutVersion":"1.0.0"}"#;
    let saved = br#"[{"Config":"c.json","RepoTags":["a:1"],"Layers":["1/layer.tar"]}]"#;
    let hex = "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae";
    let file = "objects/2c/26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae.file";
    let blob = "blobs/sha256/2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae";
    for (name, files, said) in [
        ("oci", &[(blob, &b"foo"[..]), ("oci-layout", layout)][..], "an OCI image layout"),
        ("save", &[("1/layer.tar", b"foo"), ("manifest.json", saved)], "image of docker save"),
        ("dir", &[("version", b"Directory Transport Version: 1.1\n"), (hex, b"foo")], "skopeo"),
        (
            "repo",
            &[("config", b"[core]\nrepo_version=1\n"), (file, b"foo")],
            "an ostree repository",
        ),
        ("ipk", &[("data.tar.gz", b"foo"), ("debian-binary", b"2.0\n")], "an opkg package"),
    ] {
        let path = directory.path().join(name);
        write_tree(&path, files);
        for archive in [None, Some("tar"), Some("tar.gz")] {
            let path = match archive {
                None => path.clone(),
                Some(end) => {
                    let archive = path.with_extension(end);
                    let Some(mut tar) = tool("tar") else { continue };
                    finish(tar.arg("-caf").arg(&archive).arg("-C").arg(&path).arg(".")).exits(0);
                    archive
                }
            };
            let before = archive.map(|_| fs::read(&path).unwrap());
            for verb in ["sign", "verify", "inspect", "clear"] {
                let keys = args!["--keys", keys];
                let keys = keys.into_iter().filter(|_| matches!(verb, "sign" | "verify"));
                let kind = args!["--kind", "tar"].into_iter().filter(|_| archive.is_some());
                let words = args![verb, path].into_iter().chain(kind).chain(keys);
                let refused = run(words).exits(2);
                let Run { stdout, stderr, .. } = refused;
                assert!(stderr.contains(said) && stderr.contains("hint: "), "{verb}: {stderr}");
                assert!(!stdout.contains("\nvalid"), "{verb}: {stdout}");
            }
            let words = args!["preflight", path, "--keys", keys, "--policy", "default:appraise"];
            let Run { stderr, .. } = run(words).exits(2);
            // in its right form it would be an image; these lack the documents of that form
            let is_said = stderr.contains(said) || stderr.contains(".json is missing");
            assert!(is_said, "preflight: {stderr}");
            assert_eq!(before, archive.map(|_| fs::read(&path).unwrap()));
        }
        // files read only by the user's own programs may be signed as their detected kind
        if security_attributes(directory.path()) {
            run(args!["sign", "--kind", "tree", "--keys", keys, path]).exits(0);
        }
    }
}
