//! Container images without a container tool: an OCI image layout, as one tar file, from files of this machine.
//!
//! Reproducible: the same files give the same bytes and so the same digest. No time, owner or order of a folder gets in. What
//! reads it: `ctr images import`, `podman load`, `skopeo copy oci-archive:...`, `k3s ctr images import`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use flate2::{Compression, GzBuilder};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// What an image is made of, for one kind of processor.
#[derive(Clone, Debug)]
pub struct Image {
    /// `amd64` or `arm64`.
    pub architecture: String,
    /// Files, by their path in the image (no leading slash): where they are here, and their mode.
    pub files: BTreeMap<String, (PathBuf, u32)>,
    /// Empty folders, which pods mount something on.
    pub folders: Vec<String>,
    /// What runs when nothing else is said.
    pub entrypoint: Vec<String>,
    /// `UID:GID`, in numbers: a cluster can then see that it is not root.
    pub user: String,
    /// Labels and annotations: `org.opencontainers.image.version` and so on.
    pub labels: BTreeMap<String, String>,
}

/// How layers are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layers {
    /// Smaller, slower to make: what is published.
    Gzip,
    /// As they are: for tests.
    Plain,
}

/// Writes the layout of one image, or of an index over several of different processors, as `name` (`localhost/x:1`).
///
/// Gives the digest that the image is pulled by.
///
/// # Errors
/// When a file can't be read or written.
pub fn write(to: &Path, name: &str, images: &[Image], layers: Layers) -> Result<String> {
    let mut blobs = Blobs::default();
    let mut manifests = Vec::new();
    for image in images {
        let mut manifest = blobs.manifest(image, layers)?;
        manifest["platform"] = json!({"architecture": image.architecture, "os": "linux"});
        manifests.push(manifest);
    }
    let mut top = match <[Value; 1]>::try_from(manifests) {
        Ok([only]) => only,
        Err(manifests) => {
            let media_type = "application/vnd.oci.image.index.v1+json";
            blobs.json(media_type, &json!({"schemaVersion": 2, "mediaType": media_type, "manifests": manifests}))?
        }
    };
    let digest = top["digest"].as_str().unwrap_or_default().to_owned();
    let tag = name.rsplit_once(':').map_or("latest", |(_, tag)| tag);
    top["annotations"] = json!({"io.containerd.image.name": name, "org.opencontainers.image.ref.name": tag});
    let index = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [top]});

    let part = to.with_extension("part");
    let mut tar = Tar(BufWriter::new(File::create(&part).with_context(|| format!("writing {}", part.display()))?));
    tar.file("oci-layout", 0o644, br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    tar.file("index.json", 0o644, &serde_json::to_vec(&index)?)?;
    tar.folder("blobs")?;
    tar.folder("blobs/sha256")?;
    for (hash, bytes) in &blobs.0 {
        tar.file(&format!("blobs/sha256/{hash}"), 0o644, bytes)?;
    }
    tar.end()?;
    std::fs::rename(&part, to)?;
    Ok(digest)
}

/// Content by its hash.
#[derive(Default)]
struct Blobs(BTreeMap<String, Vec<u8>>);

impl Blobs {
    fn add(&mut self, media_type: &str, bytes: Vec<u8>) -> Value {
        let hash = hex(&Sha256::digest(&bytes));
        let descriptor = json!({"mediaType": media_type, "digest": format!("sha256:{hash}"), "size": bytes.len()});
        self.0.insert(hash, bytes);
        descriptor
    }

    fn json(&mut self, media_type: &str, value: &Value) -> Result<Value> {
        Ok(self.add(media_type, serde_json::to_vec(value)?))
    }

    fn manifest(&mut self, image: &Image, layers: Layers) -> Result<Value> {
        let layer = layer(image)?;
        let diff_id = format!("sha256:{}", hex(&Sha256::digest(&layer)));
        let layer = match layers {
            Layers::Plain => self.add("application/vnd.oci.image.layer.v1.tar", layer),
            Layers::Gzip => {
                // The header's time stays 0.
                let mut gzip = GzBuilder::new().write(Vec::new(), Compression::best());
                gzip.write_all(&layer)?;
                self.add("application/vnd.oci.image.layer.v1.tar+gzip", gzip.finish()?)
            }
        };
        let config = json!({
            "architecture": image.architecture,
            "os": "linux",
            "config": {
                "User": image.user,
                "Entrypoint": image.entrypoint,
                "Env": ["PATH=/usr/bin"],
                "WorkingDir": "/",
                "Labels": image.labels,
            },
            "rootfs": {"type": "layers", "diff_ids": [diff_id]},
            "history": [{"created_by": "deploy/image.sh"}],
        });
        let config = self.json("application/vnd.oci.image.config.v1+json", &config)?;
        let media_type = "application/vnd.oci.image.manifest.v1+json";
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": media_type,
            "config": config,
            "layers": [layer],
            "annotations": image.labels,
        });
        self.json(media_type, &manifest)
    }
}

