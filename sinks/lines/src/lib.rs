//! What sinks that store a row a line have in common.
//!
//! A [`Format`] says how a row is written as bytes and how bytes are taken apart again. Everything else is here: paths that rows name,
//! columns and their checks, epochs ([`pipeline_files`] makes the files last), rows that take the place of others, reading back.

mod cell;
mod config;
mod format;
mod layout;
mod making;
mod paths;
mod read;
mod replace;
mod sink;
mod template;
mod window;

pub use cell::{Cell, Column, short};
pub use config::{Checked, ColumnName, Options, check, nowhere};
pub use format::{Cells, Format, LONGEST, Lines, OneByOne, Record, Records, ScanError, Unwritable};
pub use layout::Written;
pub use sink::LinesSink;
pub use window::Window;
