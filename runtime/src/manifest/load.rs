//! Files and directories to definitions.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sluice_crds::RuntimeSpec;

use super::document::{self, Document, Kind, SourceFile};
use super::secret::Secrets;
use super::{resolve, variable, yaml};
use crate::definition::Definitions;
use crate::diagnostic::Diagnostic;
use sluice_sql::sql::Span;

/// Largest file that is read.
const MAX_BYTES: u64 = 16 << 20;
/// Deepest directory.
const MAX_DEPTH: usize = 16;

/// What is laid over the files.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Values for `${name}`.
    pub variables: BTreeMap<String, String>,
    /// A directory of profile files that stands for the Secret `sluice-sources`.
    pub config_dir: Option<PathBuf>,
}

/// What the files say.
#[derive(Clone, Debug, Default)]
pub struct Manifests {
    /// Definitions that could be read. One that could not is left out and told of below.
    pub definitions: Definitions,
    /// Runtime objects by name.
    pub runtimes: BTreeMap<String, RuntimeSpec>,
    /// What is wrong or worth knowing, in the order of the files.
    pub diagnostics: Vec<Diagnostic>,
    /// All files that were read; to be watched.
    pub files: Vec<PathBuf>,
}

/// Reads files, and directories with all `*.yaml`, `*.yml` and `*.json` below them in the order of their names.
pub fn load(paths: &[PathBuf], settings: &Settings) -> Manifests {
    let mut manifests = Manifests::default();
    let mut documents = Vec::new();
    for path in paths {
        let before = (documents.len(), manifests.diagnostics.len());
        let n_known = manifests.files.len();
        find_files(path, 0, &mut manifests);
        for file in manifests.files.get(n_known..).unwrap_or_default() {
            match read_file(file) {
                Ok(source) => read_source(source, settings, &mut documents, &mut manifests.diagnostics),
                Err(diagnostic) => manifests.diagnostics.push(*diagnostic),
            }
        }
        let nothing = (documents.len(), manifests.diagnostics.iter().filter(|d| d.is_error()).count()) == (before.0, 0);
        if nothing && before.1 == 0 {
            let message = format!("{}: no Stream, LookupTable, Rule or Runtime in there", path.display());
            manifests.diagnostics.push(Diagnostic::error(message));
        }
    }
    finish(documents, settings, manifests)
}

/// Reads one text as if it were a file of that name.
pub fn load_text(name: &str, text: &str, settings: &Settings) -> Manifests {
    let mut manifests = Manifests::default();
    let mut documents = Vec::new();
    let source = SourceFile { name: name.to_owned(), path: None, text: text.to_owned() };
    read_source(source, settings, &mut documents, &mut manifests.diagnostics);
    finish(documents, settings, manifests)
}

fn finish(documents: Vec<Document>, settings: &Settings, mut manifests: Manifests) -> Manifests {
    let diagnostics = &mut manifests.diagnostics;
    let documents = without_twins(documents, diagnostics);
    let mut secrets = Secrets::default();
    for document in documents.iter().filter(|document| document.kind == Kind::Secret) {
        secrets.add(document, diagnostics);
    }
    if let Some(dir) = &settings.config_dir {
        secrets.add_dir(dir, diagnostics);
    }
    resolve::resolve(documents, &secrets, &mut manifests);
    manifests
}

/// Leaves out documents that are there twice, and says so. All documents are of one namespace, as in a runtime.
fn without_twins(documents: Vec<Document>, diagnostics: &mut Vec<Diagnostic>) -> Vec<Document> {
    let mut kept: Vec<Document> = Vec::with_capacity(documents.len());
    let mut first = BTreeMap::new();
    let mut namespace: Option<String> = None;
    for document in documents {
        let place = format!("{}:{}", document.file.name, document.node.span.line);
        if let Some(twin) = first.get(&(document.kind, document.name.clone())) {
            let message = format!("{} is there twice, first at {twin}", document.resource());
            diagnostics.push(document.problem("metadata.name", message));
            continue;
        }
        match (&namespace, &document.namespace) {
            (Some(known), Some(other)) if known != other => {
                let message = format!("these documents are of namespace \"{known}\"; run one namespace at a time");
                diagnostics.push(document.problem("metadata.namespace", message));
                continue;
            }
            (None, Some(_)) => namespace = document.namespace.clone(),
            _ => {}
        }
        first.insert((document.kind, document.name.clone()), place);
        kept.push(document);
    }
    kept
}

