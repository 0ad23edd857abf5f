//! What is tried next at a place that fails while others pass? One rung after another, until a page comes or the place has a
//! name. An upstream that answers nobody is waited for and climbs nothing. Pure.
//!
//! ```text
//! again ─► a smaller page ─► less of the time ─► a fresh walk ─► row by row ─► stuck: named, counted, tried on
//! ```

/// What went wrong with a request, as far as that decides what is tried next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    /// Nobody answered, or somebody who is not upstream.
    Silence,
    /// Perhaps the cursor is dead, or the page is not the one that was asked for.
    Doubt,
    /// The answer is too large.
    TooLarge,
    /// The query takes upstream too long.
    TooSlow,
    /// The answer is no page.
    Unreadable,
}

/// What is tried next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rung {
    Again,
    /// A page of half the rows.
    Smaller,
    /// A fresh walk that asks for less of the time.
    Narrower,
    /// A fresh walk: from the highest row on, without the cursor.
    Fresh,
    /// A fresh walk, in pages of one row: that shows the spot.
    RowByRow,
    /// Whether upstream answers anybody is not known: it is asked for nothing.
    Probe,
    /// Everything was tried, and others pass.
    Stuck,
}

/// So many failures of one request, before more than its size is changed.
const TRIES: u32 = 3;

/// So many fresh walks from one place; the last of them reads row by row.
const FRESH_WALKS: u32 = 3;

/// Good pages after which a halved page size doubles again.
const PAGES_BEFORE_LARGER: u32 = 20;

/// Of failures without a pass of anybody, every so many asks whether upstream answers at all.
const SILENCES_BEFORE_PROBE: u32 = 4;

/// How far up a walk is at the place where it stands.
#[derive(Debug, Default)]
pub(super) struct Ladder {
    /// Rows of a page, where that is less than usual.
    limit: Option<u16>,
    good_count: u32,
    /// Failures in a row of what is asked for now.
    tries: u32,
    /// Those without a pass of anybody.
    silences: u32,
    /// Fresh walks from this place.
    fresh_walks: u32,
}

impl Ladder {
    /// One that asks for a row at a time.
    pub(super) fn row_by_row() -> Self {
        Self {
            limit: Some(1),
            ..Self::default()
        }
    }

    /// Rows to ask for.
    pub(super) fn limit(&self, page_size: u16) -> u16 {
        self.limit.unwrap_or(page_size)
    }

    /// Whether the request fails for so long that what of its answer can be used is to be used.
    pub(super) fn takes_damaged(&self) -> bool {
        self.tries + 1 >= TRIES
    }

    /// A page came. `is_further`: with rows that none before it had; a fresh walk reads some again.
    pub(super) fn pass(&mut self, is_further: bool, page_size: u16) {
        (self.tries, self.silences) = (0, 0);
        if is_further {
            self.fresh_walks = 0;
        }
        self.good_count += 1;
        // Whoever looks for a spot reads row by row until it is passed.
        if self.fresh_walks < FRESH_WALKS && self.good_count.is_multiple_of(PAGES_BEFORE_LARGER) {
            let doubled = self.limit.map(|limit| limit.saturating_mul(2));
            self.limit = doubled.filter(|limit| *limit < page_size);
        }
    }

    /// No page came. `others_pass`: any other request of the lender did, since the last time that this one failed.
    pub(super) fn fail(&mut self, trouble: Trouble, others_pass: bool, can_narrow: bool, page_size: u16) -> Rung {
        self.silences = if others_pass { 0 } else { self.silences + 1 };
        // What fails while nothing passes says nothing of the place.
        let says_nothing = trouble == Trouble::Silence && !others_pass;
        self.tries = self.tries.saturating_add(u32::from(!says_nothing));
        let rung = self.rung(trouble, others_pass, can_narrow, self.limit(page_size));
        match rung {
            Rung::Again | Rung::Probe => {}
            Rung::Smaller => self.ask_for((self.limit(page_size) / 2).max(1)),
            // The next one at once, if this does not help.
            Rung::Narrower => {}
            Rung::Fresh => (self.tries, self.fresh_walks) = (0, self.fresh_walks + 1),
            Rung::RowByRow => {
                (self.tries, self.fresh_walks) = (0, self.fresh_walks + 1);
                self.ask_for(1);
            }
            Rung::Stuck => self.tries = 0,
        }
        rung
    }

