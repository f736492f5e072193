//! Rows as plain structs, and rows as JSON.

use std::sync::Arc;

use arrow_array::builder::{BooleanBuilder, Float64Builder, Int64Builder, StringBuilder, TimestampMicrosecondBuilder};
use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{Array, ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow_schema::{ArrowError, SchemaRef};
use chrono::{DateTime, Utc};
use serde_json::{Map, Value};

use crate::{ColumnType, Reject, StageError, instant, rfc3339};

/// A batch of the rows for which `selection` is true.
///
/// # Errors
/// When it is not as long as the batch, which is a fault of the program.
pub fn select_rows(batch: &RecordBatch, selection: &BooleanArray) -> Result<RecordBatch, StageError> {
    arrow_select::filter::filter_record_batch(batch, selection).map_err(|cause| StageError::developer(format!("rows cannot be left out: {cause}")))
}

/// A struct whose fields are columns. Made by [`rows!`](crate::rows).
pub trait Row: Sized {
    /// The columns, in the order of the fields; a field's doc comment is its column's `description` in the metadata.
    fn schema() -> SchemaRef;

    /// The rows as one batch.
    fn batch(rows: &[Self]) -> RecordBatch;
}

/// A type that a field of a [`Row`] may have: `bool`, `i64`, `f64`, `String`, `DateTime<Utc>`, and `Option`s of them.
pub trait Cell: Sized {
    /// Its column type.
    const TYPE: ColumnType;
    /// May it be null?
    const NULLABLE: bool = false;
    /// The cells as a column.
    fn column<'a>(cells: impl Iterator<Item = &'a Self>) -> ArrayRef
    where
        Self: 'a;
}

macro_rules! cells {
    ($($rust:ty, $ty:ident, |$it:ident| $plain:expr, |$opt:ident| $nullable:expr;)*) => {$(
        impl Cell for $rust {
            const TYPE: ColumnType = ColumnType::$ty;
            fn column<'a>($it: impl Iterator<Item = &'a Self>) -> ArrayRef { Arc::new($plain) }
        }
        impl Cell for Option<$rust> {
            const TYPE: ColumnType = ColumnType::$ty;
            const NULLABLE: bool = true;
            fn column<'a>($opt: impl Iterator<Item = &'a Self>) -> ArrayRef { Arc::new($nullable) }
        }
    )*};
}

cells! {
    bool, Boolean, |it| it.map(|v| Some(*v)).collect::<BooleanArray>(), |it| it.copied().collect::<BooleanArray>();
    i64, Integer, |it| it.copied().collect::<Int64Array>(), |it| it.copied().collect::<Int64Array>();
    f64, Float, |it| it.copied().collect::<Float64Array>(), |it| it.copied().collect::<Float64Array>();
    String, Text, |it| it.map(|v| Some(v.as_str())).collect::<StringArray>(), |it| it.map(Option::as_deref).collect::<StringArray>();
    DateTime<Utc>, Timestamp,
        |it| it.map(|t| Some(t.timestamp_micros())).collect::<TimestampMicrosecondArray>().with_timezone("UTC"),
        |it| it.map(|v| v.map(|t| t.timestamp_micros())).collect::<TimestampMicrosecondArray>().with_timezone("UTC");
}

