//! What does an account look like, and what is odd or bad about it?
//!
//! Everything about a row follows from the seed, its index, its version and its `created_at`, so a row can be rendered again
//! with a change, and two simulators with the same seed serve the same bytes.

use std::fmt::Write;

use fastrand::Rng;
use twox_hash::XxHash3_64;

use super::clock::{day, iso};
use super::options::LenderOptions;

const DAY_MS: i64 = 86_400_000;
/// Larger than the 1 MiB that a Kafka topic takes by default.
const OVERSIZED_BYTES: usize = 1_200_000;

const LOAN_TYPES: [&str; 9] = [
    "CREDIT_CARD",
    "LEASE",
    "PERSONAL_LOAN",
    "BNPL",
    "CAR_RENTAL",
    "SUBSCRIPTION",
    "Charge Back",
    "SALARY_ADVANCE_LOAN",
    "OverDraft",
];
const STATUSES: [&str; 5] = [
    "IN_COLLECTION",
    "PARTIALLY_PAID",
    "PROMISE_TO_PAY",
    "SETTLED",
    "WITHDRAWN",
];
const CURRENCIES: [&str; 3] = ["SAR", "AED", "KWD"];
const MERCHANTS: [&str; 5] = [
    "Al Noor Electronics",
    "Gulf Motors Leasing",
    "Desert Rose Furniture",
    "Souq Express",
    "Najd Home Appliances",
];

/// How far a row is from what the vendor documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowKind {
    /// As documented.
    Sound,
    /// An account all the same.
    Odd(Odd),
    /// No account can be read from it: a dead letter.
    Bad(Bad),
    /// A test wrote it.
    Given,
}

/// What is unusual about a row that is an account all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Odd {
    NullField,
    AbsentField,
    /// `1200.0`
    DecimalAmount,
    /// `1.2e3`
    ExponentAmount,
    /// `31/02/2026`, empty, `2026-02-22`
    MalformedDate,
    LoanTypeCode,
    StatusCode,
    BooleanStatus,
    UnknownMembers,
    NumericReference,
    HalfDay,
    UnreadableCreatedAt,
    /// `updated_at` with six digits.
    FineUpdatedAt,
    EscapedText,
}

/// Why no account can be read from a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bad {
    /// `10.5`
    HalfAmount,
    /// `"1200"`
    TextAmount,
    /// More than 64 bits.
    HugeAmount,
    NoPublicId,
    NullPublicId,
    UnreadableUpdatedAt,
    NoUpdatedAt,
    DuplicateMember,
    NotAnObject,
    /// 1.2 MB; only by `oversized_rows`, never by rate.
    Oversized,
}

const ODD: [Odd; 14] = [
    Odd::NullField,
    Odd::AbsentField,
    Odd::DecimalAmount,
    Odd::ExponentAmount,
    Odd::MalformedDate,
    Odd::LoanTypeCode,
    Odd::StatusCode,
    Odd::BooleanStatus,
    Odd::UnknownMembers,
    Odd::NumericReference,
    Odd::HalfDay,
    Odd::UnreadableCreatedAt,
    Odd::FineUpdatedAt,
    Odd::EscapedText,
];
const BAD: [Bad; 9] = [
    Bad::HalfAmount,
    Bad::TextAmount,
    Bad::HugeAmount,
    Bad::NoPublicId,
    Bad::NullPublicId,
    Bad::UnreadableUpdatedAt,
    Bad::NoUpdatedAt,
    Bad::DuplicateMember,
    Bad::NotAnObject,
];
const NULLABLE: [&str; 9] = [
    "account_reference_id",
    "reference_id",
    "balance_interest",
    "minimum_due_amount",
    "currency",
    "due_date",
    "loan_type",
    "merchant_name",
    "created_at",
];

/// What a row is rendered from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Origin {
    pub(super) index: u32,
    /// Raised by each change.
    pub(super) version: u32,
    pub(super) created_at_ms: i64,
}

/// Renders one lender's rows.
#[derive(Debug)]
pub(super) struct Generator {
    seed: u64,
    /// JSON text.
    display_name: String,
    odd_rate: f64,
    bad_rate: f64,
    oversized_rows: u32,
}

