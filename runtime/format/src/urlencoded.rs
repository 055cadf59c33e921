//! Form data: `a=1&b=x%20y`.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use sluice_sql::{Batch, Object, Row, Timestamp, Value};
use smol_str::SmolStr;
use url::form_urlencoded;

use super::declared::Declared;
use super::slots::Slots;
use super::{DecodeArgs, Decoder, EncodeArgs, Encoder, FormatError, delimited};
use crate::error::ConfigError;

/// For the reference page.
pub const DOCS: &str = "Form data (`a=1&b=x%20y`). A name that comes once is a string, one that comes again an array of \
     strings. Writing takes one row per message (`sendSingle`); an array repeats its name.";

struct UrlencodedDecoder {
    slots: Slots,
    declared: Vec<(SmolStr, Declared)>,
}

/// Makes the decoder.
///
/// # Errors
/// None.
pub fn make_decoder(args: &DecodeArgs<'_>) -> Result<Box<dyn Decoder>, ConfigError> {
    let declared = args.fields.iter().map(|field| (field.name.name.clone(), Declared::new(&field.ty))).collect();
    Ok(Box::new(UrlencodedDecoder { slots: Slots::new(args.schema, args.fields), declared }))
}

impl Decoder for UrlencodedDecoder {
    fn decode(
        &mut self,
        payload: &Bytes,
        ts: Timestamp,
        meta: Option<&Arc<Object>>,
        rows: &mut Vec<Row>,
    ) -> Result<(), FormatError> {
        let mut object = Object::default();
        for (name, value) in form_urlencoded::parse(payload) {
            let value = Value::string(value);
            let value = match object.get(&name) {
                None => value,
                Some(Value::Array(values)) => Value::Array(Arc::new(values.iter().cloned().chain([value]).collect())),
                Some(first) => Value::Array(Arc::new(vec![first.clone(), value])),
            };
            object.insert(name, value);
        }
        for (name, ty) in &self.declared {
            if let Some(Value::String(text)) = object.get(name) {
                let value = ty.convert_text(text.clone());
                let value = value.map_err(|message| FormatError(format!("column {name}: {message}")))?;
                object.insert(name.clone(), value);
            }
        }
        rows.push(self.slots.row(Arc::new(object), ts, meta).map_err(FormatError)?);
        Ok(())
    }
}

struct UrlencodedEncoder;

/// Makes the encoder.
///
/// # Errors
/// None.
pub fn make_encoder(_args: &EncodeArgs<'_>) -> Result<Box<dyn Encoder>, ConfigError> {
    Ok(Box::new(UrlencodedEncoder))
}

impl Encoder for UrlencodedEncoder {
    fn encode(
        &mut self,
        batch: &Batch,
        rows: Range<usize>,
        _single: bool,
        out: &mut Vec<u8>,
    ) -> Result<(), FormatError> {
        let [row] = batch.rows.get(rows).unwrap_or_default() else {
            return Err(FormatError("form data holds one row: set sendSingle".to_owned()));
        };
        let mut form = form_urlencoded::Serializer::new(String::new());
        let text = |value: &Value| String::from_utf8_lossy(&delimited::text(value)).into_owned();
        for (name, value) in batch.schema.to_object(row).iter() {
            match value {
                Value::Array(values) => values.iter().for_each(|value| {
                    form.append_pair(name, &text(value));
                }),
                value => {
                    form.append_pair(name, &text(value));
                }
            }
        }
        out.extend_from_slice(form.finish().as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{decode, encode, field};
    use sluice_sql::sql::ast::FieldType;

    #[test]
    fn both_ways() {
        assert_eq!(
            decode(make_decoder, &[], None, b"a=1&b=x+y%26&a=2&c=&a=3"),
            r#"[{"a":["1","2","3"],"b":"x y&","c":""}]"#
        );
        let fields = [field("a", FieldType::Bigint)];
        assert_eq!(decode(make_decoder, &fields, None, b"a=1&b=2"), r#"[{"a":1}]"#);
        assert_eq!(
            decode(make_decoder, &fields, None, b"a=x"),
            "error: column a: expected a bigint, found another text"
        );
        let args = EncodeArgs { fields: None, delimiter: None, header: false };
        assert_eq!(encode(make_encoder, &args, r#"[{"a":[1,2],"b":"x y&","c":null}]"#), "a=1&a=2&b=x+y%26&c=");
        assert_eq!(
            encode(make_encoder, &args, r#"[{"a":1},{"a":2}]"#),
            "error: form data holds one row: set sendSingle"
        );
    }
}
