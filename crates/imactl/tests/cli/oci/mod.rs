//! Container images, as other programs read them before and after signing.

mod layout;
mod refused;

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{json, Value};

use crate::support::*;
pub(crate) use layout::Layout;
use layout::*;

/// An image with two layers; the upper one removes a file of the lower one.
struct Made {
    directory: tempfile::TempDir,
    keys: PathBuf,
    layout: Layout,
    layers: [Layer; 2],
}

impl Made {
    fn new(compression: &str) -> Option<Self> {
        let directory = directory();
        let keys = store(directory.path(), "rsa-2048");
        let (lower, upper) = (directory.path().join("lower"), directory.path().join("upper"));
        write_tree(
            &lower,
            &[
                ("bin/program", b"\x7fELF and so on"),
                ("bin/gone", b"#!/bin/sh\n"),
                ("etc/hosts", b"localhost"),
                ("srv/old", b"old"),
            ],
        );
        fs::hard_link(lower.join("bin/program"), lower.join("bin/second-name")).unwrap();
        write_tree(
            &upper,
            &[
                ("bin/.wh.gone", b""),
                ("etc/new", b"new"),
                ("srv/.wh..wh..opq", b""),
                ("srv/new", b"new"),
            ],
        );
        let layout = Layout::new(&directory.path().join("layout"));
        let layers = [layout.layer(&lower, compression)?, layout.layer(&upper, compression)?];
        let mut image = layout.image(&layers);
        image["annotations"] = json!({"org.opencontainers.image.ref.name": "a"});
        layout.index(&[image]);
        Some(Self { directory, keys, layout, layers })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The image of the layout in another form; `None` without skopeo.
    fn copy(&self, to: &str) -> Option<()> {
        let from = format!("oci:{}:a", self.layout.root.display());
        skopeo(&[&from, &format!("{to}:a")])
    }
}

/// Runs skopeo, which verifies every digest that it copies.
fn skopeo(arguments: &[&str]) -> Option<()> {
    let mut skopeo = tool("skopeo")?;
    skopeo.args(["--insecure-policy", "copy", "--quiet"]).args(arguments);
    finish(&mut skopeo).exits(0);
    Some(())
}

const FILES: usize = 6;

#[test]
fn images_in_all_forms_are_signed_and_accepted_by_skopeo() {
    let Some(made) = Made::new("gzip") else { return };
    let path = |name: &str| made.path(name).display().to_string();
    let forms =
        [("oci", "copy"), ("oci-archive", "image.oci.tar"), ("docker-archive", "image.tar")];
    for (transport, name) in forms {
        let target = path(name);
        if made.copy(&format!("{transport}:{target}")).is_none() {
            return;
        }
        let signed = run(args!["sign", "--json", "--keys", made.keys, target]).exits(0);
        assert_eq!(signed.json().pop().unwrap()["signed"], FILES, "{}", signed.stdout);
        let verified = run(args!["verify", "--json", "--keys", made.keys, target]).exits(0);
        assert_eq!(verified.json().pop().unwrap()["valid"], FILES, "{}", verified.stdout);
        assert!(!verified.stdout.contains(".wh."), "{}", verified.stdout);
        skopeo(&[&format!("{transport}:{target}:a"), &format!("dir:{target}.dir")]);
        // signing again changes nothing
        let before = names(made.directory.path());
        let again = run(args!["sign", "--changed", "--keys", made.keys, target]).exits(0);
        assert!(again.stdout.contains("signed 0 files"), "{}", again.stdout);
        assert_eq!(names(made.directory.path()), before);
    }
    // the layers of an archive in another form are those of the layout
    let manifest = |form: &str| fs::read(made.path(form).join("manifest.json")).unwrap();
    assert_eq!(manifest("copy.dir"), manifest("image.oci.tar.dir"));
}

#[test]
fn a_compressed_archive_is_compressed_again_and_written_elsewhere() {
    let Some(made) = Made::new("gzip") else { return };
    let archive = made.path("image.tar");
    let mut tar = tool("tar").unwrap();
    finish(tar.arg("-cf").arg(&archive).arg("-C").arg(&made.layout.root).arg(".")).exits(0);
    finish(tool("gzip").unwrap().arg(&archive)).exits(0);
    let (packed, elsewhere) = (made.path("image.tar.gz"), made.path("signed.tar"));
    let before = fs::read(&packed).unwrap();
    run(args!["sign", "--keys", made.keys, "-o", elsewhere, packed]).exits(0);
    assert!(fs::read(&packed).unwrap() == before);
    run(args!["verify", "--keys", made.keys, elsewhere]).exits(0);
    run(args!["sign", "--dry-run", "--keys", made.keys, packed]).exits(0);
    assert!(fs::read(&packed).unwrap() == before);
    run(args!["sign", "--keys", made.keys, packed]).exits(0);
    assert!(fs::read(&packed).unwrap().starts_with(&[0x1f, 0x8b]));
    run(args!["verify", "--keys", made.keys, packed]).exits(0);
    skopeo(&[
        &format!("oci-archive:{}", elsewhere.display()),
        &format!("dir:{}", made.path("d").display()),
    ]);
    // members that are not blobs stay, in the same order
    let list = |archive: &Path| {
        let mut tar = tool("tar").unwrap();
        finish(tar.arg("-tvf").arg(archive)).stdout
    };
    let kinds = |list: String| list.lines().map(|line| line[..10].to_owned()).collect::<Vec<_>>();
    assert_eq!(kinds(list(&packed)), kinds(list(&elsewhere)));
}

#[test]
fn unpacking_as_root_restores_the_attributes() {
    for compression in ["gzip", "zstd", ""] {
        let Some(made) = Made::new(compression) else { return };
        if !security_attributes(made.directory.path()) {
            return;
        }
        run(args!["sign", "--keys", made.keys, made.layout.root]).exits(0);
        let root = match compression {
            // Debian 12's umoci does not support zstd
            "zstd" => {
                let to = format!("oci:{}:a", made.path("other").display());
                let from = format!("oci:{}:a", made.layout.root.display());
                let gzip = ["--dest-compress", "--dest-compress-format", "gzip", &from, &to];
                let Some(()) = skopeo(&gzip) else { return };
                made.path("other")
            }
            _ => made.layout.root.clone(),
        };
        let Some(mut umoci) = tool("umoci") else { return };
        let image = format!("{}:a", root.display());
        let bundle = made.path("bundle");
        finish(umoci.args(["unpack", "--image", &image]).arg(&bundle)).exits(0);
        let unpacked = bundle.join("rootfs");
        assert!(!unpacked.join("bin/gone").exists() && !unpacked.join("srv/old").exists());
        assert!(security_ima(&unpacked.join("bin/second-name")).is_some());
        let verified = run(args!["verify", "--keys", made.keys, unpacked]).exits(0);
        assert!(verified.stdout.ends_with("4 files valid\n"), "{}", verified.stdout);
    }
}

#[test]
fn only_layers_that_change_are_written_and_documents_keep_what_is_unknown() {
    let Some(made) = Made::new("gzip") else { return };
    let before = made.layout.content();
    let [image] = &made.layout.manifests()[..] else { panic!("one image") };
    let manifest = made.layout.json(image);
    let signed = run(args!["sign", "-n", "--keys", made.keys, made.layout.root]).exits(0);
    assert!(signed.stdout.contains("would sign 6 files"), "{}", signed.stdout);
    assert_eq!(made.layout.content(), before);
    run(args!["sign", "--include", "etc/new", "--keys", made.keys, made.layout.root]).exits(0);
    let [new] = &made.layout.manifests()[..] else { panic!("one image") };
    assert_eq!(new["annotations"], image["annotations"]);
    let changed = made.layout.json(new);
    assert_eq!(changed["annotations"], manifest["annotations"]);
    assert_eq!(changed["layers"][0], manifest["layers"][0]);
    assert_ne!(changed["layers"][1]["digest"], manifest["layers"][1]["digest"]);
    assert_eq!(changed["layers"][1]["mediaType"], manifest["layers"][1]["mediaType"]);
    // only one digest in the configuration changed
    let config = |manifest: &Value| {
        let hex = manifest["config"]["digest"].as_str().unwrap().replace("sha256:", "");
        fs::read_to_string(made.layout.root.join("blobs/sha256").join(hex)).unwrap()
    };
    let old = &made.layers[1].diff_id;
    let found = made.layout.json(&changed["config"]);
    let new = found["rootfs"]["diff_ids"][1].as_str().unwrap();
    let (_, text) = before
        .iter()
        .find(|(name, _)| {
            name.ends_with(&manifest["config"]["digest"].as_str().unwrap()["sha256:".len()..])
        })
        .unwrap();
    assert_eq!(config(&changed), String::from_utf8_lossy(text).replace(old, new));
    // after clear it is the original configuration
    run(args!["clear", made.layout.root]).exits(0);
    let [cleared] = &made.layout.manifests()[..] else { panic!("one image") };
    assert_eq!(made.layout.json(cleared)["config"], manifest["config"]);
    assert_eq!(made.layout.content().len(), before.len());
}

#[test]
fn a_layer_of_several_platforms_is_signed_once_and_attestations_are_left_alone() {
    let Some(made) = Made::new("gzip") else { return };
    let [lower, upper] = made.layers.clone();
    let layout = &made.layout;
    let one = layout.image(&[lower.clone(), upper]);
    let other = layout.image(&[lower]);
    let statement = layout.blob("application/vnd.in-toto+json", b"{}");
    let attestation = layout
        .image(&[Layer { descriptor: statement, diff_id: one["digest"].as_str().unwrap().into() }]);
    let absent = json!({"mediaType": MANIFEST, "digest": format!("sha256:{}", sha256(b"absent")), "size": 6});
    let inner = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [one, other, attestation, absent]});
    let mut inner = layout.blob(INDEX, &serde_json::to_vec(&inner).unwrap());
    inner["annotations"] = json!({"org.opencontainers.image.ref.name": "a"});
    layout.index(&[inner]);
    layout.blob("", b"of an image that was removed");
    let signed = run(args!["sign", "-v", "--keys", made.keys, layout.root]).exits(0);
    assert!(signed.stdout.contains("signed 6 files"), "{}", signed.stdout);
    assert_eq!(signed.stdout.matches("etc/hosts").count(), 1, "{}", signed.stdout);
    for left in [
        "(signature, SBOM, attestation)",
        "not in this layout",
        "blobs 1: mentioned by no manifest",
    ] {
        assert!(signed.stdout.contains(left), "{left}: {}", signed.stdout);
    }
    run(args!["verify", "--keys", made.keys, layout.root]).exits(0);
    let [index] = &layout.manifests()[..] else { panic!("one index") };
    let manifests = layout.json(index)["manifests"].as_array().unwrap().clone();
    let [one, other] = [&manifests[0], &manifests[1]].map(|it| layout.json(it));
    assert_eq!(one["layers"][0], other["layers"][0]);
    assert_eq!((&manifests[2], &manifests[3]), (&attestation, &absent));
    layout.json(&manifests[2]);
}

