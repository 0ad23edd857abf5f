//! Which whole number is a JSON number? Exact arithmetic on its decimal digits: no float ever comes in between.

use std::borrow::Cow;
use std::cmp::Reverse;

/// The exact 64-bit value of a JSON number that is whole: `1200`, `1200.0` and `1.2e3` alike.
pub(super) fn whole_number(raw: &str) -> Option<i64> {
    if !is_number(raw) {
        return None;
    }
    if let Ok(number) = raw.parse() {
        return Some(number);
    }
    let number = Decimal::of(raw);
    if number.digits.is_empty() {
        return Some(0);
    }
    let zero_count = u32::try_from(number.exponent).ok().filter(|zeros| *zeros <= 19)?;
    let magnitude = number
        .digits
        .parse::<i128>()
        .ok()?
        .checked_mul(10i128.pow(zero_count))?;
    i64::try_from(if number.negative { -magnitude } else { magnitude }).ok()
}

/// A JSON number as sign, significant digits without zeros at either end, and a power of ten.
pub(super) struct Decimal<'a> {
    pub negative: bool,
    pub digits: Cow<'a, str>,
    pub exponent: i64,
}

impl<'a> Decimal<'a> {
    pub(super) fn of(raw: &'a str) -> Self {
        let unsigned = raw.strip_prefix('-').unwrap_or(raw);
        if unsigned.bytes().all(|byte| byte.is_ascii_digit()) {
            let zero_count = unsigned.bytes().rev().take_while(|digit| *digit == b'0').count();
            let digits = unsigned[..unsigned.len() - zero_count].trim_start_matches('0');
            return Self {
                negative: raw.len() > unsigned.len() && !digits.is_empty(),
                digits: Cow::Borrowed(digits),
                exponent: zero_count as i64,
            };
        }
        let (mantissa, power) = unsigned.split_once(['e', 'E']).unwrap_or((unsigned, "0"));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let written = if fraction.is_empty() {
            Cow::Borrowed(whole)
        } else {
            Cow::Owned(format!("{whole}{fraction}"))
        };
        // A power that no 64-bit number holds is as good as the largest: the value fits nothing.
        let power = power.parse::<i64>().unwrap_or(if power.starts_with('-') {
            i64::MIN / 2
        } else {
            i64::MAX / 2
        });
        let trimmed_count = written.len() - written.trim_end_matches('0').len();
        let exponent = power
            .saturating_sub(fraction.len() as i64)
            .saturating_add(trimmed_count as i64);
        let digits = match written {
            Cow::Borrowed(written) => Cow::Borrowed(written.trim_matches('0')),
            Cow::Owned(written) => Cow::Owned(written.trim_matches('0').to_owned()),
        };
        Self {
            negative: raw.starts_with('-') && !digits.is_empty(),
            digits,
            exponent,
        }
    }

    /// The digits on either side of the point; `None` where the number is whole.
    fn fraction(&self) -> Option<Parts<'_>> {
        let length = usize::try_from(self.exponent.checked_neg()?)
            .ok()
            .filter(|length| *length > 0)?;
        let (whole, digits) = self.digits.split_at(self.digits.len().saturating_sub(length));
        (!digits.is_empty()).then(|| Parts {
            whole,
            zero_count: length - digits.len(),
            digits,
        })
    }
}

/// `whole`.`zero_count` zeros, `digits`.
struct Parts<'a> {
    whole: &'a str,
    zero_count: usize,
    /// At least one, the last of them no zero.
    digits: &'a str,
}

/// Whether a JSON value is a number.
fn is_number(raw: &str) -> bool {
    raw.starts_with(|first: char| first == '-' || first.is_ascii_digit())
}

/// How far an amount may be from a whole number of minor units and still be taken for it: an exact decimal below one half.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct AmountTolerance(Fraction);

impl AmountTolerance {
    /// Reads any spelling of a number from 0 to below 0.5.
    pub fn parse(text: &str) -> Option<Self> {
        let is_in_range = text.parse().is_ok_and(|number: f64| (0.0..0.5).contains(&number));
        let number = Decimal::of(text.strip_prefix('+').unwrap_or(text));
        is_in_range.then(|| match number.fraction() {
            // "-0", or so little below zero that a float does not see it.
            Some(fraction) if !number.negative => Self(Fraction::new(fraction.zero_count, fraction.digits)),
            Some(_) | None => Self::default(),
        })
    }

