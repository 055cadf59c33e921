//! The models of a folder: `NAME.onnx`, loaded once and shared by all rules.
//!
//! A model that was changed is loaded anew; one that can't be loaded is tried again after a while, so that one which arrives later, as
//! a ConfigMap may, is found.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::DimLike as _;
use tract_onnx::tract_hir::infer::Factoid as _;

/// A model's file is looked at again after this.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// Models are not larger than this.
const MAX_BYTES: u64 = 1 << 30;

/// What to do about a model whose input leaves several sides open.
pub const OPEN: &str =
    "leaves several open: give it an image_tensor whose width and height are written as numbers, or a nested array";

/// A model that is ready to run.
pub struct Model {
    plan: Arc<TypedRunnableModel>,
    /// What it takes.
    pub inputs: Vec<Port>,
    /// What it gives.
    pub outputs: Vec<Port>,
}

/// One input or output of a model.
#[derive(Clone, Debug)]
pub struct Port {
    /// Kind of its numbers.
    pub datum_type: DatumType,
    /// Its sides; `None` where any will do.
    pub shape: Vec<Option<usize>>,
}

/// The models of a folder.
pub struct Models {
    folder: Option<PathBuf>,
    look_again: Duration,
    by_name: Mutex<HashMap<String, Arc<Mutex<Entry>>>>,
}

/// A model by name. Whoever loads it holds the lock, so that the others wait for the outcome.
#[derive(Default)]
struct Entry {
    looked: Option<Instant>,
    version: Option<(SystemTime, u64)>,
    model: Option<Result<Arc<Model>, String>>,
}

impl Models {
    /// The models of that folder; without one there are none.
    pub fn new(folder: Option<PathBuf>) -> Arc<Self> {
        Self::looking_again_after(folder, LOOK_AGAIN)
    }

    /// As [`Models::new`], with another pause between two looks at a file.
    pub fn looking_again_after(folder: Option<PathBuf>, look_again: Duration) -> Arc<Self> {
        Arc::new(Models { folder, look_again, by_name: Mutex::default() })
    }

    /// True if there is a folder.
    pub fn has_folder(&self) -> bool {
        self.folder.is_some()
    }

    /// The model called `name`.
    ///
    /// # Errors
    /// Why there is none, and where it was looked for.
    pub fn get(&self, name: &str) -> Result<Arc<Model>, String> {
        let Some(folder) = &self.folder else {
            return Err("no folder of models is given: set --models-dir".to_owned());
        };
        if name.is_empty() || name.starts_with('.') || name.contains(['/', '\\', '\0']) {
            return Err(format!("\"{name}\" is no model's name: the file NAME.onnx is meant by NAME"));
        }
        let entry = {
            let mut by_name = self.by_name.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(by_name.entry(name.to_owned()).or_default())
        };
        let mut entry = entry.lock().unwrap_or_else(PoisonError::into_inner);
        if entry.looked.is_none_or(|looked| looked.elapsed() >= self.look_again) {
            entry.looked = Some(Instant::now());
            let path = folder.join(format!("{name}.onnx"));
            let metadata = std::fs::metadata(&path).ok();
            let version = metadata.and_then(|metadata| Some((metadata.modified().ok()?, metadata.len())));
            let was_tried = entry.model.is_some() && entry.version == version;
            if !was_tried {
                entry.version = version;
                let started = Instant::now();
                let loaded = load(&path).map(Arc::new);
                match &loaded {
                    Ok(model) => tracing::info!(model = name, elapsed = ?started.elapsed(), "model loaded: {model}"),
                    Err(error) => tracing::warn!(model = name, "{error}"),
                }
                // What worked goes on until something else works.
                if loaded.is_ok() || !matches!(entry.model, Some(Ok(_))) {
                    entry.model = Some(loaded);
                }
            }
        }
        entry.model.clone().unwrap_or_else(|| Err(format!("model {name} is not loaded")))
    }
}

fn load(path: &std::path::Path) -> Result<Model, String> {
    let shown = path.display();
    let metadata = std::fs::metadata(path).map_err(|error| format!("model {shown} can't be read: {error}"))?;
    if metadata.len() > MAX_BYTES {
        return Err(format!("model {shown} is larger than {} MiB", MAX_BYTES >> 20));
    }
    let file = std::fs::File::open(path).map_err(|error| format!("model {shown} can't be read: {error}"))?;
    let mut file = std::io::Read::take(std::io::BufReader::new(file), MAX_BYTES);
    // What a broken file makes of the loader must not take the rule with it.
    let built = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| build(&mut file)));
    match built {
        Ok(Ok(model)) => Ok(model),
        Ok(Err(error)) => Err(format!("model {shown} can't be used: {error:#}")),
        Err(_) => Err(format!("model {shown} can't be used: it broke the loader")),
    }
}

