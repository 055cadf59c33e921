//! From results to what a sink takes: picks columns, fills templates, encodes, compresses.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use indexmap::IndexMap;
use sluice_sql::value::{Column, ColumnKind, Emission, Emissions};
use sluice_sql::{Batch, Row, Schema, Type, Value};

use super::aside::Aside;
use super::options::SinkOptions;
use super::project::{Projection, unwrap_field};
use crate::error::ConfigError;
use crate::format::compression::Compression;
use crate::format::{EncodeArgs, Encoder, json};
use crate::options::Options;
use crate::pipeline::metrics::{DropReason, SinkMetrics};
use crate::registry::Registry;
use crate::sink::{Message, Prop, Props, SinkType, Takes};
use crate::template::{Surroundings, Template, TextOption};

/// Why a result could not be turned into what the sink takes.
type ShapeError = Box<dyn std::error::Error + Send + Sync>;

/// Turns results into messages or batches, the way a sink's options say.
pub(super) struct Shaper {
    single: bool,
    omit_if_empty: bool,
    template: Option<Template>,
    /// A rendered template is the message, whatever its text.
    text_format: bool,
    data_field: Option<String>,
    projection: Option<Projection>,
    format: String,
    encoder: Option<Box<dyn Encoder>>,
    compression: Option<Compression>,
    props: PropsMaker,
    surroundings: Surroundings,
    metrics: Arc<SinkMetrics>,
    /// Rows that can't be encoded are kept for [`Shaper::take_failed`].
    pub(super) keeps_failed: bool,
    failed: Vec<Aside>,
    /// How many rows could not be encoded so far.
    pub(super) n_failed: u64,
    buffer: Vec<u8>,
    pending: Vec<(Body, Props, usize)>,
}

/// A message's body before all are made.
enum Body {
    /// Passed on as it came, or compressed.
    Own(Bytes),
    /// A part of the shaper's buffer.
    Buffered(Range<usize>),
}

impl Shaper {
    pub(super) fn new(
        options: &SinkOptions,
        own: &Options,
        sink_type: &SinkType,
        registry: &Registry,
        surroundings: Surroundings,
        metrics: Arc<SinkMetrics>,
    ) -> Result<Self, ConfigError> {
        let format = options.format.to_lowercase();
        let encoder = match sink_type.takes {
            Takes::Rows => None,
            Takes::Messages => {
                let at_format = |error: ConfigError| ConfigError::new("format", error.to_string());
                let Some(make) = registry.format(&format).map_err(at_format)?.encoder else {
                    return Err(ConfigError::new("format", format!("format `{format}` can be read, but not written")));
                };
                Some(make(&EncodeArgs {
                    fields: options.fields.as_deref(),
                    delimiter: options.delimiter.as_deref(),
                    header: options.has_header,
                })?)
            }
        };
        let template = options.data_template.as_deref().filter(|text| !text.is_empty());
        let template =
            template.map(Template::parse).transpose().map_err(|e| ConfigError::new("dataTemplate", e.to_string()))?;
        if !options.send_single && template.as_ref().is_some_and(Template::reads_dot_fields) {
            return Err(ConfigError::new(
                "dataTemplate",
                "reads a field of dot, but dot is the list of the result's rows; set `sendSingle: true`, or use `{{range .}}` or \
                 `{{(index . 0).name}}`",
            ));
        }
        let projection = match (&options.fields, &options.exclude_fields) {
            (Some(fields), _) => Some(Projection::keep(fields)),
            (None, Some(fields)) => Some(Projection::exclude(fields)),
            (None, None) => None,
        };
        Ok(Shaper {
            single: options.send_single,
            omit_if_empty: options.omit_if_empty,
            template,
            text_format: matches!(format.as_str(), "json" | "delimited" | "urlencoded"),
            data_field: options.data_field.clone().filter(|name| !name.is_empty()),
            projection,
            format,
            encoder,
            compression: options.compression,
            props: PropsMaker::new(sink_type, own)?,
            surroundings,
            metrics,
            keeps_failed: false,
            failed: Vec::new(),
            n_failed: 0,
            buffer: Vec::new(),
            pending: Vec::new(),
        })
    }

    /// True if rows go to a row sink as they are.
    pub(super) fn passes_rows(&self) -> bool {
        self.template.is_none() && self.data_field.is_none() && self.projection.is_none()
    }

    /// What [`Message::props`] always are; `None` if they depend on rows.
    pub(super) fn fixed_props(&self) -> Option<Props> {
        self.props.fixed.clone()
    }

