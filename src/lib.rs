//! The engine.

pub mod diagnostic;
