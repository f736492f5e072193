//! The times that are held, series by series: for whoever looks for what is missing.

use pipeline_contract::StageError;
use serde_json::{Map, Value};

use super::chunk::Chunk;
use super::key;
use super::series::damaged;

/// The times in a chunk, in microseconds since 1970, oldest first.
///
/// # Errors
/// `storage` when it is damaged.
pub fn times(chunk: &[u8]) -> Result<Vec<i64>, StageError> {
    Chunk::decode(chunk).map(Chunk::into_times).map_err(|fault| damaged(format!("a chunk of keys cannot be read: {fault}")))
}

/// The key columns of a series but the time, by name, as `row_json` has them. `names` are in the order of the key.
///
/// # Errors
/// `storage` when the bytes are no key of so many columns.
pub fn series(bytes: &[u8], names: &[String]) -> Result<Map<String, Value>, StageError> {
    let mut rest = bytes;
    let mut columns = Map::new();
    for name in names {
        let value = key::take(&mut rest).ok_or_else(|| damaged("the name of a series cannot be read".to_owned()))?;
        columns.insert(name.clone(), value);
    }
    if rest.is_empty() { Ok(columns) } else { Err(damaged("the name of a series is longer than its key".to_owned())) }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{BooleanArray, Float64Array, Int64Array, StringArray};
    use pipeline_contract::{ColumnType, arrow, row_json};

    use super::*;
    use crate::stages::dedupe::key::Column;

    #[test]
    fn a_series_is_named_as_its_rows_name_it() {
        let types = [("coin", ColumnType::Text), ("n", ColumnType::Integer), ("f", ColumnType::Float), ("b", ColumnType::Boolean)];
        let schema = pipeline_contract::schema(types.map(|(name, ty)| (name, ty, false)));
        let columns: Vec<arrow::ArrayRef> = vec![
            Arc::new(StringArray::from(vec!["bitcoin", "", "é/\u{0}"])),
            Arc::new(Int64Array::from(vec![7, -1, i64::MIN])),
            Arc::new(Float64Array::from(vec![1.5, -2.25, 1e300])),
            Arc::new(BooleanArray::from(vec![true, false, true])),
        ];
        let batch = arrow::RecordBatch::try_new(schema, columns).unwrap();
        let names: Vec<String> = types.iter().map(|(name, _)| (*name).to_owned()).collect();
        for row in 0..batch.num_rows() {
            let mut bytes = Vec::new();
            for (place, (_, ty)) in types.iter().enumerate() {
                Column::of(&batch, place, *ty).unwrap().key(row, &mut bytes);
            }
            assert_eq!(series(&bytes, &names).unwrap(), row_json(&batch, row));
            for cut in 0..bytes.len() {
                assert!(series(&bytes[..cut], &names).is_err());
            }
            assert!(series(&bytes, &names[..3]).is_err());
        }
    }
}
