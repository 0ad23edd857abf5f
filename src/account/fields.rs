//! What is one account? The fields of `avro/account.avsc`, and what happened to it.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

/// A borrower account: the fields of `avro/account.avsc`, in its order. Amounts are minor units of `currency`.
#[derive(Debug, Default, Clone, PartialEq)]
#[cfg_attr(test, derive(Serialize))]
pub(crate) struct Account<'a> {
    pub public_id: Cow<'a, str>,
    pub lender_public_id: &'a str,
    pub account_reference_id: Option<Cow<'a, str>>,
    pub customer_reference_id: Option<Cow<'a, str>>,
    pub reference_id: Option<Cow<'a, str>>,
    pub total_amount: Option<i64>,
    pub balance_amount: Option<i64>,
    pub actual_balance_amount: Option<i64>,
    pub paid_amount: Option<i64>,
    pub balance_principal_amount: Option<i64>,
    pub balance_interest: Option<i64>,
    pub balance_fee: Option<i64>,
    pub minimum_due_amount: Option<i64>,
    pub currency: Option<Cow<'a, str>>,
    pub submitted_date: Option<Cow<'a, str>>,
    /// Days since 1970-01-01.
    pub submitted_date_parsed: Option<i32>,
    pub due_date: Option<Cow<'a, str>>,
    /// Days since 1970-01-01.
    pub due_date_parsed: Option<i32>,
    pub delinquent_days_on_submission: Option<i64>,
    pub loan_type: Option<Cow<'a, str>>,
    pub loan_type_unmapped_code: Option<i64>,
    pub status: Option<Cow<'a, str>>,
    pub status_unmapped_code: Option<i64>,
    pub merchant_name: Option<Cow<'a, str>>,
    pub lender_display_name: Option<Cow<'a, str>>,
    /// Milliseconds since the epoch.
    pub created_at: Option<i64>,
    /// Milliseconds since the epoch.
    pub updated_at: i64,
    pub extra: Option<String>,
}

/// What happened to an account, in Debezium's letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum Op {
    /// Read by the first snapshot.
    Read,
    Created,
    Updated,
    /// Upstream does not show it any more.
    Deleted,
}

impl Op {
    /// The text of the header `__op`.
    pub(crate) fn letter(self) -> &'static str {
        match self {
            Self::Read => "r",
            Self::Created => "c",
            Self::Updated => "u",
            Self::Deleted => "d",
        }
    }
}
