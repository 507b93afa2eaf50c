//! Container images: what other programs say of an image before and after it is signed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{json, Value};

use crate::support::*;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// A layout that is made blob by blob.
pub(crate) struct Layout {
    pub(crate) root: PathBuf,
}

/// A layer of it.
#[derive(Clone)]
pub(crate) struct Layer {
    descriptor: Value,
    diff_id: String,
}

fn sha256(bytes: &[u8]) -> String {
    let digest = openssl::sha::sha256(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Layout {
    pub(crate) fn new(root: &Path) -> Self {
        fs::create_dir_all(root.join("blobs/sha256")).unwrap();
        fs::write(root.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        Self { root: root.to_owned() }
    }

    pub(crate) fn blob(&self, media_type: &str, bytes: &[u8]) -> Value {
        let hex = sha256(bytes);
        fs::write(self.root.join("blobs/sha256").join(&hex), bytes).unwrap();
        let digest = format!("sha256:{hex}");
        json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
    }

    /// A layer with the files of a directory.
    pub(crate) fn layer(&self, from: &Path, compression: &str) -> Option<Layer> {
        let mut tar = tool("tar")?;
        tar.args(["--sort=name", "--mtime=@0", "--owner=0", "--group=0", "--numeric-owner"]);
        let tar = tar.arg("-cC").arg(from).arg(".").output().unwrap().stdout;
        let (packed, end) = match compression {
            "" => (tar.clone(), String::new()),
            program => {
                let plain = self.root.join("plain");
                fs::write(&plain, &tar).unwrap();
                let packed = tool(program)?.arg("-c").arg(&plain).output().unwrap().stdout;
                fs::remove_file(plain).unwrap();
                (packed, format!("+{program}"))
            }
        };
        let descriptor = self.blob(&format!("{LAYER}{end}"), &packed);
        Some(Layer { descriptor, diff_id: format!("sha256:{}", sha256(&tar)) })
    }

    pub(crate) fn image(&self, layers: &[Layer]) -> Value {
        self.image_with(layers, |_, _| {})
    }

    /// An image whose configuration and manifest are changed before they are written.
    fn image_with(&self, layers: &[Layer], change: impl FnOnce(&mut Value, &mut Value)) -> Value {
        let diff_ids: Vec<_> = layers.iter().map(|layer| &layer.diff_id).collect();
        let mut config = json!({
            "architecture": "amd64", "os": "linux", "config": {"Labels": {"a": "b"}},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
            "history": layers.iter().map(|_| json!({"created_by": "test"})).collect::<Vec<_>>(),
            "io.example.unknown": [1.50, null],
        });
        let descriptors: Vec<_> = layers.iter().map(|layer| &layer.descriptor).collect();
        let mut manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "layers": descriptors,
            "annotations": {"org.opencontainers.image.title": "kept"},
        });
        change(&mut config, &mut manifest);
        if manifest.get("config").is_none() {
            let config = serde_json::to_vec_pretty(&config).unwrap();
            manifest["config"] = self.blob(CONFIG, &config);
        }
        self.blob(MANIFEST, &serde_json::to_vec(&manifest).unwrap())
    }

    pub(crate) fn index(&self, manifests: &[Value]) {
        let index = json!({"schemaVersion": 2, "manifests": manifests});
        fs::write(self.root.join("index.json"), index.to_string()).unwrap();
    }

    /// The blobs and the index, to compare.
    fn content(&self) -> Vec<(String, Vec<u8>)> {
        let blobs = names(&self.root.join("blobs/sha256"));
        let blobs = blobs.into_iter().map(|name| format!("blobs/sha256/{name}"));
        let all = blobs.chain(["index.json".to_owned()]);
        all.map(|name| (name.clone(), fs::read(self.root.join(name)).unwrap())).collect()
    }

    fn json(&self, descriptor: &Value) -> Value {
        let hex = descriptor["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
        let bytes = fs::read(self.root.join("blobs/sha256").join(hex)).unwrap();
        assert_eq!((sha256(&bytes), bytes.len()), (hex.to_owned(), size(descriptor)));
        serde_json::from_slice(&bytes).unwrap()
    }

    fn manifests(&self) -> Vec<Value> {
        let index = fs::read(self.root.join("index.json")).unwrap();
        let index: Value = serde_json::from_slice(&index).unwrap();
        index["manifests"].as_array().unwrap().clone()
    }
}

fn size(descriptor: &Value) -> usize {
    usize::try_from(descriptor["size"].as_u64().unwrap()).unwrap()
}

/// An image of two layers, of which the upper one removes a file of the lower one.
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

/// skopeo, which compares every digest that it copies.
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
        // again, and nothing changes
        let before = names(made.directory.path());
        let again = run(args!["sign", "--changed", "--keys", made.keys, target]).exits(0);
        assert!(again.stdout.contains("signed 0 files"), "{}", again.stdout);
        assert_eq!(names(made.directory.path()), before);
    }
    // the layers of an archive in another one are those of the layout
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
    // members that are not blobs stay, and so does their order
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
            // Debian 12's umoci has no zstd
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
    // each byte of the configuration but those of one digest
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
    // without signatures it is the same configuration again
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

/// What docker 25 and newer save: a layout, and a list of its images.
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

/// One of the changes that make an image wrong.
type Change = fn(&Layout, &[Layer; 2]);

fn with(layout: &Layout, layers: &[Layer], change: impl FnOnce(&mut Value, &mut Value)) {
    layout.index(&[layout.image_with(layers, change)]);
}

const DEFECTS: &[(&str, &str, Change)] = &[
    ("does not match its digest", "flipped", |layout, layers| {
        let digest = layers[0].descriptor["digest"].as_str().unwrap().replace("sha256:", "");
        let path = layout.root.join("blobs/sha256").join(digest);
        let mut bytes = fs::read(&path).unwrap();
        // in the time of gzip's header, which changes nothing else
        bytes[4] ^= 1;
        fs::write(path, bytes).unwrap();
    }),
    ("does not match its size", "size of a layer", |layout, layers| {
        with(layout, layers, |_, manifest| manifest["layers"][0]["size"] = json!(1));
    }),
    ("does not match its diff ID", "diff ID", |layout, layers| {
        let other = Layer { diff_id: layers[1].diff_id.clone(), ..layers[0].clone() };
        layout.index(&[layout.image(&[other, layers[1].clone()])]);
    }),
    ("2 layers, of which the configuration lists 1", "count", |layout, layers| {
        with(layout, layers, |config, _| {
            drop(config["rootfs"]["diff_ids"].as_array_mut().unwrap().pop())
        });
    }),
    ("does not match its digest", "manifest", |layout, layers| {
        let image = layout.image(layers);
        let digest = image["digest"].as_str().unwrap().replace("sha256:", "");
        let path = layout.root.join("blobs/sha256").join(digest);
        let text = fs::read_to_string(&path).unwrap().replace("kept", "gone");
        fs::write(path, text).unwrap();
        layout.index(&[image]);
    }),
    ("is missing", "missing layer", |layout, layers| {
        with(layout, layers, |_, manifest| {
            manifest["layers"][0]["digest"] = json!(format!("sha256:{}", sha256(b"none")));
        });
    }),
    ("not a SHA-256 or SHA-512 digest", "path in a digest", |layout, layers| {
        with(layout, layers, |_, manifest| {
            manifest["layers"][0]["digest"] = json!("sha256:../../../../../etc/passwd");
        });
    }),
    ("not either an index or a manifest", "both", |layout, layers| {
        with(layout, layers, |_, manifest| manifest["manifests"] = json!([]));
    }),
    ("is there twice or in another case", "two spellings", |layout, layers| {
        with(layout, layers, |_, manifest| manifest["Layers"] = json!([]));
    }),
    ("differs from that of the descriptor", "media type", |layout, layers| {
        with(layout, layers, |_, manifest| manifest["mediaType"] = json!(INDEX));
    }),
    ("larger than 4 MiB", "large", |layout, _| {
        let descriptor = layout.blob(MANIFEST, &vec![b' '; (4 << 20) + 1]);
        layout.index(&[descriptor]);
    }),
    ("nested too deep", "deep", |layout, _| {
        let text = format!("{}{}", "[".repeat(1 << 16), "]".repeat(1 << 16));
        let descriptor = layout.blob(MANIFEST, text.as_bytes());
        layout.index(&[descriptor]);
    }),
    ("layer of media type", "encrypted", |layout, layers| {
        with(layout, layers, |_, manifest| {
            manifest["layers"][0]["mediaType"] = json!(format!("{LAYER}+gzip+encrypted"));
        });
    }),
    ("content is compressed by gzip", "other compression", |layout, layers| {
        with(layout, layers, |_, manifest| manifest["layers"][0]["mediaType"] = json!(LAYER));
    }),
    ("an ostree container", "ostree", |layout, layers| {
        with(layout, layers, |config, _| config["config"]["Labels"]["ostree.commit"] = json!("1"));
    }),
    ("repositories without manifest.json", "legacy", |layout, _| {
        fs::write(layout.root.join("repositories"), "{}").unwrap();
    }),
    ("no image that can be processed", "nothing", |layout, _| layout.index(&[])),
];

#[test]
fn images_that_are_wrong_are_refused_and_stay_as_they_are() {
    for (said, name, change) in DEFECTS {
        let Some(made) = Made::new("gzip") else { return };
        change(&made.layout, &made.layers);
        let before = made.layout.content();
        for verb in ["sign", "verify", "inspect", "clear"] {
            let keys = args!["--keys", made.keys];
            let keys = keys.into_iter().filter(|_| matches!(verb, "sign" | "verify"));
            let refused = run(args![verb, made.layout.root].into_iter().chain(keys)).exits(2);
            assert!(refused.stderr.contains(said), "{verb} {name}: {}", refused.stderr);
            assert_eq!(made.layout.content(), before, "{verb} {name}");
        }
        let words = args![
            "preflight",
            made.layout.root,
            "--keys",
            made.keys,
            "--policy",
            "default:appraise"
        ];
        let refused = run(words).exits(2);
        assert!(refused.stderr.contains(said), "preflight {name}: {}", refused.stderr);
    }
}

const NOT_WRITTEN: &[(&str, Change)] = &[
    ("a zstd:chunked layer", |layout, layers| {
        with(layout, layers, |_, manifest| {
            let name = "io.github.containers.zstd-chunked.manifest-checksum";
            manifest["layers"][0]["annotations"] = json!({name: "sha256:0"});
        });
    }),
    ("an eStargz layer", |layout, layers| {
        with(layout, layers, |_, manifest| {
            let name = "containerd.io/snapshot/stargz/toc.digest";
            manifest["layers"][0]["annotations"] = json!({name: "sha256:0"});
        });
    }),
    ("embedded data", |layout, layers| {
        with(layout, layers, |_, manifest| manifest["layers"][0]["data"] = json!("AA=="));
    }),
];

#[test]
fn what_cannot_be_rewritten_is_read_and_refused_for_writing() {
    for (said, change) in NOT_WRITTEN {
        let Some(made) = Made::new("gzip") else { return };
        change(&made.layout, &made.layers);
        let before = made.layout.content();
        let refused = run(args!["sign", "--keys", made.keys, made.layout.root]).exits(2);
        let said = said.trim_start_matches("an ").trim_start_matches("a ");
        assert!(refused.stderr.contains(said), "{}", refused.stderr);
        run(args!["verify", "--keys", made.keys, made.layout.root]).exits(1);
        assert_eq!(made.layout.content(), before);
    }
}

#[test]
fn a_layout_is_not_written_elsewhere_and_an_archive_is_not_a_stream() {
    let Some(made) = Made::new("gzip") else { return };
    let refused =
        run(args!["sign", "--keys", made.keys, "-o", made.path("x"), made.layout.root]).exits(2);
    assert!(refused.stderr.contains("changed in place"), "{}", refused.stderr);
    let archive = made.path("image.tar");
    let mut tar = tool("tar").unwrap();
    finish(tar.arg("-cf").arg(&archive).arg("-C").arg(&made.layout.root).arg(".")).exits(0);
    let mut streamed: Command = imactl();
    streamed.args(args!["verify", "--keys", made.keys, "-"]);
    streamed.stdin(fs::File::open(&archive).unwrap());
    let refused = finish(&mut streamed).exits(2);
    assert!(refused.stderr.contains("if it is named itself"), "{}", refused.stderr);
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
    // no member names the directories
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

/// A layout is the old one or the new one, whenever a run is killed.
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
        // every blob of the image is there and right
        let read = run(args!["inspect", "--quiet", made.layout.root]);
        assert_eq!(read.code, Some(0), "{}", read.stderr);
    }
    assert!(killed_in_time > 0);
    run(args!["sign", "--keys", made.keys, made.layout.root]).exits(0);
    run(args!["verify", "--keys", made.keys, made.layout.root]).exits(0);
    let from = format!("oci:{}:a", made.layout.root.display());
    skopeo(&[&from, &format!("dir:{}", made.path("dir").display())]);
}
