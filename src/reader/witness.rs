//! Is upstream as new as what is held? The newest accounts that are held bear witness: what is read for that alone is looked at,
//! and not handed over.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::context::WalkContext;
use super::page::{Entry, Page};
use crate::progress::{Timestamp, Walk};

/// Accounts that bear witness, at most: 10 MB.
pub(super) const MAX_WITNESSES: usize = 100_000;

/// What becomes of the pages of a walk.
#[derive(Default)]
pub(super) enum PageUse<'w> {
    #[default]
    HandOver,
    /// The first row ends the walk: whether there is any is all that was asked.
    FirstRow,
    Heard(&'w Witnesses),
}

impl PageUse<'_> {
    /// Gives whether the walk has told enough.
    pub(super) async fn take(&self, context: &WalkContext, walk: Walk, page: Page) -> bool {
        match self {
            Self::HandOver => {
                context.outlet(walk).hand_over(page).await;
                false
            }
            Self::FirstRow => page.step.highest.is_some(),
            Self::Heard(witnesses) => witnesses.hear(&page),
        }
    }
}

/// The newest accounts that are held, and what upstream shows of them.
pub(super) struct Witnesses {
    updated_at: HashMap<String, i64>,
    late_window: Duration,
    heard: Mutex<Heard>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Heard {
    has_rows: bool,
    /// One is shown as it was before.
    is_older: bool,
    /// The newest that is shown, as it is held.
    newest: Option<i64>,
}

impl Witnesses {
    pub(super) fn new(newest: Vec<(String, i64)>, late_window: Duration) -> Self {
        Self {
            updated_at: newest.into_iter().collect(),
            late_window,
            heard: Mutex::default(),
        }
    }

    /// Gives whether the verdict is certain.
    fn hear(&self, page: &Page) -> bool {
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        for entry in &page.entries {
            let (public_id, updated_at) = match entry {
                Entry::Account(row) => (Some(page.text(row.public_id)), Some(row.updated_at)),
                Entry::DeadLetter(dead) => (dead.rejected.public_id.as_deref(), dead.rejected.updated_at),
            };
            heard.has_rows = true;
            let held = public_id.and_then(|public_id| self.updated_at.get(public_id));
            let (Some(held), Some(updated_at)) = (held, updated_at) else {
                continue;
            };
            if updated_at < Timestamp(*held).before(self.late_window).0 {
                heard.is_older = true;
            } else {
                heard.newest = heard.newest.max(Some(*held));
            }
        }
        heard.is_older
    }

    /// Up to when upstream is known to be as new as what is held, once everything was heard; `None` where nobody could say.
    /// `may_go`: so many accounts may be gone.
    ///
    /// # Errors
    /// When upstream is older: it shows a witness as it was before, or shows other accounts, and of these none, though not so
    /// many may be gone.
    pub(super) fn verdict(&self, may_go: usize) -> Result<Option<Timestamp>, Older> {
        let heard = *self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let are_all_unheard = heard.has_rows && heard.newest.is_none() && self.updated_at.len() > may_go;
        if heard.is_older || are_all_unheard {
            return Err(Older);
        }
        Ok(heard.newest.map(Timestamp))
    }
}

/// Upstream is older than what is held.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Older;

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(heard: Heard, may_go: usize) -> Result<Option<Timestamp>, Older> {
        let newest = [("a".to_owned(), 1_000), ("b".to_owned(), 2_000)];
        let mut witnesses = Witnesses::new(newest.into(), Duration::from_millis(100));
        witnesses.heard = Mutex::new(heard);
        witnesses.verdict(may_go)
    }

    #[test]
    fn upstream_is_older_if_it_shows_a_witness_as_it_was_or_none_though_not_all_may_be_gone() {
        let shown = Heard {
            has_rows: true,
            ..Heard::default()
        };
        let newest = |newest| Heard {
            newest: Some(newest),
            ..shown
        };
        let older = Heard {
            is_older: true,
            ..newest(1_000)
        };
        for (heard, may_go, expected) in [
            (newest(1_000), 1, Ok(Some(Timestamp(1_000)))),
            (older, 1, Err(Older)),
            (older, 2, Err(Older)),
            (shown, 1, Err(Older)),
            (shown, 2, Ok(None)),
            // It shows nothing at all: nothing can be written, and what may be deleted is told by its number.
            (Heard::default(), 1, Ok(None)),
        ] {
            assert_eq!(verdict(heard, may_go), expected, "{heard:?}, {may_go}");
        }
    }
}
