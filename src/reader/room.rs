//! How many ranges does the cursor record hold? By what its topic takes, and by how long upstream's cursors are (pure).

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// The room for ranges in a lender's cursor record.
#[derive(Debug)]
pub(super) struct RecordRoom {
    /// The lender's key in the configuration, for the log.
    pub lender: Box<str>,
    /// What the cursor topic takes, in bytes.
    pub max_record: usize,
    /// Of that, what says how far the topics were written.
    ends_length: usize,
    /// The longest one that was seen, as it stands in a record.
    longest_cursor: AtomicUsize,
    is_said: AtomicBool,
}

impl RecordRoom {
    pub(super) fn new(lender: &str, max_record: usize, ends_length: usize) -> Self {
        Self {
            lender: lender.into(),
            max_record,
            ends_length,
            longest_cursor: AtomicUsize::new(0),
            is_said: AtomicBool::new(false),
        }
    }

    /// Notes a cursor that may come into the record.
    pub(super) fn note(&self, cursor: &str) {
        // JSON in a text of JSON.
        let bytes = |byte: u8| match byte {
            b'"' | b'\\' => 4,
            0..=0x1f => 7,
            _ => 1,
        };
        let length = cursor.bytes().map(bytes).sum();
        self.longest_cursor.fetch_max(length, Ordering::Relaxed);
    }

    /// So many ranges have room beside the marks and the place of live; one always is there.
    pub(super) fn range_count(&self) -> usize {
        /// What a record has beside cursors, ranges and ends, and a range beside its cursor: more than either ever takes.
        const REST: usize = 2_048;
        const RANGE: usize = 512;
        let longest = self.longest_cursor.load(Ordering::Relaxed);
        let room = self.max_record.saturating_sub(REST + self.ends_length + longest);
        (room / (RANGE + longest)).max(1)
    }

    /// Whether one more than `count` ranges has room; that none has is said once.
    pub(super) fn takes_more_than(&self, count: usize) -> bool {
        let most = self.range_count();
        if count >= most && !self.is_said.swap(true, Ordering::Relaxed) {
            let (lender, max_record) = (&*self.lender, self.max_record);
            tracing::warn!(
                lender,
                "the cursor record holds no more than {most} ranges, because its topic takes {max_record} bytes \
                 (max.message.bytes): fewer are read side by side"
            );
        }
        count < most
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longer_cursors_are_and_the_less_a_topic_takes_the_fewer_ranges_have_room() {
        let count_beside = |ends_length, max_record, cursor: &str| {
            let room = RecordRoom::new("acme", max_record, ends_length);
            room.note("short");
            room.note(cursor);
            room.note("short");
            room.range_count()
        };
        let count = |max_record, cursor: &str| count_beside(0, max_record, cursor);
        let long = "x".repeat(4_096);
        assert_eq!(count(1_048_588, &long), 226);
        assert_eq!(count(30_000, &long), 5);
        assert_eq!(count(30_000, &"\"".repeat(1_024)), 5);
        assert_eq!(count(30_000, "short"), 54);
        assert_eq!((count(5_000, &long), count(0, "short")), (1, 1));
        // Three topics with 500 partitions each.
        assert_eq!(
            (count_beside(30_000, 64_000, "short"), count(64_000, "short")),
            (61, 119)
        );
    }
}
