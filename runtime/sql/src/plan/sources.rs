//! The sources of a statement and the columns that it reads from them.

use smol_str::SmolStr;

use super::{Catalog, SourceDef, SourceKind};
use crate::sql::SqlError;
use crate::sql::ast::{Field, FieldType, Ident, JoinKind, Select, SourceRef};
use crate::value::{ColumnKind, Type};

/// A source in `FROM` or `JOIN`.
pub(super) struct Source<'a> {
    /// As the catalog knows it.
    pub name: SmolStr,
    /// `AS`
    pub alias: Option<SmolStr>,
    /// What the catalog says.
    pub def: &'a SourceDef,
    /// The columns, if they are known.
    pub fields: Vec<(SmolStr, Type)>,
    /// How it is joined; none for the first.
    pub join: Option<JoinKind>,
    /// The only columns that it has in this statement, if `*` takes others away.
    pub only: Option<Vec<SmolStr>>,
}

impl Source<'_> {
    /// True if `name` means this source.
    pub fn is_called(&self, name: &str) -> bool {
        self.name == name || self.alias.as_ref().is_some_and(|alias| alias == name)
    }

    /// True if any column name may be there.
    pub fn is_schemaless(&self) -> bool {
        self.fields.is_empty()
    }

    /// True for lookup tables.
    pub fn is_lookup(&self) -> bool {
        self.def.kind == SourceKind::LookupTable
    }

    /// True for a column that this statement can't see: a `*` takes it away.
    pub fn hides(&self, name: &str) -> bool {
        self.only.as_ref().is_some_and(|only| only.iter().all(|kept| kept != name))
    }

    /// The declared type of a column.
    pub fn field(&self, name: &str) -> Option<&Type> {
        self.fields.iter().find(|(field, _)| field == name).map(|(_, ty)| ty)
    }
}

/// A slot that the plan needs, before it has a place.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Column {
    /// Where its value comes from.
    pub origin: Origin,
    /// What it holds.
    pub kind: ColumnKind,
    /// Column name, or text of what is computed.
    pub name: SmolStr,
    /// What is known of its values.
    pub ty: Type,
}

/// Where the value of a slot comes from. In the order of the slots of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Origin {
    /// A stream or scan table, by its place among them.
    Input(usize),
    /// Computed per row.
    Computed,
    /// A lookup table, by its place among them.
    Lookup(usize),
    /// An aggregate in `WHERE`.
    WhereAggregate,
    /// An aggregate.
    Aggregate,
    /// `row_number()`
    RowNumber,
}

/// Finds the sources of a statement.
pub(super) fn find_sources<'a>(select: &Select, catalog: &'a Catalog, errors: &mut Vec<SqlError>) -> Vec<Source<'a>> {
    let mut sources: Vec<Source<'a>> = Vec::new();
    let joined = select.joins.iter().map(|join| (&join.source, Some(join.kind)));
    for (reference, join) in std::iter::once((&select.from, None)).chain(joined) {
        let SourceRef { name: Ident { name, span }, alias } = reference;
        let Some(def) = catalog.sources.get(name) else {
            let known = catalog.sources.keys().map(SmolStr::as_str);
            let error = SqlError::new(*span, format!("there is no stream or table \"{name}\""));
            errors.push(error.with_suggestion(name, known));
            continue;
        };
        let called = alias.as_ref().unwrap_or(&reference.name);
        if sources.iter().any(|source| source.is_called(&called.name)) {
            let message = format!("\"{}\" names two sources; give one of them another name with AS", called.name);
            errors.push(SqlError::new(called.span, message));
            continue;
        }
        let fields = declared_fields(def);
        let alias = alias.as_ref().map(|alias| alias.name.clone());
        sources.push(Source { name: name.clone(), alias, def, fields, join, only: None });
    }
    sources
}

/// The columns of a source, if they are known.
pub(super) fn declared_fields(def: &SourceDef) -> Vec<(SmolStr, Type)> {
    if def.fields.is_empty() {
        return def.implied.clone();
    }
    def.fields.iter().map(|field| (field.name.name.clone(), declared_type(&field.ty, def.strict))).collect()
}

/// What is known of the values of a declared column. Without strict validation a `datetime` column holds what arrived: a
/// number or a text.
fn declared_type(ty: &FieldType, strict: bool) -> Type {
    let members = |fields: &[Field]| {
        fields.iter().map(|field| (field.name.name.clone(), declared_type(&field.ty, strict))).collect()
    };
    match ty {
        FieldType::Bigint => Type::Int,
        FieldType::Float => Type::Float,
        FieldType::String => Type::String,
        FieldType::Boolean => Type::Bool,
        FieldType::Bytea => Type::Bytes,
        FieldType::Datetime if strict => Type::Datetime,
        FieldType::Datetime => Type::Any,
        FieldType::Array(element) => Type::Array(Box::new(declared_type(element, strict))),
        FieldType::Struct(fields) => Type::Struct(members(fields)),
    }
}
