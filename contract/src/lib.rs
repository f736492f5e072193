//! What a pipeline plugin promises and is promised.
//!
//! A plugin is a crate that depends on this one alone (and on `pipeline-http` where it speaks HTTP). It implements [`Plugin`], which
//! builds one of the four stages: a [`Source`], a [`Transform`], a [`Sink`] or a [`Trigger`]. Rows travel as Arrow record batches whose
//! columns have one of five types ([`ColumnType`]) and whose schema is known before anything runs.
//!
//! - A source that brings each split with one answer implements [`SimpleSource`], and needs little else.
//! - Write rows as plain structs with [`rows!`] and get batches.
//! - Write the config as a plain struct; [`parse_config`] types the table and reports every fault where it stands.
//! - Errors of a working stage are [`StageError`]s: they say who must act, and retries and exit codes follow from that.
//! - Clock, randomness, disk, network and request budget are [`Ports`]: a plugin reaches the world through nothing else.
//! - [`testkit`] (feature `testkit`) has stand-ins for all of them.

mod column;
mod config;
mod disk;
mod doubt;
mod error;
mod gap;
mod host;
mod mask;
mod plan;
mod plugin;
mod ports;
mod row;
mod simple;
mod sink;
mod source;
#[cfg(feature = "testkit")]
pub mod testkit;
mod transform;
mod trigger;

/// The Arrow types that the contract speaks, so that a plugin needs no Arrow crate of its own for them.
pub mod arrow {
    pub use arrow_array::{self as array, Array, ArrayRef, RecordBatch};
    pub use arrow_buffer as buffer;
    pub use arrow_schema::{DataType, Field, Schema, SchemaRef};
    pub use arrow_select as select;
}

pub use async_trait::async_trait;
pub use column::{ColumnType, MUST_BE_STORED, instant, rfc3339, schema};
pub use config::{
    ConfigTable, Expansion, Expansions, HumanDuration, Secret, Spanned, listed, nearest, parse_config, parse_partial, slip, table_from_str,
    take_text, unknown_key, unknown_key_beside,
};
pub use disk::{Disk, DiskFile, Metadata, RealDisk, Stamp};
pub use doubt::Doubt;
pub use error::{Act, Category, StageError};
pub use gap::{Filling, Gap, Refusal};
pub use host::is_this_machine;
pub use mask::Mask;
pub use plan::{Level, PlanError, Related, Suggestion, TextPart};
pub use plugin::{BuildContext, Descriptor, Draft, Kind, Plugin, Stage};
pub use ports::{Body, Budget, BudgetLimits, BudgetScope, Clock, Ports, Random, RunContext, Transport, TransportError, TransportFault, Window};
pub use row::{Cell, FromJson, Row, batch_from_json, batch_of_columns, cell_json, described_field, row_json, select_rows};
pub use simple::SimpleSource;
pub use sink::{
    Ahead, BatchStream, Begun, Delivery, Epoch, Filter, Op, Records, Recovery, Sink, SinkCapabilities, SinkContext, SinkInput, SinkPlan, SinkState,
};
pub use source::{Demand, Position, Read, Reader, Reject, Source, SourceCapabilities, Split};
pub use tokio_util::sync::CancellationToken;
pub use transform::{Applied, Transform, TransformRun};
pub use trigger::Trigger;
