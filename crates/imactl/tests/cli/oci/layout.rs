//! Layouts of container images, built blob by blob.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{json, Value};

use crate::support::*;

pub(super) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(super) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(super) const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(super) const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// A layout, built blob by blob.
pub(crate) struct Layout {
    pub(crate) root: PathBuf,
}

/// A layer of a layout.
#[derive(Clone)]
pub(crate) struct Layer {
    pub(super) descriptor: Value,
    pub(super) diff_id: String,
}

pub(super) fn sha256(bytes: &[u8]) -> String {
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

    /// A layer with the sparse files of a directory.
    pub(super) fn sparse_layer(&self, from: &Path) -> Option<Layer> {
        self.layer_with(from, "", &["-S", "--format=pax"])
    }

    /// A layer with the files of a directory.
    pub(crate) fn layer(&self, from: &Path, compression: &str) -> Option<Layer> {
        self.layer_with(from, compression, &[])
    }

    pub(crate) fn layer_with(
        &self,
        from: &Path,
        compression: &str,
        options: &[&str],
    ) -> Option<Layer> {
        let mut tar = tool("tar")?;
        tar.args(["--sort=name", "--mtime=@0", "--owner=0", "--group=0", "--numeric-owner"]);
        tar.args(options);
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

    /// Adds an image whose configuration and manifest are changed before they are written.
    pub(super) fn image_with(
        &self,
        layers: &[Layer],
        change: impl FnOnce(&mut Value, &mut Value),
    ) -> Value {
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

    /// The blobs and the index, for comparison.
    pub(super) fn content(&self) -> Vec<(String, Vec<u8>)> {
        let blobs = names(&self.root.join("blobs/sha256"));
        let blobs = blobs.into_iter().map(|name| format!("blobs/sha256/{name}"));
        let all = blobs.chain(["index.json".to_owned()]);
        all.map(|name| (name.clone(), fs::read(self.root.join(name)).unwrap())).collect()
    }

    pub(super) fn json(&self, descriptor: &Value) -> Value {
        serde_json::from_slice(&self.bytes(descriptor)).unwrap()
    }

    /// Reads a blob, and checks the digest and the size in its descriptor.
    pub(super) fn bytes(&self, descriptor: &Value) -> Vec<u8> {
        let hex = descriptor["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
        let bytes = fs::read(self.root.join("blobs/sha256").join(hex)).unwrap();
        assert_eq!((sha256(&bytes), bytes.len()), (hex.to_owned(), size(descriptor)));
        bytes
    }

    pub(super) fn manifests(&self) -> Vec<Value> {
        let index = fs::read(self.root.join("index.json")).unwrap();
        let index: Value = serde_json::from_slice(&index).unwrap();
        index["manifests"].as_array().unwrap().clone()
    }
}

pub(super) fn size(descriptor: &Value) -> usize {
    usize::try_from(descriptor["size"].as_u64().unwrap()).unwrap()
}
