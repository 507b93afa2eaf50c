//! Container images that are invalid, or that cannot be changed.

use std::fs;
use std::process::Command;

use serde_json::{json, Value};

use super::layout::*;
use super::Made;
use crate::support::*;

/// A change that makes an image invalid.
type Change = fn(&Layout, &[Layer; 2]);

fn with(layout: &Layout, layers: &[Layer], change: impl FnOnce(&mut Value, &mut Value)) {
    layout.index(&[layout.image_with(layers, change)]);
}

const DEFECTS: &[(&str, &str, Change)] = &[
    ("does not match its digest", "flipped", |layout, layers| {
        let digest = layers[0].descriptor["digest"].as_str().unwrap().replace("sha256:", "");
        let path = layout.root.join("blobs/sha256").join(digest);
        let mut bytes = fs::read(&path).unwrap();
        // a byte in the time of gzip's header, which changes nothing else
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
