//! Streams and tables as they are written: the CREATE statement, or the structured form. Both become a [`SourceText`].

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value};
use sluice_crds::{FieldSpec, LookupTableSpec, StreamSpec, TableKind, TimestampSpec};
use sluice_sql::sql::ast::{Create, CreateOption, Field, FieldType, Ident, SourceKeyword, Statement};
use sluice_sql::sql::{Span, SqlError, SqlErrors, parse_statement};

use super::document::Document;
use super::place::Place;
use crate::definition::Origin;
use crate::diagnostic::{Diagnostic, Severity};

/// What both forms say.
#[derive(Debug, Default)]
pub(super) struct SourceText {
    pub name: String,
    /// Of a table; a stream leaves it as it is.
    pub kind: TableKind,
    pub connector: String,
    pub datasource: String,
    pub format: String,
    pub delimiter: Option<String>,
    pub fields: Vec<Field>,
    pub key: Option<String>,
    pub timestamp: Option<String>,
    pub timestamp_format: Option<String>,
    pub strict: bool,
    pub shared: bool,
    /// Rows kept; of a scan table only.
    pub retain: Option<usize>,
    /// `CONF_KEY`
    pub profile: Option<String>,
    /// `EXTRA`
    pub extra: Map<String, Value>,
    /// Options of the statement with the places of their values.
    pub ddl: BTreeMap<String, Span>,
}

/// Rows that a scan table keeps if nothing else is said: all of a file, else the newest.
fn default_retain(connector: &str) -> usize {
    if connector == "file" { 9999 } else { 1 }
}

const FORMAT: &str = "json";

/// Reads a Stream.
pub(super) fn stream(
    document: &Arc<Document>,
    spec: &StreamSpec,
    problems: &mut Vec<Diagnostic>,
) -> Option<SourceText> {
    let named = [
        ("name", spec.name.is_some()),
        ("datasource", spec.datasource.is_some()),
        ("format", spec.format.is_some()),
        ("delimiter", spec.delimiter.is_some()),
        ("fields", !spec.fields.is_empty()),
        ("timestamp", spec.timestamp.is_some()),
        ("strict", spec.strict.is_some()),
        ("shared", spec.shared.is_some()),
    ];
    let connector = match form(document, spec.sql.as_deref(), spec.ty.as_deref(), &named, problems)? {
        Form::Statement(sql) => return statement(document, sql, SourceKeyword::Stream, problems),
        Form::Structured(connector) => connector,
    };
    Some(SourceText {
        name: spec.name.clone().unwrap_or_else(|| document.name.clone()),
        connector: connector.to_owned(),
        datasource: spec.datasource.clone().unwrap_or_default(),
        format: spec.format.as_deref().unwrap_or(FORMAT).to_lowercase(),
        delimiter: spec.delimiter.clone(),
        fields: fields(document, &spec.fields, problems)?,
        timestamp: spec.timestamp.as_ref().map(|timestamp| timestamp.field.clone()),
        timestamp_format: spec.timestamp.as_ref().and_then(|timestamp| timestamp.format.clone()),
        strict: spec.strict.unwrap_or(false),
        shared: spec.shared.unwrap_or(false),
        ..SourceText::default()
    })
}

/// Reads a LookupTable.
pub(super) fn table(
    document: &Arc<Document>,
    spec: &LookupTableSpec,
    problems: &mut Vec<Diagnostic>,
) -> Option<SourceText> {
    let named = [
        ("name", spec.name.is_some()),
        ("kind", spec.kind.is_some()),
        ("datasource", spec.datasource.is_some()),
        ("format", spec.format.is_some()),
        ("delimiter", spec.delimiter.is_some()),
        ("fields", !spec.fields.is_empty()),
        ("key", spec.key.is_some()),
        ("timestamp", spec.timestamp.is_some()),
        ("strict", spec.strict.is_some()),
        ("retainSize", spec.retain_size.is_some()),
    ];
    let text = match form(document, spec.sql.as_deref(), spec.ty.as_deref(), &named, problems)? {
        Form::Statement(sql) => statement(document, sql, SourceKeyword::Table, problems)?,
        Form::Structured(connector) => {
            let scan = spec.kind == Some(TableKind::Scan);
            let retain = spec.retain_size.and_then(|n| usize::try_from(n).ok());
            let timestamp: Option<&TimestampSpec> = spec.timestamp.as_ref();
            SourceText {
                name: spec.name.clone().unwrap_or_else(|| document.name.clone()),
                kind: spec.kind.unwrap_or_default(),
                connector: connector.to_owned(),
                datasource: spec.datasource.clone().unwrap_or_default(),
                format: spec.format.as_deref().unwrap_or(FORMAT).to_lowercase(),
                delimiter: spec.delimiter.clone(),
                fields: fields(document, &spec.fields, problems)?,
                key: spec.key.clone(),
                timestamp: timestamp.map(|timestamp| timestamp.field.clone()),
                timestamp_format: timestamp.and_then(|timestamp| timestamp.format.clone()),
                strict: spec.strict.unwrap_or(false),
                retain: scan.then(|| retain.unwrap_or_else(|| default_retain(connector))),
                ..SourceText::default()
            }
        }
    };
    // Which fields go with which kind; the API server checks the same.
    let of_lookup =
        [("cache", spec.cache.is_some()), ("onError", spec.on_error.is_some()), ("timeout", spec.timeout.is_some())];
    let of_scan = [
        ("retainSize", spec.retain_size.is_some()),
        ("timestamp", spec.timestamp.is_some()),
        ("strict", spec.strict.is_some()),
    ];
    let (wrong, message) = match text.kind {
        TableKind::Scan => (of_lookup, "a scan table holds its rows itself: this is for kind lookup"),
        TableKind::Lookup => (of_scan, "this is for kind scan"),
    };
    let wrong: Vec<&str> = wrong.into_iter().filter(|(_, given)| *given).map(|(name, _)| name).collect();
    problems.extend(wrong.iter().map(|name| document.problem(&format!("spec.{name}"), message)));
    wrong.is_empty().then_some(text)
}

