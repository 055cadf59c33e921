//! What the command takes while it has nothing to do.

use std::time::{Duration, Instant};

use anyhow::Result;
use sluice_tests::services::Mosquitto;
use sluice_tests::sluice::{Sluice, binary};

use crate::measure::{median, verdict};

const FILES: &str = r#"
apiVersion: sluice.dev/v1alpha1
kind: Stream
metadata: {name: s1}
spec:
  sql: CREATE STREAM s1 (deviceId STRING, temperature FLOAT, humidity FLOAT, status STRING) WITH (DATASOURCE="bench/s1", FORMAT="JSON", TYPE="mqtt")
  options: {server: "SERVER"}
---
apiVersion: sluice.dev/v1alpha1
kind: Rule
metadata: {name: w1}
spec:
  sql: SELECT deviceId, temperature, humidity FROM s1 WHERE temperature > 20 AND status = "ok"
  sinks: [{nop: {}}]
"#;

/// Memory, size and start with one idle MQTT rule.
pub fn idle(rounds: usize) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let broker = Mosquitto::start().await?;
        let folder = tempfile::tempdir()?;
        std::fs::write(folder.path().join("rules.yaml"), FILES.replace("SERVER", &broker.url()))?;
        let (mut resident, mut starts) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            let begin = Instant::now();
            let sluice = Sluice::run_ready(folder.path(), &[]).await?;
            starts.push(begin.elapsed().as_secs_f64() * 1000.0);
            tokio::time::sleep(Duration::from_secs(3)).await;
            resident.push(sluice.resident_bytes()? as f64 / f64::from(1 << 20));
        }
        let (resident, start) = (median(resident), median(starts));
        let size = std::fs::metadata(binary()?)?.len() as f64 / 1e6;
        println!("The command with one idle MQTT rule:");
        verdict("resident, MiB", resident, resident <= 12.0, "at most 12");
        verdict("binary, MB", size, size <= 15.0, "at most 15");
        verdict("start to ready, ms", start, start <= 50.0, "at most 50");
        Ok(())
    })
}
