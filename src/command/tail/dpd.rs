//! How many days past due (DPD) is an account on a day? D02 tells it in two ways, which need not agree.
//!
//! | Way | Formula |
//! |---|---|
//! | by submission | `delinquent_days_on_submission` + days since `submitted_date` |
//! | by due date | days since `due_date` |

use std::fmt;

use chrono::NaiveDate;
use serde_json::Value;

/// What an account says of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Delinquency {
    pub days_on_submission: Option<i64>,
    pub submitted: Option<NaiveDate>,
    pub due: Option<NaiveDate>,
}

/// Days past due; negative before the account is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DaysPastDue(i128);

impl fmt::Display for DaysPastDue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            -1 => f.write_str("not yet due (in 1 day)"),
            days @ ..-1 => write!(f, "not yet due (in {} days)", days.unsigned_abs()),
            days => write!(f, "{days}"),
        }
    }
}

/// The days, and what they were computed from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Computed {
    pub days: DaysPastDue,
    pub from: String,
}

/// Why they cannot be computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unknown {
    #[error("the record says nothing of an account")]
    NoAccount,
    #[error("the account is deleted")]
    Deleted,
    #[error("delinquent_days_on_submission is null")]
    NoDaysOnSubmission,
    #[error("submitted_date is null or no real day")]
    NoSubmittedDate,
    #[error("submitted_date is only {0}")]
    SubmittedLater(NaiveDate),
    #[error("due_date is null or no real day")]
    NoDueDate,
}

impl Delinquency {
    /// Of a decoded `AccountChange`: of the account as it was then.
    ///
    /// # Errors
    /// When there is none in it.
    pub(super) fn of(change: &Value) -> Result<Self, Unknown> {
        let after = match change.get("after") {
            None => return Err(Unknown::NoAccount),
            Some(Value::Null) => return Err(Unknown::Deleted),
            Some(after) => after,
        };
        let day = |name: &str| after[name].as_str().and_then(|day| day.parse().ok());
        Ok(Self {
            days_on_submission: after["delinquent_days_on_submission"].as_i64(),
            submitted: day("submitted_date_parsed"),
            due: day("due_date_parsed"),
        })
    }

    /// # Errors
    /// When a value is missing, or the account is submitted after `day` only.
    pub(super) fn by_submission(&self, day: NaiveDate) -> Result<Computed, Unknown> {
        let at_first = self.days_on_submission.ok_or(Unknown::NoDaysOnSubmission)?;
        let submitted = self.submitted.ok_or(Unknown::NoSubmittedDate)?;
        if day < submitted {
            return Err(Unknown::SubmittedLater(submitted));
        }
        let since = (day - submitted).num_days();
        Ok(Computed {
            days: DaysPastDue(i128::from(at_first) + i128::from(since)),
            from: format!("delinquent_days_on_submission {at_first} + {since} days since submitted_date {submitted}"),
        })
    }

    /// # Errors
    /// When there is no due date.
    pub(super) fn by_due_date(&self, day: NaiveDate) -> Result<Computed, Unknown> {
        let due = self.due.ok_or(Unknown::NoDueDate)?;
        Ok(Computed {
            days: DaysPastDue((day - due).num_days().into()),
            from: format!("days since due_date {due}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn day(text: &str) -> NaiveDate {
        text.parse().expect("a day")
    }

    fn account() -> Delinquency {
        Delinquency {
            days_on_submission: Some(30),
            submitted: Some(day("2026-02-10")),
            due: Some(day("2026-02-22")),
        }
    }

    /// Both ways.
    fn shown(account: Delinquency, on: &str) -> [String; 2] {
        let text = |computed: Result<Computed, Unknown>| match computed {
            Ok(Computed { days, from }) => format!("{days}: {from}"),
            Err(reason) => reason.to_string(),
        };
        [account.by_submission(day(on)), account.by_due_date(day(on))].map(text)
    }

    #[test]
    fn days_count_from_submission_and_from_the_due_date() {
        assert_eq!(
            shown(account(), "2026-03-01"),
            [
                "49: delinquent_days_on_submission 30 + 19 days since submitted_date 2026-02-10",
                "7: days since due_date 2026-02-22"
            ]
        );
        let due_dates = [
            ("2026-02-22", "0: "),
            ("2026-02-21", "not yet due (in 1 day): "),
            ("2026-02-10", "not yet due (in 12 days): "),
        ];
        for (on, begin) in due_dates {
            assert!(shown(account(), on)[1].starts_with(begin), "{on}");
        }
        // The day of submission itself is the first one.
        assert!(shown(account(), "2026-02-10")[0].starts_with("30: "));
        // 2028 is a leap year.
        assert!(shown(account(), "2028-03-01")[1].starts_with("738: "));
    }

    #[test]
    fn what_is_missing_is_named() {
        let none = Delinquency {
            days_on_submission: None,
            submitted: None,
            due: None,
        };
        let reasons = [
            "delinquent_days_on_submission is null",
            "due_date is null or no real day",
        ];
        assert_eq!(shown(none, "2026-03-01"), reasons);
        let unsubmitted = Delinquency {
            submitted: None,
            ..account()
        };
        assert_eq!(
            shown(unsubmitted, "2026-03-01")[0],
            "submitted_date is null or no real day"
        );
        assert_eq!(shown(account(), "2026-02-09")[0], "submitted_date is only 2026-02-10");
    }

    #[test]
    fn no_number_is_too_large() {
        let long_ago = Delinquency {
            days_on_submission: Some(i64::MAX),
            submitted: Some(NaiveDate::MIN),
            due: Some(NaiveDate::MAX),
        };
        let [by_submission, by_due_date] = shown(long_ago, "2026-03-01");
        assert!(by_submission.starts_with("9223372036951261612: "), "{by_submission}");
        assert!(by_due_date.starts_with("not yet due (in 95"), "{by_due_date}");
    }

    #[test]
    fn a_change_is_asked_for_the_account_as_it_was_then() {
        let after = json!({
            "delinquent_days_on_submission": 30,
            "submitted_date_parsed": "2026-02-10",
            "due_date_parsed": "2026-02-22",
        });
        assert_eq!(Delinquency::of(&json!({ "after": after })), Ok(account()));
        assert_eq!(Delinquency::of(&json!({ "after": null })), Err(Unknown::Deleted));
        assert_eq!(Delinquency::of(&json!(null)), Err(Unknown::NoAccount));
        // A day that no calendar has is a number in JSON.
        let odd = json!({ "after": { "due_date_parsed": i32::MAX } });
        assert_eq!(Delinquency::of(&odd).map(|account| account.due), Ok(None));
    }
}