    fn rung(&self, trouble: Trouble, others_pass: bool, can_narrow: bool, limit: u16) -> Rung {
        let is_due = self.tries >= TRIES;
        // Whoever fails while others pass wants to know whether it still is so.
        let is_silent = self.tries > 0 || self.silences.is_multiple_of(SILENCES_BEFORE_PROBE);
        match trouble {
            Trouble::Silence if !others_pass && is_silent => Rung::Probe,
            Trouble::Silence if !others_pass => Rung::Again,
            Trouble::TooLarge | Trouble::TooSlow if limit > 1 => Rung::Smaller,
            _ if !is_due => Rung::Again,
            Trouble::Silence | Trouble::Unreadable if limit > 1 => Rung::Smaller,
            Trouble::Silence | Trouble::TooSlow if can_narrow => Rung::Narrower,
            _ if self.fresh_walks + 1 < FRESH_WALKS => Rung::Fresh,
            _ if self.fresh_walks < FRESH_WALKS => Rung::RowByRow,
            _ if others_pass => Rung::Stuck,
            _ => Rung::Probe,
        }
    }

    fn ask_for(&mut self, limit: u16) {
        (self.limit, self.good_count) = (Some(limit), 0);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PAGE_SIZE: u16 = 8;

    /// What follows, as long as nothing else happens.
    fn climbed(trouble: Trouble, others_pass: bool, narrowings: u32, count: usize) -> Vec<Rung> {
        let (mut ladder, mut narrowed) = (Ladder::default(), 0);
        let mut rungs = Vec::new();
        for _ in 0..count {
            let rung = ladder.fail(trouble, others_pass, narrowed < narrowings, PAGE_SIZE);
            narrowed += u32::from(rung == Rung::Narrower);
            rungs.push(rung);
        }
        rungs
    }

    #[test]
    fn each_trouble_climbs_its_own_way_and_ends_in_a_name() {
        use Rung::{Again, Fresh, Narrower, Probe, RowByRow, Smaller, Stuck};
        let afresh = [
            Again, Again, Fresh, Again, Again, Fresh, Again, Again, RowByRow, Again, Again, Stuck,
        ];
        for (trouble, others_pass, narrowings, expected) in [
            (Trouble::Doubt, true, 9, afresh.to_vec()),
            (Trouble::TooLarge, true, 9, [&[Smaller; 3][..], &afresh[2..]].concat()),
            (
                Trouble::TooSlow,
                true,
                2,
                vec![Smaller, Smaller, Smaller, Narrower, Narrower, Fresh],
            ),
            (
                Trouble::Unreadable,
                true,
                9,
                vec![Again, Again, Smaller, Smaller, Smaller, Fresh],
            ),
            (
                Trouble::Silence,
                true,
                1,
                vec![Again, Again, Smaller, Smaller, Smaller, Narrower, Fresh],
            ),
            // Nobody is answered: that is waited for.
            (
                Trouble::Silence,
                false,
                9,
                vec![Again, Again, Again, Probe, Again, Again, Again, Probe],
            ),
        ] {
            let found = climbed(trouble, others_pass, narrowings, expected.len());
            assert_eq!(found, expected, "{trouble:?}, others pass: {others_pass}");
        }
        assert_eq!(
            climbed(Trouble::Doubt, false, 0, 12).last(),
            Some(&Probe),
            "no name while nobody is answered"
        );
    }

    #[test]
    fn a_silence_that_only_a_probe_breaks_climbs_as_well() {
        let mut ladder = Ladder::default();
        let (mut passes, mut rungs) = (false, Vec::new());
        for _ in 0..60 {
            let rung = ladder.fail(Trouble::Silence, passes, false, PAGE_SIZE);
            // Upstream answers what is asked for nothing.
            passes = rung == Rung::Probe;
            rungs.push(rung);
        }
        assert!(
            rungs.contains(&Rung::Smaller) && rungs.contains(&Rung::Stuck),
            "{rungs:?}"
        );
    }

    #[test]
    fn a_page_that_gets_further_begins_anew_and_one_that_does_not_keeps_its_place() {
        let mut ladder = Ladder::default();
        for _ in 0..9 {
            ladder.fail(Trouble::Doubt, true, false, PAGE_SIZE);
        }
        assert_eq!(ladder.limit(PAGE_SIZE), 1, "row by row");
        ladder.pass(false, PAGE_SIZE);
        (0..100).for_each(|_| ladder.pass(false, PAGE_SIZE));
        assert_eq!(ladder.limit(PAGE_SIZE), 1, "the spot is not passed");
        let rungs: Vec<_> = (0..3)
            .map(|_| ladder.fail(Trouble::Doubt, true, false, PAGE_SIZE))
            .collect();
        assert_eq!(rungs, [Rung::Again, Rung::Again, Rung::Stuck]);
        ladder.pass(true, PAGE_SIZE);
        (0..60).for_each(|_| ladder.pass(true, PAGE_SIZE));
        assert_eq!(ladder.limit(PAGE_SIZE), PAGE_SIZE, "it doubles again");
    }

    #[test]
    fn what_is_damaged_is_taken_at_the_third_try() {
        let mut ladder = Ladder::default();
        let mut takes = Vec::new();
        for _ in 0..3 {
            takes.push(ladder.takes_damaged());
            ladder.fail(Trouble::Unreadable, true, false, PAGE_SIZE);
        }
        assert_eq!(takes, [false, false, true]);
    }

    fn trouble() -> impl Strategy<Value = Trouble> {
        use Trouble::{Doubt, Silence, TooLarge, TooSlow, Unreadable};
        prop::sample::select(vec![Silence, Doubt, TooLarge, TooSlow, Unreadable])
    }

    proptest! {
        /// Whatever a place answers: while others pass it is named in the end, and never while nobody is answered.
        #[test]
        fn any_answers_end_in_a_name_while_others_pass_and_never_while_nobody_is_answered(
            troubles in prop::collection::vec(trouble(), 80),
            narrowings in 0u32..12,
            page_size in 1u16..=1000,
            others_pass: bool,
        ) {
            let (mut ladder, mut narrowed, mut is_named) = (Ladder::default(), 0, false);
            for trouble in troubles {
                let rung = ladder.fail(trouble, others_pass, narrowed < narrowings, page_size);
                narrowed += u32::from(rung == Rung::Narrower);
                is_named |= rung == Rung::Stuck;
                prop_assert!((1..=page_size).contains(&ladder.limit(page_size)));
            }
            prop_assert_eq!(is_named, others_pass);
        }

        /// Pages between the failures: those that get further leave no trace but a smaller page, which grows again.
        #[test]
        fn whatever_happened_good_pages_bring_the_usual_size_back(
            events in prop::collection::vec(prop::option::of(trouble()), 0..60),
            page_size in 1u16..=1000,
        ) {
            let mut ladder = Ladder::default();
            for event in events {
                match event {
                    Some(trouble) => drop(ladder.fail(trouble, true, false, page_size)),
                    None => ladder.pass(true, page_size),
                }
            }
            (0..11 * PAGES_BEFORE_LARGER).for_each(|_| ladder.pass(true, page_size));
            prop_assert_eq!(ladder.limit(page_size), page_size);
        }
    }
}