impl Generator {
    pub(super) fn new(seed: u64, options: &LenderOptions) -> Self {
        Self {
            seed: XxHash3_64::oneshot_with_seed(seed, options.public_id.as_bytes()),
            display_name: serde_json::Value::from(options.subdomain.as_str()).to_string(),
            odd_rate: options.odd_rate,
            bad_rate: options.bad_rate,
            oversized_rows: options.oversized_rows,
        }
    }

    /// The rows a simulator starts with: `updated_at` and origin, oldest first.
    ///
    /// `tie_groups` is repeated over the rows: each group shares one `updated_at`; the groups are spread over `span`.
    pub(super) fn seeded(&self, options: &LenderOptions) -> Vec<(i64, Origin)> {
        let cycle: Vec<u32> = options.tie_groups.iter().copied().filter(|size| *size > 0).collect();
        let mut sizes = cycle.iter().copied().cycle();
        let mut group = 0;
        let mut left = 0;
        let mut groups = Vec::new();
        for _ in 0..options.rows {
            if left == 0 {
                group += 1;
                left = sizes.next().unwrap_or(1);
            }
            left -= 1;
            groups.push(group);
        }
        let span_ms = i128::from(super::clock::millis(options.span));
        let oldest_ms = i128::from(options.newest_at_ms) - span_ms;
        (0..options.rows)
            .zip(groups)
            .map(|(index, number)| {
                let at_ms = oldest_ms + span_ms * i128::from(number) / i128::from(group);
                let at_ms = i64::try_from(at_ms).unwrap_or(options.newest_at_ms);
                let age_ms = self.rng(index, 1).i64(DAY_MS..400 * DAY_MS);
                let origin = Origin {
                    index,
                    version: 0,
                    created_at_ms: at_ms - age_ms,
                };
                (at_ms, origin)
            })
            .collect()
    }

    /// A Mongo `_id`: seconds of creation, a number of the lender, the index.
    pub(super) fn id(&self, origin: &Origin) -> String {
        let seconds = origin.created_at_ms.div_euclid(1000) & 0xffff_ffff;
        let lender = self.seed & 0xff_ffff_ffff;
        format!("{seconds:08x}{lender:010x}{:06x}", origin.index & 0xff_ffff)
    }

    pub(super) fn kind(&self, index: u32) -> RowKind {
        if index < self.oversized_rows {
            return RowKind::Bad(Bad::Oversized);
        }
        let mut rng = self.rng(index, 2);
        let roll = rng.f64();
        if roll < self.bad_rate {
            RowKind::Bad(BAD[rng.usize(..BAD.len())])
        } else if roll < self.bad_rate + self.odd_rate {
            RowKind::Odd(ODD[rng.usize(..ODD.len())])
        } else {
            RowKind::Sound
        }
    }

    /// The row's JSON text. Two versions that follow each other differ in their amounts, every third in its due date.
    pub(super) fn render(&self, origin: &Origin, updated_at_ms: i64) -> String {
        let mut rng = self.rng(origin.index, 3);
        let version = i64::from(origin.version);
        let total = rng.i64(50_000..25_000_000);
        // A step that is no multiple of the total: `paid` moves with every version.
        let step = rng.i64(1_000..50_000);
        let paid = (rng.i64(0..total) + version * step) % total;
        let balance = total - paid;
        let interest = balance / 20;
        let fee = balance / 50;
        let due_at_ms = origin.created_at_ms + rng.i64(5..90) * DAY_MS + version / 3 * 7 * DAY_MS;
        let status = (rng.usize(..STATUSES.len()) + origin.version as usize / 4) % STATUSES.len();
        let number = rng.u32(10_000_000..100_000_000);
        let mut fields = Fields(vec![
            ("public_id", quoted(&self.id(origin))),
            (
                "account_reference_id",
                quoted(&format!("ACC-{number}-{}", origin.index)),
            ),
            ("customer_reference_id", quoted(&format!("CUST-{}", number / 3))),
            ("reference_id", quoted(&format!("REF-{number:x}"))),
            ("total_amount", total.to_string()),
            ("balance_amount", balance.to_string()),
            ("actual_balance_amount", balance.to_string()),
            ("paid_amount", paid.to_string()),
            ("balance_principal_amount", (balance - interest - fee).to_string()),
            ("balance_interest", interest.to_string()),
            ("balance_fee", fee.to_string()),
            ("minimum_due_amount", (balance / 10).to_string()),
            ("currency", quoted(pick(&mut rng, &CURRENCIES))),
            ("submitted_date", quoted(&day(origin.created_at_ms))),
            ("due_date", quoted(&day(due_at_ms))),
            ("delinquent_days_on_submission", rng.u32(0..720).to_string()),
            ("loan_type", quoted(pick(&mut rng, &LOAN_TYPES))),
            ("status", quoted(STATUSES[status])),
            ("merchant_name", quoted(pick(&mut rng, &MERCHANTS))),
            ("lender_display_name", self.display_name.clone()),
            ("created_at", quoted(&iso(origin.created_at_ms))),
            ("updated_at", quoted(&iso(updated_at_ms))),
        ]);
        match self.kind(origin.index) {
            RowKind::Sound | RowKind::Given => fields.json(),
            RowKind::Odd(odd) => {
                fields.make_odd(odd, &mut rng);
                fields.json()
            }
            RowKind::Bad(Bad::NotAnObject) => pick(&mut rng, &["\"not an account\"", "[]", "17", "null"]).to_owned(),
            RowKind::Bad(bad) => {
                fields.make_bad(bad);
                fields.json()
            }
        }
    }

