//! The stages that are the engine's own: transforms that everybody needs, validation, dedupe.

pub(crate) mod columns;
pub mod dedupe;
mod expression;
pub(crate) mod rejected;
pub(crate) mod selected;
pub mod transforms;
pub mod validate;
pub(crate) mod values;