/// The form of docker 25 and newer: a layout, and a list of its images.
#[test]
fn both_lists_of_an_archive_of_docker_agree() {
    let Some(made) = Made::new("") else { return };
    let [image] = &made.layout.manifests()[..] else { panic!("one image") };
    let manifest = made.layout.json(image);
    let path = |descriptor: &Value| {
        format!("blobs/{}", descriptor["digest"].as_str().unwrap().replace(':', "/"))
    };
    let layers: Vec<_> = made.layers.iter().map(|layer| path(&layer.descriptor)).collect();
    let sources: serde_json::Map<String, Value> =
        made.layers.iter().map(|layer| (layer.diff_id.clone(), layer.descriptor.clone())).collect();
    let saved = json!([{"Config": path(&manifest["config"]), "RepoTags": ["a:a"], "Layers": layers, "LayerSources": sources}]);
    fs::write(made.layout.root.join("manifest.json"), saved.to_string()).unwrap();
    let refused = run(args!["sign", "--keys", made.keys, made.layout.root]).exits(2);
    assert!(refused.stderr.contains("both index.json and manifest.json"), "{}", refused.stderr);
    let archive = made.path("saved.tar");
    let mut tar = tool("tar").unwrap();
    finish(tar.arg("-cf").arg(&archive).arg("-C").arg(&made.layout.root).arg(".")).exits(0);
    run(args!["sign", "--keys", made.keys, archive]).exits(0);
    let verified = run(args!["verify", "--keys", made.keys, archive]).exits(0);
    assert!(verified.stdout.contains("6 files valid"), "{}", verified.stdout);
    let unpacked = made.path("unpacked");
    fs::create_dir(&unpacked).unwrap();
    finish(tool("tar").unwrap().arg("-xf").arg(&archive).arg("-C").arg(&unpacked)).exits(0);
    let layout = Layout { root: unpacked };
    let manifest = layout.json(&layout.manifests()[0]);
    let saved = fs::read(layout.root.join("manifest.json")).unwrap();
    let saved: Value = serde_json::from_slice(&saved).unwrap();
    assert_eq!(saved[0]["Config"], path(&manifest["config"]));
    assert_eq!(saved[0]["RepoTags"], json!(["a:a"]));
    let config = layout.json(&manifest["config"]);
    for (number, layer) in manifest["layers"].as_array().unwrap().iter().enumerate() {
        assert_eq!(saved[0]["Layers"][number], path(layer));
        assert_eq!(config["rootfs"]["diff_ids"][number], layer["digest"]);
        let source = &saved[0]["LayerSources"][layer["digest"].as_str().unwrap()];
        assert_eq!(source["digest"], layer["digest"]);
    }
    skopeo(&[
        &format!("docker-archive:{}", archive.display()),
        &format!("dir:{}", made.path("d").display()),
    ]);
}

