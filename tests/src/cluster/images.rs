//! Images for the node of a test cluster: our own, from the working tree, and the one that every pod needs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result};
use tokio::sync::OnceCell;

use super::programs::output;
use crate::image::{Image, Layers, write};
use crate::services::cache;

/// The name of our image on the node.
pub const SLUICE_IMAGE: &str = "localhost/sluice:test";
/// The name, on the node, of the image that holds a pod together. It does nothing until it is told to end.
pub const PAUSE_IMAGE: &str = "localhost/pause:1";

/// That image, made once.
pub(super) fn pause() -> Result<PathBuf> {
    static MAKING: Mutex<()> = Mutex::new(());
    let _making = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = cache().join("cluster");
    let tar = folder.join("pause.tar");
    let source = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src/cluster/pause.c"));
    let this = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src/cluster/images.rs"));
    if !newer(&tar, &[source, this]) {
        std::fs::create_dir_all(&folder)?;
        let program = tempfile::NamedTempFile::new_in(&folder)?.into_temp_path();
        output(Command::new("cc").args(["-static", "-Os", "-s", "-o"]).arg(&program).arg(source), None)?;
        let image = image(&[("pause", &program)]);
        write(&tar, PAUSE_IMAGE, &[image], Layers::Plain)?;
    }
    Ok(tar)
}

/// The image with `sluice` and `sluice-operator` from the working tree, as [`SLUICE_IMAGE`]; made once for the tests of this process.
///
/// The binaries are those of the usual test build, linked once more: statically, since nothing else is in the image. The variable
/// `SLUICE_TEST_IMAGE` names a finished one instead, an OCI layout as a tar file.
///
/// # Errors
/// When they can't be built.
pub async fn sluice() -> Result<&'static Path> {
    static MADE: OnceCell<PathBuf> = OnceCell::const_new();
    let tar = MADE.get_or_try_init(|| async { tokio::task::spawn_blocking(make_sluice).await? }).await?;
    Ok(tar)
}

fn make_sluice() -> Result<PathBuf> {
    if let Some(tar) = std::env::var_os("SLUICE_TEST_IMAGE") {
        return Ok(tar.into());
    }
    let own = std::env::current_exe()?;
    let profile =
        own.ancestors().find(|folder| folder.join("deps").is_dir()).context("tests run from a target folder")?;
    let tar = profile.join("sluice-image.tar");
    let sluice = link(profile, "static-sluice")?;
    let operator = link(profile, "static-sluice-operator")?;
    let mut image = image(&[("usr/bin/sluice", &sluice), ("usr/bin/sluice-operator", &operator)]);
    // TLS clients can't be made without any certificate to trust.
    let certificates = "etc/ssl/certs/ca-certificates.crt";
    image.files.insert(certificates.into(), (Path::new("/").join(certificates), 0o644));
    write(&tar, SLUICE_IMAGE, &[image], Layers::Plain)?;
    Ok(tar)
}

/// Links one of this package's binaries statically, without what only a debugger reads.
fn link(profile: &Path, bin: &str) -> Result<PathBuf> {
    let mut cargo = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".into()));
    cargo.args(["rustc", "--quiet", "--locked", "--package", "sluice-tests", "--features", "static", "--bin", bin]);
    cargo.args(["--manifest-path", concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")]);
    cargo.args(["--", "-C", "target-feature=+crt-static", "-C", "strip=debuginfo"]);
    output(&mut cargo, None).with_context(|| format!("linking {bin}"))?;
    Ok(profile.join(bin))
}

/// An image of static programs, the first of which is what it runs.
fn image(programs: &[(&str, &Path)]) -> Image {
    let architecture = match std::env::consts::ARCH {
        "aarch64" => "arm64",
        _ => "amd64",
    };
    Image {
        architecture: architecture.into(),
        files: programs.iter().map(|(name, path)| ((*name).to_owned(), (path.to_path_buf(), 0o755))).collect(),
        folders: vec!["tmp".into()],
        entrypoint: programs.iter().take(1).map(|(name, _)| format!("/{name}")).collect(),
        user: "65532:65532".into(),
        labels: BTreeMap::new(),
    }
}

/// Is `file` there, and younger than all of `sources`?
fn newer(file: &Path, sources: &[&Path]) -> bool {
    let time = |path: &Path| std::fs::metadata(path).and_then(|metadata| metadata.modified());
    let Ok(made) = time(file) else { return false };
    sources.iter().all(|source| time(source).is_ok_and(|changed| changed < made))
}
