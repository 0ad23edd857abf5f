//! Do tombstones that the source did not write explain what is missing of a lender?

/// The tombstones of others that removed accounts of one lender, as a start found them in the topic.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Removals {
    /// Hashes of what was removed, where that was still in the topic.
    pub known: Vec<u64>,
    /// How many name the lender, while compaction has removed what they removed.
    pub unknown: u64,
    /// How many say of no lender: what they removed is gone, and may have been anybody's.
    pub nameless: u64,
}

/// What a restored index is to what was committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Explained {
    /// It is what was committed, but for so many accounts that others removed.
    Missing(u64),
    /// It could be, if so many tombstones that say of no lender were of this one.
    Nameless(u64),
    No,
}

impl Removals {
    /// `held`, `committed`: counts and checksums.
    ///
    /// A tombstone stays in the topic for days after it was honoured, so not all of them have to explain something. Where
    /// compaction has removed what one of them removed, only the count can tell.
    pub(crate) fn explain(&self, held: (u64, u64), committed: (u64, u64)) -> Explained {
        if held == committed {
            return Explained::Missing(0);
        }
        let Some(missing) = committed.0.checked_sub(held.0).filter(|missing| *missing > 0) else {
            return Explained::No;
        };
        let (known, difference) = (self.known.len() as u64, held.1 ^ committed.1);
        let all = known + self.unknown;
        let is_explained = if self.unknown > 0 {
            missing <= all
        } else if missing == all {
            self.known.iter().fold(difference, |sum, hash| sum ^ hash) == 0
        } else {
            missing < all && is_sum_of_some(&self.known, difference)
        };
        match is_explained {
            true => Explained::Missing(missing),
            false if self.nameless > 0 && missing <= all + self.nameless => Explained::Nameless(self.nameless),
            false => Explained::No,
        }
    }
}

/// Whether the XOR of some of `hashes` is `sum`. Of more than 64 it always is.
fn is_sum_of_some(hashes: &[u64], sum: u64) -> bool {
    // By its highest bit, what else is left of a hash.
    let mut basis = [0; 64];
    let reduce = |basis: &[u64; 64], mut hash: u64| {
        while hash != 0 {
            match basis[hash.ilog2() as usize] {
                0 => break,
                other => hash ^= other,
            }
        }
        hash
    };
    for hash in hashes {
        let left = reduce(&basis, *hash);
        if left != 0 {
            basis[left.ilog2() as usize] = left;
        }
    }
    reduce(&basis, sum) == 0
}
