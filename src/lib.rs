//! The engine.

pub mod state;
