//! `pipeline serve`, as its operator and its readers meet it: the binary on a port of its own, between a look-alike and plain HTTP requests.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, unreachable_pub, reason = "a test may stop where it stands")]
#![cfg(unix)]

#[path = "../support/mod.rs"]
mod support;

mod answers;
mod changes;
mod documented;
mod numbers;
mod panics;
mod served;