enum Form<'a> {
    Statement(&'a str),
    Structured(&'a str),
}

/// Which of the two forms it is; exactly one is there.
fn form<'a>(
    document: &Document,
    sql: Option<&'a str>,
    ty: Option<&'a str>,
    named: &[(&str, bool)],
    problems: &mut Vec<Diagnostic>,
) -> Option<Form<'a>> {
    match (sql, ty) {
        (Some(_), Some(_)) => {
            let message = "sql says the type already; give either sql or the structured form (type, datasource, ...)";
            problems.push(document.problem("spec.type", message));
            None
        }
        (None, None) => {
            let message =
                "give either sql or the structured form (type, datasource, ...); neither sql nor type is there";
            problems.push(document.problem("spec", message));
            None
        }
        (None, Some(connector)) => Some(Form::Structured(connector)),
        (Some(sql), None) => {
            let twice: Vec<&str> = named.iter().filter(|(_, given)| *given).map(|(name, _)| *name).collect();
            for name in &twice {
                let message = "sql says this already; it goes with the structured form (type, datasource, ...)";
                problems.push(document.problem(&format!("spec.{name}"), message));
            }
            twice.is_empty().then_some(Form::Statement(sql))
        }
    }
}

fn statement(
    document: &Arc<Document>,
    sql: &str,
    keyword: SourceKeyword,
    problems: &mut Vec<Diagnostic>,
) -> Option<SourceText> {
    let mut errors = Vec::new();
    let mut warnings = Vec::new();
    let text = match parse_statement(sql) {
        Ok(Statement::Create(create)) if create.keyword == keyword => {
            Some(read_create(create, &mut errors, &mut warnings))
        }
        Ok(statement) => {
            let (expected, kind) = match keyword {
                SourceKeyword::Stream => ("CREATE STREAM", "LookupTable"),
                SourceKeyword::Table => ("CREATE TABLE", "Stream"),
            };
            let message = match statement {
                Statement::Create(_) => {
                    format!("expected {expected}; this statement belongs in an object of kind {kind}")
                }
                Statement::Select(_) => format!("expected {expected}; a SELECT belongs in an object of kind Rule"),
                _ => format!("expected {expected}"),
            };
            problems.push(document.problem("spec.sql", message));
            return None;
        }
        Err(found) => {
            errors = found.errors;
            None
        }
    };
    let origin = Origin {
        resource: document.resource(),
        place: Some(Arc::new(Place { document: Arc::clone(document), ddl: BTreeMap::new(), profile: BTreeMap::new() })),
        ..Origin::default()
    };
    let mut show = |errors: Vec<SqlError>, severity: Severity| {
        let errors = SqlErrors { sql: sql.to_owned(), errors };
        problems
            .extend(origin.sql_problems("spec.sql", &errors).into_iter().map(|found| found.with_severity(severity)));
    };
    let wrong = !errors.is_empty();
    show(errors, Severity::Error);
    show(warnings, Severity::Warning);
    text.filter(|_| !wrong)
}

