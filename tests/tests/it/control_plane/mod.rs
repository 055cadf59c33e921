//! Against a real API server, without pods: `tests/run --without cluster` leaves these out.

mod cluster;
mod crds;
mod gitops;
mod release;

use std::path::{Path, PathBuf};

use sluice_tests::cluster::Cluster;
use tokio::sync::OnceCell;

/// A file or folder of the repository.
pub fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// The shared control plane, with our kinds in it.
pub async fn with_kinds() -> &'static Cluster {
    static READY: OnceCell<()> = OnceCell::const_new();
    let cluster = Cluster::shared().await;
    READY
        .get_or_init(|| async {
            let folder = repository("deploy/crds");
            cluster.kubectl(&["apply", "--server-side", "-f", &folder.display().to_string()]).unwrap();
            let names = ["streams", "lookuptables", "rules", "runtimes"].map(|kind| format!("crd/{kind}.sluice.dev"));
            let names = names.iter().map(String::as_str);
            let args: Vec<&str> =
                ["wait", "--for=condition=Established", "--timeout=30s"].into_iter().chain(names).collect();
            cluster.kubectl(&args).unwrap();
        })
        .await;
    cluster
}
