//! Which rejects are kept already, without asking the store for each of many.

use pipeline_contract::StageError;

use crate::state::{RejectHash, Store};

/// After so many questions in a run, all that are kept are gone over once.
const PATIENCE: usize = 20_000;

/// The bits of a filter: of two million rejects it takes one new one of eighty for a kept one, and the store is asked.
const BITS: u64 = 1 << 25;

/// What is known of the rejects that are kept.
#[derive(Default)]
pub(super) struct Kept {
    asked: usize,
    /// Two bits for each that is kept, at places that its hash tells; empty until it is worth it.
    filter: Vec<u64>,
}

impl Kept {
    /// False when a reject is certainly not kept.
    pub(super) fn may_hold(&self, hash: RejectHash) -> bool {
        places(hash).into_iter().all(|(word, bit)| self.filter.get(word).is_none_or(|bits| bits & bit != 0))
    }

    /// Asks the store.
    pub(super) fn look_up(&mut self, hashes: &[RejectHash], store: &dyn Store) -> Result<Vec<Option<bool>>, StageError> {
        self.asked += hashes.len();
        if self.filter.is_empty() && self.asked > PATIENCE {
            self.filter = vec![0; (BITS / 64) as usize];
            let filter = &mut self.filter;
            store.each_reject(&mut |hash| set(filter, hash))?;
        }
        store.rejects(hashes)
    }

    /// A reject is kept from now on.
    pub(super) fn note(&mut self, hash: RejectHash) {
        set(&mut self.filter, hash);
    }
}

/// Words and bits.
fn places(hash: RejectHash) -> [(usize, u64); 2] {
    [hash as u64, (hash >> 64) as u64].map(|half| {
        let place = half % BITS;
        ((place / 64) as usize, 1 << (place % 64))
    })
}

fn set(filter: &mut [u64], hash: RejectHash) {
    for (word, bit) in places(hash) {
        if let Some(bits) = filter.get_mut(word) {
            *bits |= bit;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{EpochCommit, ModelStore, suite};

    #[test]
    fn what_is_kept_is_always_held_and_most_others_are_not() {
        let store = ModelStore::default();
        let hash = |n: u64| xxhash_rust::xxh3::xxh3_128(&n.to_le_bytes());
        store.start_run(&suite::run("r", "1970-01-01T00:00:00Z"), false).unwrap();
        let stored: Vec<_> = (0..1000).map(hash).collect();
        store.commit_epoch(&EpochCommit { epoch: 1, run_id: "r".to_owned(), rejects: stored.clone(), ..EpochCommit::default() }).unwrap();
        let mut kept = Kept::default();
        assert!((0..2000).all(|n| kept.may_hold(hash(n))), "until it is worth a filter");
        let many: Vec<_> = (5000..5000 + PATIENCE as u64 + 1).map(hash).collect();
        assert!(kept.look_up(&many, &store).unwrap().iter().all(Option::is_none));
        kept.note(hash(1500));
        assert!(stored.iter().chain([&hash(1500)]).all(|hash| kept.may_hold(*hash)));
        let taken = (2000..4000).filter(|n| kept.may_hold(hash(*n))).count();
        assert!(taken < 20, "{taken}");
        assert_eq!(kept.look_up(&[hash(1), hash(3000)], &store).unwrap(), [Some(false), None]);
    }
}
