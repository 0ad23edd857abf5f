//! What do two looks at an account say? One look alone says little: the source follows upstream, so it is always a little
//! behind, and an account may change between the reading of the one side and of the other. Pure.

use super::table::ListedVersion;

/// What is wrong with an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum FindingKind {
    /// UpstreamSide has it, `accounts` does not.
    Missing,
    /// `accounts` holds an older version than upstream showed a look ago.
    Stale,
    /// Same `updated_at`, other content.
    Different,
    /// `accounts` holds a newer version than upstream has: `updated_at` went back there.
    Regressed,
    /// `accounts` has it, upstream does not.
    Surplus,
    /// It changed between the looks, so that they say nothing.
    Changed,
}

impl FindingKind {
    pub(crate) const ALL: [Self; 6] = [
        Self::Missing,
        Self::Stale,
        Self::Different,
        Self::Regressed,
        Self::Surplus,
        Self::Changed,
    ];

    /// Its name in JSON.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Stale => "stale",
            Self::Different => "different",
            Self::Regressed => "regressed",
            Self::Surplus => "surplus",
            Self::Changed => "changed_while_looked",
        }
    }

    /// Its name in a table.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Changed => "changed",
            other => other.name(),
        }
    }

    /// In words, for people.
    pub(crate) fn meaning(self) -> &'static str {
        match self {
            Self::Missing => "upstream has them, the topic does not",
            Self::Stale => "the topic holds an older version",
            Self::Different => "same updated_at, other content",
            Self::Regressed => "upstream's updated_at went back, the topic holds the newer version",
            Self::Surplus => "the topic has them, upstream does not",
            Self::Changed => "at every look, so that nothing is said of them",
        }
    }

    /// Whether it is one: an account that only changed is none.
    pub(crate) fn is_difference(self) -> bool {
        self != Self::Changed
    }

    /// Whether a source that reads everything again writes what is wrong.
    pub(crate) fn is_repaired_by_reading(self) -> bool {
        matches!(self, Self::Missing | Self::Stale | Self::Different)
    }
}

/// An account upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UpstreamSide {
    Absent,
    Account(ListedVersion),
    /// Its row cannot be an account: what the topic holds is the last good record.
    Dead,
}

/// Both sides of an account at one look: upstream first, then the topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Look {
    pub upstream: UpstreamSide,
    pub held: Option<ListedVersion>,
}

/// What is wrong, by the last look and the one before; `None`: nothing.
///
/// Between the two a source had the time to write what the earlier one saw upstream. What changed later may still be on
/// its way.
pub(super) fn finding(before: Look, now: Look) -> Option<FindingKind> {
    let is_still = before == now;
    let certain = |kind: FindingKind, is_certain: bool| Some(if is_certain { kind } else { FindingKind::Changed });
    match (now.upstream, now.held) {
        (UpstreamSide::Absent, None) | (UpstreamSide::Dead, _) => None,
        (UpstreamSide::Account(version), None) => {
            // An account that appeared only now is on its way; one that has been there may go on changing.
            let was_there =
                matches!(before.upstream, UpstreamSide::Account(was) if was.updated_at <= version.updated_at);
            certain(FindingKind::Missing, was_there && before.held.is_none())
        }
        (UpstreamSide::Absent, Some(_)) => certain(FindingKind::Surplus, is_still),
        (UpstreamSide::Account(version), Some(held)) if held == version => None,
        (UpstreamSide::Account(version), Some(held)) if held.updated_at < version.updated_at => {
            let was_ahead = matches!(before.upstream, UpstreamSide::Account(was) if held.updated_at < was.updated_at);
            certain(FindingKind::Stale, was_ahead)
        }
        (UpstreamSide::Account(version), Some(held)) if held.updated_at == version.updated_at => {
            certain(FindingKind::Different, is_still)
        }
        (UpstreamSide::Account(_), Some(_)) => certain(FindingKind::Regressed, is_still),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::Digest;

    /// `3a`: updated at 3, content `a`; `-`: none; `!`: no account.
    fn look(upstream: &str, held: &str) -> Look {
        let version = |text: &str| ListedVersion {
            updated_at: text[..1].parse().expect("a digit"),
            digest: Digest(u64::from(text.as_bytes()[1])),
        };
        let upstream = match upstream {
            "-" => UpstreamSide::Absent,
            "!" => UpstreamSide::Dead,
            text => UpstreamSide::Account(version(text)),
        };
        let held = (held != "-").then(|| version(held));
        Look { upstream, held }
    }

    #[test]
    fn two_looks_tell_what_is_wrong_from_what_is_on_its_way() {
        use FindingKind::{Changed, Different, Missing, Regressed, Stale, Surplus};
        for (before, now, expected) in [
            // As it should be, however it came to be so.
            (("2a", "-"), ("2a", "2a"), None),
            (("2a", "1a"), ("3a", "3a"), None),
            (("2a", "3b"), ("3b", "3b"), None),
            (("-", "2a"), ("2a", "2a"), None),
            (("2a", "1a"), ("-", "-"), None),
            // No account, whatever stands in the topic.
            (("2a", "1a"), ("!", "1a"), None),
            (("2a", "-"), ("!", "-"), None),
            // Missing, also if it goes on changing; but not if it has just come.
            (("2a", "-"), ("2a", "-"), Some(Missing)),
            (("2a", "-"), ("3a", "-"), Some(Missing)),
            (("-", "-"), ("3a", "-"), Some(Changed)),
            (("2a", "2a"), ("2a", "-"), Some(Changed)),
            // Stale: older than what was there a look ago, even if the source has written something since.
            (("2a", "1a"), ("2a", "1a"), Some(Stale)),
            (("3a", "1a"), ("4a", "2a"), Some(Stale)),
            (("3a", "1a"), ("4a", "3a"), Some(Changed)),
            (("2a", "2a"), ("3a", "2a"), Some(Changed)),
            (("2a", "2b"), ("3a", "2b"), Some(Changed)),
            (("-", "1a"), ("3a", "1a"), Some(Changed)),
            // Same time, other content.
            (("2a", "2b"), ("2a", "2b"), Some(Different)),
            (("1a", "1a"), ("2a", "2b"), Some(Changed)),
            (("2a", "2b"), ("2a", "2c"), Some(Changed)),
            // The topic is read after upstream: newer is on its way back, unless it stays so.
            (("2a", "3a"), ("2a", "3a"), Some(Regressed)),
            (("2a", "2a"), ("2a", "3a"), Some(Changed)),
            (("2a", "3a"), ("3a", "4a"), Some(Changed)),
            // Gone upstream.
            (("-", "2a"), ("-", "2a"), Some(Surplus)),
            (("2a", "1a"), ("-", "1a"), Some(Changed)),
            (("-", "2a"), ("-", "3a"), Some(Changed)),
            (("!", "2a"), ("-", "2a"), Some(Changed)),
        ] {
            let found = finding(look(before.0, before.1), look(now.0, now.1));
            assert_eq!(found, expected, "{before:?} {now:?}");
        }
    }

    #[test]
    fn what_changes_at_every_look_is_never_called_wrong_while_the_source_follows() {
        // The source writes at each look what upstream showed at the one before.
        for at in 1..8 {
            let text = |at: i32| format!("{at}a");
            let before = look(&text(at), &text(at - 1));
            let now = look(&text(at + 1), &text(at));
            assert_eq!(finding(before, now), Some(FindingKind::Changed));
        }
    }
}
