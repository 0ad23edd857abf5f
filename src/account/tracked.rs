//! What of an account is remembered from one version to the next, and what differs between two?

use std::borrow::Cow;

/// `cleargrid.d02.TrackedFields` of `avro/account_change.avsc`, in its order. Amounts are minor units of `currency`.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
#[cfg_attr(test, derive(serde::Serialize))]
pub(crate) struct Tracked<'a> {
    pub total_amount: Option<i64>,
    pub balance_amount: Option<i64>,
    pub actual_balance_amount: Option<i64>,
    pub paid_amount: Option<i64>,
    pub balance_principal_amount: Option<i64>,
    pub balance_interest: Option<i64>,
    pub balance_fee: Option<i64>,
    pub minimum_due_amount: Option<i64>,
    pub currency: Option<Cow<'a, str>>,
    pub due_date: Option<Cow<'a, str>>,
    /// Days since 1970-01-01.
    pub due_date_parsed: Option<i32>,
    pub status: Option<Cow<'a, str>>,
    pub status_unmapped_code: Option<i64>,
    pub delinquent_days_on_submission: Option<i64>,
}

/// What a change can name: the D02 fields among them in the order of [`Tracked`], derived columns never, and `*`.
const NAMES: [&str; 13] = [
    "total_amount",
    "balance_amount",
    "actual_balance_amount",
    "paid_amount",
    "balance_principal_amount",
    "balance_interest",
    "balance_fee",
    "minimum_due_amount",
    "currency",
    "due_date",
    "status",
    "delinquent_days_on_submission",
    "*",
];

/// How many of [`Changed::NAMES`], from the first on, are amounts.
pub(crate) const AMOUNT_COUNT: usize = 8;

const CURRENCY: usize = 8;
const DUE_DATE: usize = 9;
const STATUS: usize = 10;
const DELINQUENT_DAYS: usize = 11;

impl Tracked<'_> {
    pub(crate) fn amounts(&self) -> [Option<i64>; AMOUNT_COUNT] {
        [
            self.total_amount,
            self.balance_amount,
            self.actual_balance_amount,
            self.paid_amount,
            self.balance_principal_amount,
            self.balance_interest,
            self.balance_fee,
            self.minimum_due_amount,
        ]
    }

    pub(crate) fn set_amounts(&mut self, amounts: [Option<i64>; AMOUNT_COUNT]) {
        [
            self.total_amount,
            self.balance_amount,
            self.actual_balance_amount,
            self.paid_amount,
            self.balance_principal_amount,
            self.balance_interest,
            self.balance_fee,
            self.minimum_due_amount,
        ] = amounts;
    }
}

/// A version's content, as far as it is remembered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Content<'a> {
    pub tracked: Tracked<'a>,
    /// XXH3-64 over the other fields that are not derived.
    pub rest: u64,
}

/// The fields that differ between two versions.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Changed(u16);

impl Changed {
    /// What it can name: the tracked D02 fields, and `*` for any other.
    pub(crate) const NAMES: [&str; 13] = NAMES;

    const REST: u16 = 1 << 12;

    /// What differs between two versions that do.
    pub(crate) fn between(before: &Content<'_>, after: &Content<'_>) -> Self {
        let (from, to) = (&before.tracked, &after.tracked);
        let mut changed = 0;
        for (place, (from, to)) in from.amounts().iter().zip(to.amounts()).enumerate() {
            changed |= u16::from(*from != to) << place;
        }
        changed |= u16::from(from.currency != to.currency) << CURRENCY;
        changed |= u16::from(from.due_date != to.due_date) << DUE_DATE;
        // The code 5 is another value than the text "5".
        let is_other_status = from.status != to.status || from.status_unmapped_code != to.status_unmapped_code;
        changed |= u16::from(is_other_status) << STATUS;
        let (from, to) = (from.delinquent_days_on_submission, to.delinquent_days_on_submission);
        changed |= u16::from(from != to) << DELINQUENT_DAYS;
        // What differs upstream and nowhere in the account (digits finer than milliseconds) is none of the tracked ones.
        if changed == 0 || before.rest != after.rest {
            changed |= Self::REST;
        }
        Self(changed)
    }

    /// Where nothing is known of the version before.
    pub(crate) fn unknown() -> Self {
        Self(Self::REST)
    }

    pub(crate) fn has_due_date(self) -> bool {
        self.0 & 1 << DUE_DATE != 0
    }

    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(crate) fn names(self) -> impl Iterator<Item = &'static str> {
        let names = NAMES.into_iter().enumerate();
        names
            .filter(move |(place, _)| self.0 & 1 << place != 0)
            .map(|(_, name)| name)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::account::day;

