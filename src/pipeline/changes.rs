//! What does `changes` say of a row that is written to `accounts`?

use crate::account::{Changed, Content, Op};
use crate::avro::{ChangeEncoder, ChangeHead, Frame, Framed, Layout, unframe};
use crate::index::Held;
#[cfg(doc)]
use crate::sink::Records;
use crate::sink::{AccountRecord, ChangeRecord, Moved, change_size};

/// Makes the records of `changes`.
pub(crate) struct ChangeRecorder {
    encoder: ChangeEncoder,
    /// Of the values that this process writes.
    layout: Layout,
    /// Whether accounts that the snapshot reads get an opening record.
    is_initial: bool,
}

impl ChangeRecorder {
    /// `frame`: of the values of `changes`.
    pub(crate) fn new(frame: Frame, is_initial: bool) -> Self {
        Self {
            encoder: ChangeEncoder::new(frame),
            layout: Layout::current(),
            is_initial,
        }
    }

    /// What of an account is to be remembered. `value`: as it is written to `accounts`.
    pub(crate) fn content<'v>(&self, value: &'v [u8]) -> Content<'v> {
        self.layout.read(datum(value)).expect(ENCODED_HERE)
    }

    /// The record of an account that is written, its head appended to those of the batch; `None` where there is nothing to say.
    ///
    /// `held` and `before`: the version that it replaces, and what is remembered of its content.
    pub(crate) fn change<'a>(
        &self,
        account: AccountRecord<'a>,
        after: &Content<'_>,
        held: Option<Held>,
        before: Option<&Content<'_>>,
        destination: &mut ChangePlace<'_>,
    ) -> Option<ChangeRecord<'a>> {
        let is_wanted = match account.op {
            Op::Read => self.is_initial,
            Op::Created => true,
            // Else only `updated_at` differs.
            Op::Updated => held.is_none_or(|held| held.digest != account.digest),
            Op::Deleted => false,
        };
        if !is_wanted {
            return None;
        }
        let changed = match (held, before) {
            (None, _) => Changed::default(),
            (Some(_), None) => Changed::unknown(),
            (Some(_), Some(before)) => Changed::between(before, after),
        };
        let moved = before.filter(|_| changed.has_due_date()).map(|before| {
            let text = |content: &Content<'_>| content.tracked.due_date.as_deref().map(str::to_owned);
            Box::new(Moved {
                previous: text(before),
                now: text(after),
            })
        });
        let head = ChangeHead {
            public_id: account.public_id,
            lender_public_id: destination.lender,
            op: account.op.letter(),
            updated_at: account.updated_at,
            previous_updated_at: held.map(|held| held.updated_at),
            changed,
            before: before.map(|before| &before.tracked),
        };
        Some(self.record(account, head, moved, destination))
    }

    /// The record of an account that is deleted.
    pub(crate) fn deletion<'a>(
        &self,
        account: AccountRecord<'a>,
        before: Option<&Content<'_>>,
        destination: &mut ChangePlace<'_>,
    ) -> ChangeRecord<'a> {
        let head = ChangeHead {
            public_id: account.public_id,
            lender_public_id: destination.lender,
            op: account.op.letter(),
            updated_at: account.updated_at,
            previous_updated_at: Some(account.updated_at),
            changed: Changed::default(),
            before: before.map(|before| &before.tracked),
        };
        self.record(account, head, None, destination)
    }

    fn record<'a>(
        &self,
        account: AccountRecord<'a>,
        mut head: ChangeHead<'_>,
        moved: Option<Box<Moved>>,
        destination: &mut ChangePlace<'_>,
    ) -> ChangeRecord<'a> {
        let start = destination.heads.len();
        self.encoder.encode(&head, destination.heads);
        let after = match account.op {
            Op::Deleted => &[],
            Op::Read | Op::Created | Op::Updated => datum(account.value),
        };
        let mut change = ChangeRecord {
            account,
            head: start..destination.heads.len(),
            after,
            changed: head.changed,
            moved,
        };
        if head.before.is_some() && change_size(&change, destination.lender) > destination.max_message {
            // The texts of a version that is over must not keep this one out.
            head.before = None;
            destination.heads.truncate(start);
            self.encoder.encode(&head, destination.heads);
            change.head.end = destination.heads.len();
            change.moved = None;
        }
        change
    }
}

/// Where the records of a batch go.
pub(crate) struct ChangePlace<'r> {
    /// Whose they are: its public id.
    pub lender: &'r str,
    /// What the topic takes, in bytes.
    pub max_message: usize,
    /// [`Records::heads`].
    pub heads: &'r mut Vec<u8>,
}

const ENCODED_HERE: &str = "the value was encoded by this process";

fn datum(value: &[u8]) -> &[u8] {
    match unframe(value).expect(ENCODED_HERE) {
        Framed::Confluent { datum, .. } | Framed::SingleObject { datum, .. } => datum,
    }
}
