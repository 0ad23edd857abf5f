//! Which rows come next after a position?
//!
//! Rows are kept as finished JSON text, ordered by `(updated_at, _id)`. That key stands apart from the text, so a row whose
//! text has no usable `updated_at` or `public_id` still has a place in the order. A page is a walk along the tree: nothing
//! is skipped or repeated, whatever is written between two pages.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::Arc;

use super::rows::Origin;

/// A row's place in the order: `updated_at` in milliseconds, then `_id`.
pub(super) type Key = (i64, Arc<str>);

/// What a walk goes over; a cursor belongs to exactly one filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Filter {
    /// Inclusive, milliseconds.
    pub(super) since: Option<i64>,
    /// Exclusive, milliseconds.
    pub(super) until: Option<i64>,
    pub(super) descending: bool,
}

#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) json: Box<str>,
    /// What it was generated from; `None` for a row that a test wrote.
    pub(super) origin: Option<Origin>,
}

/// One page of finished JSON texts.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Page<'a> {
    pub(super) rows: Vec<&'a str>,
    /// The key of the last row, if more rows follow it.
    pub(super) next: Option<Key>,
}

/// One lender's rows.
#[derive(Debug, Clone, Default)]
pub(super) struct Store {
    rows: BTreeMap<Key, Row>,
    updated_at: HashMap<Arc<str>, i64>,
}

impl Store {
    /// Writes a row; one with the same `_id` is replaced and moves to its new place.
    pub(super) fn put(&mut self, id: Arc<str>, updated_at_ms: i64, row: Row) {
        if let Some(previous) = self.updated_at.insert(id.clone(), updated_at_ms) {
            self.rows.remove(&(previous, id.clone()));
        }
        self.rows.insert((updated_at_ms, id), row);
    }

    /// Takes a row out; whether there was one.
    pub(super) fn remove(&mut self, id: &str) -> bool {
        match self.updated_at.remove_entry(id) {
            Some((id, updated_at_ms)) => self.rows.remove(&(updated_at_ms, id)).is_some(),
            None => false,
        }
    }

    /// A row and the time in the order that it has.
    pub(super) fn get(&self, id: &str) -> Option<(i64, &Row)> {
        let (id, updated_at_ms) = self.updated_at.get_key_value(id)?;
        let row = self.rows.get(&(*updated_at_ms, id.clone()))?;
        Some((*updated_at_ms, row))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Key, &Row)> {
        self.rows.iter()
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// The number of rows in the filter's range: a walk over all of them.
    pub(super) fn count(&self, filter: &Filter) -> usize {
        self.scan(filter, Bound::Unbounded).count()
    }

    /// Up to `limit` rows behind `after`, or from the start of the range.
    pub(super) fn page(&self, filter: &Filter, after: Option<&Key>, limit: usize) -> Page<'_> {
        let mut walk = self.rest(filter, after);
        let mut last = None;
        let rows = walk
            .by_ref()
            .take(limit)
            .map(|(key, row)| {
                last = Some(key);
                &*row.json
            })
            .collect();
        let next = walk.next().and(last).cloned();
        Page { rows, next }
    }

    /// What a walk is still to read: the rows behind `after`, or all of the range.
    pub(super) fn rest(&self, filter: &Filter, after: Option<&Key>) -> impl Iterator<Item = (&Key, &Row)> {
        let from = after.map_or(Bound::Unbounded, |key| Bound::Excluded(key.clone()));
        self.scan(filter, from)
    }

    /// The up to `limit` rows that end with `last`: the page before the one behind it.
    pub(super) fn page_up_to(&self, filter: &Filter, last: &Key, limit: usize) -> Vec<&str> {
        let back = Filter {
            descending: !filter.descending,
            ..*filter
        };
        let mut rows: Vec<_> = self
            .scan(&back, Bound::Included(last.clone()))
            .take(limit)
            .map(|(_, row)| &*row.json)
            .collect();
        rows.reverse();
        rows
    }

    fn scan(&self, filter: &Filter, from: Bound<Key>) -> Box<dyn Iterator<Item = (&Key, &Row)> + '_> {
        let first_at = |at_ms: i64| -> Key { (at_ms, Arc::from("")) };
        let mut lower = filter
            .since
            .map_or(Bound::Unbounded, |since| Bound::Included(first_at(since)));
        let mut upper = filter
            .until
            .map_or(Bound::Unbounded, |until| Bound::Excluded(first_at(until)));
        if from != Bound::Unbounded {
            *(if filter.descending { &mut upper } else { &mut lower }) = from;
        }
        if is_empty(&lower, &upper) {
            return Box::new(std::iter::empty());
        }
        let range = self.rows.range((lower, upper));
        if filter.descending {
            Box::new(range.rev())
        } else {
            Box::new(range)
        }
    }
}