    /// Turns one result, or several joined ones (`joined`), into messages.
    pub(super) fn add_messages(&mut self, batch: &Batch, rows: Range<usize>, joined: bool, now: i64) {
        self.surroundings.now = now;
        if rows.is_empty() && self.omit_if_empty {
            return;
        }
        if self.single && !joined {
            for row_idx in rows {
                self.add_message(batch, row_idx..row_idx + 1, true, joined);
            }
        } else if self.props.row_wise && rows.len() > 1 {
            let mut groups: IndexMap<Props, Vec<Row>> = IndexMap::new();
            for row in batch.rows.get(rows).unwrap_or_default() {
                match self.props.make(|| Value::Object(Arc::new(batch.schema.to_object(row))), &mut self.surroundings) {
                    Ok(props) => groups.entry(props).or_default().push(row.clone()),
                    Err(error) => {
                        self.failed(&Batch::per_row(Arc::clone(&batch.schema), vec![row.clone()]), 0..1, &error)
                    }
                }
            }
            for (props, rows) in groups {
                let n_rows = rows.len();
                let batch = Batch::per_row(Arc::clone(&batch.schema), rows);
                let body = self.body(&batch, 0..n_rows, false, joined);
                self.push(body, Ok(props), &batch, 0..n_rows);
            }
        } else {
            self.add_message(batch, rows, false, joined);
        }
    }

    /// Adds the message that an error makes in place of rows.
    pub(super) fn add_error(&mut self, batch: &Batch, now: i64) {
        self.surroundings.now = now;
        let props = self.props.make(|| dot(batch, 0..1, true), &mut self.surroundings);
        let body = self.encoded(batch, 0..1, true);
        self.push(body, props, batch, 0..1);
    }

    fn add_message(&mut self, batch: &Batch, rows: Range<usize>, single: bool, joined: bool) {
        if single && self.omit_if_empty && is_empty_row(batch, rows.start) {
            return;
        }
        let n_rows = rows.len();
        let as_row = single || (self.props.row_wise && n_rows == 1);
        let props = self.props.make(|| dot(batch, rows.clone(), as_row), &mut self.surroundings);
        let body = if single && self.sends_raw() { raw_text(batch, rows.start) } else { None };
        let body = match body {
            Some(text) => self.compressed(Body::Own(text)),
            None => self.body(batch, rows.clone(), single, joined),
        };
        self.push(body, props, batch, rows);
    }

    /// True if a row that is still the text that arrived may be sent as it is.
    fn sends_raw(&self) -> bool {
        self.format == "json" && self.passes_rows()
    }

    fn push(
        &mut self,
        body: Result<Body, ShapeError>,
        props: Result<Props, ShapeError>,
        batch: &Batch,
        rows: Range<usize>,
    ) {
        match (body, props) {
            (Ok(body), Ok(props)) => self.pending.push((body, props, rows.len())),
            (Err(error), _) | (_, Err(error)) => self.failed(batch, rows, &error),
        }
    }

    fn failed(&mut self, batch: &Batch, rows: Range<usize>, error: &ShapeError) {
        self.n_failed += rows.len() as u64;
        self.metrics.dropped.add(DropReason::Encode, rows.len() as u64);
        self.metrics.errors.report(error);
        if self.keeps_failed {
            for row in batch.rows.get(rows).unwrap_or_default() {
                let row = Some(Value::Object(Arc::new(batch.schema.to_object(row))));
                self.failed.push(Aside { reason: error.to_string(), n_rows: 1, payload: None, row });
            }
        }
    }

    /// Rows that could not be encoded since the last call.
    pub(super) fn take_failed(&mut self) -> Vec<Aside> {
        std::mem::take(&mut self.failed)
    }

    /// How many messages [`take_messages`](Self::take_messages) would give.
    pub(super) fn n_messages(&self) -> usize {
        self.pending.len()
    }

    /// The messages made since the last call.
    pub(super) fn take_messages(&mut self) -> Vec<Message> {
        let buffer = Bytes::from(std::mem::take(&mut self.buffer));
        let pending = std::mem::take(&mut self.pending);
        pending
            .into_iter()
            .map(|(body, props, n_rows)| {
                let body = match body {
                    Body::Own(bytes) => bytes,
                    Body::Buffered(range) => buffer.slice(range),
                };
                Message { body, props, n_rows }
            })
            .collect()
    }

    fn body(&mut self, batch: &Batch, rows: Range<usize>, single: bool, joined: bool) -> Result<Body, ShapeError> {
        if self.template.is_none() {
            if self.passes_rows() {
                return self.encoded(batch, rows, single);
            }
            let (shaped, range) = self.columns(batch, rows)?;
            return self.encoded(&shaped, range, single);
        }
        if self.passes_text() && (single || !(joined && self.single)) {
            let mut text = String::new();
            self.render(&dot(batch, rows, single), &mut text)?;
            return self.compressed(Body::Own(Bytes::from(text)));
        }
        let (shaped, as_row) = self.rendered_rows(batch, rows, single, joined)?;
        let (shaped, range) = self.columns(&shaped, 0..shaped.rows.len())?;
        self.encoded(&shaped, range, as_row)
    }