fn layer(image: &Image) -> Result<Vec<u8>> {
    let mut tar = Tar(Vec::new());
    let mut folders: Vec<String> = image.folders.clone();
    for path in image.files.keys() {
        folders.extend(Path::new(path).ancestors().skip(1).map(|folder| folder.display().to_string()));
    }
    folders.retain(|folder| !folder.is_empty());
    folders.sort();
    folders.dedup();
    for folder in folders {
        tar.folder(&folder)?;
    }
    for (path, (here, mode)) in &image.files {
        let mut bytes = Vec::new();
        let mut file = File::open(here).with_context(|| format!("reading {}", here.display()))?;
        file.read_to_end(&mut bytes)?;
        tar.file(path, *mode, &bytes)?;
    }
    tar.end()?;
    Ok(tar.0)
}

/// A tar file in its oldest portable form: no times, no owners.
struct Tar<W: Write>(W);

impl<W: Write> Tar<W> {
    fn file(&mut self, path: &str, mode: u32, bytes: &[u8]) -> Result<()> {
        self.header(path, mode, bytes.len(), b'0')?;
        self.0.write_all(bytes)?;
        self.0.write_all(&[0; 512][..bytes.len().next_multiple_of(512) - bytes.len()])?;
        Ok(())
    }

    fn folder(&mut self, path: &str) -> Result<()> {
        self.header(&format!("{path}/"), 0o755, 0, b'5')
    }

    fn header(&mut self, path: &str, mode: u32, size: usize, kind: u8) -> Result<()> {
        anyhow::ensure!(path.len() <= 100, "{path}: a path in an image has at most 100 characters");
        let mut header = [0; 512];
        let mut put = |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
        put(0, path);
        put(100, &format!("{mode:07o}"));
        put(108, "0000000");
        put(116, "0000000");
        put(124, &format!("{size:011o}"));
        put(136, "00000000000");
        put(148, "        ");
        put(156, std::str::from_utf8(&[kind])?);
        put(257, "ustar");
        put(263, "00");
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.0.write_all(&header)?;
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        self.0.write_all(&[0; 1024])?;
        self.0.flush()?;
        Ok(())
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(folder: &Path, architecture: &str) -> Image {
        let file = folder.join("program");
        std::fs::write(&file, "content").unwrap();
        Image {
            architecture: architecture.into(),
            files: BTreeMap::from([("usr/bin/program".into(), (file, 0o755))]),
            folders: vec!["tmp".into()],
            entrypoint: vec!["/usr/bin/program".into()],
            user: "65532:65532".into(),
            labels: BTreeMap::new(),
        }
    }

    #[test]
    fn the_same_files_make_the_same_image_at_another_time_and_place() {
        let digests = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()].map(|folder| {
            let images = ["amd64", "arm64"].map(|architecture| image(folder.path(), architecture));
            let tar = folder.path().join("out.tar");
            let digest = write(&tar, "localhost/program:1", &images, Layers::Gzip).unwrap();
            (digest, std::fs::read(tar).unwrap())
        });
        assert_eq!(digests[0], digests[1]);
    }

    #[test]
    fn tar_can_list_it() {
        let folder = tempfile::tempdir().unwrap();
        let tar = folder.path().join("layer.tar");
        std::fs::write(&tar, layer(&image(folder.path(), "amd64")).unwrap()).unwrap();
        let listed = std::process::Command::new("tar").arg("-tvf").arg(&tar).output().unwrap();
        let listed = String::from_utf8(listed.stdout).unwrap();
        let listed: Vec<String> =
            listed.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(
            listed,
            [
                "drwxr-xr-x 0/0 0 1970-01-01 00:00 tmp/",
                "drwxr-xr-x 0/0 0 1970-01-01 00:00 usr/",
                "drwxr-xr-x 0/0 0 1970-01-01 00:00 usr/bin/",
                "-rwxr-xr-x 0/0 7 1970-01-01 00:00 usr/bin/program",
            ]
        );
    }
}