#[test]
fn an_upper_layer_writes_through_links_of_lower_ones() {
    let Some(made) = Made::new("gzip") else { return };
    let (base, upper) = (made.path("base"), made.path("through"));
    write_tree(&base, &[("usr/lib/a", b"a"), ("usr/lib/b", b"b"), ("opt/c", b"c")]);
    std::os::unix::fs::symlink("usr/lib", base.join("lib")).unwrap();
    std::os::unix::fs::symlink("lib", base.join("lib64")).unwrap();
    write_tree(&upper, &[("lib64/new", b"new"), ("lib64/.wh.b", b""), ("opt/.wh.c", b"")]);
    let Some(base) = made.layout.layer(&base, "gzip") else { return };
    let mut tar = tool("tar").unwrap();
    // the archive has no members for directories
    let tar = tar.arg("-cC").arg(&upper).args(["lib64/new", "lib64/.wh.b", "opt/.wh.c"]);
    let tar = tar.output().unwrap().stdout;
    let through = Layer {
        descriptor: made.layout.blob(LAYER, &tar),
        diff_id: format!("sha256:{}", sha256(&tar)),
    };
    let mut image = made.layout.image(&[base, through]);
    image["annotations"] = json!({"org.opencontainers.image.ref.name": "a"});
    made.layout.index(&[image]);
    let manifest = run(args!["manifest", "create", made.layout.root]).exits(0);
    let paths: Vec<_> = manifest
        .json()
        .into_iter()
        .filter_map(|line| Some(line.get("path")?.as_str()?.to_owned()))
        .collect();
    assert_eq!(paths, ["/usr/lib/a", "/usr/lib/new"]);
    let Some(mut umoci) = tool("umoci") else { return };
    let bundle = made.path("bundle");
    let image = format!("{}:a", made.layout.root.display());
    umoci.args(["unpack", "--rootless", "--image", &image]).arg(&bundle);
    finish(&mut umoci).exits(0);
    assert_eq!(names(&bundle.join("rootfs/usr/lib")), ["a", "new"]);
    assert_eq!(names(&bundle.join("rootfs/opt")), [""; 0]);
}