fn read_create(create: Create, errors: &mut Vec<SqlError>, warnings: &mut Vec<SqlError>) -> SourceText {
    let is_table = create.keyword == SourceKeyword::Table;
    let mut text = SourceText {
        name: create.name.name.to_string(),
        // As in the statement's own language: a table is a scan table unless it says otherwise.
        kind: if is_table { TableKind::Scan } else { TableKind::Lookup },
        connector: if is_table { "file".to_owned() } else { "mqtt".to_owned() },
        format: FORMAT.to_owned(),
        fields: create.fields.into_iter().map(without_place).collect(),
        ..SourceText::default()
    };
    let mut retain = None;
    // The parser has checked the names, and that flags are flags, numbers are numbers and EXTRA is an object.
    for CreateOption { name, value, value_span } in create.options {
        let option = name.name.to_uppercase();
        let value = value.to_string();
        let is_true = value.eq_ignore_ascii_case("true");
        let mut fail = |message: String| errors.push(SqlError::new(name.span, message));
        text.ddl.insert(option.clone(), value_span);
        match option.as_str() {
            "DATASOURCE" => text.datasource = value,
            "TYPE" => text.connector = value,
            "FORMAT" => text.format = value.to_lowercase(),
            "DELIMITER" => text.delimiter = Some(value),
            "KEY" => text.key = Some(value),
            "CONF_KEY" => text.profile = Some(value),
            "TIMESTAMP" => text.timestamp = Some(value),
            "TIMESTAMP_FORMAT" => text.timestamp_format = Some(value),
            "STRICT_VALIDATION" => text.strict = is_true,
            "SHARED" => text.shared = is_true,
            "EXTRA" => text.extra = serde_json::from_str(&value).unwrap_or_default(),
            "KIND" | "RETAIN_SIZE" if !is_table => fail(format!("{option} is for tables")),
            "KIND" if value.eq_ignore_ascii_case("lookup") => text.kind = TableKind::Lookup,
            "KIND" => text.kind = TableKind::Scan,
            "RETAIN_SIZE" => retain = value.parse().ok(),
            "VERSION" | "TEMP" => {
                warnings.push(SqlError::new(name.span, format!("{option} has no effect here; remove it")));
            }
            _ => fail(format!("{option} is not supported yet")),
        }
    }
    if is_table && text.kind == TableKind::Scan {
        text.retain = Some(retain.unwrap_or_else(|| default_retain(&text.connector)));
    }
    text
}

/// Structured columns: name, type and default are read by the parser of the statement, so that both forms mean the same.
fn fields(document: &Document, specs: &[FieldSpec], problems: &mut Vec<Diagnostic>) -> Option<Vec<Field>> {
    let mut fields: Vec<Field> = Vec::with_capacity(specs.len());
    let before = problems.len();
    for (field_idx, spec) in specs.iter().enumerate() {
        let path = |field: &str| format!("spec.fields[{field_idx}].{field}");
        if fields.iter().any(|known| known.name.name == spec.name.as_str()) {
            problems.push(document.problem(&path("name"), format!("column \"{}\" is there twice", spec.name)));
            continue;
        }
        let field = match column(&spec.name, &spec.ty, None) {
            Ok(field) => field,
            Err(message) => {
                problems.push(document.problem(&path("type"), message));
                continue;
            }
        };
        match spec.default.as_deref().map(|default| column(&spec.name, &spec.ty, Some(default))) {
            None => fields.push(field),
            Some(Ok(field)) => fields.push(field),
            Some(Err(message)) => problems.push(document.problem(&path("default"), message)),
        }
    }
    (problems.len() == before).then_some(fields)
}

fn column(name: &str, ty: &str, default: Option<&str>) -> Result<Field, String> {
    let default = default.map(|default| format!(" DEFAULT {default}")).unwrap_or_default();
    let sql = format!("CREATE STREAM s (`{name}` {ty}{default}) WITH (FORMAT=\"json\")");
    let wrong = || "expected one column's type, such as bigint, array(float) or struct(a string)".to_owned();
    match parse_statement(&sql) {
        Ok(Statement::Create(mut create)) if create.fields.len() == 1 && create.options.len() == 1 => {
            create.fields.pop().map(without_place).ok_or_else(wrong)
        }
        Ok(_) => Err(wrong()),
        Err(errors) => match errors.errors.into_iter().next() {
            Some(SqlError { message, hint: Some(hint), .. }) => Err(format!("{message}, {hint}")),
            Some(SqlError { message, .. }) => Err(message),
            None => Err(wrong()),
        },
    }
}

/// A column without its place: a definition is the same wherever it stands.
fn without_place(field: Field) -> Field {
    let name = Ident { name: field.name.name, span: Span::default() };
    Field { name, ty: type_without_place(field.ty), default: field.default }
}

fn type_without_place(ty: FieldType) -> FieldType {
    match ty {
        FieldType::Array(element) => FieldType::Array(Box::new(type_without_place(*element))),
        FieldType::Struct(fields) => FieldType::Struct(fields.into_iter().map(without_place).collect()),
        other => other,
    }
}