    fn rng(&self, index: u32, salt: u64) -> Rng {
        Rng::with_seed(XxHash3_64::oneshot_with_seed(
            self.seed.wrapping_add(salt),
            &index.to_be_bytes(),
        ))
    }
}

/// Members in order, values as JSON text.
struct Fields(Vec<(&'static str, String)>);

impl Fields {
    fn set(&mut self, name: &str, json: impl Into<String>) {
        self.0
            .iter_mut()
            .find(|(field, _)| *field == name)
            .expect("a field of D02")
            .1 = json.into();
    }

    fn take(&mut self, name: &str) {
        self.0.retain(|(field, _)| *field != name);
    }

    fn get(&self, name: &str) -> &str {
        self.0
            .iter()
            .find(|(field, _)| *field == name)
            .map_or("", |(_, json)| json)
    }

    fn make_odd(&mut self, odd: Odd, rng: &mut Rng) {
        match odd {
            Odd::NullField => self.set(pick(rng, &NULLABLE), "null"),
            Odd::AbsentField => self.take(pick(rng, &NULLABLE)),
            Odd::DecimalAmount => {
                let decimal = format!("{}.0", self.get("balance_amount"));
                self.set("balance_amount", decimal);
            }
            Odd::ExponentAmount => self.set("minimum_due_amount", "1.2e3"),
            Odd::MalformedDate => {
                let date = pick(rng, &["31/02/2026", "", "2026-02-22"]);
                self.set(pick(rng, &["due_date", "submitted_date"]), quoted(date));
            }
            Odd::LoanTypeCode => self.set("loan_type", rng.u32(20..99).to_string()),
            Odd::StatusCode => self.set("status", rng.u32(20..99).to_string()),
            Odd::BooleanStatus => self.set("status", "true"),
            Odd::UnknownMembers => {
                self.0.push(("risk_band", quoted("B2")));
                self.0
                    .push(("agency", r#"{"name":"North","tags":["a",1.50,null]}"#.to_owned()));
            }
            Odd::NumericReference => self.set("reference_id", rng.u32(..).to_string()),
            Odd::HalfDay => self.set("delinquent_days_on_submission", "12.5"),
            Odd::UnreadableCreatedAt => self.set("created_at", quoted("yesterday")),
            Odd::FineUpdatedAt => {
                let fine = self.get("updated_at").replace("Z\"", "789Z\"");
                self.set("updated_at", fine);
            }
            Odd::EscapedText => self.set(
                "merchant_name",
                r#""\u0645\u062a\u062c\u0631 \"النور\" \ud83d\ude00 \\ \/ caf\u00e9\tü""#,
            ),
        }
    }

    fn make_bad(&mut self, bad: Bad) {
        match bad {
            Bad::HalfAmount => self.set("balance_amount", "10.5"),
            Bad::TextAmount => {
                let text = quoted(self.get("balance_amount"));
                self.set("balance_amount", text);
            }
            Bad::HugeAmount => self.set("total_amount", "123456789012345678901234567890"),
            Bad::NoPublicId => self.take("public_id"),
            Bad::NullPublicId => self.set("public_id", "null"),
            Bad::UnreadableUpdatedAt => self.set("updated_at", quoted("29/05/2026 07:20")),
            Bad::NoUpdatedAt => self.take("updated_at"),
            Bad::DuplicateMember => self.0.push(("balance_amount", "1".to_owned())),
            Bad::NotAnObject => {}
            Bad::Oversized => self.0.push(("notes", quoted(&"x".repeat(OVERSIZED_BYTES)))),
        }
    }

    fn json(&self) -> String {
        let mut json = String::with_capacity(768);
        for (name, value) in &self.0 {
            let separator = if json.is_empty() { '{' } else { ',' };
            write!(json, "{separator}\"{name}\":{value}").expect("a string takes everything");
        }
        json.push('}');
        json
    }
}

/// A JSON string of text that needs no escapes.
fn quoted(text: &str) -> String {
    format!("\"{text}\"")
}

fn pick<'a>(rng: &mut Rng, choices: &[&'a str]) -> &'a str {
    choices[rng.usize(..choices.len())]
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use serde_json::Value;

    use super::*;

    fn options() -> LenderOptions {
        LenderOptions {
            rows: 3_000,
            odd_rate: 0.3,
            bad_rate: 0.2,
            oversized_rows: 1,
            tie_groups: vec![1, 4, 0, 1_500],
            ..LenderOptions::numbered(1)
        }
    }

    fn render_all(seed: u64) -> Vec<String> {
        let generator = Generator::new(seed, &options());
        generator
            .seeded(&options())
            .iter()
            .map(|(at_ms, origin)| generator.render(origin, *at_ms))
            .collect()
    }

    #[test]
    fn rows_are_valid_json_and_follow_from_the_seed() {
        let rows = render_all(7);
        for row in &rows {
            serde_json::from_str::<Value>(row).expect("valid JSON");
        }
        assert_eq!(rows, render_all(7));
        assert_ne!(rows, render_all(8));
    }

    #[test]
    fn a_sound_row_has_all_fields_in_a_realistic_size() {
        let generator = Generator::new(7, &LenderOptions::numbered(1));
        for (at_ms, origin) in generator.seeded(&LenderOptions::numbered(1)) {
            let json = generator.render(&origin, at_ms);
            assert!((620..=720).contains(&json.len()), "{} {json}", json.len());
            let row: Value = serde_json::from_str(&json).expect("valid JSON");
            assert_eq!(row.as_object().map(serde_json::Map::len), Some(22));
            assert_eq!(row["updated_at"], iso(at_ms));
            assert_eq!(row["public_id"], generator.id(&origin));
        }
    }

    #[test]
    fn every_kind_of_row_appears_and_ids_are_unique() {
        let generator = Generator::new(7, &options());
        let seeded = generator.seeded(&options());
        let kinds: Vec<_> = seeded.iter().map(|row| generator.kind(row.1.index)).collect();
        assert!(ODD.iter().all(|odd| kinds.contains(&RowKind::Odd(*odd))));
        assert!(BAD.iter().all(|bad| kinds.contains(&RowKind::Bad(*bad))));
        assert_eq!(kinds[0], RowKind::Bad(Bad::Oversized));
        let ids: HashSet<_> = seeded.iter().map(|row| generator.id(&row.1)).collect();
        assert_eq!(ids.len(), seeded.len());
        assert!(ids.iter().all(|id| id.len() == 24));
    }

    #[test]
    fn tie_groups_share_one_updated_at_and_end_at_the_newest() {
        let generator = Generator::new(7, &options());
        let times: Vec<_> = generator.seeded(&options()).iter().map(|row| row.0).collect();
        let sizes: Vec<_> = times.chunk_by(|a, b| a == b).map(<[_]>::len).collect();
        assert_eq!(sizes, [1, 4, 1_500, 1, 4, 1_490]);
        assert_eq!(times.last(), Some(&options().newest_at_ms));
    }

    #[test]
    fn every_version_differs_in_more_than_updated_at() {
        let generator = Generator::new(7, &LenderOptions::numbered(1));
        let (at_ms, mut origin) = generator.seeded(&LenderOptions::numbered(1))[3];
        let mut previous = generator.render(&origin, at_ms);
        for _ in 0..1_000 {
            origin.version += 1;
            let next = generator.render(&origin, at_ms);
            assert_ne!(previous, next);
            previous = next;
        }
    }
}
