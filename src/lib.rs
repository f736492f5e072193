//! The engine of `pipeline`, and its command line: a guided tour.
//!
//! A pipeline is one TOML file: **source -> transforms -> validate -> dedupe -> sink(s)**, fired by a **trigger**. Data flows one way through
//! this crate, too:
//!
//! 1. [`config`] reads the file into a definition and keeps where every key and value stands; [`diagnostic`] shows faults in rustc's look.
//! 2. [`plan`] builds the stages from plugins and checks that they fit each other: pure, all faults at once.
//! 3. [`run`] runs a plan: ticks, splits, epochs, shutdown. It knows neither TOML nor plugins.
//! 4. [`stages`] are the engine's own: validation, dedupe, and the transforms everybody needs.
//! 5. [`state`] remembers, in one transaction an epoch.
//! 6. [`record`] keeps what the network answered, and answers from what was kept.
//! 7. [`testing`] runs the tests that a pipeline file has, through the same engine in a world of their own.
//! 8. [`workspace`] is a folder of pipeline files, read and checked together, and the state of each.
//! 9. [`watch`] judges from the state whether a pipeline is well; [`serve`] runs a folder of them and answers over HTTP; [`notify`] tells a webhook.
//! 10. [`cli`] is the program: one file a command.
//!
//! What a plugin promises and is promised is the crate `pipeline-contract`. No plugin is known here: the binary's `main.rs` lists them.

pub mod cli;
pub mod config;
pub mod diagnostic;
pub mod notify;
pub mod plan;
pub mod record;
pub mod run;
pub mod serve;
pub mod stages;
pub mod state;
pub mod testing;
pub mod watch;
pub mod workspace;