    /// The whole number that lies within the tolerance of a JSON number which is none itself. What lies outside of 64 bits
    /// is near to nothing.
    pub(super) fn nearest(&self, raw: &str) -> Option<i64> {
        if *self == Self::default() || !is_number(raw) {
            return None;
        }
        let number = Decimal::of(raw);
        let fraction = number.fraction()?;
        let is_up = fraction.zero_count == 0 && fraction.digits.as_bytes()[0] >= b'5';
        let distance = if is_up {
            Fraction::new(0, &complement(fraction.digits))
        } else {
            Fraction::new(fraction.zero_count, fraction.digits)
        };
        if distance > self.0 {
            return None;
        }
        let below = match fraction.whole {
            "" => 0,
            whole => whole.parse::<u64>().ok()?,
        };
        // One more on the negative side.
        let largest = i64::MAX.unsigned_abs() + u64::from(number.negative);
        if below >= largest {
            return None;
        }
        let magnitude = i128::from(below) + i128::from(is_up);
        i64::try_from(if number.negative { -magnitude } else { magnitude }).ok()
    }
}

/// What makes one to a whole with 0.`digits`, whose last digit is no zero: the digits behind its point, as many.
fn complement(digits: &str) -> String {
    let last = digits.len() - 1;
    let of = |(place, digit): (usize, u8)| char::from(b'0' + if place == last { 10 } else { 9 } - (digit - b'0'));
    digits.bytes().enumerate().map(of).collect()
}

/// A number from 0 to below 1.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Fraction {
    /// Zeros between the point and the first digit.
    zero_count: usize,
    /// Without zeros at either end; none at all: zero.
    digits: String,
}

impl Fraction {
    /// `digits` may begin with zeros, not end with one.
    fn new(zero_count: usize, digits: &str) -> Self {
        let significant = digits.trim_start_matches('0');
        Self {
            zero_count: zero_count + digits.len() - significant.len(),
            digits: significant.to_owned(),
        }
    }
}

impl PartialOrd for Fraction {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Fraction {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        // Digits that begin at the same place compare as text: the shorter of two that begin alike is the smaller.
        fn order(fraction: &Fraction) -> (bool, Reverse<usize>, &str) {
            (
                !fraction.digits.is_empty(),
                Reverse(fraction.zero_count),
                &fraction.digits,
            )
        }
        order(self).cmp(&order(other))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn nearest(raw: &str, tolerance: &str) -> Option<i64> {
        AmountTolerance::parse(tolerance).expect("a tolerance").nearest(raw)
    }

    #[test]
    fn the_tail_of_a_binary_fraction_is_taken_for_the_whole_number_beside_it() {
        for (raw, expected) in [
            ("1998.9999999999998", 1_999),
            ("1999.0000000000002", 1_999),
            ("-1998.9999999999998", -1_999),
            ("-1999.0000000000002", -1_999),
            ("0.0000000000000001", 0),
            ("-0.0000000000000001", 0),
            ("-0.9999999999999999", -1),
            ("1.9989999999999998e3", 1_999),
            ("19989999999999998E-13", 1_999),
            ("1e-400", 0),
            ("-1e-99999999999999999999999", 0),
            ("9223372036854775806.9999999", i64::MAX),
            ("-9223372036854775807.9999999", i64::MIN),
            ("99.99999900", 100),
        ] {
            assert_eq!(nearest(raw, "0.000001"), Some(expected), "{raw}");
            assert_eq!(nearest(raw, "0"), None, "{raw}");
        }
    }