fn find_files(path: &Path, depth: usize, manifests: &mut Manifests) {
    let fail = |error: String| Diagnostic::error(format!("{}: {error}", path.display()));
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) => return manifests.diagnostics.push(fail(lower(&error))),
    };
    if !metadata.is_dir() {
        return manifests.files.push(path.to_owned());
    }
    if depth > MAX_DEPTH {
        return manifests.diagnostics.push(fail(format!("nested deeper than {MAX_DEPTH} directories")));
    }
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) => return manifests.diagnostics.push(fail(lower(&error))),
    };
    let mut entries: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    entries.sort();
    for entry in entries {
        let name = entry.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let extension = entry.extension().map(|extension| extension.to_string_lossy().to_lowercase());
        let is_manifest = extension.is_some_and(|extension| ["yaml", "yml", "json"].contains(&extension.as_str()));
        if name.starts_with('.') || name == "kustomization.yaml" || name == "kustomization.yml" {
            continue;
        }
        if entry.is_dir() {
            // A link to a directory may lead in circles.
            if !entry.is_symlink() {
                find_files(&entry, depth + 1, manifests);
            }
        } else if is_manifest {
            manifests.files.push(entry);
        }
    }
}

fn read_file(path: &Path) -> Result<SourceFile, Box<Diagnostic>> {
    let name = path.display().to_string();
    let fail = |error: String| Box::new(Diagnostic::error(error).in_file(&name, 0, 0));
    let metadata = fs::metadata(path).map_err(|error| fail(lower(&error)))?;
    if metadata.len() > MAX_BYTES {
        return Err(fail(format!("larger than {} MiB", MAX_BYTES >> 20)));
    }
    let bytes = fs::read(path).map_err(|error| fail(lower(&error)))?;
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Err(fail("the file is UTF-16; save it as UTF-8".into()));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let valid = error.as_bytes().get(..error.utf8_error().valid_up_to()).unwrap_or_default();
        let line = valid.iter().filter(|byte| **byte == b'\n').count() as u32 + 1;
        let column = String::from_utf8_lossy(valid)
            .lines()
            .last()
            .filter(|_| !valid.ends_with(b"\n"))
            .map_or(1, |line| line.chars().count() as u32 + 1);
        Box::new(Diagnostic::error("not UTF-8 text").in_file(&name, line, column))
    })?;
    let text = text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text);
    Ok(SourceFile { name, path: Some(path.to_owned()), text })
}

fn read_source(
    source: SourceFile,
    settings: &Settings,
    documents: &mut Vec<Document>,
    diagnostics: &mut Vec<Diagnostic>,
) {
    let nodes = match yaml::parse(&source.text) {
        Ok(nodes) => nodes,
        Err(yaml::YamlError { span, message }) => {
            let has_secrets = source.text.contains("kind: Secret") || source.text.contains("\"Secret\"");
            let span = Span { end_line: span.line, end_column: span.end_column.max(span.column + 1), ..span };
            diagnostics.push(document::at(&source, span, message, !has_secrets));
            return;
        }
    };
    let dir = source.path.as_deref().and_then(Path::parent).map(|dir| dir.display().to_string());
    let dir = dir.filter(|dir| !dir.is_empty()).unwrap_or_else(|| ".".to_owned());
    let mut variables = settings.variables.clone();
    variables.entry("dir".to_owned()).or_insert(dir);
    let file = Arc::new(source);
    for node in nodes {
        let before = documents.len();
        document::read(&file, node, documents, diagnostics);
        for document in documents.iter_mut().skip(before).filter(|document| document.kind != Kind::Secret) {
            let mut errors = Vec::new();
            document.node.map_texts(&|text| variable::substitute(text, &variables), "", &mut errors);
            diagnostics.extend(errors.into_iter().map(|(path, message)| document.problem(&path, message)));
        }
    }
}

/// The operating system's words, without its number.
fn lower(error: &std::io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut chars = text.chars();
    chars.next().map(|first| first.to_lowercase().chain(chars).collect()).unwrap_or_default()
}
