//! All keys of a batch in one statement over a table.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use sluice_sql::operators::LookupKey;
use sluice_sql::sql::nearest;
use sluice_sql::{Object, Row, Value};
use smol_str::SmolStr;

use super::keys::{self, KeyType};
use crate::connection::sql::{LentConnection, Param, SqlClient, SqlColumn, SqlDialect};
use crate::error::ConnectorError;
use crate::format::json;
use crate::format::slots::{Slots, set};
use crate::lookup::{Found, LookupArgs};

/// A table, and the columns by which it is asked.
pub(super) struct TableQuery {
    /// The SQL name, for messages.
    name: String,
    /// The name in the database.
    table: String,
    key_columns: Vec<SmolStr>,
    /// Learned from the database with each new connection.
    layout: Mutex<Option<Arc<Layout>>>,
    has_warned: AtomicBool,
}

impl TableQuery {
    pub fn new(args: &LookupArgs<'_>) -> Self {
        TableQuery {
            name: args.table.table.to_owned(),
            table: args.table.datasource.to_owned(),
            key_columns: args.key_columns.to_vec(),
            layout: Mutex::default(),
            has_warned: AtomicBool::new(false),
        }
    }

    /// Asks the database what the table looks like.
    pub async fn describe(
        &self,
        dialect: SqlDialect,
        connection: &mut LentConnection<'_>,
        slots: &Slots,
    ) -> Result<(), ConnectorError> {
        let columns = connection.columns(&self.table).await?;
        let layout = Layout::new(dialect, &self.table, &self.key_columns, slots, &columns)?;
        *self.layout.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(layout));
        Ok(())
    }

    pub async fn lookup(
        &self,
        client: &SqlClient,
        slots: &Slots,
        keys: &[LookupKey],
    ) -> Result<Vec<Found>, ConnectorError> {
        let layout = self.layout.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(layout) = layout else {
            return Err(ConnectorError::internal("asked before it was connected"));
        };
        let mut found: Vec<Found> = keys.iter().map(|_| Ok(Vec::new())).collect();
        let admitted = self.admit(&layout, keys);
        if admitted.params.is_empty() {
            return Ok(found);
        }
        let (sql, params) = layout.statement(admitted.params);
        let mut connection = client.take().await?;
        let rows = connection.fetch(&sql, params).await?;
        connection.keep();
        for mut values in rows.rows {
            layout.finish(&mut values);
            // What the database thinks equal and we do not belongs to no key.
            let Some(key_idxs) = admitted.places.get(&layout.key(&values)) else { continue };
            let row = layout.row(slots, values);
            for key_idx in key_idxs {
                match (found.get_mut(*key_idx), &row) {
                    (Some(Ok(rows)), Ok(row)) => rows.push(row.clone()),
                    (Some(found @ Ok(_)), Err(message)) => {
                        *found = Err(ConnectorError::user(format!("a row of table {}: {message}", self.table)));
                    }
                    _ => {}
                }
            }
        }
        Ok(found)
    }

    fn admit(&self, layout: &Layout, keys: &[LookupKey]) -> Admitted {
        let mut admitted = Admitted { places: HashMap::with_capacity(keys.len()), params: Vec::new() };
        for (key_idx, key) in keys.iter().enumerate() {
            let values = layout.keys.iter().zip(&key.0).map(|(column, value)| column.ty.admit(value));
            let Some(values) = values.collect::<Option<Vec<_>>>() else {
                self.warn_if_foreign(layout, key);
                continue;
            };
            let (values, params): (Vec<Value>, Vec<Param>) = values.into_iter().unzip();
            let places = admitted.places.entry(LookupKey(values.into())).or_default();
            if places.is_empty() {
                admitted.params.push(params);
            }
            places.push(key_idx);
        }
        admitted
    }

    /// A number for a text column matches nothing, which is seldom what was meant: says so once.
    fn warn_if_foreign(&self, layout: &Layout, key: &LookupKey) {
        for (column, (ty, value)) in self.key_columns.iter().zip(layout.keys.iter().map(|key| key.ty).zip(&key.0)) {
            if ty.is_foreign(value) && !self.has_warned.swap(true, Ordering::Relaxed) {
                let Self { name, table, .. } = self;
                let kind = value.kind_name();
                tracing::warn!(
                    connector = name,
                    "keys of kind {kind} never match column {column} of table {table}, which has another type: use cast()"
                );
            }
        }
    }
}

/// Keys that the columns can hold.
struct Admitted {
    /// Which of the asked keys a key of the database is; two spellings of a UUID are one.
    places: HashMap<LookupKey, Vec<usize>>,
    /// One list per key.
    params: Vec<Vec<Param>>,
}

/// How the table is asked, and what its rows become.
#[derive(Debug)]
struct Layout {
    dialect: SqlDialect,
    /// `SELECT ... FROM ... WHERE `
    head: String,
    /// In the order of the key columns.
    keys: Vec<KeyColumn>,
    selected: Vec<Selected>,
    /// For each named slot, in the order of `Slots::fields`, the selected column.
    fields: Vec<usize>,
}

#[derive(Debug)]
struct KeyColumn {
    /// Its place among the selected.
    place: usize,
    /// Quoted, cast if need be.
    sql: String,
    ty: KeyType,
}

#[derive(Debug)]
struct Selected {
    name: SmolStr,
    /// Comes as JSON text.
    is_json: bool,
}

