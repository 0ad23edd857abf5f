//! Is a row news? One against the version that is held.

use super::key::HashedKey;
use super::store::SlotPlace;
use super::version::Held;
use crate::account::{Digest, Op};
use crate::avro::WriterSchema;
use crate::clock::Tick;
use crate::failpoint::{self, Rule};

/// A row as far as deciding needs it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RowVersion<'a> {
    pub public_id: &'a str,
    pub updated_at: i64,
    pub created_at: Option<i64>,
    pub digest: Digest,
    /// That it is to be written with.
    pub schema: WriterSchema,
    /// When its page was requested: what was received after that may be newer than the page.
    pub requested: Tick,
    pub received: Tick,
    /// Whether everything is read to be put right: then also what went back in time is written.
    pub is_reconciled: bool,
}

/// What a row is against the version held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Verdict {
    Write(Op),
    /// Same version, same content: nothing to do.
    Repeated,
    /// Older than what is held, and so was the page.
    Stale,
    /// The page cannot tell which content is newer; a later reading will.
    Undecided,
    /// Older than what is held though read later: upstream went back in time.
    Regressed,
}

/// What is to be done with a row, and against which version that was decided.
#[derive(Debug)]
pub(crate) struct Decision {
    pub verdict: Verdict,
    pub held: Option<Held>,
    /// Whether what is to be written is older than what is held.
    pub is_regressed: bool,
    /// Of the row's account.
    pub(super) key: HashedKey,
    pub(super) against: Against,
}

/// Where the version stands that a row was judged against.
#[derive(Debug, Clone, Copy)]
pub(super) enum Against {
    Nothing,
    Held(SlotPlace),
    /// In what the batch writes.
    Written(usize),
}

/// docs/delivery.md, "What is written", row by row. `deleted`: when the account's last deletion was known to be committed, where it
/// was deleted.
pub(super) fn judge(
    held: Option<&Held>,
    deleted: Option<Tick>,
    row: &RowVersion<'_>,
    first_snapshot_at: i64,
) -> Verdict {
    let verdict = match held {
        Some(held) => judge_against(held, row),
        None => {
            let is_new = row.created_at.is_some_and(|at| at >= first_snapshot_at);
            let is_created = is_new || deleted.is_some();
            Verdict::Write(if is_created { Op::Created } else { Op::Read })
        }
    };
    match verdict {
        // The page may show what there was before the deletion.
        Verdict::Write(_) if deleted.is_some_and(|deleted| row.requested <= deleted) => Verdict::Undecided,
        verdict => verdict,
    }
}

fn judge_against(held: &Held, row: &RowVersion<'_>) -> Verdict {
    let requested_after = row.requested > held.received;
    if row.updated_at > held.updated_at {
        // Of what went back, an older page may still show what was later.
        if held.went_back && !requested_after {
            Verdict::Undecided
        } else {
            Verdict::Write(Op::Updated)
        }
    } else if row.updated_at == held.updated_at {
        match (row.digest == held.digest, requested_after) {
            (true, _) => Verdict::Repeated,
            (false, true) => Verdict::Write(Op::Updated),
            (false, false) => Verdict::Undecided,
        }
    } else if requested_after && row.is_reconciled {
        Verdict::Write(Op::Updated)
    } else if requested_after {
        Verdict::Regressed
    } else if failpoint::is_broken(Rule::StaleIsLeft) {
        Verdict::Write(Op::Updated)
    } else {
        Verdict::Stale
    }
}
