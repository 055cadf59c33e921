//! `CREATE STREAM` and `CREATE TABLE`: columns, types, defaults.

use smol_str::{SmolStr, format_smolstr};
use sqlparser::tokenizer::Token;

use super::SqlError;
use super::ast::{Create, ExprKind, Field, FieldType, Ident, Literal, SourceKeyword};
use super::parser::{Failed, Parsed, Parser, bare_word};

const TYPES: [&str; 8] = ["BIGINT", "FLOAT", "STRING", "BYTEA", "DATETIME", "BOOLEAN", "ARRAY", "STRUCT"];

impl Parser<'_> {
    /// From behind the name.
    pub(super) fn create(&mut self, keyword: SourceKeyword, name: Ident) -> Parsed<Create> {
        if *self.token() != Token::LParen {
            let hint = "write () for a source without declared columns";
            return Err(self.unexpected_or(&["\"(\" and the columns"], &[], Some(hint.to_owned())));
        }
        self.advance();
        let fields = match self.fields(true) {
            Ok(fields) => fields,
            Err(Failed) => {
                self.skip_to(0, |parser| parser.at("WITH"));
                Vec::new()
            }
        };
        self.expect_keyword(&["WITH"])?;
        self.expect_symbol(&Token::LParen, "\"(\"")?;
        let options = self.options()?;
        if self.errors.is_empty() { Ok(Create { keyword, name, fields, options }) } else { Err(Failed) }
    }

    /// Columns or members from behind the `(`, with the `)`. Each one is checked, whatever is wrong with others.
    fn fields(&mut self, may_be_empty: bool) -> Parsed<Vec<Field>> {
        if may_be_empty && self.take_symbol(&Token::RParen) {
            return Ok(Vec::new());
        }
        let depth = self.lexeme().depth;
        let mut fields: Vec<Field> = Vec::new();
        let mut failed = false;
        loop {
            match self.field() {
                Ok(field) => {
                    if fields.iter().any(|other| other.name.name == field.name.name) {
                        self.fail(field.name.span, format!("the column \"{}\" is declared twice", field.name.name));
                    }
                    fields.push(field);
                }
                Err(Failed) => {
                    failed = true;
                    self.skip_to(depth, |parser| *parser.token() == Token::Comma);
                }
            }
            let more = self.take_symbol(&Token::Comma);
            if self.take_symbol(&Token::RParen) {
                return if failed { Err(Failed) } else { Ok(fields) };
            }
            if !more {
                return Err(self.unexpected(&["\",\"", "\")\""]));
            }
        }
    }

    fn field(&mut self) -> Parsed<Field> {
        let name = self.ident()?;
        let ty = self.field_type()?;
        let default = if self.take("DEFAULT") { Some(self.default_value(&ty)?) } else { None };
        if !matches!(self.token(), Token::Comma | Token::RParen) {
            let expected: &[&'static str] =
                if default.is_some() { &["\",\"", "\")\""] } else { &["DEFAULT", "\",\"", "\")\""] };
            return Err(self.unexpected(expected));
        }
        Ok(Field { name, ty, default })
    }

    /// A declared type.
    pub(super) fn field_type(&mut self) -> Parsed<FieldType> {
        let Some(word) = self.at_any(&TYPES) else {
            let known = bare_word(self.token()).and_then(type_meant).map(|ty| format!("did you mean {ty}?"));
            return Err(self.unexpected_or(
                &["a type (BIGINT, FLOAT, STRING, BYTEA, DATETIME, BOOLEAN, ARRAY, STRUCT)"],
                &TYPES,
                known,
            ));
        };
        self.advance();
        Ok(match word {
            "BIGINT" => FieldType::Bigint,
            "FLOAT" => FieldType::Float,
            "STRING" => FieldType::String,
            "BYTEA" => FieldType::Bytea,
            "DATETIME" => FieldType::Datetime,
            "BOOLEAN" => FieldType::Boolean,
            "ARRAY" => {
                self.expect_symbol(&Token::LParen, "\"(\" and the type of the elements")?;
                let element = self.nested(|parser| parser.field_type())?;
                self.expect_symbol(&Token::RParen, "\")\"")?;
                FieldType::Array(Box::new(element))
            }
            _ => {
                self.expect_symbol(&Token::LParen, "\"(\" and the members")?;
                FieldType::Struct(self.nested(|parser| parser.fields(false))?)
            }
        })
    }

    /// The literal behind `DEFAULT`, converted to the column's type.
    fn default_value(&mut self, ty: &FieldType) -> Parsed<Literal> {
        let start = self.span();
        let literal = match self.token() {
            Token::Number(..) => self.number(start, false)?.kind,
            Token::Minus if matches!(self.token_ahead(1), Token::Number(..)) => {
                self.advance();
                self.number(start, true)?.kind
            }
            Token::SingleQuotedString(_) | Token::DoubleQuotedString(_) => {
                ExprKind::Literal(Literal::String(self.text().unwrap_or(Err(Failed))?))
            }
            _ => match self.at_any(&["TRUE", "FALSE"]) {
                Some(word) => {
                    self.advance();
                    ExprKind::Literal(Literal::Bool(word == "TRUE"))
                }
                None => return Err(self.unexpected(&["a number", "a text", "TRUE", "FALSE"])),
            },
        };
        let ExprKind::Literal(literal) = literal else { return Err(Failed) };
        let span = start.to(self.prev_span());
        match convert(&literal, ty) {
            Some(value) => Ok(value),
            None if matches!(ty, FieldType::Bigint | FieldType::Float | FieldType::Boolean) => {
                Err(self.fail(span, format!("the default {literal} cannot be made a {ty}")))
            }
            None => {
                let message = format!("a column of type {ty} cannot have a default");
                let hint = "only BIGINT, FLOAT, STRING and BOOLEAN can";
                Err(self.fail_with(SqlError::new(span, message).with_hint(hint)))
            }
        }
    }
}

