//! May a lender bury one more row? What `[errors]` says of dead letters.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use tokio::time::Instant;

use crate::account::Reason;
use crate::config;
use crate::exit::{Diagnosis, ErrorCode};

const HOUR: Duration = Duration::from_secs(3600);

/// How many dead letters a lender may commit; without limit by default.
#[derive(Debug, Default)]
pub(super) struct DeadLetterLimit {
    stops_at_first: bool,
    per_hour: Option<u64>,
    /// Within the last hour: when, and how many. As long as the limit at most; empty without one.
    committed: VecDeque<(Instant, u64)>,
}

/// How many more there may be until the next commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Allowance {
    Any,
    /// Of `limit` an hour.
    Left {
        count: u64,
        limit: u64,
    },
    None,
}

impl DeadLetterLimit {
    pub(super) fn new(errors: &config::Errors) -> Self {
        Self {
            stops_at_first: match errors.tolerance {
                config::Tolerance::All => false,
                config::Tolerance::None => true,
            },
            per_hour: errors.max_dead_letters_per_hour,
            committed: VecDeque::new(),
        }
    }

    pub(super) fn allowance(&self, now: Instant) -> Allowance {
        match self.per_hour {
            _ if self.stops_at_first => Allowance::None,
            None => Allowance::Any,
            Some(limit) => {
                let is_recent = |(at, _): &&(Instant, u64)| now.duration_since(*at) < HOUR;
                let recent: u64 = self.committed.iter().filter(is_recent).map(|(_, count)| count).sum();
                let count = limit.saturating_sub(recent);
                Allowance::Left { count, limit }
            }
        }
    }

    /// So many were committed.
    pub(super) fn note(&mut self, count: u64, now: Instant) {
        if self.per_hour.is_none() || count == 0 {
            return;
        }
        while self
            .committed
            .front()
            .is_some_and(|(at, _)| now.duration_since(*at) >= HOUR)
        {
            self.committed.pop_front();
        }
        self.committed.push_back((now, count));
    }
}

impl Allowance {
    /// Takes one; `false`, if there is none left.
    pub(super) fn take(&mut self) -> bool {
        match self {
            Self::Any => true,
            Self::Left { count: 0, .. } | Self::None => false,
            Self::Left { count, .. } => {
                *count -= 1;
                true
            }
        }
    }

    /// What to say of the row for which there is none left.
    pub(super) fn refusal(self, row: BadRow) -> DeadLetterStop {
        match self {
            Self::Left { limit, .. } => DeadLetterStop::TooMany { limit, row },
            Self::Any | Self::None => DeadLetterStop::First { row },
        }
    }
}

/// A row that would be a dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BadRow {
    pub reason: Reason,
    pub public_id: Option<String>,
    pub request_id: Option<String>,
}

impl fmt::Display for BadRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |id: &Option<String>| id.clone().unwrap_or_else(|| "none".to_owned());
        let (public_id, request_id) = (shown(&self.public_id), shown(&self.request_id));
        write!(f, "{} (public_id {public_id}, request id {request_id})", self.reason)
    }
}

/// Why a lender does not go on past a row.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DeadLetterStop {
    #[error("a row would be a dead letter, and errors.tolerance is \"none\": {row}")]
    First { row: BadRow },
    #[error("more than {limit} dead letters within an hour, the next one would be: {row}")]
    TooMany { limit: u64, row: BadRow },
}

impl DeadLetterStop {
    pub(crate) const FIRST: ErrorCode = ErrorCode::L01;
    pub(crate) const TOO_MANY: ErrorCode = ErrorCode::L02;
}

/// Its exit is not [`Exit::Failed`](crate::exit::Exit::Failed): what restarts on that would meet the same row again, or bury as
/// many as the limit allows at every start.
impl Diagnosis for DeadLetterStop {
    fn code(&self) -> ErrorCode {
        match self {
            Self::First { .. } => Self::FIRST,
            Self::TooMany { .. } => Self::TOO_MANY,
        }
    }

    fn advice(&self) -> &str {
        match self {
            Self::First { .. } => {
                "nothing of its page or after it is committed: have the row mended upstream and start again, or set \
                 errors.tolerance = \"all\""
            }
            Self::TooMany { .. } => {
                "nothing of its page or after it is committed: look at the dead letters, have upstream mended or raise \
                 errors.max_dead_letters_per_hour, and start again"
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(per_hour: u64) -> DeadLetterLimit {
        DeadLetterLimit {
            per_hour: Some(per_hour),
            ..DeadLetterLimit::default()
        }
    }

    fn taken(limit: &DeadLetterLimit, now: Instant) -> usize {
        let mut allowance = limit.allowance(now);
        (0..1_000).take_while(|_| allowance.take()).count()
    }

    #[test]
    fn an_hour_slides_and_what_lies_before_it_counts_no_more() {
        let (mut limit, begun) = (limit(10), Instant::now());
        let at = |seconds| begun + Duration::from_secs(seconds);
        assert_eq!(taken(&limit, at(0)), 10);
        limit.note(4, at(0));
        limit.note(3, at(1_800));
        assert_eq!(taken(&limit, at(1_800)), 3);
        assert_eq!(taken(&limit, at(3_599)), 3);
        assert_eq!(taken(&limit, at(3_600)), 7);
        limit.note(7, at(3_600));
        assert_eq!(taken(&limit, at(3_600)), 0);
        assert_eq!(taken(&limit, at(5_399)), 0);
        assert_eq!(taken(&limit, at(5_400)), 3);
        assert_eq!(taken(&limit, at(9_000)), 10);
        limit.note(1, at(9_000));
        assert_eq!(limit.committed.len(), 1, "what is past is forgotten");
    }

    #[test]
    fn without_limits_anything_goes_and_nothing_is_kept() {
        let mut limit = DeadLetterLimit::default();
        limit.note(5, Instant::now());
        assert_eq!(limit.allowance(Instant::now()), Allowance::Any);
        assert!(limit.committed.is_empty());
    }

    #[test]
    fn a_limit_of_zero_and_no_tolerance_both_stop_at_the_first_and_say_which_of_them_it_was() {
        let row = || BadRow {
            reason: Reason::NoPublicId,
            public_id: None,
            request_id: Some("req_1".to_owned()),
        };
        let now = Instant::now();
        let mut allowance = limit(0).allowance(now);
        assert!(!allowance.take());
        assert_eq!(
            allowance.refusal(row()),
            DeadLetterStop::TooMany { limit: 0, row: row() }
        );
        let strict = DeadLetterLimit {
            stops_at_first: true,
            ..limit(7)
        };
        let mut allowance = strict.allowance(now);
        assert!(!allowance.take());
        let refused = allowance.refusal(row());
        assert_eq!(
            refused.to_string(),
            "a row would be a dead letter, and errors.tolerance is \"none\": `public_id` is absent, empty or not a string \
             (public_id none, request id req_1)"
        );
    }
}
