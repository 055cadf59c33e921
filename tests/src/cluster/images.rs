//! Images for the node of a test cluster: our own, from the working tree, and the one that every pod needs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use tokio::sync::OnceCell;

use super::programs::output;
use crate::image::{Image, Layers, write};
use crate::services::cache;

/// The name of our image on the node.
pub const SLUICE_IMAGE: &str = "localhost/sluice:test";

/// The image that holds a pod together, made once.
pub(super) fn pause() -> Result<PathBuf> {
    let folder = cache().join("cluster");
    let tar = folder.join("pause.tar");
    let source = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src/cluster/pause.c"));
    if !newer(&tar, &[source.to_owned()]) {
        std::fs::create_dir_all(&folder)?;
        let program = tempfile::NamedTempFile::new_in(&folder)?.into_temp_path();
        output(Command::new("cc").args(["-static", "-Os", "-s", "-o"]).arg(&program).arg(source), None)?;
        let image = image(&[("pause", &program)], "/pause", None);
        write(&tar, "localhost/pause:1", &[image], Layers::Plain)?;
    }
    Ok(tar)
}

/// The image with `sluice` from the working tree, as [`SLUICE_IMAGE`]; made once for the tests of this process.
///
/// The binaries are those of the usual test build, linked once more: statically, since nothing else is in the image.
///
/// # Errors
/// When they can't be built.
pub async fn sluice() -> Result<&'static Path> {
    static MADE: OnceCell<PathBuf> = OnceCell::const_new();
    let tar = MADE.get_or_try_init(|| async { tokio::task::spawn_blocking(make_sluice).await? }).await?;
    Ok(tar)
}

fn make_sluice() -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let profile =
        own.ancestors().find(|folder| folder.join("deps").is_dir()).context("tests run from a target folder")?;
    let mut programs = Vec::new();
    for (bin, name) in [("static-sluice", "usr/bin/sluice")] {
        let mut cargo = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".into()));
        cargo.args(["rustc", "--quiet", "--locked", "--package", "sluice-tests", "--features", "static", "--bin", bin]);
        cargo.args(["--manifest-path", concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")]);
        cargo.args(["--", "-C", "target-feature=+crt-static", "-C", "strip=debuginfo"]);
        output(&mut cargo, None).with_context(|| format!("building a static {name}"))?;
        programs.push((name, profile.join(bin)));
    }
    let tar = profile.join("sluice-image.tar");
    let files: Vec<(&str, &Path)> = programs.iter().map(|(name, path)| (*name, path.as_path())).collect();
    write(&tar, SLUICE_IMAGE, &[image(&files, "/usr/bin/sluice", Some("65532:65532"))], Layers::Plain)?;
    Ok(tar)
}

fn image(programs: &[(&str, &Path)], entrypoint: &str, user: Option<&str>) -> Image {
    let architecture = match std::env::consts::ARCH {
        "aarch64" => "arm64",
        _ => "amd64",
    };
    Image {
        architecture: architecture.into(),
        files: programs.iter().map(|(name, path)| ((*name).to_owned(), (path.to_path_buf(), 0o755))).collect(),
        folders: vec!["tmp".into()],
        entrypoint: vec![entrypoint.into()],
        user: user.unwrap_or("0:0").into(),
        labels: BTreeMap::new(),
    }
}

/// Is `file` there, and younger than all of `sources`?
fn newer(file: &Path, sources: &[PathBuf]) -> bool {
    let time = |path: &Path| std::fs::metadata(path).and_then(|metadata| metadata.modified());
    let Ok(made) = time(file) else { return false };
    sources.iter().all(|source| time(source).is_ok_and(|changed| changed < made))
}
