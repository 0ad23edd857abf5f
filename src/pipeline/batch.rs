//! What goes into one transaction, before it is decided, and how much of it?

use std::collections::VecDeque;
use std::time::Duration;

use crate::progress::{Progress, Split, Timestamp, Walk};
use crate::reader::Page;

/// What goes into one transaction, in the reader's order; nothing: a heartbeat.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub items: VecDeque<BatchItem>,
    pub row_count: usize,
}

/// What items the progress.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "nearly all of them are pages")]
pub(super) enum BatchItem {
    Begin(Progress),
    Page(Page),
    Split(Split),
    /// These accounts are gone.
    Delete(Vec<String>),
    /// Everything was read once more, by upstream's clock.
    Reconciled(Timestamp),
}

impl Batch {
    pub(super) fn of(item: BatchItem) -> Self {
        let mut batch = Self::default();
        batch.push(item);
        batch
    }

    pub(super) fn push(&mut self, item: BatchItem) {
        self.row_count += item.row_count();
        self.items.push_back(item);
    }

    pub(super) fn pop(&mut self) -> Option<BatchItem> {
        let item = self.items.pop_front()?;
        self.row_count -= item.row_count();
        Some(item)
    }

    /// Puts it in front of what is here.
    pub(super) fn put_back(&mut self, left: Self) {
        for item in left.items.into_iter().rev() {
            self.row_count += item.row_count();
            self.items.push_front(item);
        }
    }

    /// What is live, and the rest.
    pub(super) fn parted(self) -> [Self; 2] {
        let mut parts = [Self::default(), Self::default()];
        for item in self.items {
            parts[usize::from(!item.is_live())].push(item);
        }
        parts
    }

    /// Leaves no more than `row_count` rows, but at least one page; gives what stood behind them.
    pub(super) fn cut(&mut self, row_count: usize) -> Self {
        let (mut kept, mut left) = (Self::default(), std::mem::take(self));
        while let Some(mut item) = left.pop() {
            if kept.row_count + item.row_count() <= row_count {
                kept.push(item);
                continue;
            }
            if kept.row_count == 0 {
                let rest = item.cut(row_count);
                kept.push(item);
                rest.into_iter().for_each(|rest| left.put_back(Self::of(rest)));
            } else {
                left.put_back(Self::of(item));
            }
            break;
        }
        *self = kept;
        left
    }
}

impl BatchItem {
    /// Whether it came the way of what is live.
    fn is_live(&self) -> bool {
        match self {
            Self::Begin(_) => true,
            Self::Page(page) => page.step.walk == Walk::Live,
            Self::Split(_) | Self::Delete(_) | Self::Reconciled(_) => false,
        }
    }

    fn row_count(&self) -> usize {
        match self {
            Self::Page(page) => page.entries.len(),
            Self::Delete(gone) => gone.len(),
            Self::Begin(_) | Self::Split(_) | Self::Reconciled(_) => 0,
        }
    }

    /// What stands behind `row_count` rows, where a part of it can go alone; a page cannot, for the progress is that of all of it.
    fn cut(&mut self, row_count: usize) -> Option<Self> {
        match self {
            Self::Delete(gone) => {
                Some(Self::Delete(gone.split_off(row_count.max(1).min(gone.len())))).filter(|rest| rest.row_count() > 0)
            }
            Self::Page(_) | Self::Begin(_) | Self::Split(_) | Self::Reconciled(_) => None,
        }
    }
}

/// How many rows go into a transaction, by what Kafka takes in time, and by how long what is live may wait for it.
#[derive(Debug)]
pub(super) struct BatchSize {
    most: usize,
    row_count: usize,
    /// As large as they may be, and quick, one after another.
    quick_count: u32,
    /// What is live waits for so long at most, where a page takes no longer.
    live_waits: Duration,
    /// Rows that a transaction takes meanwhile, as those before it did.
    meanwhile: Option<usize>,
}

impl BatchSize {
    /// After so many it grows.
    const QUICK: u32 = 4;

    /// Of the interval between two polls, what is live may wait for such a part.
    const PART: u32 = 8;

    /// Of fewer rows, what a transaction takes by itself is most: they tell nothing of the pace, and fewer would not be quicker.
    const LEAST: usize = 500;

    pub(super) fn new(most: usize, poll_interval: Duration) -> Self {
        Self {
            most,
            row_count: most,
            quick_count: 0,
            live_waits: poll_interval / Self::PART,
            meanwhile: None,
        }
    }

    pub(super) fn row_count(&self) -> usize {
        self.meanwhile.unwrap_or(usize::MAX).clamp(1, self.row_count)
    }

    /// So many rows did not get through in time: half of them is tried.
    pub(super) fn shrink(&mut self, row_count: usize) -> usize {
        self.row_count = (row_count / 2).clamp(1, self.row_count);
        self.quick_count = 0;
        self.row_count
    }

    /// So many rows were written in `took`, of `limit` that it may take. It grows where twice as many would not take long: not
    /// by what is smaller than it may be, which says nothing of more.
    pub(super) fn note(&mut self, row_count: usize, took: Duration, limit: Duration) {
        const SHARE: u32 = 4;
        self.note_pace(row_count, took);
        if self.row_count == self.most || row_count < self.row_count {
            return;
        }
        if took > limit / SHARE {
            self.quick_count = 0;
            return;
        }
        self.quick_count += 1;
        if self.quick_count == Self::QUICK {
            self.row_count = self.row_count.saturating_mul(2).min(self.most);
            self.quick_count = 0;
        }
    }

