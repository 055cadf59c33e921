//! `run --bundle`: definitions from a mounted bundle, applied again whenever it changes.

use std::path::PathBuf;
use std::time::Duration;

use sluice::bundle::{BundleError, read_folder};
use sluice::check::check;
use sluice::inference::FLAVOUR;
use sluice::pipeline::{BundleState, Engine};

use super::log::Log;
use super::run::log_report;
use super::watch::Watch;

/// How often the folder is looked at.
const INTERVAL: Duration = Duration::from_millis(200);
/// How often it is read again while its parts do not fit together.
const AGAIN: Duration = Duration::from_millis(500);

/// The folder of a bundle.
pub struct BundleFolder {
    folder: PathBuf,
    watch: Watch,
    state: BundleState,
    /// What was read was not whole.
    is_torn: bool,
}

impl BundleFolder {
    /// Nothing is read yet.
    pub fn new(folder: PathBuf) -> Self {
        let watch = Watch::new(vec![folder.clone()]).every(INTERVAL);
        BundleFolder { folder, watch, state: BundleState::default(), is_torn: false }
    }

    /// Completes when the folder has changed, or is worth another look. Cancel-safe.
    pub async fn changed(&mut self) {
        if self.is_torn {
            let _ = tokio::time::timeout(AGAIN, self.watch.changed()).await;
        } else {
            self.watch.changed().await;
        }
    }

    /// Applies the bundle that is there, if it is whole and another one than before; else what runs runs on.
    pub fn apply(&mut self, engine: &Engine, log: Log) {
        let problem = match read_folder(&self.folder) {
            Ok((id, bundle)) => {
                self.is_torn = false;
                if self.state.id.as_deref() != Some(id.as_str()) {
                    let (definitions, diagnostics) = bundle.load();
                    log.findings(&diagnostics);
                    if FLAVOUR == "inference" {
                        // Models are loaded while rules are planned. So it is done before the engine does it, whose state, health
                        // included, nobody gets at meanwhile; what is wrong, that says again.
                        tokio::task::block_in_place(|| drop(check(&definitions, engine.registry())));
                    }
                    log_report(&engine.apply(&definitions));
                    tracing::info!(bundle = id.get(..12), "bundle applied");
                    self.state.id = Some(id);
                }
                None
            }
            Err(error) => {
                self.is_torn = matches!(error, BundleError::Torn);
                let problem = format!("{}: {error}", self.folder.display());
                if self.state.problem.as_ref() != Some(&problem) {
                    tracing::warn!("no new bundle, everything runs on as before: {problem}");
                }
                Some(problem)
            }
        };
        self.state.problem = problem;
        engine.set_bundle(self.state.clone());
    }
}