fn build(file: &mut dyn std::io::Read) -> TractResult<Model> {
    // The shapes between inputs and outputs follow from those of the inputs. What the file says of them may name the number of pictures
    // by a symbol, which would contradict the one that is set below.
    let onnx = tract_onnx::onnx().with_ignore_output_shapes(true).with_ignore_value_info(true);
    let mut model = onnx.model_for_read(file)?;
    if model.input_outlets()?.is_empty() || model.output_outlets()?.is_empty() {
        return Err(TractError::msg("it has no inputs, or no outputs"));
    }
    for input in 0..model.input_outlets()?.len() {
        let fact = model.input_fact(input)?.clone();
        if fact.shape.is_open() {
            continue;
        }
        let mut dims: Vec<_> = fact.shape.dims().map(|dim| dim.concretize()).collect();
        // How many pictures come at once is left open: one. What else is open follows from each tensor that comes.
        if let Some(first) = dims.first_mut().filter(|first| first.as_ref().is_none_or(|dim| dim.to_usize().is_err())) {
            *first = Some(TDim::from(1));
        }
        let open = || TDim::from(model.symbols.new_with_prefix("side"));
        let shape: TVec<TDim> = dims.into_iter().map(|dim| dim.unwrap_or_else(open)).collect();
        model.set_input_fact(input, fact.with_shape(shape))?;
    }
    let model = model.into_optimized()?;
    let port = |fact: &TypedFact| Port {
        datum_type: fact.datum_type,
        shape: fact.shape.iter().map(|dim| dim.to_usize().ok()).collect(),
    };
    let inputs =
        (0..model.input_outlets()?.len()).map(|idx| model.input_fact(idx).map(port)).collect::<TractResult<_>>()?;
    let outputs =
        (0..model.output_outlets()?.len()).map(|idx| model.output_fact(idx).map(port)).collect::<TractResult<_>>()?;
    Ok(Model { plan: model.into_runnable()?, inputs, outputs })
}

impl Model {
    /// Runs the model.
    ///
    /// # Errors
    /// What it says is wrong.
    pub fn run(&self, inputs: TVec<TValue>) -> Result<TVec<TValue>, String> {
        let run = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.plan.run(inputs)));
        match run {
            Ok(outcome) => outcome.map_err(|error| format!("{error:#}")),
            Err(_) => Err("the model broke down".to_owned()),
        }
    }
}

impl Port {
    /// True if the number of numbers does not say what all sides are.
    pub fn is_ambiguous(&self) -> bool {
        self.shape.iter().filter(|side| side.is_none()).count() > 1
    }

    /// True if a tensor of these sides is what it takes.
    pub fn takes(&self, sides: &[usize]) -> bool {
        sides.len() == self.shape.len()
            && self.shape.iter().zip(sides).all(|(own, side)| own.is_none_or(|own| own == *side))
    }

    /// The sides for that many numbers.
    ///
    /// # Errors
    /// When they do not fit.
    pub fn shape_for(&self, n_numbers: usize) -> Result<Vec<usize>, String> {
        let n_known: usize = self.shape.iter().flatten().product();
        let n_open = self.shape.iter().filter(|side| side.is_none()).count();
        let rest = n_numbers.checked_div(n_known).filter(|rest| rest * n_known == n_numbers);
        let fits = match (n_open, rest) {
            (0, Some(rest)) => rest == 1,
            (1, Some(rest)) => rest > 0,
            (_, Some(rest)) => rest == 1,
            (_, None) => false,
        };
        if !fits && self.is_ambiguous() {
            return Err(format!(
                "the sides of {n_numbers} numbers are not known, and the model's input of {self} {OPEN}"
            ));
        }
        if !fits {
            return Err(format!("{n_numbers} numbers do not fit the model's input of {self}"));
        }
        let mut open = rest;
        Ok(self.shape.iter().map(|side| side.unwrap_or_else(|| open.take().unwrap_or(1))).collect())
    }
}

impl std::fmt::Display for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown = |ports: &[Port]| ports.iter().map(Port::to_string).collect::<Vec<_>>().join(", ");
        write!(f, "{} -> {}", shown(&self.inputs), shown(&self.outputs))
    }
}

impl std::fmt::Display for Port {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let sides: Vec<String> =
            self.shape.iter().map(|side| side.map_or_else(|| "?".to_owned(), |side| side.to_string())).collect();
        write!(f, "{:?}[{}]", self.datum_type, sides.join(","))
    }
}
