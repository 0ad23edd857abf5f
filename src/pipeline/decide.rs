//! Which rows are written? Every row against what is held, later ones of a batch against earlier ones. Pure.

use std::time::Duration;

use super::batch::BatchItem;
use super::changes::{ChangePlace, ChangeRecorder};
use super::limit::{Allowance, BadRow};
use super::plan::{Holdings, MAX_LINES, Plan};
use super::republish::Republish;
use crate::account::{Digest, Op, Reason, shortened};
use crate::avro::WriterSchema;
use crate::index::{Decision, Held, Key, RowVersion, Verdict};
use crate::progress::{Progress, Timestamp, Walk};
use crate::reader::{EncodedRow, Entry, Page};
use crate::sink::{AccountRecord, DeadLetterRecord, Topic, Topics, account_size, change_size};

/// What deciding needs to know of a lender, beside what is committed.
pub(crate) struct Decider {
    pub public_id: String,
    pub topics: Topics,
    /// `None`: nothing is written to `changes`.
    pub changes: Option<ChangeRecorder>,
    /// How long after its `updated_at` a row may still become visible.
    pub late_window: Duration,
    /// Older rows of accounts that are not held are ignored.
    pub start_from: Option<Timestamp>,
    /// That rows are to be written with.
    pub schema: WriterSchema,
    /// What is written once more as it is held, where everything is read for that.
    pub republish: Option<Republish>,
}

impl Decider {
    /// Judges every row against `holdings`, later ones against earlier ones; ends before the page of a row that may not be a
    /// dead letter.
    pub(super) fn plan<'a>(
        &self,
        holdings: &Holdings,
        progress: &Progress,
        allowance: Allowance,
        items: impl Iterator<Item = &'a BatchItem> + Clone,
    ) -> Plan<'a> {
        let (plan, count) = self.plan_items(holdings, progress, allowance, items.clone());
        match plan.refused {
            None => plan,
            // That page was decided in part: once more without it. A lender comes here once in its life.
            refused => {
                let (before, _) = self.plan_items(holdings, progress, allowance, items.take(count));
                Plan { refused, ..before }
            }
        }
    }

    /// Also gives how many of the items are decided as a whole.
    fn plan_items<'a>(
        &self,
        holdings: &Holdings,
        progress: &Progress,
        allowance: Allowance,
        items: impl Iterator<Item = &'a BatchItem> + Clone,
    ) -> (Plan<'a>, usize) {
        let mut draft = Draft {
            decider: self,
            holdings,
            plan: Plan::new(holdings, progress, allowance),
        };
        let mut count = 0;
        for item in items {
            match item {
                BatchItem::Begin(progress) => draft.plan.progress = progress.clone(),
                BatchItem::Split(split) => draft.plan.progress.split(*split),
                BatchItem::Delete(gone) => draft.delete(gone),
                BatchItem::Reconciled(at) => draft.plan.progress.reconciled = Some(*at),
                BatchItem::Page(page) => draft.page(page),
            }
            if draft.plan.refused.is_some() {
                break;
            }
            count += 1;
        }
        let mut plan = draft.plan;
        plan.accounts = holdings.index.with(&plan.news);
        (plan, count)
    }
}

/// A plan in the making.
struct Draft<'d, 'a> {
    decider: &'d Decider,
    holdings: &'d Holdings,
    plan: Plan<'a>,
}