#[test]
fn holes_of_all_layers_are_counted_together() {
    let directory = directory();
    let keys = store(directory.path(), "p-256");
    let layout = Layout::new(&directory.path().join("image"));
    let layers = ["one", "other"].map(|name| {
        let root = directory.path().join(name);
        fs::create_dir(&root).unwrap();
        fs::File::create(root.join(name)).unwrap().set_len(1 << 20).unwrap();
        layout.sparse_layer(&root)
    });
    let [Some(one), Some(other)] = layers else { return };
    layout.index(&[layout.image(&[one, other])]);
    let sign = |limit: &str| {
        run(args!["sign", "--keys", keys, "--max-sparse", limit, layout.root.clone()])
    };
    let refused = sign("2047k").exits(2).stderr;
    let said = "other: sparse file has 1048576 bytes of holes; 1047552 remain of the --max-sparse";
    assert!(refused.contains(said), "{refused}");
    assert!(sign("2M").exits(0).stdout.starts_with("signed 2 files"));
}

#[test]
fn a_configuration_that_is_not_named_by_its_digest_keeps_its_name() {
    let directory = directory();
    let keys = store(directory.path(), "p-256");
    let root = directory.path().join("root");
    write_tree(&root, &[("etc/hosts", b"127.0.0.1 localhost\n")]);
    let (layout, saved) =
        (Layout::new(&directory.path().join("image")), directory.path().join("saved"));
    let Some(layer) = layout.layer(&root, "") else { return };
    write_tree(&saved, &[("layer.tar", &layout.bytes(&layer.descriptor))]);
    let config = json!({"rootfs": {"type": "layers", "diff_ids": [layer.diff_id]}});
    fs::write(saved.join("config.json"), config.to_string()).unwrap();
    let list = json!([{"Config": "config.json", "RepoTags": null, "Layers": ["layer.tar"]}]);
    fs::write(saved.join("manifest.json"), list.to_string()).unwrap();
    let archive = directory.path().join("saved.tar");
    let Some(mut tar) = tool("tar") else { return };
    finish(tar.arg("-cf").arg(&archive).arg("-C").arg(&saved).args(names(&saved))).exits(0);

    run(args!["sign", "--kind", "oci", "--keys", keys, archive]).exits(0);
    run(args!["verify", "--kind", "oci", "--keys", keys, archive]).exits(0);
    finish(tool("tar").unwrap().arg("-xf").arg(&archive).arg("-C").arg(&saved)).exits(0);
    let read = |name: &str| fs::read(saved.join(name)).unwrap();
    let written: Value = serde_json::from_slice(&read("config.json")).unwrap();
    let diff_id = format!("sha256:{}", sha256(&read("layer.tar")));
    assert_eq!(written["rootfs"]["diff_ids"], json!([diff_id]));
    assert_ne!(diff_id, layer.diff_id);
    assert_eq!(read("manifest.json"), list.to_string().into_bytes());
}

