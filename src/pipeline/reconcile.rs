//! Whom has upstream shown since everything is read once more, and what becomes of the others?
//!
//! - Complete: an account is seen by any row of its own, also one that cannot be an account, of a page that was requested
//!   after the beginning. A row that does not say whose it is may be anybody's, so then nobody is deleted.
//! - In order, Once: a deletion is a transaction like any other; a page that was requested before it does not bring the
//!   account back (`Index::judge`).

use super::inbox::{Batch, Move};
use super::{Decided, Pipeline, Stopped};
use crate::account::Op;
use crate::clock::Tick;
use crate::index::Key;
use crate::progress::Walk;
use crate::reader::{Ask, Entry, Page, Reconciled};
use crate::sink::{AccountRecord, Sink};

/// While everything is read once more.
pub struct Reconciling {
    since: Tick,
    /// Rows that do not say whose they are.
    unnamed: u64,
}

impl<S: Sink> Pipeline<S> {
    pub(super) async fn answer(&mut self, ask: Ask) -> Result<(), Stopped> {
        match ask {
            Ask::Begin { since, done } => {
                self.index.forget_seen();
                self.reconciling = Some(Reconciling { since, unnamed: 0 });
                // Who asked may have been given up.
                let _ = done.send(());
            }
            Ask::Count { answer } => {
                let _ = answer.send(self.index.unseen().count());
            }
            Ask::Delete {
                at,
                max_share,
                client,
                answer,
            } => {
                let unnamed = self.reconciling.take().map_or(0, |reconciling| reconciling.unnamed);
                let gone: Vec<String> = self.index.unseen().map(|key: Key| key.to_string()).collect();
                let (unseen, held) = (gone.len(), self.index.len());
                let reconciled = if unseen > 0 && unnamed > 0 {
                    Reconciled::Unnamed { rows: unnamed, unseen }
                } else if Reconciled::is_too_many(unseen, held, max_share) {
                    Reconciled::TooMany {
                        unseen,
                        held,
                        max_share,
                    }
                } else {
                    Reconciled::Deleted { count: unseen }
                };
                if let Reconciled::Deleted { .. } = reconciled {
                    let mut moves: Vec<Move> = gone
                        .chunks(self.settings.max_rows)
                        .map(|gone| Move::Delete(gone.to_vec()))
                        .collect();
                    moves.push(Move::Reconciled(at));
                    for step in moves {
                        if self.shutdown.is_requested() {
                            return Ok(());
                        }
                        let batch = Batch::of(step);
                        let decided = self.commit(&batch).await?;
                        self.remember(decided, client.tick());
                    }
                }
                let lender = &self.lender;
                tracing::info!(lender, "reconciled: {reconciled}");
                let _ = answer.send(reconciled);
            }
        }
        Ok(())
    }

    /// Notes whom a committed batch has shown.
    pub(super) fn see(&mut self, batch: &Batch) {
        let Some(reconciling) = &mut self.reconciling else {
            return;
        };
        for step in &batch.moves {
            let Move::Page(page) = step else { continue };
            if page.requested <= reconciling.since {
                continue;
            }
            for entry in &page.entries {
                match public_id(page, entry) {
                    Some(public_id) => self.index.see(public_id),
                    None => reconciling.unnamed += u64::from(matches!(page.step.walk, Walk::Reconcile(_))),
                }
            }
        }
    }

    pub(super) fn decide_deletions<'a>(&self, gone: &'a [String], decided: &mut Decided<'a>) {
        for public_id in gone {
            let deleted = self.index.note_deleted(&mut decided.news, &Key::new(public_id));
            let Some((held, before)) = deleted else { continue };
            let account = AccountRecord {
                public_id,
                value: &[],
                op: Op::Deleted,
                updated_at: held.updated_at,
                digest: held.digest,
                invalid: None,
                is_regressed: false,
            };
            if let Some((trail, mut place)) = self.trail_into(&mut decided.records.heads) {
                let change = trail.deletion(account, before.as_ref(), &mut place);
                decided.records.changes.push(change);
            }
            decided.records.accounts.push(account);
            decided.deleted += 1;
        }
    }
}

/// Whose row it is, if that can be read.
fn public_id<'p>(page: &'p Page, entry: &'p Entry) -> Option<&'p str> {
    match entry {
        Entry::Account(row) => Some(page.text(row.public_id)),
        Entry::DeadLetter(dead) => dead.rejected.public_id.as_deref(),
    }
}
