//! The engine with no plugin in it: scripted source, sink on a shelf, state in memory, paused time.

mod ahead;
mod beside;
mod commits;
mod gaps;
mod input;
mod runs;
mod ticks;
mod world;