impl<'a> Draft<'_, 'a> {
    fn page(&mut self, page: &'a Page) {
        let first_snapshot_at = self.plan.progress.first_snapshot_at.map_or(i64::MAX, |at| at.0);
        for entry in &page.entries {
            match entry {
                Entry::Account(row) => self.row(page, row, first_snapshot_at),
                Entry::DeadLetter(dead) => {
                    let (reason, public_id) = (dead.rejected.reason.clone(), dead.rejected.public_id.as_deref());
                    self.dead_letter(page, page.bytes(dead.json), dead.digest, reason, public_id);
                }
            }
        }
        let mut step = page.step.clone();
        match step.walk {
            Walk::Range(_) => self.plan.tally.snapshot_rows += page.entries.len() as u64,
            // Whatever was left since the last sweep ended: this one may have passed it before.
            Walk::Sweep if step.is_last => step.left = self.plan.left.take(),
            Walk::Live if step.backlog.is_some() => step.left = self.plan.left,
            Walk::Live | Walk::Sweep | Walk::EarlySweep | Walk::Reconcile(_) | Walk::Replay => {}
        }
        self.plan.progress.advance(&step, self.decider.late_window);
    }

    fn row(&mut self, page: &'a Page, row: &'a EncodedRow, first_snapshot_at: i64) {
        let (decider, index) = (self.decider, &self.holdings.index);
        let public_id = page.text(row.public_id);
        let mut account = AccountRecord {
            public_id,
            value: page.bytes(row.value),
            op: Op::Read,
            updated_at: row.updated_at,
            digest: row.digest,
            invalid: row.invalid.as_deref(),
            is_regressed: false,
            is_republished: false,
        };
        let size = account_size(&account, &decider.public_id);
        if size > decider.topics.accounts.max_message {
            return self.too_large(page, row, &decider.topics.accounts, size);
        }
        let is_old = decider
            .start_from
            .is_some_and(|start_from| row.updated_at < start_from.0);
        if is_old && !index.holds(&self.plan.news, public_id) {
            self.plan.tally.ignored += 1;
            return;
        }
        let candidate = RowVersion {
            public_id,
            updated_at: row.updated_at,
            created_at: row.created_at,
            digest: row.digest,
            schema: WriterSchema::of_value(account.value),
            requested: page.requested,
            received: page.received,
            is_reconciled: matches!(page.step.walk, Walk::Reconcile(_)) && decider.republish.is_none(),
        };
        let judged = index.judge(&self.plan.news, &candidate, first_snapshot_at);
        match judged.verdict {
            Verdict::Write(op) => {
                account.op = op;
                account.is_regressed = judged.is_regressed;
                let mut content = None;
                if let Some((changes, topic)) = decider.changes() {
                    let after = changes.content(account.value);
                    let before = index.content(&self.plan.news, &judged);
                    let mut destination = decider.destination(topic, &mut self.plan.records.heads);
                    let change = changes.change(account, &after, judged.held, before.as_ref(), &mut destination);
                    if let Some(change) = change {
                        let size = change_size(&change, &decider.public_id);
                        if size > topic.max_message {
                            // Rather neither than an account that changed without a trace.
                            self.plan.records.heads.truncate(change.head.start);
                            return self.too_large(page, row, topic, size);
                        }
                        self.plan.records.changes.push(change);
                    }
                    content = Some(after);
                }
                self.plan.tally.put_back += u64::from(judged.is_regressed);
                index.note(&mut self.plan.news, &candidate, judged, content);
                self.plan.records.accounts.push(account);
                if matches!(page.step.walk, Walk::Live | Walk::Sweep | Walk::EarlySweep) {
                    self.plan.live.push(row.updated_at);
                }
            }
            Verdict::Repeated => match judged.held {
                Some(held) if decider.is_to_republish(&held) => self.republish(account, &candidate, judged),
                Some(_) | None => {
                    index.note_repeated(&mut self.plan.news, &candidate, judged);
                    self.plan.tally.repeated += 1;
                }
            },
            Verdict::Stale => self.plan.tally.stale += 1,
            Verdict::Undecided => {
                self.plan.tally.undecided += 1;
                if page.step.walk == Walk::Replay {
                    // No reading on shows a row again that became a dead letter long ago.
                    return;
                }
                let at = Timestamp(row.updated_at);
                self.plan.left = Some(self.plan.left.map_or(at, |left| left.min(at)));
            }
            Verdict::Regressed => {
                self.plan.tally.regressed += 1;
                if self.plan.regressed_ids.len() < MAX_LINES {
                    self.plan.regressed_ids.push(public_id);
                }
            }
        }
    }

    /// Writes what is held once more, and nothing to `changes`.
    fn republish(&mut self, account: AccountRecord<'a>, row: &RowVersion<'a>, mut judged: Decision) {
        judged.is_regressed = judged.held.is_some_and(|held| held.is_regressed);
        let account = AccountRecord {
            is_regressed: judged.is_regressed,
            is_republished: true,
            ..account
        };
        let content = self
            .decider
            .changes()
            .map(|(changes, _)| changes.content(account.value));
        self.holdings.index.note(&mut self.plan.news, row, judged, content);
        self.plan.records.accounts.push(account);
        self.plan.tally.republished += 1;
    }

    /// A record of `size` bytes does not fit `topic`.
    fn too_large(&mut self, page: &'a Page, row: &'a EncodedRow, topic: &Topic, size: usize) {
        let (json, digest) = match row.received {
            Some(received) => (page.bytes(received.json), received.digest),
            None => (&[][..], Digest::of_bytes(&[])),
        };
        let reason = Reason::TooLarge {
            size,
            limit: topic.max_message,
            topic: topic.name.clone(),
        };
        let public_id = Some(page.text(row.public_id));
        self.dead_letter(page, json, digest, reason, public_id);
    }

    /// A row appears once while it is in the dead-letter topic.
    fn dead_letter(
        &mut self,
        page: &'a Page,
        json: &'a [u8],
        digest: Digest,
        reason: Reason,
        public_id: Option<&'a str>,
    ) {
        let plan = &mut self.plan;
        if page.step.walk == Walk::Replay {
            // It is one, whether its digest is remembered or not.
            plan.tally.still_dead += 1;
            return;
        }
        if self.holdings.dead_letters.contains(&digest) || plan.dead_letters.contains(&digest) {
            plan.tally.repeated += 1;
            return;
        }
        let request_id = page.request_id.as_deref();
        if !plan.allowance.take() {
            let refusal = || {
                plan.allowance.refusal(BadRow {
                    reason,
                    public_id: public_id.map(|id| shortened(id).into_owned()),
                    request_id: request_id.map(str::to_owned),
                })
            };
            plan.refused.get_or_insert_with(refusal);
            return;
        }
        if reason.unfit_field().is_some_and(|field| page.drifting.contains(&field)) {
            plan.tally.drifted += 1;
        } else if plan.named.len() < MAX_LINES {
            plan.named.push(plan.dead_letters.len());
        }
        plan.dead_letters.push(digest);
        plan.records.dead_letters.push(DeadLetterRecord {
            public_id,
            json,
            reason,
            digest,
            request_id,
        });
    }

    fn delete(&mut self, gone: &'a [String]) {
        for public_id in gone {
            let deleted = self
                .holdings
                .index
                .note_deleted(&mut self.plan.news, &Key::new(public_id));
            let Some((held, before)) = deleted else { continue };
            let account = AccountRecord {
                public_id,
                value: &[],
                op: Op::Deleted,
                updated_at: held.updated_at,
                digest: held.digest,
                invalid: None,
                is_regressed: false,
                is_republished: false,
            };
            if let Some((changes, topic)) = self.decider.changes() {
                let mut destination = self.decider.destination(topic, &mut self.plan.records.heads);
                let change = changes.deletion(account, before.as_ref(), &mut destination);
                self.plan.records.changes.push(change);
            }
            self.plan.records.accounts.push(account);
            self.plan.tally.deleted += 1;
        }
    }
}

impl Decider {
    fn is_to_republish(&self, held: &Held) -> bool {
        self.republish
            .as_ref()
            .is_some_and(|republish| republish.is_left(held, self.schema))
    }

    /// What makes records of `changes`, and their topic; `None` where that is turned off.
    fn changes(&self) -> Option<(&ChangeRecorder, &Topic)> {
        Some((self.changes.as_ref()?, self.topics.changes.as_ref()?))
    }

    fn destination<'r>(&'r self, topic: &Topic, heads: &'r mut Vec<u8>) -> ChangePlace<'r> {
        ChangePlace {
            lender: &self.public_id,
            max_message: topic.max_message,
            heads,
        }
    }
}
