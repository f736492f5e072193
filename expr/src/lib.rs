//! SQL expressions over Arrow batches: parsed, type-checked against a schema, evaluated column by column.
