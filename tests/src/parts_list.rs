//! What our binaries are made of: a CycloneDX list of crates from Cargo's own resolution.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

/// The packages whose binaries are in the image.
const ROOTS: [&str; 2] = ["sluice-runtime", "sluice-operator"];

/// The list for one target and flavour, as JSON text that is the same for the same lock file: no time, no random number.
///
/// # Errors
/// When `cargo metadata` fails.
pub fn cyclonedx(target: &str, is_plain: bool) -> Result<String> {
    let output = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".into()))
        .args(["metadata", "--format-version", "1", "--locked", "--filter-platform", target, "--manifest-path"])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"))
        // This package's default is the larger flavour; the others have no defaults.
        .args(is_plain.then_some("--no-default-features"))
        .output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let list = list(&serde_json::from_slice(&output.stdout)?, target)?;
    Ok(serde_json::to_string_pretty(&list)?)
}

fn list(metadata: &Value, target: &str) -> Result<Value> {
    let packages: BTreeMap<&str, &Value> = entries(metadata, "packages", "id");
    let nodes: BTreeMap<&str, &Value> = metadata["resolve"]["nodes"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|node| Some((node["id"].as_str()?, node)))
        .collect();
    let mut todo: Vec<&str> = packages
        .iter()
        .filter(|(_, package)| ROOTS.iter().any(|root| package["name"] == *root))
        .map(|(id, _)| *id)
        .collect();
    ensure!(!todo.is_empty(), "no package of {ROOTS:?} in the workspace");
    let mut seen = BTreeSet::new();
    while let Some(id) = todo.pop() {
        if !seen.insert(id) {
            continue;
        }
        for dependency in nodes.get(id).and_then(|node| node["deps"].as_array()).into_iter().flatten() {
            // Dependencies of tests and of build scripts are in no binary.
            let linked = dependency["dep_kinds"].as_array().into_iter().flatten().any(|kind| kind["kind"].is_null());
            if linked {
                todo.extend(dependency["pkg"].as_str());
            }
        }
    }
    let mut components = Vec::new();
    for id in &seen {
        let package = packages.get(id).with_context(|| format!("{id} is resolved but not listed"))?;
        let (name, version) =
            (package["name"].as_str().unwrap_or_default(), package["version"].as_str().unwrap_or_default());
        let purl = format!("pkg:cargo/{name}@{version}");
        let mut component = json!({"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl});
        if let Some(license) = package["license"].as_str() {
            component["licenses"] = json!([{"expression": license.replace('/', " OR ")}]);
        }
        components.push(component);
    }
    components.sort_by(|a, b| a["bom-ref"].as_str().cmp(&b["bom-ref"].as_str()));
    Ok(json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "component": {"type": "container", "name": "sluice", "version": env!("CARGO_PKG_VERSION")},
            "properties": [{"name": "target", "value": target}],
        },
        "components": components,
    }))
}

fn entries<'v>(value: &'v Value, list: &str, key: &str) -> BTreeMap<&'v str, &'v Value> {
    value[list].as_array().into_iter().flatten().filter_map(|entry| Some((entry[key].as_str()?, entry))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_what_is_linked_and_nothing_else() {
        let list: Value = serde_json::from_str(&cyclonedx("x86_64-unknown-linux-gnu", true).unwrap()).unwrap();
        let names: BTreeSet<&str> =
            list["components"].as_array().unwrap().iter().filter_map(|component| component["name"].as_str()).collect();
        for linked in ["sluice-runtime", "sluice-sql", "tokio", "rustls"] {
            assert!(names.contains(linked), "{linked} is missing");
        }
        for absent in ["insta", "proptest", "sluice-tests", "cc"] {
            assert!(!names.contains(absent), "{absent} is in no binary");
        }
        let larger: Value = serde_json::from_str(&cyclonedx("x86_64-unknown-linux-gnu", false).unwrap()).unwrap();
        for heavy in ["tract-onnx", "image"] {
            assert!(!names.contains(heavy), "{heavy} is in the plain flavour");
            let has = |component: &Value| component["name"] == heavy;
            assert!(larger["components"].as_array().unwrap().iter().any(has), "{heavy} is missing");
        }
        let unlicensed: Vec<&Value> =
            list["components"].as_array().unwrap().iter().filter(|component| component["licenses"].is_null()).collect();
        assert!(unlicensed.is_empty(), "{unlicensed:?}");
    }
}
