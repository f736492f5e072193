//! The engine.

pub mod config;
pub mod diagnostic;
