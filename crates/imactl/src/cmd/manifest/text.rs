//! Manifests as JSON lines: a header line, then one line per file, sorted by path.

use ima::attest::manifest::{Expected, Manifest, Owner};
use ima_format::hash::{Digest, HashAlgorithm};
use ima_format::hex;
use serde::{Deserialize, Serialize};

use crate::error::{hinted, Error, Result};
use crate::output::JsonPath;

/// The version of the form.
pub(super) const VERSION: u32 = 1;
const HINT: &str = "make one with imactl manifest create";

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    #[serde(rename = "type")]
    kind: String,
    version: u32,
}

/// A line as it is written.
#[derive(Serialize)]
pub(super) struct Line {
    #[serde(flatten)]
    path: JsonPath,
    #[serde(flatten)]
    file: File,
}

/// The properties of a file.
#[derive(Default, Serialize, Deserialize)]
pub(super) struct File {
    digests: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    key_ids: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mode: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gid: Option<u32>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    packages: Vec<String>,
}

/// A line as it is read.
#[derive(Deserialize)]
pub(super) struct ReadLine {
    path: String,
    path_bytes: Option<String>,
    #[serde(flatten)]
    file: File,
}

impl From<&Expected> for File {
    fn from(expected: &Expected) -> Self {
        let Expected { digests, key_ids, owner, packages } = expected;
        Self {
            digests: digests.iter().map(Digest::to_string).collect(),
            key_ids: key_ids.iter().map(ToString::to_string).collect(),
            mode: owner.map(|owner| format!("{:04o}", owner.mode)),
            uid: owner.map(|owner| owner.uid),
            gid: owner.map(|owner| owner.gid),
            packages: packages.clone(),
        }
    }
}

impl File {
    /// The file that the line describes; `None` if a value is malformed.
    fn parse(self) -> Option<Expected> {
        let digest = |text: &String| {
            let (algorithm, digits) = text.split_once(':')?;
            let algorithm: HashAlgorithm = algorithm.parse().ok()?;
            Digest::new(algorithm, &hex::decode(digits.as_bytes()).ok()?)
        };
        let owner = match (self.mode, self.uid, self.gid) {
            (Some(mode), Some(uid), Some(gid)) => {
                Some(Owner { uid, gid, mode: u32::from_str_radix(&mode, 8).ok()? })
            }
            (None, None, None) => None,
            _ => return None,
        };
        Some(Expected {
            digests: self.digests.iter().map(digest).collect::<Option<_>>()?,
            key_ids: self.key_ids.iter().map(|id| id.parse().ok()).collect::<Option<_>>()?,
            owner,
            packages: self.packages,
        })
    }
}

impl Line {
    pub(super) fn new(path: &[u8], expected: &Expected) -> Self {
        Self { path: path.into(), file: expected.into() }
    }
}

impl ReadLine {
    /// Adds the file to a manifest.
    pub(super) fn add_to(self, manifest: &mut Manifest) -> Result<(), &'static str> {
        let path = match &self.path_bytes {
            Some(digits) => {
                hex::decode(digits.as_bytes()).map_err(|_| "path_bytes is not hexadecimal")?
            }
            None => self.path.into_bytes(),
        };
        let expected = self.file.parse().ok_or("malformed digest, key ID or owner")?;
        if manifest.0.contains_key(&path) {
            return Err("this path is there before");
        }
        manifest.add(&path, expected);
        Ok(())
    }
}

/// The lines of a manifest: the same for the same files.
pub(super) fn lines(manifest: &Manifest) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    let failed = |error: serde_json::Error| Error::new(error.to_string());
    let head = Head { kind: "manifest".into(), version: VERSION };
    serde_json::to_writer(&mut text, &head).map_err(failed)?;
    text.push(b'\n');
    for (path, expected) in &manifest.0 {
        serde_json::to_writer(&mut text, &Line::new(path, expected)).map_err(failed)?;
        text.push(b'\n');
    }
    Ok(text)
}

/// Reads the lines of a manifest.
pub(super) fn parse(name: &str, content: &[u8]) -> Result<Manifest> {
    let mut lines = content.split(|byte| *byte == b'\n').zip(1..);
    let head = lines.next().and_then(|(line, _)| serde_json::from_slice::<Head>(line).ok());
    match head {
        Some(head) if head.kind == "manifest" && head.version == VERSION => {}
        Some(head) if head.kind == "manifest" => {
            return Err(Error::new(format!("{name}: manifest of version {}", head.version)));
        }
        _ => return Err(hinted(format!("{name}: not a manifest"), HINT)),
    }
    let mut manifest = Manifest::default();
    for (line, number) in lines.filter(|(line, _)| !line.is_empty()) {
        let malformed = |why: &str| Error::new(format!("{name}: line {number}: {why}"));
        let line: ReadLine =
            serde_json::from_slice(line).map_err(|error| malformed(&error.to_string()))?;
        line.add_to(&mut manifest).map_err(malformed)?;
    }
    Ok(manifest)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFEST: &str = concat!(
        r#"{"type":"manifest","version":1}"#,
        "\n",
        r#"{"path":"/a","digests":["sha1:0102030405060708090a0b0c0d0e0f1011121314"],"key_ids":["01020304"]}"#,
        "\n",
        r#"{"path":"/b\u00fc","digests":[],"mode":"4755","uid":0,"gid":7,"packages":["b","c"]}"#,
        "\n",
        r#"{"path":"/odd\ufffd","path_bytes":"2f6f6464ff","digests":[]}"#,
        "\n",
    );

    /// Every change of a bit and every cut: an error, or a manifest that is written and read back the same.
    #[test]
    fn changed_manifests_are_errors_or_are_read_back_the_same() {
        let text = MANIFEST.as_bytes();
        assert_eq!(parse("m", text).unwrap().0.len(), 3);
        let changed = (0..8 * text.len()).map(|bit| {
            let mut text = text.to_vec();
            text[bit / 8] ^= 1 << (bit % 8);
            text
        });
        let cut = (0..text.len()).map(|length| text[..length].to_vec());
        let mut accepted = 0;
        for text in changed.chain(cut) {
            match parse("m", &text) {
                Ok(manifest) => {
                    let written = lines(&manifest).unwrap();
                    assert_eq!(lines(&parse("m", &written).unwrap()).unwrap(), written);
                    accepted += 1;
                }
                Err(error) => assert!(error.to_string().starts_with("m: "), "{error}"),
            }
        }
        // changes of names, digests, owners
        assert!((100..4000).contains(&accepted), "{accepted}");
    }
}
