//! Writes the custom resource definitions as YAML, one file per kind: `crdgen [--check] [DIR]`, by default to `deploy/crds` and into
//! the Helm chart. With `--check` nothing is written; the exit code says whether the files are up to date.

use std::path::PathBuf;
use std::process::ExitCode;
use std::{env, fs, io};

fn main() -> ExitCode {
    let mut check = false;
    let mut dirs = vec![
        PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/crds")),
        PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../charts/sluice/files/crds")),
    ];
    for arg in env::args().skip(1) {
        match arg.as_str() {
            "--check" => check = true,
            _ if arg.starts_with('-') => {
                eprintln!("usage: crdgen [--check] [DIR]");
                return ExitCode::from(2);
            }
            _ => dirs = vec![PathBuf::from(arg)],
        }
    }
    let mut code = ExitCode::SUCCESS;
    for dir in dirs {
        match run(&dir, check) {
            Ok(stale) if stale.is_empty() => {}
            Ok(stale) => {
                for file in stale {
                    eprintln!("{} is out of date; run `cargo crdgen`", file.display());
                }
                code = ExitCode::FAILURE;
            }
            Err(error) => {
                eprintln!("{}: {error}", dir.display());
                code = ExitCode::FAILURE;
            }
        }
    }
    code
}

/// The files that differ from what they should be; with `check` false, none does afterwards.
fn run(dir: &std::path::Path, check: bool) -> io::Result<Vec<PathBuf>> {
    let mut stale = Vec::new();
    for (name, yaml) in sluice_crds::yaml_files() {
        let file = dir.join(name);
        if check {
            if fs::read_to_string(&file).ok().as_deref() != Some(&yaml) {
                stale.push(file);
            }
        } else {
            fs::create_dir_all(dir)?;
            fs::write(&file, yaml)?;
        }
    }
    Ok(stale)
}
