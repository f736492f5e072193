//! Schemas of which a part is not known, because a fault stands further up: so that one fault makes one error, and hides no other.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_schema::{DataType, Field, Schema, SchemaRef};

/// The key under which a schema says that it may have more columns than it names.
const OPEN: &str = "pipeline.open";

/// What is in doubt about a schema. The engine makes such schemas only while it looks for further faults, never for a pipeline that runs;
/// what a stage says about columns in doubt is dropped.
///
/// A column in doubt has Arrow's type `Null`: it is there, but nobody can tell what its type is. An open schema may have any other column.
#[derive(Clone, Copy, Debug)]
pub struct Doubt;

impl Doubt {
    /// A column of which the name alone is known.
    pub fn column(name: &str) -> Arc<Field> {
        Arc::new(Field::new(name, DataType::Null, true))
    }

    /// Is it one?
    pub fn is_in(field: &Field) -> bool {
        field.data_type() == &DataType::Null
    }

    /// A schema after which anything may come: every column of `input` may have another type, and there may be others.
    pub fn open(input: Option<&Schema>) -> SchemaRef {
        let fields: Vec<_> = input.iter().flat_map(|schema| schema.fields().iter()).map(|field| Self::column(field.name())).collect();
        Arc::new(Schema::new_with_metadata(fields, HashMap::from([(OPEN.to_owned(), String::new())])))
    }

    /// May there be columns that it does not name?
    pub fn is_open(schema: &Schema) -> bool {
        schema.metadata().contains_key(OPEN)
    }

    /// Is anything in doubt about it?
    pub fn about(schema: &Schema) -> bool {
        Self::is_open(schema) || schema.fields().iter().any(|field| Self::is_in(field))
    }
}
