//! A process that dies: at a moment, at an effect on disk or state, or at an await point.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::task::{Context, Poll};

use super::Dice;

/// Whether the process lives, and what ends it. Once it is dead nothing that it does has an effect.
pub struct Life {
    dead: AtomicBool,
    /// Effects that are still to come; below zero there is no end to them.
    effects: AtomicI64,
    /// Polls of the engine after the next request that are still to come; below zero there is no end to them.
    polls: AtomicI64,
    /// A request was sent since the process began.
    asked: AtomicBool,
    dice: Mutex<Dice>,
}

impl Life {
    pub fn new(seed: u64) -> Self {
        Self {
            dead: AtomicBool::new(false),
            effects: AtomicI64::new(-1),
            polls: AtomicI64::new(-1),
            asked: AtomicBool::new(false),
            dice: Mutex::new(Dice::new(seed, "life")),
        }
    }

    pub fn dice(&self) -> MutexGuard<'_, Dice> {
        self.dice.lock().unwrap()
    }

    /// A new process, which nothing ends yet.
    pub fn begin(&self) {
        self.dead.store(false, Ordering::SeqCst);
        self.asked.store(false, Ordering::SeqCst);
        self.effects.store(-1, Ordering::SeqCst);
        self.polls.store(-1, Ordering::SeqCst);
    }

    /// It dies at its effect number `n`, which is not done any more (a write is, by half).
    pub fn ends_at_effect(&self, n: i64) {
        self.effects.store(n, Ordering::SeqCst);
    }

    /// It dies `n` polls after its next request.
    pub fn ends_at_poll(&self, n: i64) {
        self.polls.store(n, Ordering::SeqCst);
    }

    pub fn asked(&self) {
        self.asked.store(true, Ordering::SeqCst);
    }

    pub fn is_dead(&self) -> bool {
        self.dead.load(Ordering::SeqCst)
    }

    pub fn kill(&self) {
        self.dead.store(true, Ordering::SeqCst);
    }

    /// May something be changed?
    pub fn effect(&self) -> bool {
        if self.effects.load(Ordering::SeqCst) > 0 && self.effects.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.kill();
        }
        !self.is_dead()
    }

    fn polled(&self) {
        if self.asked.load(Ordering::SeqCst) && self.polls.load(Ordering::SeqCst) > 0 && self.polls.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.kill();
        }
    }
}

/// A future that ends with the life: `None` is death.
pub struct Mortal<'a, F> {
    pub inner: Pin<Box<F>>,
    pub life: &'a Life,
}

impl<F: Future> Future for Mortal<'_, F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.life.polled();
        if self.life.is_dead() {
            return Poll::Ready(None);
        }
        let polled = self.inner.as_mut().poll(cx);
        if self.life.is_dead() { Poll::Ready(None) } else { polled.map(Some) }
    }
}