    /// True if the template's text is the message.
    fn passes_text(&self) -> bool {
        self.text_format && self.data_field.is_none() && self.projection.is_none()
    }

    fn render(&mut self, dot: &Value, out: &mut String) -> Result<(), ShapeError> {
        match &self.template {
            Some(template) => template
                .render(dot, &mut self.surroundings, out)
                .map_err(|error| format!("dataTemplate:{error}").into()),
            None => Ok(()),
        }
    }

    /// Fills the template and reads its text as rows; also says whether it was one object.
    fn rendered_rows(
        &mut self,
        batch: &Batch,
        rows: Range<usize>,
        single: bool,
        joined: bool,
    ) -> Result<(Batch, bool), ShapeError> {
        let dots = if joined && self.single {
            rows.map(|row_idx| dot(batch, row_idx..row_idx + 1, true)).collect()
        } else {
            vec![dot(batch, rows, single)]
        };
        let mut values = Vec::new();
        let mut one_object = !joined;
        let mut text = String::new();
        for dot in dots {
            text.clear();
            self.render(&dot, &mut text)?;
            match json::parse_value(text.as_bytes()) {
                Ok(object @ Value::Object(_)) => values.push(object),
                Ok(Value::Array(items)) if items.iter().all(|item| matches!(item, Value::Object(_))) => {
                    one_object = false;
                    values.extend(items.iter().cloned());
                }
                Ok(_) => return Err("dataTemplate: the text is neither a JSON object nor a list of them".into()),
                Err(error) => return Err(format!("dataTemplate: the text is no JSON: {error}").into()),
            }
        }
        Ok((objects_batch(values), one_object))
    }

    /// Applies `dataField`, `fields` and `excludeFields`.
    fn columns<'a>(
        &mut self,
        batch: &'a Batch,
        rows: Range<usize>,
    ) -> Result<(Cow<'a, Batch>, Range<usize>), ShapeError> {
        let (batch, rows) = match &self.data_field {
            Some(name) => {
                let mut values = Vec::new();
                for row in batch.rows.get(rows).unwrap_or_default() {
                    unwrap_field(&batch.schema, row, name, &mut values)?;
                }
                let n_rows = values.len();
                (Cow::Owned(objects_batch(values)), 0..n_rows)
            }
            None => (Cow::Borrowed(batch), rows),
        };
        Ok(match &mut self.projection {
            Some(projection) => {
                let n_rows = rows.len();
                (Cow::Owned(projection.apply(&batch, rows)), 0..n_rows)
            }
            None => (batch, rows),
        })
    }

    fn encoded(&mut self, batch: &Batch, rows: Range<usize>, single: bool) -> Result<Body, ShapeError> {
        let Some(encoder) = &mut self.encoder else { return Err("this sink takes no messages".into()) };
        let start = self.buffer.len();
        if let Err(error) = encoder.encode(batch, rows, single, &mut self.buffer) {
            self.buffer.truncate(start);
            return Err(format!("encode: {error}").into());
        }
        self.compressed(Body::Buffered(start..self.buffer.len()))
    }

    fn compressed(&mut self, body: Body) -> Result<Body, ShapeError> {
        let Some(compression) = self.compression else { return Ok(body) };
        Ok(Body::Own(Bytes::from(match body {
            Body::Own(bytes) => compression.compress(&bytes)?,
            Body::Buffered(range) => {
                let bytes = compression.compress(self.buffer.get(range.clone()).unwrap_or_default())?;
                self.buffer.truncate(range.start);
                bytes
            }
        })))
    }

    /// Turns one result, or several joined ones, into a batch for a row sink.
    pub(super) fn add_rows(&mut self, batch: &Batch, rows: Range<usize>, joined: bool, now: i64) -> Option<Batch> {
        self.surroundings.now = now;
        if rows.is_empty() {
            return None;
        }
        match self.shaped_rows(batch, rows.clone(), joined) {
            Ok(shaped) => Some(shaped),
            Err(error) => {
                self.failed(batch, rows, &error);
                None
            }
        }
    }

    fn shaped_rows(&mut self, batch: &Batch, rows: Range<usize>, joined: bool) -> Result<Batch, ShapeError> {
        let (rendered, rows) = if self.template.is_some() {
            let (rendered, _) = self.rendered_rows(batch, rows, false, joined || self.single)?;
            let n_rows = rendered.rows.len();
            (Cow::Owned(rendered), 0..n_rows)
        } else {
            (Cow::Borrowed(batch), rows)
        };
        let (shaped, rows) = self.columns(&rendered, rows)?;
        let emission = Emission { end: rows.len(), window: None, error: None };
        Ok(Batch {
            schema: Arc::clone(&shaped.schema),
            rows: shaped.rows.get(rows).unwrap_or_default().to_vec(),
            emissions: Emissions::Grouped(vec![emission]),
        })
    }
}

