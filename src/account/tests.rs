//! Is every rule of docs/records.md kept, and can any row at all be read without harm?

use std::collections::BTreeMap;

use chrono::{DateTime, NaiveDate, NaiveDateTime};
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::by_name::MEMBERS;
use super::*;

const LENDER: &str = "5f0c0000-0000-4000-8000-000000000001";
const AMOUNTS: [&str; 8] = [
    "total_amount",
    "balance_amount",
    "actual_balance_amount",
    "paid_amount",
    "balance_principal_amount",
    "balance_interest",
    "balance_fee",
    "minimum_due_amount",
];
const TEXTS: [&str; 6] = [
    "account_reference_id",
    "customer_reference_id",
    "reference_id",
    "currency",
    "merchant_name",
    "lender_display_name",
];
const DAYS: [&str; 2] = ["submitted_date", "due_date"];
const LABELS: [&str; 2] = ["loan_type", "status"];
const COUNT: &str = "delinquent_days_on_submission";
const UPDATED_AT: i64 = 1_780_039_255_000;

/// The row with a key, a time and these members.
fn row_of(members: &str) -> Box<RawValue> {
    let comma = if members.is_empty() { "" } else { "," };
    raw(&format!(
        r#"{{"public_id":"a1","updated_at":"2026-05-29T07:20:55.000Z"{comma}{members}}}"#
    ))
}

fn raw(json: &str) -> Box<RawValue> {
    RawValue::from_string(json.to_owned()).expect("JSON")
}

#[track_caller]
fn read(json: &RawValue) -> Row<'_> {
    read_row(json, LENDER, &Rules::default(), &mut Scratch::default()).expect("an account")
}

#[track_caller]
fn rejected(json: &str) -> Rejected {
    *read_row(&raw(json), LENDER, &Rules::default(), &mut Scratch::default()).expect_err(json)
}

#[track_caller]
fn digest(json: &str) -> Digest {
    read(&raw(json)).digest
}

/// The account's fields by their names, as JSON.
fn fields(account: &Account<'_>) -> Value {
    serde_json::to_value(account).expect("an account is JSON")
}

