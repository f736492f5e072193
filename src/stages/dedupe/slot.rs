//! One chunk in memory, and what is known of it besides its keys.

use pipeline_contract::StageError;

use super::known::Known;
use crate::state::{ChunkKey, Store};

/// What a slot takes besides the times.
const OVERHEAD: usize = 150;

/// A loaded chunk: on a line of the processor's cache that is its own.
#[repr(align(64))]
pub(super) struct Slot {
    pub(super) series: u32,
    pub(super) number: i64,
    pub(super) known: Known,
    /// Changed in the open epoch.
    pub(super) changed: bool,
    /// Changed in one before it that is being stored.
    pub(super) sealed: bool,
    /// The store holds some of it in the log only.
    pub(super) logged: bool,
    /// The batch that used it last.
    pub(super) used: u32,
    /// What it counted in `Series::clean`.
    pub(super) weight: u32,
}

const _: () = assert!(size_of::<Slot>() == 64, "of many series in any order, what is waited for is memory");

impl Slot {
    /// Does the store hold it as it is?
    pub(super) fn is_clean(&self) -> bool {
        !self.changed && !self.is_kept()
    }

    /// Is it kept, whatever the open epoch does?
    pub(super) fn is_kept(&self) -> bool {
        self.sealed || self.logged
    }

    pub(super) fn weigh(&mut self) -> usize {
        self.weight = u32::try_from(self.known.weight() + OVERHEAD).unwrap_or(u32::MAX);
        self.weight as usize
    }
}

/// Puts chunks in the place of the log. They are encoded beside the one who stores them, some at a time: nothing else is going on then.
pub(super) fn fold(store: &dyn Store, keys: &[ChunkKey], slots: &[&Slot]) -> Result<(), StageError> {
    const SOME: usize = if cfg!(test) { 2 } else { 256 };
    let encoded = |(key, slot): (&ChunkKey, &&Slot)| (key.clone(), slot.known.encode());
    if slots.len() <= SOME {
        return store.fold_keys(&mut keys.iter().zip(slots).map(encoded));
    }
    std::thread::scope(|scope| {
        let (sender, chunks) = std::sync::mpsc::sync_channel::<Vec<_>>(2);
        scope.spawn(move || {
            let mut some = keys.chunks(SOME).zip(slots.chunks(SOME)).map(|(keys, slots)| keys.iter().zip(slots).map(encoded).collect());
            // Whoever stores them may have failed.
            some.try_for_each(|some| sender.send(some))
        });
        store.fold_keys(&mut chunks.into_iter().flatten())
    })
}