/// Rows whose members are in one star slot.
fn objects_batch(objects: Vec<Value>) -> Batch {
    let column = Column { name: "row".into(), kind: ColumnKind::Star, ty: Type::Any };
    let rows = objects.into_iter().map(|object| Row { ts: 0, values: vec![object] }).collect();
    Batch::per_row(Arc::new(Schema { columns: vec![column] }), rows)
}

/// What templates see: the row, or the list of rows.
fn dot(batch: &Batch, rows: Range<usize>, as_row: bool) -> Value {
    let mut objects =
        batch.rows.get(rows).unwrap_or_default().iter().map(|row| Value::Object(Arc::new(batch.schema.to_object(row))));
    if as_row { objects.next().unwrap_or_default() } else { Value::Array(Arc::new(objects.collect())) }
}

fn is_empty_row(batch: &Batch, row_idx: usize) -> bool {
    let Some(row) = batch.rows.get(row_idx) else { return true };
    batch.schema.columns.iter().zip(&row.values).all(|(column, value)| match column.kind {
        ColumnKind::Field => matches!(value, Value::Missing),
        ColumnKind::Star => value.to_object().is_none_or(|object| object.is_empty()),
        ColumnKind::Meta | ColumnKind::Hidden => true,
    })
}

/// The row's text if it is still the one that arrived and nothing else belongs to the row.
fn raw_text(batch: &Batch, row_idx: usize) -> Option<Bytes> {
    let mut shown = batch
        .schema
        .columns
        .iter()
        .enumerate()
        .filter(|(_, column)| matches!(column.kind, ColumnKind::Field | ColumnKind::Star));
    let (Some((slot, _)), None) = (shown.next(), shown.next()) else { return None };
    match batch.rows.get(row_idx)?.get(slot) {
        Value::Raw(raw) => Some(raw.text().clone()),
        _ => None,
    }
}

/// Renders the options that may hold templates.
struct PropsMaker {
    options: Vec<PropSource>,
    /// The result, if no option holds a template.
    fixed: Option<Props>,
    /// Some template reads fields of dot, so dot must be a row.
    row_wise: bool,
}

enum PropSource {
    None,
    Text(TextOption),
    Map(Vec<(String, TextOption)>),
}

impl PropsMaker {
    fn new(sink_type: &SinkType, own: &Options) -> Result<Self, ConfigError> {
        let mut options = Vec::new();
        let mut row_wise = false;
        let mut read = |path: String, text: &str| -> Result<TextOption, ConfigError> {
            let option = TextOption::new(path, text)?;
            row_wise |= option.reads_dot_fields();
            Ok(option)
        };
        for name in sink_type.templates {
            let value = own.0.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value);
            options.push(match value {
                Some(serde_json::Value::String(text)) => PropSource::Text(read((*name).to_owned(), text)?),
                Some(serde_json::Value::Object(entries)) => {
                    let mut sources = Vec::new();
                    for (key, value) in entries {
                        let text = value.as_str().map_or_else(|| Cow::Owned(value.to_string()), Cow::Borrowed);
                        sources.push((key.clone(), read(format!("{name}.{key}"), &text)?));
                    }
                    PropSource::Map(sources)
                }
                _ => PropSource::None,
            });
        }
        let mut maker = PropsMaker { options, fixed: None, row_wise };
        let is_fixed = |source: &TextOption| source.fixed().is_some();
        if maker.options.iter().all(|option| match option {
            PropSource::None => true,
            PropSource::Text(source) => is_fixed(source),
            PropSource::Map(sources) => sources.iter().all(|(_, source)| is_fixed(source)),
        }) {
            maker.fixed = maker.make(Value::default, &mut Surroundings::at(0)).ok();
        }
        Ok(maker)
    }

    fn make(&self, dot: impl FnOnce() -> Value, surroundings: &mut Surroundings) -> Result<Props, ShapeError> {
        if let Some(props) = &self.fixed {
            return Ok(props.clone());
        }
        let dot = dot();
        let mut text = |source: &TextOption| source.render(&dot, surroundings);
        let mut props = Vec::with_capacity(self.options.len());
        for option in &self.options {
            props.push(match option {
                PropSource::None => Prop::None,
                PropSource::Text(source) => Prop::Text(text(source)?),
                PropSource::Map(sources) => {
                    let mut entries = Vec::with_capacity(sources.len());
                    for (key, source) in sources {
                        entries.push((key.clone(), text(source)?));
                    }
                    Prop::Map(entries)
                }
            });
        }
        Ok(Props(props.into()))
    }
}
