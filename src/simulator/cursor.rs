//! Where does a walk go on, and is this cursor one of its own?
//!
//! A cursor is base64url of a JSON text and its hash. It holds the boundary row's `(updated_at, _id)` and everything it is
//! bound to: lender, `since`, `until`, `sort`. Clients must treat it as opaque.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use twox_hash::XxHash3_64;

use super::store::{Filter, Key};

/// Why a cursor is not accepted. The vendor answers 500 to all of them.
#[derive(Debug, Error, PartialEq, Eq)]
pub(super) enum CursorError {
    #[error("the cursor is corrupt")]
    Corrupt,
    #[error("the cursor belongs to another lender, since, until or sort")]
    Foreign,
    #[error("the cursor is dead")]
    Dead,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Cursor {
    lender: usize,
    since: Option<i64>,
    until: Option<i64>,
    descending: bool,
    /// Raised when all cursors die.
    epoch: u64,
    /// Makes the cursor of an empty page differ from the one that led to it.
    nonce: u32,
    /// Makes it longer.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    padding: String,
    /// `None`: the start of the range.
    after: Option<(i64, String)>,
}

impl Cursor {
    pub(super) fn new(lender: usize, filter: &Filter, epoch: u64, after: Option<&Key>) -> Self {
        Self {
            lender,
            since: filter.since,
            until: filter.until,
            descending: filter.descending,
            epoch,
            nonce: 0,
            padding: String::new(),
            after: after.map(|(at_ms, id)| (*at_ms, id.to_string())),
        }
    }

    /// The same position under another text.
    pub(super) fn renamed(mut self) -> Self {
        self.nonce = self.nonce.wrapping_add(1);
        self
    }

    /// The same position in a text of so many bytes, or a few less.
    pub(super) fn padded(mut self, bytes: usize) -> Self {
        const NAME: usize = r#""padding":"","#.len();
        let room = bytes.saturating_sub(self.encode().len()) / 4 * 3;
        self.padding = "x".repeat(room.saturating_sub(NAME));
        self
    }

    pub(super) fn after(&self) -> Option<Key> {
        self.after.as_ref().map(|(at_ms, id)| (*at_ms, id.as_str().into()))
    }

    pub(super) fn encode(&self) -> String {
        let mut bytes = serde_json::to_vec(self).expect("a cursor has only plain members");
        let hash = XxHash3_64::oneshot(&bytes);
        bytes.extend(hash.to_be_bytes());
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Reads a cursor that must have been given to this lender under this filter in this epoch.
    pub(super) fn open(text: &str, lender: usize, filter: &Filter, epoch: u64) -> Result<Self, CursorError> {
        let cursor = Self::decode(text).ok_or(CursorError::Corrupt)?;
        let own = Filter {
            since: cursor.since,
            until: cursor.until,
            descending: cursor.descending,
        };
        if cursor.lender != lender || own != *filter {
            return Err(CursorError::Foreign);
        }
        if cursor.epoch != epoch {
            return Err(CursorError::Dead);
        }
        Ok(cursor)
    }

    fn decode(text: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (json, hash) = bytes.split_last_chunk::<8>()?;
        if XxHash3_64::oneshot(json).to_be_bytes() != *hash {
            return None;
        }
        serde_json::from_slice(json).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILTER: Filter = Filter {
        since: Some(5),
        until: None,
        descending: false,
    };

    fn cursor() -> Cursor {
        Cursor::new(0, &FILTER, 1, Some(&(7, "abc".into())))
    }

    #[test]
    fn a_cursor_that_is_padded_is_as_long_as_asked_for_and_stays_what_it_is() {
        for bytes in [300, 301, 302, 303, 4_096] {
            let text = cursor().padded(bytes).encode();
            assert!((bytes - 8..=bytes).contains(&text.len()), "{bytes}: {}", text.len());
            let opened = Cursor::open(&text, 0, &FILTER, 1).expect("a cursor of its own");
            assert_eq!(opened.after(), cursor().after());
        }
    }

    #[test]
    fn a_cursor_opens_under_its_own_filter() {
        let opened = Cursor::open(&cursor().encode(), 0, &FILTER, 1).expect("its own cursor");
        assert_eq!(opened.after(), Some((7, "abc".into())));
        assert_ne!(opened.clone().renamed().encode(), opened.encode());
    }

    #[test]
    fn a_cursor_is_bound_to_lender_since_until_sort_and_epoch() {
        let text = cursor().encode();
        let open = |lender, filter: Filter, epoch| Cursor::open(&text, lender, &filter, epoch);
        let filters = [
            Filter {
                since: Some(6),
                ..FILTER
            },
            Filter {
                until: Some(9),
                ..FILTER
            },
            Filter {
                descending: true,
                ..FILTER
            },
        ];
        for filter in filters {
            assert_eq!(open(0, filter, 1), Err(CursorError::Foreign));
        }
        assert_eq!(open(1, FILTER, 1), Err(CursorError::Foreign));
        assert_eq!(open(0, FILTER, 2), Err(CursorError::Dead));
    }

    #[test]
    fn every_changed_character_makes_it_corrupt() {
        let text = cursor().encode();
        for at in 0..text.len() {
            let other = if &text[at..=at] == "A" { "B" } else { "A" };
            let broken = format!("{}{other}{}", &text[..at], &text[at + 1..]);
            assert_eq!(Cursor::open(&broken, 0, &FILTER, 1), Err(CursorError::Corrupt));
        }
        assert_eq!(Cursor::open("", 0, &FILTER, 1), Err(CursorError::Corrupt));
    }
}
