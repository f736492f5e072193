//! The engine.

pub mod stages;
pub mod state;