    fn texts() -> impl Strategy<Value = Option<Cow<'static, str>>> {
        prop::option::of(prop_oneof![".{0,80}", "[A-Z]{3}"].prop_map(Cow::Owned))
    }

    fn due_dates() -> impl Strategy<Value = Option<Cow<'static, str>>> {
        let days =
            (0u32..40, 0u32..14, 0u32..10_000).prop_map(|(day, month, year)| format!("{day:02}/{month:02}/{year:04}"));
        prop::option::of(prop_oneof![days, ".{0,12}"].prop_map(Cow::Owned))
    }

    /// Any content that an account can have.
    pub(crate) fn contents() -> impl Strategy<Value = Content<'static>> {
        let amounts = prop::array::uniform8(any::<Option<i64>>());
        let numbers = (any::<Option<i64>>(), any::<Option<i64>>(), any::<u64>());
        (amounts, texts(), due_dates(), texts(), numbers).prop_map(|(amounts, currency, due_date, status, numbers)| {
            let (code, delinquent_days_on_submission, rest) = numbers;
            let mut tracked = Tracked {
                currency,
                due_date_parsed: due_date.as_deref().and_then(day),
                due_date,
                // An account with a code has its text.
                status: code.map(|code| Cow::Owned(code.to_string())).or(status),
                status_unmapped_code: code,
                delinquent_days_on_submission,
                ..Tracked::default()
            };
            tracked.set_amounts(amounts);
            Content { tracked, rest }
        })
    }

    /// As a consumer sees it.
    fn json(tracked: &Tracked<'_>) -> serde_json::Map<String, serde_json::Value> {
        match serde_json::to_value(tracked).expect("JSON") {
            serde_json::Value::Object(fields) => fields,
            other => panic!("{other}"),
        }
    }

    proptest! {
        #[test]
        fn before_and_the_fields_that_are_named_are_after(
            before in contents(),
            other in contents(),
            taken in any::<u16>(),
        ) {
            // Two versions that have much in common, as they do.
            let mut after = before.clone();
            let (mut amounts, others) = (before.tracked.amounts(), other.tracked.amounts());
            for (place, amount) in amounts.iter_mut().enumerate() {
                if taken & 1 << place != 0 {
                    *amount = others[place];
                }
            }
            after.tracked.set_amounts(amounts);
            let takes = |place: u16| taken & 1 << place != 0;
            if takes(8) {
                after.tracked.currency = other.tracked.currency;
            }
            if takes(9) {
                (after.tracked.due_date, after.tracked.due_date_parsed) = (other.tracked.due_date, other.tracked.due_date_parsed);
            }
            if takes(10) {
                (after.tracked.status, after.tracked.status_unmapped_code) = (other.tracked.status, other.tracked.status_unmapped_code);
            }
            if takes(11) {
                after.tracked.delinquent_days_on_submission = other.tracked.delinquent_days_on_submission;
            }
            let changed = Changed::between(&before, &after);
            let (mut patched, wanted) = (json(&before.tracked), json(&after.tracked));
            let names: Vec<&str> = changed.names().collect();
            for name in names.iter().filter(|name| **name != "*") {
                prop_assert!(takes(NAMES.iter().position(|other| other == name).expect("a name") as u16));
                patched[*name] = wanted[*name].clone();
                match *name {
                    "due_date" => patched["due_date_parsed"] = wanted["due_date_parsed"].clone(),
                    "status" => patched["status_unmapped_code"] = wanted["status_unmapped_code"].clone(),
                    _ => {}
                }
            }
            prop_assert_eq!(patched, wanted);
            prop_assert_eq!(names.contains(&"*"), names == ["*"], "the rest is the same");
        }
    }

    fn content() -> Content<'static> {
        let tracked = Tracked {
            balance_amount: Some(120_000),
            due_date: Some("01/02/2026".into()),
            due_date_parsed: Some(20_485),
            status: Some("5".into()),
            ..Tracked::default()
        };
        Content { tracked, rest: 7 }
    }

    #[test]
    fn the_names_are_those_of_the_schema_in_its_order_without_derived_columns() {
        let schema: serde_json::Value = serde_json::from_str(crate::avro::CHANGE.text).expect("JSON");
        let of = |fields: &serde_json::Value, name: &str| -> serde_json::Value {
            let mut fields = fields.as_array().expect("fields").iter();
            fields.find(|field| field["name"] == name).expect("the field").clone()
        };
        let before = of(&schema["fields"], "before");
        let names = before["type"][1]["fields"].as_array().expect("fields").iter();
        let names: Vec<_> = names.filter_map(|field| field["name"].as_str()).collect();
        let serialized = serde_json::to_value(Tracked::default()).expect("JSON");
        let serialized = serialized.as_object().expect("an object");
        assert_eq!(serialized.len(), names.len());
        assert!(
            names.iter().all(|name| serialized.contains_key(*name)),
            "{serialized:?}"
        );
        let derived = ["due_date_parsed", "status_unmapped_code"];
        let stored: Vec<_> = names.into_iter().filter(|name| !derived.contains(name)).collect();
        assert_eq!(stored, NAMES[..12]);
    }

    #[test]
    fn each_field_that_differs_is_named_and_what_is_derived_is_not() {
        let named = |change: fn(&mut Content<'static>)| {
            let (before, mut after) = (content(), content());
            change(&mut after);
            serde_json::to_string(&Changed::between(&before, &after)).expect("JSON")
        };
        assert_eq!(
            named(|after| after.tracked.minimum_due_amount = Some(0)),
            r#"["minimum_due_amount"]"#
        );
        assert_eq!(
            named(|after| (after.tracked.due_date, after.tracked.due_date_parsed) = (None, None)),
            r#"["due_date"]"#
        );
        assert_eq!(
            named(|after| after.tracked.status_unmapped_code = Some(5)),
            r#"["status"]"#
        );
        assert_eq!(named(|after| after.rest = 8), r#"["*"]"#);
        assert_eq!(
            named(|after| {
                after.tracked.currency = Some("KWD".into());
                after.tracked.delinquent_days_on_submission = Some(1);
                after.rest = 8;
            }),
            r#"["currency","delinquent_days_on_submission","*"]"#
        );
        // Called for versions that differ: then it is in something that is not kept.
        assert_eq!(named(|_| ()), r#"["*"]"#);
    }
}
