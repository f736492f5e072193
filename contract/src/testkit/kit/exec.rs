//! Polling by hand: no runtime, and a future can be dropped after any poll.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Duration;

use super::world::KitClock;
use crate::{CancellationToken, Clock};

/// A call that takes more polls, or more virtual time, does not end.
const POLLS: usize = 100_000;
const LONGEST: Duration = Duration::from_secs(60 * 24 * 3600);
/// How long a call may wait for something that is no port, as a thread of its own.
const REAL: Duration = Duration::from_secs(20);

struct Bell {
    rung: AtomicBool,
    thread: Thread,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.rung.store(true, Ordering::SeqCst);
        self.thread.unpark();
    }
}

/// When calls are dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Drops {
    /// Never.
    Never,
    /// Each once, after so many polls.
    After(usize),
    /// Each after one poll, called again and dropped after two, and so on until it is done.
    Growing,
}

/// Runs futures on the time of one world.
pub(super) struct Exec {
    pub(super) clock: Arc<KitClock>,
    pub(super) drops: Drops,
    /// Cancels the run after so many polls.
    pub(super) cancel_after: Option<(usize, CancellationToken)>,
    polls: AtomicUsize,
    longest: AtomicUsize,
}

impl Exec {
    pub(super) fn new(clock: Arc<KitClock>) -> Self {
        Self { clock, drops: Drops::Never, cancel_after: None, polls: AtomicUsize::new(0), longest: AtomicUsize::new(0) }
    }

    /// The polls of the longest call so far.
    pub(super) fn longest(&self) -> usize {
        self.longest.load(Ordering::SeqCst)
    }

    /// How many polls the try number `round` of a call gets; `None` is as many as it needs.
    pub(super) fn patience(&self, round: usize) -> Option<usize> {
        match self.drops {
            Drops::Never => None,
            Drops::After(polls) => (round == 0).then_some(polls),
            Drops::Growing => (round < 2000).then_some(round + 1),
        }
    }

    /// Polls a future until it is done or patience ends; time passes when nothing else happens.
    pub(super) fn drive<F: Future>(&self, mut future: Pin<&mut F>, patience: Option<usize>) -> Result<Option<F::Output>, String> {
        let bell = Arc::new(Bell { rung: AtomicBool::new(false), thread: std::thread::current() });
        let waker = Waker::from(bell.clone());
        let mut cx = Context::from_waker(&waker);
        let began = self.clock.monotonic();
        for polls in 1..=POLLS {
            bell.rung.store(false, Ordering::SeqCst);
            if let Poll::Ready(value) = future.as_mut().poll(&mut cx) {
                self.longest.fetch_max(polls, Ordering::SeqCst);
                return Ok(Some(value));
            }
            if let Some((after, token)) = &self.cancel_after
                && self.polls.fetch_add(1, Ordering::SeqCst) + 1 == *after
            {
                token.cancel();
                continue;
            }
            if patience.is_some_and(|patience| polls >= patience) {
                return Ok(None);
            }
            if bell.rung.load(Ordering::SeqCst) || self.clock.pass() {
                if self.clock.monotonic().saturating_sub(began) > LONGEST {
                    return Err("it does not end: it waits and waits, for months".to_owned());
                }
                continue;
            }
            std::thread::park_timeout(REAL);
            if !bell.rung.load(Ordering::SeqCst) {
                return Err("it waits for ever, for nothing that the ports know of".to_owned());
            }
        }
        Err(format!("it does not end: {POLLS} polls were not enough"))
    }

    /// Runs a future to its end.
    pub(super) fn block_on<F: Future>(&self, future: F) -> Result<F::Output, String> {
        self.drive(pin!(future), None)?.ok_or_else(|| "it was dropped".to_owned())
    }
}

/// Calls, drops and calls again as the world says, until there is an answer.
macro_rules! call {
    ($exec:expr, $make:expr) => {{
        let mut round = 0;
        loop {
            let future = std::pin::pin!($make);
            match $exec.drive(future, $exec.patience(round)) {
                Ok(Some(value)) => break Ok(value),
                Ok(None) => round += 1,
                Err(stuck) => break Err(stuck),
            }
        }
    }};
}
pub(super) use call;