/// Whether nothing fits between the bounds; a tree panics over bounds that cross.
fn is_empty(lower: &Bound<Key>, upper: &Bound<Key>) -> bool {
    match (lower, upper) {
        (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
        (Bound::Included(lower), Bound::Included(upper)) => lower > upper,
        (Bound::Included(lower) | Bound::Excluded(lower), Bound::Included(upper) | Bound::Excluded(upper)) => {
            lower >= upper
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Filter = Filter {
        since: None,
        until: None,
        descending: false,
    };

    fn store(keys: &[(i64, &str)]) -> Store {
        let mut store = Store::default();
        for (at_ms, id) in keys {
            put(&mut store, *at_ms, id);
        }
        store
    }

    fn put(store: &mut Store, at_ms: i64, id: &str) {
        let row = Row {
            json: id.into(),
            origin: None,
        };
        store.put(Arc::from(id), at_ms, row);
    }

    fn walk(store: &Store, filter: &Filter, limit: usize) -> Vec<String> {
        let mut seen = Vec::new();
        let mut after = None;
        loop {
            let page = store.page(filter, after.as_ref(), limit);
            seen.extend(page.rows.iter().map(ToString::to_string));
            match page.next {
                Some(next) => after = Some(next),
                None => return seen,
            }
        }
    }

    #[test]
    fn ties_larger_than_a_page_are_walked_without_loss_or_repetition() {
        let store = store(&[(1, "a"), (2, "b"), (2, "c"), (2, "d"), (2, "e"), (3, "f")]);
        for limit in 1..8 {
            assert_eq!(walk(&store, &ALL, limit).concat(), "abcdef", "limit {limit}");
            let descending = Filter {
                descending: true,
                ..ALL
            };
            assert_eq!(walk(&store, &descending, limit).concat(), "fedcba");
        }
    }

    #[test]
    fn since_is_inclusive_and_until_is_exclusive() {
        let store = store(&[(1, "a"), (2, "b"), (3, "c"), (4, "d")]);
        let filter = Filter {
            since: Some(2),
            until: Some(4),
            descending: false,
        };
        assert_eq!(walk(&store, &filter, 1).concat(), "bc");
        assert_eq!(store.count(&filter), 2);
        let crossed = Filter {
            since: Some(4),
            until: Some(2),
            descending: true,
        };
        assert_eq!(walk(&store, &crossed, 1).concat(), "");
    }

    #[test]
    fn the_last_page_has_no_next_even_when_it_is_full() {
        let store = store(&[(1, "a"), (2, "b")]);
        assert_eq!(store.page(&ALL, None, 2).next, None);
        assert_eq!(store.page(&ALL, None, 1).next, Some((1, Arc::from("a"))));
    }

    #[test]
    fn a_walk_under_writes_sees_every_row_that_stood_still_once() {
        let mut store = store(&[(1, "a"), (2, "b"), (3, "c"), (4, "d")]);
        let first = store.page(&ALL, None, 2);
        assert_eq!(first.rows, ["a", "b"]);
        let after = first.next;
        // The boundary row itself moves, one ahead is removed, one behind the position appears, one comes at the end.
        put(&mut store, 5, "b");
        assert!(store.remove("c"));
        put(&mut store, 1, "late");
        put(&mut store, 6, "new");
        let rest = store.page(&ALL, after.as_ref(), 10);
        assert_eq!(rest.rows, ["d", "b", "new"]);
        assert_eq!(rest, store.page(&ALL, after.as_ref(), 10));
    }

    #[test]
    fn the_page_before_ends_with_the_boundary() {
        let store = store(&[(1, "a"), (2, "b"), (3, "c"), (4, "d")]);
        let boundary = (3, Arc::from("c"));
        assert_eq!(store.page_up_to(&ALL, &boundary, 2), ["b", "c"]);
        let descending = Filter {
            descending: true,
            ..ALL
        };
        assert_eq!(store.page_up_to(&descending, &boundary, 2), ["d", "c"]);
    }
}
