//! Plain files that grow and change by epochs: a crash leaves the old epoch or the new one, whole.
//!
//! A sink that stores rows in files owns a [`FileSet`]. It gives it bytes; they stay in memory until `prepare`, which makes them durable
//! but not yet counted: an existing file gets them behind its committed length, a new or rewritten one is made under a temporary name
//! beside its place. The engine then saves the [`SinkState`](pipeline_contract::SinkState), and from there on the new length counts;
//! `commit` renames. What a file looked like when it was last committed (length, hash of its header and of its last 4 KiB) is its record,
//! so that whatever somebody else did to it is noticed, and never touched.
//!
//! Everything goes through the [`Disk`](pipeline_contract::Disk) port, and nothing is relied on that was not synced. Files are opened one
//! at a time (two while one is rewritten), however many an epoch touches.

mod adopt;
mod appended;
mod commit;
pub mod decimal;
mod error;
mod folder;
mod found;
mod mark;
pub mod name;
mod prepare;
pub mod room;
mod set;
pub mod text;
pub mod threads;
pub mod time;

pub use adopt::{Root, adopt, list_files, probe};
pub use error::io_error;
pub use mark::committed_len;
pub use set::{Edit, EditError, FileSet, FileStatus};
