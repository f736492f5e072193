//! What a pipeline plugin promises and is promised: traits, batch helpers, errors, ports.

mod column;

pub use column::{ColumnType, instant, rfc3339, schema};