/// Declares a struct whose fields are columns.
///
/// ```
/// use pipeline_contract::{Row, rows};
/// use chrono::{DateTime, Utc};
///
/// rows! {
///     /// One reading of one sensor.
///     pub struct Reading {
///         /// Which sensor.
///         pub sensor: String,
///         /// When.
///         pub timestamp: DateTime<Utc>,
///         /// Degrees Celsius; empty when the sensor was silent.
///         pub celsius: Option<f64>,
///     }
/// }
///
/// let batch = Reading::batch(&[Reading { sensor: "roof".into(), timestamp: DateTime::UNIX_EPOCH, celsius: None }]);
/// assert_eq!(batch.num_columns(), 3);
/// assert!(!Reading::schema().field(0).is_nullable());
/// ```
#[macro_export]
macro_rules! rows {
    ($(#[$meta:meta])* $vis:vis struct $name:ident { $($(#[doc = $doc:expr])* $fvis:vis $field:ident : $ty:ty),* $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq)]
        $vis struct $name { $($(#[doc = $doc])* $fvis $field: $ty),* }

        impl $crate::Row for $name {
            fn schema() -> $crate::arrow::SchemaRef {
                std::sync::Arc::new($crate::arrow::Schema::new(vec![$({
                    let text: &[&str] = &[$($doc),*];
                    $crate::described_field(stringify!($field), <$ty as $crate::Cell>::TYPE, <$ty as $crate::Cell>::NULLABLE, text)
                }),*]))
            }
            fn batch(rows: &[Self]) -> $crate::arrow::RecordBatch {
                $crate::batch_of_columns(<Self as $crate::Row>::schema(), vec![
                    $(<$ty as $crate::Cell>::column(rows.iter().map(|row| &row.$field))),*
                ], rows.len())
            }
        }
    };
}

#[doc(hidden)]
pub fn described_field(name: &str, ty: ColumnType, nullable: bool, doc: &[&str]) -> arrow_schema::Field {
    let text = doc.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ");
    let field = arrow_schema::Field::new(name, ty.arrow(), nullable);
    if text.is_empty() { field } else { field.with_metadata(std::collections::HashMap::from([("description".to_owned(), text)])) }
}

#[doc(hidden)]
#[expect(clippy::expect_used, reason = "`rows!` makes schema and columns from the same fields")]
pub fn batch_of_columns(schema: SchemaRef, columns: Vec<ArrayRef>, rows: usize) -> RecordBatch {
    let options = arrow_array::RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(schema, columns, &options).expect("columns of one row struct agree with its schema")
}

/// One cell as JSON: numbers as numbers, instants as RFC 3339, null and numbers that JSON lacks (NaN, infinities) as `null`.
pub fn cell_json(column: &dyn Array, row: usize) -> Value {
    if column.is_null(row) {
        return Value::Null;
    }
    match ColumnType::of(column.data_type()) {
        Some(ColumnType::Boolean) => Value::Bool(column.as_boolean().value(row)),
        Some(ColumnType::Integer) => column.as_primitive::<Int64Type>().value(row).into(),
        Some(ColumnType::Float) => column.as_primitive::<Float64Type>().value(row).into(),
        Some(ColumnType::Text) => column.as_string::<i32>().value(row).into(),
        Some(ColumnType::Timestamp) => {
            let micros = column.as_primitive::<TimestampMicrosecondType>().value(row);
            instant(micros).map_or_else(|| micros.into(), |at| rfc3339(at).into())
        }
        None => Value::Null,
    }
}

/// One row as a JSON object of its columns.
pub fn row_json(batch: &RecordBatch, row: usize) -> Map<String, Value> {
    batch.schema_ref().fields().iter().zip(batch.columns()).map(|(field, column)| (field.name().clone(), cell_json(column, row))).collect()
}

/// What became of rows given as JSON.
#[derive(Clone, Debug)]
pub struct FromJson {
    /// The rows that fit the schema.
    pub batch: RecordBatch,
    /// For each row of `batch`, its place in the input.
    pub places: Vec<usize>,
    /// Those that do not, with the reason, under the rule `schema`.
    pub rejects: Vec<Reject>,
}

/// Rows from JSON objects as [`row_json`] writes them: a missing key is null, an unknown key or a value of another type rejects the row.
///
/// # Errors
/// When the schema holds a type that is not a [`ColumnType`].
pub fn batch_from_json(schema: &SchemaRef, rows: &[Value]) -> Result<FromJson, ArrowError> {
    let mut places = Vec::new();
    let mut rejects = Vec::new();
    for (place, row) in rows.iter().enumerate() {
        match fits(schema, row) {
            Ok(()) => places.push(place),
            Err(message) => rejects.push(Reject::new(row.clone(), "schema", message)),
        }
    }
    let good: Vec<&Value> = places.iter().filter_map(|place| rows.get(*place)).collect();
    let columns = schema.fields().iter().map(|field| {
        let cells = good.iter().map(|row| row.get(field.name()).unwrap_or(&Value::Null));
        match ColumnType::of(field.data_type()) {
            Some(ty) => Ok(column_from_json(ty, cells)),
            None => Err(ArrowError::SchemaError(format!("column {} has the type {}, which pipelines do not speak", field.name(), field.data_type()))),
        }
    });
    let columns = columns.collect::<Result<Vec<_>, _>>()?;
    let options = arrow_array::RecordBatchOptions::new().with_row_count(Some(good.len()));
    Ok(FromJson { batch: RecordBatch::try_new_with_options(schema.clone(), columns, &options)?, places, rejects })
}

fn fits(schema: &SchemaRef, row: &Value) -> Result<(), String> {
    let Value::Object(row) = row else { return Err("the row is not an object of columns".to_owned()) };
    if let Some(name) = row.keys().find(|name| schema.field_with_name(name).is_err()) {
        return Err(format!("there is no column {name:?}"));
    }
    for field in schema.fields() {
        let value = row.get(field.name()).unwrap_or(&Value::Null);
        let ok = match (ColumnType::of(field.data_type()), value) {
            (_, Value::Null) => field.is_nullable(),
            (Some(ColumnType::Boolean), Value::Bool(_)) | (Some(ColumnType::Text), Value::String(_)) => true,
            (Some(ColumnType::Integer), Value::Number(n)) => n.as_i64().is_some(),
            (Some(ColumnType::Float), Value::Number(_)) => true,
            (Some(ColumnType::Timestamp), Value::String(text)) => DateTime::parse_from_rfc3339(text).is_ok(),
            _ => false,
        };
        if !ok {
            let ty = ColumnType::of(field.data_type()).map_or("?", ColumnType::name);
            return Err(format!("{}: {value} is not {ty}", field.name()));
        }
    }
    Ok(())
}

fn column_from_json<'a>(ty: ColumnType, cells: impl Iterator<Item = &'a Value>) -> ArrayRef {
    match ty {
        ColumnType::Boolean => {
            let mut b = BooleanBuilder::new();
            cells.for_each(|v| b.append_option(v.as_bool()));
            Arc::new(b.finish())
        }
        ColumnType::Integer => {
            let mut b = Int64Builder::new();
            cells.for_each(|v| b.append_option(v.as_i64()));
            Arc::new(b.finish())
        }
        ColumnType::Float => {
            let mut b = Float64Builder::new();
            cells.for_each(|v| b.append_option(v.as_f64()));
            Arc::new(b.finish())
        }
        ColumnType::Text => {
            let mut b = StringBuilder::new();
            cells.for_each(|v| b.append_option(v.as_str()));
            Arc::new(b.finish())
        }
        ColumnType::Timestamp => {
            let mut b = TimestampMicrosecondBuilder::new().with_timezone("UTC");
            cells.for_each(|v| b.append_option(v.as_str().and_then(|t| DateTime::parse_from_rfc3339(t).ok()).map(|t| t.timestamp_micros())));
            Arc::new(b.finish())
        }
    }
}