#[test]
fn preflight_sees_the_layers_applied() {
    let Some(made) = Made::new("gzip") else { return };
    run(args!["sign", "--keys", made.keys, made.layout.root]).exits(0);
    let manifest = run(args!["manifest", "create", made.layout.root]).exits(0);
    let mut paths: Vec<_> = manifest
        .json()
        .into_iter()
        .filter_map(|line| Some(line.get("path")?.as_str()?.to_owned()))
        .collect();
    paths.sort();
    assert_eq!(paths, ["/bin/program", "/bin/second-name", "/etc/hosts", "/etc/new", "/srv/new"]);
    let Some(made) = Made::new("zstd") else { return };
    let [lower, _] = made.layers.clone();
    let images = [made.layout.image(&[lower]), made.layout.manifests()[0].clone()];
    made.layout.index(&images);
    let words =
        args!["preflight", made.layout.root, "--keys", made.keys, "--policy", "default:appraise"];
    let refused = run(words).exits(2);
    assert!(refused.stderr.contains("2 images"), "{}", refused.stderr);
}

/// If a run is killed, the layout is the old one or the new one.
#[test]
fn a_layout_stays_whole_when_a_run_is_killed() {
    let Some(made) = Made::new("gzip") else { return };
    let big = made.path("big");
    let noise: Vec<u8> =
        (0..4_000_000_u32).flat_map(|it| it.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    write_tree(&big, &[("data", &noise)]);
    let [lower, upper] = made.layers.clone();
    let Some(layer) = made.layout.layer(&big, "gzip") else { return };
    let mut image = made.layout.image(&[lower, layer, upper]);
    image["annotations"] = json!({"org.opencontainers.image.ref.name": "a"});
    made.layout.index(&[image]);
    let mut killed_in_time = 0;
    for wait in [50, 200, 400, 600] {
        let mut sign = imactl();
        sign.args(args!["sign", "--jobs", "1", "--keys", made.keys, made.layout.root]);
        let wait = std::time::Duration::from_millis(wait);
        killed_in_time += u32::from(killed(&mut sign, rustix::process::Signal::KILL, wait));
        // every blob of the image exists and has the right digest
        let read = run(args!["inspect", "--quiet", made.layout.root]);
        assert_eq!(read.code, Some(0), "{}", read.stderr);
    }
    assert!(killed_in_time > 0);
    run(args!["sign", "--keys", made.keys, made.layout.root]).exits(0);
    run(args!["verify", "--keys", made.keys, made.layout.root]).exits(0);
    let from = format!("oci:{}:a", made.layout.root.display());
    skopeo(&[&from, &format!("dir:{}", made.path("dir").display())]);
}
