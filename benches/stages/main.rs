//! What each stage costs alone, through the contract's traits and the engine's public doors.
//!
//! `cargo bench --bench stages` times all, with `-- dedupe` those with that word in their name. `cargo test --bench stages`, or `-- --test`, runs each
//! once, on fewer rows. Before a stage is timed, what came out of it is compared with what should: a fast reject is no fast row.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a bench may stop where it stands")]

mod candles;
mod coingecko;
mod config;
mod dedupe;
mod expr;
mod file;
mod rig;
mod sink;
mod state;
mod transform;
mod trigger;
mod validate;

use std::time::Duration;

fn main() {
    // What the command line says counts more.
    divan::Divan::default().sample_count(50).max_time(Duration::from_secs(3)).config_with_args().main();
}
