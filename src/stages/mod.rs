//! The stages that every pipeline may use.

pub mod dedupe;