    fn note_pace(&mut self, row_count: usize, took: Duration) {
        if row_count < Self::LEAST || took.is_zero() {
            return;
        }
        let now = (row_count as f64 * self.live_waits.as_secs_f64() / took.as_secs_f64()) as usize;
        // No fewer than those that tell of a pace: it would stay for ever as slow as it was once.
        let now = now.max(Self::LEAST);
        // One that met a pause of the broker's says little.
        self.meanwhile = Some(self.meanwhile.map_or(now, |before| (3 * before + now) / 4));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_halved_down_to_a_page_and_grows_again_by_what_is_large_and_quick() {
        const LIMIT: Duration = Duration::from_secs(30);
        let (quick, slow) = (LIMIT / 5, LIMIT / 3);
        let mut size = BatchSize::new(20_000, Duration::from_secs(3_600));
        let mut steps = Vec::new();
        // What was tried, how long it took (none: too long), and how large the next one may be.
        for (row_count, took, expected) in [
            (20_000, Some(quick), 20_000),
            (20_000, None, 10_000),
            (10_000, None, 5_000),
            // What is live is small.
            (300, None, 150),
            (150, Some(quick), 150),
            (1_000, Some(quick), 150),
            (20, Some(quick), 150),
            (1_000, Some(quick), 150),
            (1_000, Some(quick), 300),
            (1_000, Some(quick), 300),
            (1_000, Some(quick), 300),
            (1_000, Some(quick), 300),
            (1_000, Some(slow), 300),
            (1_000, Some(quick), 300),
            (1_000, Some(quick), 300),
            (1_000, Some(quick), 300),
            (1_000, Some(quick), 600),
            // One page, again and again.
            (1_000, None, 500),
            (1_000, None, 500),
            (1, None, 1),
            (1, None, 1),
        ] {
            match took {
                Some(took) => size.note(row_count, took, LIMIT),
                None => assert_eq!(size.shrink(row_count), size.row_count()),
            }
            steps.push((row_count, took));
            assert_eq!(size.row_count(), expected, "{steps:?}");
        }
        for _ in 0..100 {
            size.note(20_000, quick, LIMIT);
        }
        assert_eq!(size.row_count(), 20_000);
    }

    #[test]
    fn a_batch_takes_no_longer_than_what_is_live_may_wait_whatever_kafka_s_pace() {
        let mut size = BatchSize::new(20_000, Duration::from_millis(240));
        let limit = Duration::from_secs(30);
        assert_eq!(size.row_count(), 20_000, "nothing is known of Kafka");
        size.note(20_000, Duration::from_millis(400), limit);
        assert_eq!(size.row_count(), 1_500, "30 ms of 50 rows a millisecond");
        // What is live is small, and says nothing of the pace.
        size.note(20, Duration::from_millis(10), limit);
        assert_eq!(size.row_count(), 1_500);
        for _ in 0..20 {
            size.note(1_500, Duration::from_millis(150), limit);
        }
        assert!(
            (500..510).contains(&size.row_count()),
            "30 ms of 10 rows a millisecond would be too few: {size:?}"
        );
        // One that was held up is no more than one.
        size.note(500, limit, limit);
        assert!((500..510).contains(&size.row_count()), "{size:?}");
        (0..20).for_each(|_| size.note(500, Duration::from_millis(10), limit));
        assert!((1_480..=1_500).contains(&size.row_count()), "{size:?}");
        for _ in 0..20 {
            size.note(1_000, Duration::from_micros(10), limit);
        }
        assert_eq!(size.row_count(), 20_000, "no more than the configuration says");
        let mut size = BatchSize::new(20_000, Duration::from_secs(5));
        size.note(20_000, Duration::from_millis(400), limit);
        assert_eq!(size.row_count(), 20_000, "half a second is little of five");
    }

    #[test]
    fn a_batch_that_is_cut_keeps_its_order_and_at_least_something() {
        let ids = |from: u32, to: u32| BatchItem::Delete((from..to).map(|id| id.to_string()).collect());
        let order = |batch: &mut Batch| {
            let mut order = Vec::new();
            while let Some(item) = batch.pop() {
                match item {
                    BatchItem::Delete(gone) => order.extend(gone),
                    BatchItem::Reconciled(_) => order.push("end".to_owned()),
                    BatchItem::Begin(_) | BatchItem::Page(_) | BatchItem::Split(_) => unreachable!("none is here"),
                }
            }
            assert_eq!(batch.row_count, 0);
            order
        };
        for (row_count, kept) in [(0, 1), (1, 1), (2, 2), (3, 2), (5, 5), (6, 7), (100, 7)] {
            let mut batch = Batch::default();
            [ids(0, 2), ids(2, 5), ids(5, 6), BatchItem::Reconciled(Timestamp(0))]
                .into_iter()
                .for_each(|item| batch.push(item));
            let mut left = batch.cut(row_count);
            let (first, rest) = (order(&mut batch), order(&mut left));
            assert_eq!(first.len(), kept, "{row_count}");
            let all = ["0", "1", "2", "3", "4", "5", "end"];
            assert_eq!([first, rest].concat(), all, "{row_count}");
        }
    }
}