#[test]
fn every_member_of_d02_has_a_field_and_no_other_has() {
    for name in MEMBERS {
        assert!(read_as(name).is_empty(), "{name}");
    }
    assert_eq!(read_as("exported_at"), ["exported_at"]);

    /// The unknown members of a row with one of this name, whatever its value.
    fn read_as(name: &str) -> Vec<String> {
        let json = match name {
            "public_id" | "updated_at" => row_of(""),
            _ => row_of(&format!(r#""{name}":null"#)),
        };
        read(&json).unknown.iter().map(ToString::to_string).collect()
    }
}

#[test]
fn a_dead_letter_is_another_one_by_its_content_and_by_its_bytes_where_all_of_it_is_that() {
    let only = |names: &[&str]| Extra::Only(names.iter().map(|name| (*name).to_owned()).collect());
    let digest = |json: &str, extra: Extra, ignored: &[&str]| {
        let json = raw(json);
        dead_letter_digest(&json, json.get().as_bytes(), &ignoring(extra, ignored))
    };
    let row = |exported_at: u32, paid: &str, at: &str| {
        format!(r#"{{"public_id":"a","exported_at":{exported_at},"paid_amount":{paid},"updated_at":{at},"gone":null}}"#)
    };
    let base = row(1, "1.5", "\"x\"");
    for (extra, ignored) in [
        (Extra::None, &[][..]),
        (Extra::All, &["exported_at"]),
        (only(&["gone"]), &[]),
        (only(&["exported_at"]), &["exported_at"]),
    ] {
        let of = |json: &str| digest(json, extra.clone(), ignored);
        assert_eq!(of(&base), of(&row(2, "1.5", "\"x\"")), "{extra:?} {ignored:?}");
        for other in [row(1, "1.6", "\"x\""), row(1, "1.5", "\"y\""), row(1, "null", "\"x\"")] {
            assert_ne!(of(&base), of(&other), "{extra:?} {ignored:?} {other}");
        }
    }
    // As it always was, where nothing is left out.
    for (extra, ignored) in [
        (Extra::All, &[][..]),
        (Extra::All, &["absent"]),
        (only(&["exported_at", "gone"]), &[]),
    ] {
        assert_eq!(digest(&base, extra, ignored), Digest::of_bytes(base.as_bytes()));
    }
    for other in ["[1]", "7", r#"{"public_id":"a"}"#] {
        assert_eq!(digest(other, Extra::None, &[]), Digest::of_bytes(other.as_bytes()));
    }
}

#[test]
fn an_amount_is_its_exact_whole_number_in_whatever_form_it_comes() {
    for (written, expected) in [
        ("1200", 1200),
        ("1200.0", 1200),
        ("1200.000000000000000000000000000000000000000000", 1200),
        ("1.2e3", 1200),
        ("1.2E+3", 1200),
        ("0.12e4", 1200),
        ("120000e-2", 1200),
        ("0.0000000000000000000000000000000000000000000012e48", 1200),
        ("0", 0),
        ("-0", 0),
        ("-0.0", 0),
        ("0e400", 0),
        ("-0.000e-99999999999999999999999", 0),
        ("0e99999999999999999999999", 0),
        ("-1200", -1200),
        ("-1.2e3", -1200),
        ("9223372036854775807", i64::MAX),
        ("9223372036854775807.0", i64::MAX),
        ("9.223372036854775807e18", i64::MAX),
        ("-9223372036854775808", i64::MIN),
        ("-9223372036854775808.00", i64::MIN),
        ("-9.223372036854775808E18", i64::MIN),
        ("9007199254740993", 9_007_199_254_740_993),
        ("9007199254740993.0", 9_007_199_254_740_993),
        ("1e18", 1_000_000_000_000_000_000),
    ] {
        for name in AMOUNTS {
            let json = row_of(&format!(r#""{name}":{written}"#));
            let row = read(&json);
            assert_eq!(fields(&row.account)[name], expected, "{name} {written}");
            assert!(row.invalid.is_empty() && row.account.extra.is_none());
        }
    }
}

#[test]
fn an_amount_that_is_no_exact_64_bit_whole_number_rejects_its_row() {
    for written in [
        "10.5",
        "0.1",
        "1e-1",
        "1998.9999999999998",
        "\"1200\"",
        "\"\"",
        "true",
        "[]",
        "[1200]",
        "{}",
        "1e19",
        "1e20",
        "1e400",
        "-1e400",
        "1e-400",
        "1e9223372036854775807",
        "1e9223372036854775808",
        "1e99999999999999999999999999",
        "1e-99999999999999999999999999",
        "9223372036854775808",
        "-9223372036854775809",
        "18446744073709551615",
        "9223372036854775807.1",
        "170141183460469231731687303715884105728",
        "99999999999999999999999999999999999999999999999999",
    ] {
        for name in AMOUNTS {
            let found = rejected(row_of(&format!(r#""{name}":{written}"#)).get());
            assert_eq!(found.reason, Reason::InexactAmount { field: name }, "{written}");
            assert_eq!(found.reason.field(), Some(name));
            assert_eq!(found.public_id.as_deref(), Some("a1"));
            assert_eq!(found.updated_at, Some(UPDATED_AT));
            assert!(!found.reason.to_string().contains("10.5"), "texts never hold the value");
        }
    }
}

#[test]
fn null_is_absent() {
    let names = [&AMOUNTS[..], &TEXTS, &DAYS, &LABELS, &[COUNT, "created_at"]].concat();
    let nulls: Vec<_> = names.iter().map(|name| format!(r#""{name}":null"#)).collect();
    let (with, without) = (row_of(&nulls.join(",")), row_of(""));
    let (with, without) = (read(&with), read(&without));
    assert_eq!(with.account, without.account);
    assert_eq!(with.digest, without.digest);
    assert!(with.invalid.is_empty() && with.unknown.is_empty() && with.unreal_date_count == 0);
    let expected = Account {
        public_id: "a1".into(),
        lender_public_id: LENDER,
        updated_at: UPDATED_AT,
        ..Account::default()
    };
    assert_eq!(without.account, expected);
}

#[test]
fn a_date_is_read_strictly_and_its_text_is_kept_whatever_it_is() {
    let days = |y, m, d| {
        let since = NaiveDate::from_ymd_opt(y, m, d)
            .expect("a day")
            .signed_duration_since(NaiveDate::default());
        Some(since.num_days())
    };
    for (text, parsed) in [
        ("22/02/2026", days(2026, 2, 22)),
        ("29/02/2024", days(2024, 2, 29)),
        ("01/01/1970", Some(0)),
        ("31/12/1969", Some(-1)),
        ("31/12/9999", days(9999, 12, 31)),
        ("01/01/0001", days(1, 1, 1)),
        ("29/02/2026", None),
        ("31/02/2026", None),
        ("31/04/2026", None),
        ("00/01/2026", None),
        ("01/00/2026", None),
        ("02/13/2026", None),
        ("01/01/0000", None),
        ("2026-02-22", None),
        ("1/2/2026", None),
        ("01/02/26", None),
        ("22-02-2026", None),
        ("22.02.2026", None),
        (" 2/02/2026", None),
        ("+2/02/2026", None),
        ("22/02/2026 ", None),
        ("22/02/2026T00:00:00Z", None),
        ("٢٢/٠٢", None),
        ("2é/2/2026", None),
        ("", None),
    ] {
        for name in DAYS {
            let json = row_of(&format!(r#""{name}":"{text}""#));
            let row = read(&json);
            let fields = fields(&row.account);
            assert_eq!(fields[name], text);
            assert_eq!(fields[format!("{name}_parsed")], json!(parsed), "{text}");
            assert_eq!(row.unreal_date_count, u32::from(parsed.is_none()), "{text}");
            assert!(row.invalid.is_empty() && row.account.extra.is_none(), "{text}");
        }
    }
    let json = row_of(r#""due_date":"22\/02\/2026""#);
    assert_eq!(
        read(&json).account.due_date_parsed,
        Some(20_506),
        "escapes are no part of it"
    );
}

#[test]
fn a_label_is_itself_and_an_unmapped_code_its_decimal_text() {
    for (written, text, code) in [
        (r#""CREDIT_CARD""#, "CREDIT_CARD", None),
        (r#""Charge Back""#, "Charge Back", None),
        (r#""OverDraft""#, "OverDraft", None),
        (r#""never seen""#, "never seen", None),
        (r#""17""#, "17", None),
        (r#""""#, "", None),
        ("17", "17", Some(17)),
        ("17.0", "17", Some(17)),
        ("1.7e1", "17", Some(17)),
        ("-1", "-1", Some(-1)),
        ("-0", "0", Some(0)),
        ("9223372036854775807", "9223372036854775807", Some(i64::MAX)),
    ] {
        for name in LABELS {
            let json = row_of(&format!(r#""{name}":{written}"#));
            let row = read(&json);
            let fields = fields(&row.account);
            assert_eq!(fields[name], text, "{written}");
            assert_eq!(fields[format!("{name}_unmapped_code")], json!(code), "{written}");
            assert!(row.invalid.is_empty() && row.account.extra.is_none());
        }
    }
}

#[test]
fn a_time_has_0_to_9_fractional_digits_and_any_offset_and_is_cut_to_milliseconds() {
    for (text, expected) in [
        ("2026-05-29T07:20:55Z", Some(UPDATED_AT)),
        ("2026-05-29T07:20:55.1Z", Some(UPDATED_AT + 100)),
        ("2026-05-29T07:20:55.12Z", Some(UPDATED_AT + 120)),
        ("2026-05-29T07:20:55.123Z", Some(UPDATED_AT + 123)),
        ("2026-05-29T07:20:55.1239Z", Some(UPDATED_AT + 123)),
        ("2026-05-29T07:20:55.12399Z", Some(UPDATED_AT + 123)),
        ("2026-05-29T07:20:55.123999Z", Some(UPDATED_AT + 123)),
        ("2026-05-29T07:20:55.1239999Z", Some(UPDATED_AT + 123)),
        ("2026-05-29T07:20:55.12399999Z", Some(UPDATED_AT + 123)),
        ("2026-05-29T07:20:55.123999999Z", Some(UPDATED_AT + 123)),
        ("2026-05-29T10:20:55.000+03:00", Some(UPDATED_AT)),
        ("2026-05-29T01:50:55-05:30", Some(UPDATED_AT)),
        ("2026-05-29T07:20:55+00:00", Some(UPDATED_AT)),
        ("2026-05-29t07:20:55z", Some(UPDATED_AT)),
        ("1970-01-01T00:00:00Z", Some(0)),
        ("1969-12-31T23:59:59.999Z", Some(-1)),
        ("2026-05-29T07:20:55.1239999999Z", None),
        ("2026-05-29T07:20:55.Z", None),
        ("2026-05-29T07:20:55", None),
        ("2026-05-29T07:20:55.000", None),
        ("2026-05-29T07:20:55.000 Z", None),
        ("2026-05-29T07:20:55.000Z ", None),
        (" 2026-05-29T07:20:55.000Z", None),
        ("2026-05-29 07:20:55.000Z", None),
        ("2026-05-29T07:20Z", None),
        ("2026-05-29T07:20:55,000Z", None),
        ("2026-05-29T07:20:55+0300", None),
        ("2026-05-29T07:20:55+03", None),
        ("2026-05-29T24:00:00Z", None),
        ("2026-05-29T07:60:00Z", None),
        ("2026-02-30T07:20:55Z", None),
        ("2026-5-29T07:20:55Z", None),
        ("22026-05-29T07:20:55Z", None),
        ("2026-05-29", None),
        ("22/02/2026", None),
        ("yesterday", None),
        ("1780039255000", None),
        ("2026-05-29é07:20:55.000Z", None),
        ("2026-05-29T07:20:5é.000Z", None),
        ("", None),
    ] {
        assert_eq!(instant(text), expected, "{text}");
        let json = format!(r#"{{"public_id":"a1","updated_at":"{text}"}}"#);
        match expected {
            Some(at) => assert_eq!(read(&raw(&json)).account.updated_at, at),
            None => assert_eq!(
                rejected(&json),
                Rejected {
                    reason: Reason::NoUpdatedAt,
                    public_id: Some("a1".into()),
                    updated_at: None
                }
            ),
        }
        let json = row_of(&format!(r#""created_at":"{text}""#));
        let row = read(&json);
        assert_eq!(row.account.created_at, expected, "{text}");
        let invalid: &[&str] = if expected.is_none() { &["created_at"] } else { &[] };
        assert_eq!(row.invalid, invalid, "{text}");
    }
}

#[test]
fn only_the_minus_of_ascii_is_a_minus_of_rfc_3339() {
    assert_eq!(instant("2026-05-29T01:50:55\u{2212}05:30"), None);
}

#[test]
fn unknown_members_stand_in_extra_sorted_by_name_with_their_values_as_received() {
    let json =
        row_of(r#""zeta":1.50,"alpha":{"b": [1, 2],"a":null},"é":"\u00e9\/","nothing":null,"Due_date":"x","":0"#);
    let row = read(&json);
    assert_eq!(
        row.account.extra.as_deref(),
        Some(r#"{"":0,"Due_date":"x","alpha":{"b": [1, 2],"a":null},"nothing":null,"zeta":1.50,"é":"\u00e9\/"}"#)
    );
    assert_eq!(row.unknown, ["", "Due_date", "alpha", "nothing", "zeta", "é"]);
    assert!(row.invalid.is_empty());
}

#[test]
fn a_value_that_does_not_fit_is_null_and_kept_as_text_and_named() {
    let fitting = "[1,2] {} true false 1.5 1e400".split(' ');
    for written in fitting {
        let names = [&TEXTS[..], &DAYS, &LABELS, &[COUNT, "created_at"]].concat();
        for name in names {
            let json = row_of(&format!(r#""{name}":{written},"aaa":1"#));
            let row = read(&json);
            let fields = fields(&row.account);
            assert_eq!(fields[name], Value::Null, "{name} {written}");
            assert_eq!(row.invalid, [name], "{written}");
            assert_eq!(row.unknown, ["aaa"]);
            assert_eq!(row.unreal_date_count, 0);
            let expected = format!(r#"{{"aaa":1,"{name}":{written}}}"#);
            assert_eq!(row.account.extra.as_deref(), Some(expected.as_str()));
        }
    }
    for (name, written) in [
        ("account_reference_id", "7"),
        ("due_date", "22022026"),
        (COUNT, r#""12""#),
        (COUNT, "0.5"),
        ("created_at", "1780039255000"),
        ("created_at", r#""""#),
    ] {
        let json = row_of(&format!(r#""{name}":{written}"#));
        let row = read(&json);
        assert_eq!(
            (fields(&row.account)[name].clone(), &*row.invalid),
            (Value::Null, &[name][..])
        );
        assert_eq!(row.account.extra, Some(format!(r#"{{"{name}":{written}}}"#)));
    }
    let json = row_of(&format!(r#""{COUNT}":1.2e1"#));
    assert_eq!(read(&json).account.delinquent_days_on_submission, Some(12));
}

#[test]
fn a_value_that_does_not_fit_rejects_its_row_where_the_operator_wants_it() {
    let rules = Rules {
        rejects_bad_fields: true,
        ..Rules::default()
    };
    let read =
        |json: &RawValue| read_row(json, LENDER, &rules, &mut Scratch::default()).map(|row| row.unreal_date_count);
    for name in [&TEXTS[..], &DAYS, &LABELS, &[COUNT, "created_at"]].concat() {
        let rejected = read(&row_of(&format!(r#""{name}":[1]"#))).expect_err(name);
        assert_eq!(rejected.reason, Reason::BadField { field: name });
        assert_eq!(
            rejected.reason.to_string(),
            format!("the value of `{name}` does not fit its type")
        );
        assert_eq!(
            (rejected.public_id.as_deref(), rejected.updated_at),
            (Some("a1"), Some(UPDATED_AT))
        );
        assert!(read(&row_of(&format!(r#""{name}":null"#))).is_ok(), "{name}");
    }
    // Of several the first by name is told; an amount is one like the others.
    let both = row_of(r#""status":true,"paid_amount":0.5,"reference_id":7"#);
    let reason = read(&both).expect_err("rejected").reason;
    assert_eq!(reason, Reason::InexactAmount { field: "paid_amount" });
    // A date that is no real day and an unknown member do fit.
    assert_eq!(read(&row_of(r#""due_date":"31/02/2026","new":[1]"#)).ok(), Some(1));
}

#[test]
fn an_amount_within_the_tolerance_is_taken_for_its_whole_number_and_counted() {
    let rules = Rules {
        amount_tolerance: AmountTolerance::parse("0.000001").expect("a tolerance"),
        ..Rules::default()
    };
    let json = row_of(r#""paid_amount":1998.9999999999998,"balance_fee":-2.0000001,"total_amount":7"#);
    let row = read_row(&json, LENDER, &rules, &mut Scratch::default()).expect("an account");
    let account = &row.account;
    assert_eq!(
        (account.paid_amount, account.balance_fee, account.total_amount),
        (Some(1_999), Some(-2), Some(7))
    );
    assert_eq!(row.tolerated_count, 2);
    assert!(row.invalid.is_empty() && account.extra.is_none());
    for (members, field) in [
        (r#""paid_amount":1998.99"#, "paid_amount"),
        (r#""balance_fee":"1998.9999999999998""#, "balance_fee"),
        (r#""total_amount":1.0000001,"paid_amount":0.5"#, "paid_amount"),
    ] {
        let json = row_of(members);
        let found = read_row(&json, LENDER, &rules, &mut Scratch::default()).expect_err(members);
        assert_eq!(found.reason, Reason::InexactAmount { field });
    }
    // No other number has a tolerance.
    let json = row_of(&format!(r#""{COUNT}":1.0000001"#));
    let row = read_row(&json, LENDER, &rules, &mut Scratch::default()).expect("an account");
    assert_eq!((row.invalid, row.tolerated_count), (vec![COUNT], 0));
}

#[test]
fn only_what_is_approved_passes_into_extra_and_what_does_not_is_no_content() {
    let json = row_of(r#""zeta":1,"alpha":2,"status":true,"reference_id":7"#);
    let with = |extra| {
        let rules = Rules {
            extra,
            ..Rules::default()
        };
        let row = read_row(&json, LENDER, &rules, &mut Scratch::default()).expect("an account");
        assert_eq!(
            (&*row.unknown, &*row.invalid),
            (&["alpha".into(), "zeta".into()][..], &["reference_id", "status"][..])
        );
        (row.account.extra, row.digest)
    };
    let only = |names: &[&str]| Extra::Only(names.iter().map(|name| (*name).to_owned()).collect());
    let (all, everything) = with(Extra::All);
    // As if the unknown ones were not there; a known field counts, whatever came and whether it is kept.
    let without_unknown = digest(row_of(r#""status":true,"reference_id":7"#).get());
    let with_zeta = digest(row_of(r#""zeta":1,"status":true,"reference_id":7"#).get());
    assert_eq!(
        everything,
        digest(row_of(r#""zeta":1,"alpha":2,"status":true,"reference_id":7"#).get())
    );
    assert_eq!(
        all.as_deref(),
        Some(r#"{"alpha":2,"reference_id":7,"status":true,"zeta":1}"#)
    );
    for (extra, expected, content) in [
        (Extra::None, None, without_unknown),
        (
            only(&["zeta", "status", "absent"]),
            Some(r#"{"status":true,"zeta":1}"#),
            with_zeta,
        ),
        (only(&["ZETA", "zet"]), None, without_unknown),
        (only(&["alpha", "zeta"]), Some(r#"{"alpha":2,"zeta":1}"#), everything),
    ] {
        assert_eq!(with(extra), (expected.map(str::to_owned), content));
    }
}

fn ignoring(extra: Extra, names: &[&str]) -> Rules {
    Rules {
        extra,
        content_ignore: names.iter().map(|name| (*name).to_owned()).collect(),
        ..Rules::default()
    }
}

#[test]
fn a_member_that_is_no_content_is_written_and_makes_no_other_version() {
    let rules = ignoring(Extra::All, &["exported_at", "merchant_name", "absent"]);
    let read = |members: &str| {
        let json = row_of(members);
        let row = read_row(&json, LENDER, &rules, &mut Scratch::default()).expect("an account");
        let (digest, account) = (row.digest, row.account);
        (
            digest,
            account.extra,
            account.merchant_name.map(std::borrow::Cow::into_owned),
        )
    };
    let (one, extra, name) = read(r#""exported_at":1,"merchant_name":"A","new":1"#);
    assert_eq!(
        (extra.as_deref(), name.as_deref()),
        (Some(r#"{"exported_at":1,"new":1}"#), Some("A"))
    );
    let (other, extra, name) = read(r#""exported_at":{"a":[2]},"merchant_name":7,"new":1"#);
    assert_eq!(
        (extra.as_deref(), name),
        (Some(r#"{"exported_at":{"a":[2]},"merchant_name":7,"new":1}"#), None)
    );
    assert_eq!(one, other);
    assert_eq!(one, digest(row_of(r#""new":1"#).get()), "as if they were not there");
    assert_ne!(one, read(r#""exported_at":1,"merchant_name":"A","new":2"#).0);
}

#[test]
fn the_members_of_the_content_are_told_with_what_differs_in_them() {
    let rules = ignoring(Extra::Only(["kept".to_owned()].into()), &["status"]);
    let members = |row: &str| -> Vec<(String, u64)> {
        let json = row_of(row);
        let members = content_members(&json, &rules).into_iter();
        members.collect()
    };
    let one = members(r#""kept":1.0,"left_out":1,"status":"A","currency":"SAR","due_date":null,"reference_id":7"#);
    let names: Vec<_> = one.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["currency", "kept", "public_id", "reference_id"]);
    let other = members(r#""left_out":2,"kept":1e0,"status":"B","currency":"AED","reference_id":7.0"#);
    let differ: Vec<_> = one.iter().zip(&other).filter(|(one, other)| one != other).collect();
    assert_eq!((differ.len(), &*differ[0].0.0), (1, "currency"));
    assert!(content_members(&raw(r#"{"public_id":"a"}"#), &rules).is_empty());
}

#[test]
fn the_type_of_a_member_is_told_without_its_value() {
    let row = row_of(r#""a":null,"b":true,"c":-1.5,"d":"x","e":[],"f":{},"twice":1,"twice":"x","n\u0061me":0"#);
    for (name, expected) in [
        ("absent", JsonType::Absent),
        ("a", JsonType::Null),
        ("b", JsonType::Boolean),
        ("c", JsonType::Number),
        ("d", JsonType::String),
        ("e", JsonType::Array),
        ("f", JsonType::Object),
        ("twice", JsonType::String),
        ("name", JsonType::Number),
    ] {
        assert_eq!(JsonType::of(&row, name), expected, "{name}");
    }
    assert_eq!(JsonType::of(&raw("17"), "a"), JsonType::Absent);
}

#[test]
fn names_and_values_are_the_same_however_they_are_escaped() {
    let json = raw(
        r#"{"public\u005fid":"\u0061\/\"\n\ud83d\ude00","updated_at":"2026-05-29T07:20:55.000\u005a","curren\u0063y":"\u0053AR"}"#,
    );
    let account = read(&json).account;
    assert_eq!(account.public_id, "a/\"\n😀");
    assert_eq!((account.currency.as_deref(), account.extra), (Some("SAR"), None));
    let json = row_of(r#""n\u0065w":1,"qu\"ote":2"#);
    let row = read(&json);
    assert_eq!(row.account.extra.as_deref(), Some(r#"{"new":1,"qu\"ote":2}"#));
    let twice = rejected(row_of(r#""currency":"SAR","curr\u0065ncy":"AED""#).get());
    assert_eq!(
        twice.reason,
        Reason::DuplicateMember {
            field: "currency".into()
        }
    );
}

#[test]
fn a_duplicate_member_rejects_its_row_also_where_both_are_alike() {
    for (members, field) in [
        (r#""currency":"SAR","currency":"SAR""#, "currency"),
        (r#""new":1,"other":0,"new":2"#, "new"),
        (r#""public_id":"a1""#, "public_id"),
        (r#""updated_at":null"#, "updated_at"),
        (r#""due_date":null,"due_date":null"#, "due_date"),
        (r#""total_amount":0.5,"total_amount":0.5"#, "total_amount"),
    ] {
        let found = rejected(row_of(members).get());
        assert_eq!(found.reason, Reason::DuplicateMember { field: field.into() });
    }
}

#[test]
fn half_a_surrogate_pair_is_no_text_and_never_a_key() {
    for written in [r#""\ud800""#, r#""\udc00x""#, r#""a\ud800\u0041""#] {
        let json = format!(r#"{{"public_id":{written},"updated_at":"2026-05-29T07:20:55Z"}}"#);
        assert_eq!(rejected(&json).reason, Reason::NoPublicId);
        let json = row_of(&format!(r#""merchant_name":{written},"new":{written}"#));
        let row = read(&json);
        assert_eq!(
            (row.account.merchant_name, &*row.invalid),
            (None, &["merchant_name"][..])
        );
        let expected = format!(r#"{{"merchant_name":{written},"new":{written}}}"#);
        assert_eq!(row.account.extra, Some(expected));
    }
}

#[test]
fn what_is_no_object_or_has_no_key_or_time_is_rejected_with_what_could_be_read() {
    for json in ["null", "true", "1", r#""text""#, "[]", r#"[{"public_id":"a1"}]"#] {
        let nothing = Rejected {
            reason: Reason::NotAnObject,
            public_id: None,
            updated_at: None,
        };
        assert_eq!(rejected(json), nothing, "{json}");
    }
    for id in [
        "",
        r#""public_id":null,"#,
        r#""public_id":"","#,
        r#""public_id":17,"#,
        r#""public_id":["a"],"#,
    ] {
        let found = rejected(&format!(r#"{{{id}"updated_at":"2026-05-29T07:20:55Z"}}"#));
        assert_eq!(found.reason, Reason::NoPublicId, "{id}");
        assert_eq!((found.public_id, found.updated_at), (None, Some(UPDATED_AT)));
    }
    for at in [
        "",
        r#","updated_at":null"#,
        r#","updated_at":1780039255000"#,
        r#","updated_at":"""#,
    ] {
        let found = rejected(&format!(r#"{{"public_id":"a1"{at}}}"#));
        assert_eq!(found.reason, Reason::NoUpdatedAt, "{at}");
        assert_eq!((found.public_id.as_deref(), found.updated_at), (Some("a1"), None));
    }
    assert_eq!(rejected("{}").reason, Reason::NoPublicId);
}

#[test]
fn a_member_nested_however_deep_is_kept_and_counts_for_the_digest() {
    let nested = |depth: usize, inner: &str| {
        let (open, close) = (r#"[{"a":"#.repeat(depth), "}]".repeat(depth));
        row_of(&format!(r#""deep":{open}{inner}{close}"#))
    };
    for depth in [1, 15, 16, 17, 100, 20_000] {
        let (one, two) = (nested(depth, "1"), nested(depth, "2"));
        let (one, two) = (read(&one), read(&two));
        assert_ne!(one.digest, two.digest, "{depth}");
        let length = one.account.extra.expect("the member").len();
        assert_eq!(length, depth * 8 + r#"{"deep":1}"#.len());
    }
}

#[test]
fn the_digest_knows_the_same_content_in_another_form() {
    let base = digest(row_of(r#""currency":"SAR","total_amount":1200,"new":{"a":[1.5,"é"],"b":0}"#).get());
    for other in [
        r#"{"new":{"b":0,"a":[1.5,"é"]},"total_amount":1200,"updated_at":"2026-05-29T07:20:55.000Z","currency":"SAR","public_id":"a1"}"#,
        r#"{"public_id":"a1","updated_at":"2027-01-01T00:00:00Z","currency":"SAR","total_amount":1.2e3,"new":{"a":[1.5,"é"],"b":-0.0}}"#,
        r#"{"public_id":"\u0061\u0031","updated_at":"2026-05-29T07:20:55.000Z","curren\u0063y":"S\u0041R","total_amount":1200.0,"new":{"\u0061":[15e-1,"\u00e9"],"b":0e7}}"#,
        r#"{ "public_id" : "a1", "updated_at":"2026-05-29T07:20:55.000Z", "currency":"SAR", "total_amount":12E2, "new":{"a":[ 1.50 , "é" ] , "b":0}, "status":null, "later":null }"#,
    ] {
        assert_eq!(digest(other), base, "{other}");
    }
}

#[test]
fn the_digest_sees_every_change_of_content() {
    let rows = [
        "",
        r#""currency":"SAR""#,
        r#""currency":"AED""#,
        r#""currency":"sar""#,
        r#""currency":"SAR ""#,
        r#""merchant_name":"SAR""#,
        r#""currency":"""#,
        r#""currency":"null""#,
        r#""currency":"S","merchant_name":"AR""#,
        r#""currency":"SA","merchant_name":"R""#,
        r#""total_amount":1200"#,
        r#""total_amount":-1200"#,
        r#""total_amount":12000"#,
        r#""total_amount":120"#,
        r#""paid_amount":1200"#,
        r#""created_at":"2026-05-29T07:20:55.000Z""#,
        r#""created_at":"2026-05-29T07:20:55.001Z""#,
        r#""due_date":"22/02/2026""#,
        r#""due_date":"22/03/2026""#,
        r#""status":"17""#,
        r#""status":17"#,
        r#""status":true"#,
        r#""status":false"#,
        r#""status":"true""#,
        r#""new":1.5"#,
        r#""new":15"#,
        r#""new":1e400"#,
        r#""new":1e401"#,
        r#""new":[]"#,
        r#""new":{}"#,
        r#""new":[[]]"#,
        r#""new":[null]"#,
        r#""new":[1,2]"#,
        r#""new":[2,1]"#,
        r#""new":[12]"#,
        r#""new":[[1],2]"#,
        r#""new":[[1,2]]"#,
        r#""new":{"a":1}"#,
        r#""new":{"a":"1"}"#,
        r#""new":{"b":1}"#,
        r#""new":{"a":1,"a":2}"#,
        r#""new":{"a":2,"a":1}"#,
        r#""new":"\ud800""#,
        r#""new":"\ud801""#,
        r#""new":0"#,
        r#""new":false"#,
        r#""new":"""#,
    ];
    let mut seen = BTreeMap::new();
    for members in rows {
        let same = seen.insert(digest(row_of(members).get()).0, members);
        assert_eq!(same, None, "{members}");
    }
    let other_id = digest(r#"{"public_id":"a2","updated_at":"2026-05-29T07:20:55.000Z"}"#);
    assert_ne!(other_id, digest(row_of("").get()));
}

#[test]
fn the_digest_sees_a_change_beside_a_name_that_is_no_text() {
    let with = |value: u8| digest(row_of(&format!(r#""new":{{"\ud800":{value}}}"#)).get());
    assert_ne!(with(1), with(2));
    assert_ne!(with(1), digest(row_of(r#""new":{}"#).get()));
}

#[test]
fn the_digest_tells_half_a_surrogate_pair_from_the_text_of_its_escape() {
    assert_ne!(
        digest(row_of(r#""new":"\ud800""#).get()),
        digest(row_of(r#""new":"\"\\ud800\"""#).get())
    );
}

#[test]
fn a_digest_header_is_read_back_and_another_version_is_not() {
    let digest = digest(row_of("").get());
    assert_eq!(Digest::parse(&digest.to_string()), Some(digest));
    assert_eq!(digest.to_string().len(), "xxh3-1:".len() + 16);
    for other in [
        "",
        "xxh3-1:",
        "xxh3-1:1",
        "xxh3-2:0123456789abcdef",
        "xxh3-1:0123456789abcdeg",
        "0123456789abcdef",
    ] {
        assert_eq!(Digest::parse(other), None, "{other}");
    }
    assert_eq!(Digest::parse("xxh3-1:+123456789abcdef"), None, "a sign is no digit");
}

#[test]
fn the_digest_of_a_given_row_never_changes() {
    // It stands in topics for years: another value would write every account again.
    let row = row_of(r#""currency":"SAR","total_amount":1200,"status":17,"new":{"a":[1.5,"é",null]}"#);
    assert_eq!(digest(row.get()).to_string(), "xxh3-1:49c3e7b2d2011af9");
}

/// Any number whose text has one whole value or clearly none: between 2^53 and 2^64 a float's shortest text is not its value.
fn any_number() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<i64>().prop_map(Value::from),
        (-2_000i64..2_000).prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        (-2_000i32..2_000).prop_map(|number| json!(f64::from(number))),
        (-2_000i32..2_000).prop_map(|number| json!(f64::from(number) / 8.0)),
        any::<f64>()
            .prop_filter("the gap", |number| number.is_finite()
                && !(9e15..2e19).contains(&number.abs()))
            .prop_map(|number| json!(number)),
    ]
}

/// Any value; texts are days, times, or too short to be either.
fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any_number(),
        ".{0,9}".prop_map(Value::from),
        a_day().prop_map(Value::from),
        a_time().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            btree_map(".{0,6}", inner, 0..4).prop_map(|members| members.into_iter().collect()),
        ]
    })
}

fn a_day() -> impl Strategy<Value = String> {
    (0..40, 0..15, 1..9_999).prop_map(|(day, month, year)| format!("{day:02}/{month:02}/{year:04}"))
}

fn a_time() -> impl Strategy<Value = String> {
    (-62_000_000_000_000i64..253_000_000_000_000).prop_map(|at| {
        let at = DateTime::from_timestamp_millis(at).expect("in range");
        at.format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
    })
}

/// Any object: known names with values of any type, unknown ones, and mostly a key and a time.
fn any_row() -> impl Strategy<Value = BTreeMap<String, Value>> {
    let known = [&AMOUNTS[..], &TEXTS, &DAYS, &LABELS, &[COUNT, "created_at"]].concat();
    // An amount must mostly fit, or hardly any row would be an account.
    let member = proptest::sample::select(known).prop_flat_map(|name| {
        let value = if AMOUNTS.contains(&name) {
            prop_oneof![30 => any::<i64>().prop_map(Value::from), 1 => any_value()].boxed()
        } else {
            any_value().boxed()
        };
        (Just(name.to_owned()), value)
    });
    let id = prop_oneof![12 => ".{1,24}".prop_map(Value::from), 1 => any_value()];
    let at = prop_oneof![12 => a_time().prop_map(Value::from), 1 => any_value()];
    (
        vec(member, 0..20),
        btree_map("[a-z_]{0,3}|.{0,5}", any_value(), 0..5),
        option::weighted(0.97, id),
        option::weighted(0.97, at),
    )
        .prop_map(|(known, mut row, id, at)| {
            row.extend(known);
            row.extend(id.map(|id| ("public_id".to_owned(), id)));
            row.extend(at.map(|at| ("updated_at".to_owned(), at)));
            row
        })
}

fn expected_number(value: &Value) -> Option<i64> {
    let number = value.as_number()?;
    let is_whole = |float: &f64| float.fract() == 0.0 && float.abs() < 9e15;
    number
        .as_i64()
        .or_else(|| number.as_f64().filter(is_whole).map(|float| float as i64))
}

fn expected_time(value: &Value) -> Option<i64> {
    let time = NaiveDateTime::parse_from_str(value.as_str()?, "%Y-%m-%dT%H:%M:%S%.3fZ").ok()?;
    Some(time.and_utc().timestamp_millis())
}

fn expected_day(value: &Value) -> Option<i64> {
    let text = value.as_str().filter(|text| text.len() == 10)?;
    let day = NaiveDate::parse_from_str(text, "%d/%m/%Y").ok()?;
    Some(day.signed_duration_since(NaiveDate::default()).num_days())
}

fn expected_reason(row: &BTreeMap<String, Value>) -> Option<Reason> {
    let of = |name: &str| row.get(name).unwrap_or(&Value::Null);
    if of("public_id").as_str().is_none_or(str::is_empty) {
        return Some(Reason::NoPublicId);
    }
    if expected_time(of("updated_at")).is_none() {
        return Some(Reason::NoUpdatedAt);
    }
    // Of several the first by name is told.
    let mut amounts = AMOUNTS;
    amounts.sort_unstable();
    let inexact = |name: &&str| !of(name).is_null() && expected_number(of(name)).is_none();
    amounts
        .into_iter()
        .find(inexact)
        .map(|field| Reason::InexactAmount { field })
}

/// Holds an account against the row it came from, field by field.
fn same(row: &BTreeMap<String, Value>, read: &Row<'_>) -> Result<(), TestCaseError> {
    let of = |name: &str| row.get(name).unwrap_or(&Value::Null);
    let text = |name: &str| of(name).as_str().map(Value::from).unwrap_or_default();
    let mut expected = serde_json::Map::new();
    for name in TEXTS {
        expected.insert(name.into(), text(name));
    }
    for name in AMOUNTS.into_iter().chain([COUNT]) {
        expected.insert(name.into(), json!(expected_number(of(name))));
    }
    for name in DAYS {
        expected.insert(name.into(), text(name));
        expected.insert(format!("{name}_parsed"), json!(expected_day(of(name))));
    }
    for name in LABELS {
        let code = expected_number(of(name));
        expected.insert(name.into(), code.map_or(text(name), |code| json!(code.to_string())));
        expected.insert(format!("{name}_unmapped_code"), json!(code));
    }
    for name in ["created_at", "updated_at"] {
        expected.insert(name.into(), json!(expected_time(of(name))));
    }
    expected.insert("public_id".into(), text("public_id"));
    expected.insert("lender_public_id".into(), json!(LENDER));
    let known: Vec<String> = expected.keys().cloned().collect();
    let derived =
        |name: &str| name.ends_with("_parsed") || name.ends_with("_unmapped_code") || name == "lender_public_id";
    let does_not_fit = |name: &str| !of(name).is_null() && expected[name].is_null();
    let extra: serde_json::Map<String, Value> = row
        .iter()
        .filter(|(name, _)| !known.contains(name) || derived(name) || does_not_fit(name))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    let mut found = fields(&read.account);
    let found_extra = found["extra"].take();
    let found_extra: Value = found_extra
        .as_str()
        .map_or(json!({}), |text| serde_json::from_str(text).expect("extra is JSON"));
    // By way of its text: serde_json does not read every float back to its last bit.
    let extra: Value = serde_json::to_string(&extra).expect("JSON").parse().expect("JSON");
    prop_assert_eq!(found_extra, extra);
    let mut invalid: Vec<&str> = known
        .iter()
        .map(String::as_str)
        .filter(|name| !derived(name) && does_not_fit(name))
        .collect();
    invalid.sort_unstable();
    prop_assert_eq!(&read.invalid, &invalid);
    expected.insert("extra".into(), Value::Null);
    prop_assert_eq!(found, Value::from(expected));
    Ok(())
}

/// Writes a value in another form: members in another order, numbers and texts in another spelling.
fn rewritten(value: &Value, seed: &mut u64, out: &mut String) {
    *seed = seed
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407);
    let choice = (*seed >> 33) as usize;
    match value {
        Value::Null | Value::Bool(_) => out.push_str(&value.to_string()),
        Value::Number(number) => {
            let text = number.to_string();
            match (choice % 4, text.contains(['e', '.'])) {
                (0, false) => out.push_str(&format!("{text}.00")),
                (1, false) if text != "0" => out.push_str(&format!("{text}0e-1")),
                (2, false) => out.push_str(&format!("{text}E+0")),
                (0, true) if !text.contains('e') => out.push_str(&format!("{text}00")),
                (1, true) if !text.contains('e') => out.push_str(&format!("{text}e0")),
                _ => out.push_str(&text),
            }
        }
        Value::String(text) => rewritten_text(text, choice, out),
        Value::Array(values) => {
            out.push_str("[ ");
            for (at, value) in values.iter().enumerate() {
                out.push_str(if at > 0 { " ,\n" } else { "" });
                rewritten(value, seed, out);
            }
            out.push(']');
        }
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            let length = members.len().max(1);
            members.rotate_left(choice % length);
            if choice.is_multiple_of(2) {
                members.reverse();
            }
            out.push('{');
            for (at, (name, value)) in members.into_iter().enumerate() {
                out.push_str(if at > 0 { "\t, " } else { " " });
                rewritten_text(name, choice >> at, out);
                out.push_str(" : ");
                rewritten(value, seed, out);
            }
            out.push('}');
        }
    }
}

fn rewritten_text(text: &str, choice: usize, out: &mut String) {
    if choice.is_multiple_of(2) {
        out.push_str(&json!(text).to_string());
        return;
    }
    out.push('"');
    for unit in text.encode_utf16() {
        out.push_str(&format!("\\u{unit:04X}"));
    }
    out.push('"');
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn any_object_becomes_an_account_of_its_values_or_is_rejected_for_the_right_reason(row in any_row()) {
        let json = raw(&serde_json::to_string(&row).expect("JSON"));
        match (read_row(&json, LENDER, &Rules::default(), &mut Scratch::default()), expected_reason(&row)) {
            (Ok(read), None) => same(&row, &read)?,
            (Err(rejected), Some(reason)) => {
                prop_assert_eq!(rejected.reason, reason);
                prop_assert_eq!(rejected.updated_at, row.get("updated_at").and_then(expected_time));
                let id = row.get("public_id").and_then(Value::as_str).filter(|id| !id.is_empty());
                prop_assert_eq!(rejected.public_id.as_deref(), id);
            }
            (found, expected) => prop_assert!(false, "{found:?}, expected was {expected:?}"),
        }
    }

    #[test]
    fn the_digest_and_the_account_are_the_same_in_any_form_of_the_same_row(row in any_row(), mut seed: u64) {
        prop_assume!(expected_reason(&row).is_none());
        let json = raw(&serde_json::to_string(&row).expect("JSON"));
        let mut other = String::new();
        rewritten(&row.into_iter().collect(), &mut seed, &mut other);
        let other = raw(&other);
        let (one, two) = (read(&json), read(&other));
        prop_assert_eq!(one.digest, two.digest, "{} {}", json, other);
        let without_extra = |row: &Row<'_>| fields(&Account { extra: None, ..row.account.clone() });
        prop_assert_eq!(without_extra(&one), without_extra(&two));
        prop_assert_eq!(&one.invalid, &two.invalid);
        let extra = |row: &Row<'_>| row.account.extra.clone().map(|text| text.parse::<Value>().expect("extra is JSON"));
        let (one, two) = (extra(&one), extra(&two));
        prop_assert_eq!(one.as_ref().map(|extra| extra.as_object().map(|all| all.len())), two.as_ref().map(|extra| extra.as_object().map(|all| all.len())));
    }

    #[test]
    fn what_is_no_content_is_as_good_as_absent_and_all_else_counts_as_it_did(
        row in any_row(),
        passing: u32,
        ignored: u32,
        few: u32,
    ) {
        let text = |row: &BTreeMap<String, Value>| raw(&serde_json::to_string(row).expect("JSON"));
        let json = text(&row);
        let Ok(whole) = read_row(&json, LENDER, &Rules::default(), &mut Scratch::default()) else {
            return Ok(());
        };
        let chosen = |bits: u32| {
            let names = row.keys().filter(|name| !matches!(&***name, "public_id" | "updated_at"));
            let chosen = names.enumerate().filter(move |(place, _)| bits & 1 << (place % 32) != 0);
            chosen.map(|(_, name)| name.clone()).collect::<std::collections::BTreeSet<String>>()
        };
        let (passing, ignored) = (chosen(passing), chosen(ignored & few));
        let rules = Rules {
            extra: Extra::Only(passing.clone()),
            content_ignore: ignored.clone(),
            ..Rules::default()
        };
        let found = read_row(&json, LENDER, &rules, &mut Scratch::default()).expect("an account").digest;
        let mut content = row.clone();
        content.retain(|name, _| {
            let is_unknown = whole.unknown.iter().any(|unknown| unknown == name);
            !ignored.contains(name) && (!is_unknown || passing.contains(name))
        });
        let json = text(&content);
        let expected = read_row(&json, LENDER, &Rules::default(), &mut Scratch::default()).expect("an account").digest;
        prop_assert_eq!(found, expected);
        // Without unknown members the rules about extra change nothing: nothing is written again.
        if whole.unknown.is_empty() && ignored.is_empty() {
            prop_assert_eq!(found, whole.digest);
        }
    }

    #[test]
    fn the_digest_sees_any_other_value_of_any_member(row in any_row(), name in "currency|status|due_date|new", value in any_value()) {
        prop_assume!(expected_reason(&row).is_none());
        prop_assume!(row.get(&name).unwrap_or(&Value::Null) != &value);
        let mut other = row.clone();
        let before = other.insert(name, value.clone()).unwrap_or_default();
        // Zero has two spellings, and a float may equal a whole number.
        prop_assume!(!(before.is_array() || before.is_object() || before.is_number() && value.is_number()));
        let text = |row: &BTreeMap<String, Value>| serde_json::to_string(row).expect("JSON");
        prop_assert_ne!(digest(&text(&row)), digest(&text(&other)));
    }

    #[test]
    fn any_text_at_all_as_a_row_never_panics(text in any_text(), at in any::<prop::sample::Index>(), wedge in "[\\[\\]{}\",:0-9eE.+-]{0,3}|\\\\u[dD][89abAB][0-9a-f]{2}|.{0,2}") {
        let wedged = {
            let mut places = text.char_indices().map(|(place, _)| place).collect::<Vec<_>>();
            places.push(text.len());
            let (before, after) = text.split_at(places[at.index(places.len())]);
            format!("{before}{wedge}{after}")
        };
        let held = [
            format!(r#"{{"public_id":"a1","updated_at":"2026-05-29T07:20:55Z","new":{wedged},"total_amount":{wedged}}}"#),
            format!(r#"{{"public_id":"{wedged}","updated_at":"{wedged}","due_date":"{wedged}"}}"#),
            wedged,
            text,
        ];
        for text in held {
            if let Ok(json) = RawValue::from_string(text) {
                let found = read_row(&json, LENDER, &Rules::default(), &mut Scratch::default());
                if let Ok(row) = found {
                    prop_assert!(!row.account.public_id.is_empty());
                    let extra = row.account.extra.map(|text| RawValue::from_string(text).is_ok());
                    prop_assert!(extra != Some(false), "extra is JSON");
                }
            }
        }
        let _ = instant(&wedge);
    }
}

/// Rows, and what only looks like JSON.
fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![
        any_row().prop_map(|row| serde_json::to_string(&row).expect("JSON")),
        any_value().prop_map(|value| value.to_string()),
        "[\\[\\]{}\",:\\\\0-9eEu.+ntfal -]{0,40}",
        "-?[0-9]{1,30}(\\.[0-9]{1,30})?([eE][+-]?[0-9]{1,25})?",
        ".{0,60}",
    ]
}
