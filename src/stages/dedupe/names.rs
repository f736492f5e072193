//! Names found by their bytes: most are short, and compared as a few words that stand where they are looked for.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashTable;

/// So many names are looked for at once.
const AT_ONCE: usize = 64;

/// The bytes of a name that has at most 24 of them, zeros behind, and its length.
#[derive(Clone, Copy, Eq)]
pub(super) struct Short([u64; 4]);

impl PartialEq for Short {
    #[inline(always)]
    fn eq(&self, other: &Self) -> bool {
        // As arrays they would be compared as bytes: loaded as a whole, what was just stored word by word is waited for.
        let Self([a, b, c, d]) = self;
        let Self([e, f, g, h]) = other;
        (a ^ e) | (b ^ f) | (c ^ g) | (d ^ h) == 0
    }
}

impl Short {
    const LONGEST: usize = 24;

    /// The name of so many bytes at the front; `None` when it is long.
    #[inline]
    pub(super) fn of(data: &[u8], len: usize) -> Option<Self> {
        if len > Self::LONGEST {
            return None;
        }
        let bytes = match data.first_chunk::<{ Self::LONGEST }>() {
            // What stands behind it is read, too, and left out: of a known length, it takes no call.
            Some(bytes) => *bytes,
            None => {
                let mut bytes = [0; Self::LONGEST];
                bytes.iter_mut().zip(data).for_each(|(to, from)| *to = *from);
                bytes
            }
        };
        let mut words = [0, 0, 0, len as u64];
        for (place, (word, bytes)) in words.iter_mut().zip(bytes.as_chunks::<8>().0).enumerate() {
            let its = len.saturating_sub(8 * place).min(8);
            // (A shift by 64 is none.)
            let mask = if its == 8 { u64::MAX } else { (1 << (8 * its)) - 1 };
            *word = u64::from_le_bytes(*bytes) & mask;
        }
        Some(Self(words))
    }
}

impl Hash for Short {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        // All are as long: an array would hash its length as well, and the words as bytes.
        self.0.iter().for_each(|word| state.write_u64(*word));
    }
}

/// Numbers of short names.
#[derive(Default)]
pub(super) struct ShortNames {
    table: HashTable<(Short, u32)>,
    hasher: RandomState,
}

impl ShortNames {
    /// Makes room for so many more.
    pub(super) fn reserve(&mut self, names: usize) {
        let Self { table, hasher } = self;
        table.reserve(names, |(known, _)| hasher.hash_one(known));
    }

    #[inline]
    pub(super) fn get(&self, name: &Short) -> Option<u32> {
        self.find(self.hasher.hash_one(name), name)
    }

    #[inline]
    fn find(&self, hash: u64, name: &Short) -> Option<u32> {
        self.table.find(hash, |(known, _)| known == name).map(|(_, number)| *number)
    }

    /// Adds a name that is not there.
    pub(super) fn insert(&mut self, name: Short, number: u32) {
        let Self { table, hasher } = self;
        table.insert_unique(hasher.hash_one(name), (name, number), |(known, _)| hasher.hash_one(known));
    }
}

/// Numbers of names.
#[derive(Default)]
pub(super) struct Names {
    short: ShortNames,
    long: HashMap<Arc<[u8]>, u32, RandomState>,
}

impl Names {
    /// The number of the name of so many bytes at the front.
    #[inline]
    pub(super) fn get(&self, data: &[u8], len: usize) -> Option<u32> {
        match Short::of(data, len) {
            Some(short) => self.short.get(&short),
            None => self.long.get(data.get(..len)?).copied(),
        }
    }

    /// The number of each of these names. Where there are very many, most of the time is waiting for memory: many are looked for at once, after all that
    /// needs none was done.
    pub(super) fn get_all<'a>(&self, names: impl Iterator<Item = (&'a [u8], usize)>) -> Vec<Option<u32>> {
        let hashed = |(data, len): (&'a [u8], usize)| {
            let short = Short::of(data, len);
            (data, len, short.map(|short| (self.short.hasher.hash_one(short), short)))
        };
        let mut names = names.map(hashed);
        let (mut some, mut found) = (Vec::with_capacity(AT_ONCE), Vec::with_capacity(names.size_hint().0));
        loop {
            some.clear();
            some.extend(names.by_ref().take(AT_ONCE));
            if some.is_empty() {
                return found;
            }
            found.extend(some.iter().map(|(data, len, short)| match short {
                Some((hash, short)) => self.short.find(*hash, short),
                None => self.get(data, *len),
            }));
        }
    }

    /// Adds a name that is not there.
    pub(super) fn insert(&mut self, name: &Arc<[u8]>, number: u32) {
        match Short::of(name, name.len()) {
            Some(short) => self.short.insert(short, number),
            None => drop(self.long.insert(Arc::clone(name), number)),
        }
    }
}
