//! Makes the container image from finished root folders, and its parts list: `image --name NAME --out FILE amd64=DIR arm64=DIR`.
//! `deploy/image.sh` builds what goes into it and calls this.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::{Parser, Subcommand};
use sluice_tests::image::{Image, Layers, write};
use sluice_tests::parts_list;

#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Prints the crates that the binaries are made of, as CycloneDX, for one target
    Sbom {
        /// As rustc names it
        #[arg(long)]
        target: String,
        /// `plain`, or `inference`
        #[arg(long, default_value = "plain", value_parser = ["plain", "inference"])]
        flavour: String,
    },
    /// Writes an OCI layout as a tar file and prints its digest
    Layout {
        /// Name and tag in the layout
        #[arg(long)]
        name: String,
        /// Version, for the labels
        #[arg(long)]
        version: String,
        /// The tar file
        #[arg(long)]
        out: PathBuf,
        /// ARCHITECTURE=FOLDER, each folder a whole root file system
        #[arg(required = true)]
        roots: Vec<String>,
    },
}

fn main() -> Result<()> {
    match Arguments::parse().command {
        Command::Sbom { target, flavour } => println!("{}", parts_list::cyclonedx(&target, flavour == "plain")?),
        Command::Layout { name, version, out, roots } => {
            let images = roots.iter().map(|root| image(root, &version)).collect::<Result<Vec<_>>>()?;
            println!("{}", write(&out, &name, &images, Layers::Gzip)?);
        }
    }
    Ok(())
}

fn image(root: &str, version: &str) -> Result<Image> {
    let (architecture, folder) = root.split_once('=').context("a root is ARCHITECTURE=FOLDER")?;
    let folder = Path::new(folder);
    ensure!(folder.join("usr/bin/sluice").is_file(), "{} has no sluice in it: run deploy/image.sh", folder.display());
    let mut files = BTreeMap::new();
    collect(folder, folder, &mut files)?;
    Ok(Image {
        architecture: architecture.to_owned(),
        files,
        folders: vec!["tmp".into()],
        entrypoint: vec!["/usr/bin/sluice".into()],
        user: "65532:65532".into(),
        labels: BTreeMap::from([
            ("org.opencontainers.image.title".into(), "sluice".into()),
            ("org.opencontainers.image.version".into(), version.to_owned()),
            ("org.opencontainers.image.licenses".into(), "Apache-2.0".into()),
        ]),
    })
}

/// Files below a folder; what may be executed by its owner stays so.
fn collect(root: &Path, folder: &Path, files: &mut BTreeMap<String, (PathBuf, u32)>) -> Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(root, &path, files)?;
            continue;
        }
        let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path)?.permissions());
        let mode = if mode & 0o100 == 0 { 0o644 } else { 0o755 };
        files.insert(path.strip_prefix(root)?.display().to_string(), (path, mode));
    }
    Ok(())
}