/// The literal as a value of the type, as `cast` would make it.
fn convert(literal: &Literal, ty: &FieldType) -> Option<Literal> {
    Some(match (ty, literal) {
        (FieldType::Bigint, Literal::Int(_)) | (FieldType::Float, Literal::Float(_)) => literal.clone(),
        (FieldType::Bigint, Literal::Float(value)) if value.fract() == 0.0 && value.abs() < 9.2e18 => {
            Literal::Int(*value as i64)
        }
        (FieldType::Bigint, Literal::Bool(value)) => Literal::Int(i64::from(*value)),
        (FieldType::Bigint, Literal::String(text)) => Literal::Int(text.parse().ok()?),
        (FieldType::Float, Literal::Int(value)) => Literal::Float(*value as f64),
        (FieldType::Float, Literal::Bool(value)) => Literal::Float(f64::from(u8::from(*value))),
        (FieldType::Float, Literal::String(text)) => {
            Literal::Float(text.parse().ok().filter(|value: &f64| value.is_finite())?)
        }
        (FieldType::String, Literal::String(_)) | (FieldType::Boolean, Literal::Bool(_)) => literal.clone(),
        (FieldType::String, Literal::Int(value)) => Literal::String(format_smolstr!("{value}")),
        (FieldType::String, Literal::Float(value)) => Literal::String(format_smolstr!("{value}")),
        (FieldType::String, Literal::Bool(value)) => {
            Literal::String(SmolStr::new_static(if *value { "true" } else { "false" }))
        }
        (FieldType::Boolean, Literal::Int(value)) => Literal::Bool(*value != 0),
        (FieldType::Boolean, Literal::Float(value)) => Literal::Bool(*value != 0.0),
        (FieldType::Boolean, Literal::String(text)) => match text.as_str() {
            "1" | "t" | "T" | "TRUE" | "true" | "True" => Literal::Bool(true),
            "0" | "f" | "F" | "FALSE" | "false" | "False" => Literal::Bool(false),
            _ => return None,
        },
        _ => return None,
    })
}

/// The type that a word out of other languages stands for.
fn type_meant(word: &str) -> Option<&'static str> {
    match word.to_ascii_lowercase().as_str() {
        "int" | "integer" | "smallint" | "tinyint" | "int64" | "long" => Some("BIGINT"),
        "double" | "real" | "decimal" | "numeric" | "float64" => Some("FLOAT"),
        "text" | "varchar" | "char" => Some("STRING"),
        "bytes" | "blob" | "binary" | "varbinary" => Some("BYTEA"),
        "timestamp" | "date" | "time" => Some("DATETIME"),
        "bool" => Some("BOOLEAN"),
        "list" => Some("ARRAY"),
        "object" | "row" | "map" | "json" => Some("STRUCT"),
        _ => None,
    }
}