impl Layout {
    fn new(
        dialect: SqlDialect,
        table: &str,
        key_columns: &[SmolStr],
        slots: &Slots,
        columns: &[SqlColumn],
    ) -> Result<Self, ConnectorError> {
        let mut selected: Vec<&SqlColumn> = Vec::new();
        let mut select = |column| {
            selected.iter().position(|selected| *selected == column).unwrap_or_else(|| {
                selected.push(column);
                selected.len() - 1
            })
        };
        if slots.star.is_some() {
            columns.iter().for_each(|column| {
                select(column);
            });
        }
        let fields = slots.fields.iter().map(|slot| Ok(select(find(table, columns, &slot.name)?)));
        let fields = fields.collect::<Result<_, ConnectorError>>()?;
        let keys = key_columns.iter().map(|name| {
            let column = find(table, columns, name)?;
            let ty = KeyType::of(dialect, &column.ty);
            let quoted = dialect.quote(&column.name);
            let sql = match (ty, dialect.select(column).0) {
                (KeyType::AsText, selected) if selected == quoted => format!("{quoted}::text"),
                (KeyType::AsText, selected) => selected,
                _ => quoted,
            };
            Ok(KeyColumn { place: select(column), sql, ty })
        });
        let keys = keys.collect::<Result<_, ConnectorError>>()?;
        let mut list = Vec::with_capacity(selected.len());
        let mut finished = Vec::with_capacity(selected.len());
        for column in selected {
            let (sql, is_json) = dialect.select(column);
            list.push(sql);
            finished.push(Selected { name: column.name.clone(), is_json });
        }
        let head = format!("SELECT {} FROM {} WHERE ", list.join(", "), dialect.quote_path(table));
        Ok(Layout { dialect, head, keys, selected: finished, fields })
    }

    /// The statement for these keys. The number of its placeholders is rounded up by repeating the last key, so that a
    /// connection has few statements to keep.
    fn statement(&self, mut params: Vec<Vec<Param>>) -> (Arc<str>, Vec<Param>) {
        if self.dialect == SqlDialect::Postgres {
            return self.list_statement(params);
        }
        let n_keys = params.len().next_power_of_two();
        if let Some(last) = params.last().cloned() {
            params.resize(n_keys, last);
        }
        let mut sql = self.head.clone();
        match self.keys.as_slice() {
            [key] => {
                let marks = vec!["?"; n_keys].join(", ");
                // Writing to a string does not fail.
                let _ = write!(sql, "{} IN ({marks})", key.sql);
            }
            keys => {
                let one = keys.iter().map(|key| format!("{} = ?", key.sql)).collect::<Vec<_>>().join(" AND ");
                sql.push_str(&vec![format!("({one})"); n_keys].join(" OR "));
            }
        }
        (sql.into(), params.into_iter().flatten().collect())
    }

    /// PostgreSQL takes each key column's values as one list.
    fn list_statement(&self, params: Vec<Vec<Param>>) -> (Arc<str>, Vec<Param>) {
        let lists: Vec<(Param, &str)> = self
            .keys
            .iter()
            .enumerate()
            .map(|(place, key)| keys::list(key.ty, params.iter().filter_map(|params| params.get(place).cloned())))
            .collect();
        let marks: Vec<String> =
            lists.iter().enumerate().map(|(place, (_, cast))| format!("${}::{cast}", place + 1)).collect();
        let columns: Vec<&str> = self.keys.iter().map(|key| key.sql.as_str()).collect();
        let sql = match (columns.as_slice(), marks.as_slice()) {
            ([column], [mark]) => format!("{}{column} = ANY({mark})", self.head),
            _ => format!("{}({}) IN (SELECT * FROM unnest({}))", self.head, columns.join(", "), marks.join(", ")),
        };
        (sql.into(), lists.into_iter().map(|(list, _)| list).collect())
    }

    /// Makes the values what they stand for.
    fn finish(&self, values: &mut [Value]) {
        for (value, selected) in values.iter_mut().zip(&self.selected) {
            if let (true, Value::String(text)) = (selected.is_json, &*value)
                && let Ok(parsed) = json::parse_value(text.as_bytes())
            {
                *value = parsed;
            }
        }
    }

    fn key(&self, values: &[Value]) -> LookupKey {
        LookupKey(self.keys.iter().map(|key| values.get(key.place).cloned().unwrap_or_default()).collect())
    }

    fn row(&self, slots: &Slots, values: Vec<Value>) -> Result<Row, String> {
        let mut row = slots.empty(0, None);
        for (slot, place) in slots.fields.iter().zip(&self.fields) {
            let value = values.get(*place).cloned().unwrap_or_default();
            let value = slot.ty.convert(value).map_err(|message| format!("column {}: {message}", slot.name))?;
            set(&mut row, slot.idx, value);
        }
        if let Some(star) = slots.star {
            let names = self.selected.iter().map(|selected| selected.name.clone());
            let object = Value::Object(Arc::new(Object::from_iter(names.zip(values))));
            let object = match &slots.star_declared {
                Some(declared) => declared.convert(object).map_err(|message| format!("column {message}"))?,
                None => object,
            };
            set(&mut row, star, object);
        }
        Ok(row)
    }
}

/// The table's column of that name; databases may write it in another case.
fn find<'a>(table: &str, columns: &'a [SqlColumn], name: &str) -> Result<&'a SqlColumn, ConnectorError> {
    let exact = columns.iter().find(|column| column.name == name);
    exact.or_else(|| columns.iter().find(|column| column.name.eq_ignore_ascii_case(name))).ok_or_else(|| {
        let hint = match nearest(name, columns.iter().map(|column| column.name.as_str())) {
            Some(near) => format!("did you mean {near}?"),
            None => {
                let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
                format!("it has {}", names.join(", "))
            }
        };
        ConnectorError::user(format!("table {table} has no column {name}; {hint}"))
    })
}