    #[test]
    fn the_bound_is_exact_and_part_of_it() {
        for (raw, tolerance, expected) in [
            ("10.1", "0.1", Some(10)),
            ("9.9", "0.1", Some(10)),
            ("10.10000000000000000000000000000000000001", "0.1", None),
            ("9.89999999999999999999999999999999999999", "0.1", None),
            ("10.3", "0.3", Some(10)),
            ("10.30000000000000001", "0.3", None),
            ("10.49", "0.49", Some(10)),
            ("10.5", "0.49999", None),
            ("10.51", "0.49", Some(11)),
            ("10.05", "0.4", Some(10)),
            ("10.005", "5e-3", Some(10)),
            ("10.0050", "+.005", Some(10)),
            ("10.00501", "0.0050", None),
            ("1e-3", "0.00099", None),
            // A float takes either for the other.
            ("0.1000000000000000055511151231257827", "0.1", None),
        ] {
            assert_eq!(nearest(raw, tolerance), expected, "{raw} within {tolerance}");
        }
    }

    #[test]
    fn what_is_no_number_or_lies_outside_of_64_bits_is_near_to_nothing() {
        for raw in [
            "9223372036854775807.0000001",
            "9223372036854775807.9999999",
            "9223372036854775808.0000001",
            "-9223372036854775808.0000001",
            "18446744073709551615.9999999",
            "18446744073709551616.0000001",
            "1e400",
            "99999999999999999999999999999999999999999999.0000001",
            "\"1998.9999999999998\"",
            "\"\"",
            "true",
            "[]",
            "{}",
            "null",
        ] {
            assert_eq!(nearest(raw, "0.4"), None, "{raw}");
        }
    }

    #[test]
    fn a_tolerance_is_read_in_any_spelling_and_only_below_one_half() {
        for zero in ["0", "-0", "0.0", "+0", "0e7", ".0", "-1e-400"] {
            assert_eq!(AmountTolerance::parse(zero), Some(AmountTolerance::default()), "{zero}");
        }
        for (one, other) in [("0.001", "1e-3"), ("0.25", "+.25"), ("0.1", "0.100"), ("0.3", "30E-2")] {
            assert_eq!(AmountTolerance::parse(one), AmountTolerance::parse(other));
        }
        for none in ["0.5", "1", "-0.1", "", "a", "NaN", "inf", "0.5000000001", "1e3"] {
            assert_eq!(AmountTolerance::parse(none), None, "{none}");
        }
    }

    /// A number that is `unscaled` / 10^`scale`, written in one of its forms.
    fn written(unscaled: i128, scale: u32, form: u8) -> String {
        let sign = if unscaled < 0 { "-" } else { "" };
        let digits = format!("{:0>width$}", unscaled.unsigned_abs(), width = scale as usize + 1);
        let (whole, fraction) = digits.split_at(digits.len() - scale as usize);
        match form {
            0 => format!("{sign}{whole}.{fraction}"),
            1 => format!("{sign}{}e-{scale}", unscaled.unsigned_abs()),
            2 => format!("{sign}{whole}.{fraction}00E0"),
            _ => format!("{sign}0.{digits}e{}", whole.len()),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_000))]

        #[test]
        fn the_nearest_whole_number_is_that_of_exact_decimal_arithmetic(
            whole in prop_oneof![any::<i64>().prop_map(i128::from), -2_000i128..2_000, -10_000_000_000_000_000_000i128..10_000_000_000_000_000_000],
            part in prop_oneof![0i128..1_000_000_000_000, 0i128..1_000, 999_999_999_000i128..1_000_000_000_000],
            tolerance in prop_oneof![0i128..500_000_000_000, 0i128..1_000],
            form in 0u8..4,
        ) {
            // Everything in units of 10^-12.
            const ONE: i128 = 1_000_000_000_000;
            let amount = whole * ONE + part;
            let raw = written(amount, 12, form);
            let below = amount.rem_euclid(ONE);
            let (distance, nearest) = if below * 2 < ONE { (below, amount - below) } else { (ONE - below, amount + ONE - below) };
            let is_in_range = (i128::from(i64::MIN) * ONE..=i128::from(i64::MAX) * ONE).contains(&amount);
            let is_near = distance <= tolerance && distance > 0 && tolerance > 0;
            let expected = (is_in_range && is_near).then(|| i64::try_from(nearest / ONE).expect("in range"));
            let tolerance = written(tolerance, 12, 0);
            prop_assert_eq!(super::tests::nearest(&raw, &tolerance), expected, "{} within {}", raw, tolerance);
        }
    }
}
