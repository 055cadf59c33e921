//! Geohashes: cells of the earth as text of base 32, or as 64-bit integers.
//!
//! A hash interleaves the bits of longitude and latitude, longitude first. Both forms go through [`Cell`].

use super::NullPolicy::Null;
use super::define::{arg, array_value, ex, expected, float, gives, object_value, string};
use super::{EvalError, Function, Param, ScalarFn};
use crate::value::{Object, Type, Value};

const DIGITS: &[u8; 32] = b"0123456789bcdefghjkmnpqrstuvwxyz";
/// Digits of a hash made from a place.
const N_DIGITS: u32 = 12;
/// Names, and steps to the east and the north.
const DIRECTIONS: [(&str, i64, i64); 8] = [
    ("North", 0, 1),
    ("NorthEast", 1, 1),
    ("East", 1, 0),
    ("SouthEast", 1, -1),
    ("South", 0, -1),
    ("SouthWest", -1, -1),
    ("West", -1, 0),
    ("NorthWest", -1, 1),
];

/// The functions of this file.
pub(super) fn functions() -> Vec<Function> {
    const PLACE: &str = r#"{"lat":48.8584,"lon":2.2945}"#;
    const HASH: &str = r#"{"h":"u09tun"}"#;
    let place: &'static [Param] = &[Param::Number, Param::Number];
    vec![
        of(place, "geohashencode", gives::string, |args, _| Ok(Value::string(Cell::at(args)?.resized(5 * N_DIGITS).text())))
            .docs("The hash of a latitude and a longitude, 12 digits.", &[ex!("geohashEncode(lat, lon)", PLACE, "\"u09tunquc9zh\"")]),
        of(place, "geohashencodeint", gives::int, |args, _| Ok(Value::from_u64(Cell::at(args)?.hash)))
            .docs("The 64-bit hash of a latitude and a longitude.", &[ex!("geohashEncodeInt(lat, lon)", r#"{"lat":0,"lon":0}"#, "13835058055282163712")]),
        of(&[Param::String], "geohashdecode", gives::object, |args, _| Ok(Cell::of_text(args)?.center()))
            .docs("The centre of a hash's cell.", &[ex!("geohashDecode(h)", r#"{"h":"s"}"#, r#"{"Longitude":22.5,"Latitude":22.5}"#)]),
        of(&[Param::Int], "geohashdecodeint", gives::object, |args, _| Ok(Cell::of_int(args)?.center())).docs(
            "The centre of a 64-bit hash's cell.",
            &[ex!("geohashDecodeInt(h)", r#"{"h":13835058055282163712}"#, r#"{"Longitude":4.190951585769653e-8,"Latitude":2.0954757928848267e-8}"#)],
        ),
        of(&[Param::String], "geohashboundingbox", gives::object, |args, _| Ok(Cell::of_text(args)?.bounds()))
            .docs("The bounds of a hash's cell.", &[ex!("geohashBoundingBox(h)", r#"{"h":"s"}"#, r#"{"MinLat":0,"MaxLat":45,"MinLng":0,"MaxLng":45}"#)]),
        of(&[Param::Int], "geohashboundingboxint", gives::object, |args, _| Ok(Cell::of_int(args)?.bounds())).docs(
            "The bounds of a 64-bit hash's cell.",
            &[ex!("geohashBoundingBoxInt(h)", r#"{"h":0}"#, r#"{"MinLat":-90,"MaxLat":-89.99999995809048,"MinLng":-180,"MaxLng":-179.99999991618097}"#)],
        ),
        of(&[Param::String, Param::String], "geohashneighbor", gives::string, |args, _| {
            Ok(Value::string(Cell::of_text(args)?.towards(args)?.text()))
        })
        .docs(
            "The hash of the cell beside, in a direction: North, NorthEast, East, SouthEast, South, SouthWest, West or NorthWest.",
            &[ex!("geohashNeighbor(h, 'North')", HASH, "\"u09tup\""), ex!("geohashNeighbor(h, 'Up')", HASH, "error")],
        ),
        of(&[Param::Int, Param::String], "geohashneighborint", gives::int, |args, _| {
            Ok(Value::from_u64(Cell::of_int(args)?.towards(args)?.hash))
        })
        .docs("The 64-bit hash of the cell beside, in a direction.", &[ex!("geohashNeighborInt(h, 'East')", r#"{"h":0}"#, "2")]),
        of(&[Param::String], "geohashneighbors", gives::array, |args, _| {
            let cell = Cell::of_text(args)?;
            Ok(array_value(DIRECTIONS.iter().map(|(_, east, north)| Value::string(cell.moved(*east, *north).text())).collect()))
        })
        .docs("The hashes of the eight cells around, from the north clockwise.", &[ex!("geohashNeighbors(h)", r#"{"h":"s"}"#, r#"["u","v","t","m","k","7","e","g"]"#)]),
        of(&[Param::Int], "geohashneighborsint", gives::array, |args, _| {
            let cell = Cell::of_int(args)?;
            Ok(array_value(DIRECTIONS.iter().map(|(_, east, north)| Value::from_u64(cell.moved(*east, *north).hash)).collect()))
        })
        .docs("The 64-bit hashes of the eight cells around, from the north clockwise.", &[ex!(
            "geohashNeighborsInt(h)",
            r#"{"h":3}"#,
            "[6,12,9,8,2,0,1,4]"
        )]),
    ]
}

fn of(params: &'static [Param], name: &'static str, returns: fn(&[Type]) -> Type, body: ScalarFn) -> Function {
    Function::scalar(name, params, returns, body).null(Null)
}

/// A cell: a hash of so many bits.
#[derive(Clone, Copy)]
struct Cell {
    hash: u64,
    n_bits: u32,
}

impl Cell {
    /// The smallest cell around the place that the first two arguments name.
    fn at(args: &[Value]) -> Result<Self, EvalError> {
        let scaled = |idx: usize, range: f64| {
            let degrees = float(args, idx)?;
            if degrees.abs() > range {
                return Err(expected(&format!("between -{range} and {range} degrees"), arg(args, idx)));
            }
            Ok((((degrees + range) / (2.0 * range)) * 2f64.powi(32)).min(2f64.powi(32) - 1.0) as u64)
        };
        let (latitude, longitude) = (scaled(0, 90.0)?, scaled(1, 180.0)?);
        Ok(Cell { hash: interleaved(longitude, latitude, 64), n_bits: 64 })
    }

    fn of_text(args: &[Value]) -> Result<Self, EvalError> {
        let text = string(args, 0)?;
        let mut hash = 0;
        for byte in text.bytes() {
            let digit = DIGITS.iter().position(|digit| *digit == byte);
            let digit = digit.filter(|_| text.len() <= N_DIGITS as usize);
            hash = hash << 5 | digit.ok_or_else(|| expected("a geohash of up to 12 digits", arg(args, 0)))? as u64;
        }
        match text.len() {
            0 => Err(expected("a geohash of up to 12 digits", arg(args, 0))),
            n_digits => Ok(Cell { hash, n_bits: 5 * n_digits as u32 }),
        }
    }

    fn of_int(args: &[Value]) -> Result<Self, EvalError> {
        let hash = match arg(args, 0) {
            Value::Uint(hash) => *hash,
            Value::Int(hash) => *hash as u64,
            value => return Err(expected("a 64-bit geohash", value)),
        };
        Ok(Cell { hash, n_bits: 64 })
    }

    /// The larger cell of so many bits around this one.
    fn resized(self, n_bits: u32) -> Self {
        Cell { hash: self.hash >> (self.n_bits - n_bits), n_bits }
    }

    fn text(self) -> String {
        let digits = (0..self.n_bits / 5).rev().map(|place| DIGITS[(self.hash >> (5 * place) & 31) as usize]);
        digits.map(char::from).collect()
    }

    /// Column and row, and the number of bits of each.
    fn place(self) -> (u64, u64, u32, u32) {
        let (mut column, mut row) = (0, 0);
        for bit in 0..self.n_bits {
            let value = self.hash >> (self.n_bits - 1 - bit) & 1;
            if bit % 2 == 0 {
                column = column << 1 | value;
            } else {
                row = row << 1 | value;
            }
        }
        (column, row, self.n_bits.div_ceil(2), self.n_bits / 2)
    }

    /// The cell so many steps away: around the earth, and not beyond a pole.
    fn moved(self, east: i64, north: i64) -> Self {
        let (column, row, column_bits, row_bits) = self.place();
        let column = (column as i64 + east).rem_euclid(1 << column_bits) as u64;
        let row = (row as i64 + north).clamp(0, (1 << row_bits) - 1) as u64;
        Cell { hash: interleaved(column, row, self.n_bits), n_bits: self.n_bits }
    }

    fn towards(self, args: &[Value]) -> Result<Self, EvalError> {
        let name = string(args, 1)?;
        let direction = DIRECTIONS.iter().find(|(direction, ..)| *direction == name);
        let (_, east, north) =
            direction.ok_or_else(|| expected("a direction like North or SouthEast", arg(args, 1)))?;
        Ok(self.moved(*east, *north))
    }

    /// West, east, south and north end, in degrees.
    fn edges(self) -> [f64; 4] {
        let (column, row, column_bits, row_bits) = self.place();
        let (width, height) = (360.0 / 2f64.powi(column_bits as i32), 180.0 / 2f64.powi(row_bits as i32));
        let (west, south) = (column as f64 * width - 180.0, row as f64 * height - 90.0);
        [west, west + width, south, south + height]
    }

    fn center(self) -> Value {
        let [west, east, south, north] = self.edges();
        let members = [("Longitude", (west + east) / 2.0), ("Latitude", (south + north) / 2.0)];
        object_value(Object::from_iter(members.map(|(name, degrees)| (name, Value::Float(degrees)))))
    }

    fn bounds(self) -> Value {
        let [west, east, south, north] = self.edges();
        let members = [("MinLat", south), ("MaxLat", north), ("MinLng", west), ("MaxLng", east)];
        object_value(Object::from_iter(members.map(|(name, degrees)| (name, Value::Float(degrees)))))
    }
}

/// `n_bits` bits, the first of the column, the second of the row, and so on.
fn interleaved(column: u64, row: u64, n_bits: u32) -> u64 {
    let (mut column_bit, mut row_bit) = (n_bits.div_ceil(2), n_bits / 2);
    (0..n_bits).fold(0, |hash, bit| {
        let (source, place) = if bit % 2 == 0 { (column, &mut column_bit) } else { (row, &mut row_bit) };
        *place -= 1;
        hash << 1 | (source >> *place & 1)
    })
}
