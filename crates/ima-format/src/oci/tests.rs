use alloc::vec::Vec;

use super::*;
use crate::ErrorKind;

const DIGEST: &str = "sha256:2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae";

#[test]
fn a_digest_is_the_only_thing_that_a_path_is_made_of() {
    let digest: BlobDigest = DIGEST.parse().unwrap();
    assert_eq!(digest.path(), format!("blobs/sha256/{}", digest.hex()));
    let upper = DIGEST.to_uppercase().replace("SHA", "sha");
    let cut = &DIGEST[..70];
    for text in ["", "sha256:", "sha256:../../../etc/passwd", "md5:00", cut, &upper] {
        assert!(text.parse::<BlobDigest>().is_err(), "{text}");
    }
    assert!(format!("{DIGEST}/..").parse::<BlobDigest>().is_err());
}

#[test]
fn media_types_say_how_a_layer_is_compressed() {
    for (name, expected) in [
        ("application/vnd.oci.image.layer.v1.tar", MediaType::Layer(None)),
        (
            "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
            MediaType::Layer(Some(Compression::Gzip)),
        ),
        (
            "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
            MediaType::Layer(Some(Compression::Gzip)),
        ),
        ("application/vnd.oci.image.layer.v1.tar+zstd", MediaType::Layer(Some(Compression::Zstd))),
        ("application/vnd.oci.image.layer.v1.tar+gzip+encrypted", MediaType::OtherLayer),
        ("application/vnd.in-toto+json", MediaType::Other),
    ] {
        assert_eq!(MediaType::of(name), expected, "{name}");
    }
}

fn manifest(members: &str) -> Vec<u8> {
    let descriptor = format!(r#"{{"mediaType":"x","digest":"{DIGEST}","size":3}}"#);
    format!(r#"{{"config":{descriptor},"layers":[{descriptor},{descriptor}]{members}}}"#).into()
}

#[test]
fn a_manifest_is_edited_by_value() {
    let text = manifest(r#", "unknown" : [ 1.0 ]"#);
    let media_type = "application/vnd.oci.image.manifest.v1+json";
    let Ok(Document::Manifest(layers)) = Document::parse(&text, Some(media_type)) else {
        panic!("not a manifest")
    };
    let other = DIGEST.replace("2c26", "3c36").parse().unwrap();
    let mut edits = Edits::default();
    layers.layers[1].edit(&mut edits, &other, 400);
    let edited = String::from_utf8(edits.apply(&text)).unwrap();
    assert!(edited.ends_with(r#""size":400}], "unknown" : [ 1.0 ]}"#), "{edited}");
    assert_eq!((edited.matches(DIGEST).count(), edited.matches(other.as_str()).count()), (2, 1));
}

/// As CVE-2021-41190: one text that is a manifest to one program, and an index to another.
#[test]
fn what_could_be_an_index_and_a_manifest_is_refused() {
    let both = manifest(r#","manifests":[]"#);
    let (manifest_type, index_type) =
        ("application/vnd.oci.image.manifest.v1+json", "application/vnd.oci.image.index.v1+json");
    for media_type in [Some(manifest_type), Some(index_type), None] {
        let error = Document::parse(&both, media_type).unwrap_err();
        assert_eq!(error.kind, ErrorKind::from(Fault::Neither));
    }
    let other = manifest(&format!(r#","mediaType":"{index_type}""#));
    let error = Document::parse(&other, Some(manifest_type)).unwrap_err();
    assert_eq!(error.kind, ErrorKind::from(Fault::MediaType(index_type.into())));
}

#[test]
fn a_configuration_lists_every_layer() {
    let text = format!(
        r#"{{"config":{{"Labels":{{"ostree.commit":"1"}}}},"rootfs":{{"type":"layers","diff_ids":["{DIGEST}"]}}}}"#
    );
    let config = Config::parse(text.as_bytes(), 1).unwrap();
    assert_eq!(config.labels, ["ostree.commit"]);
    let error = Config::parse(text.as_bytes(), 2).unwrap_err();
    assert_eq!(error.kind, ErrorKind::from(Fault::LayerCount { layers: 2, listed: 1 }));
}

#[test]
fn names_in_a_saved_image_stay_in_the_archive() {
    let saved = |name: &str| format!(r#"[{{"Config":"c.json","Layers":["{name}"]}}]"#);
    assert_eq!(Saved::parse(saved("1/layer.tar").as_bytes()).unwrap().images.len(), 1);
    for name in ["../etc/passwd", "/etc/passwd", "a//b", "", "a/./b", "a\\\\b", "a b"] {
        assert!(Saved::parse(saved(name).as_bytes()).is_err(), "{name}");
    }
}
