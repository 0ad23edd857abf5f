//! Which moment, which day does a text name?

use chrono::{DateTime, Datelike, NaiveDate, TimeDelta};

/// Milliseconds since the epoch of an RFC 3339 time with 0–9 fractional digits; finer digits are cut.
pub(crate) fn instant(text: &str) -> Option<i64> {
    usual_instant(text).or_else(|| any_instant(text))
}

/// Upstream's own form, `2026-05-29T07:20:55.000Z`; `None` for any other.
fn usual_instant(text: &str) -> Option<i64> {
    let bytes: &[u8; 24] = text.as_bytes().try_into().ok()?;
    for (place, separator) in [
        (4, b'-'),
        (7, b'-'),
        (10, b'T'),
        (13, b':'),
        (16, b':'),
        (19, b'.'),
        (23, b'Z'),
    ] {
        if bytes[place] != separator {
            return None;
        }
    }
    let date = NaiveDate::from_ymd_opt(
        number(&bytes[..4])?.try_into().ok()?,
        number(&bytes[5..7])?,
        number(&bytes[8..10])?,
    )?;
    let (hour, minute, second) = (
        number(&bytes[11..13])?,
        number(&bytes[14..16])?,
        number(&bytes[17..19])?,
    );
    let time = date.and_hms_milli_opt(hour, minute, second, number(&bytes[20..23])?)?;
    Some(time.and_utc().timestamp_millis())
}

fn any_instant(text: &str) -> Option<i64> {
    // chrono also takes a space for the `T`, more than nine digits, and a minus that is not ASCII's.
    let separator = *text.as_bytes().get(10)?;
    let fraction = text.get(19..)?.strip_prefix('.');
    let digit_count = fraction.map_or(0, |digits| digits.bytes().take_while(u8::is_ascii_digit).count());
    if !separator.eq_ignore_ascii_case(&b't') || digit_count > 9 || !text.is_ascii() {
        return None;
    }
    DateTime::parse_from_rfc3339(text).ok().map(|at| at.timestamp_millis())
}

/// Days since 1970-01-01 of a day written DD/MM/YYYY, if it is a real one.
pub(crate) fn day(text: &str) -> Option<i32> {
    let bytes: &[u8; 10] = text.as_bytes().try_into().ok()?;
    if bytes[2] != b'/' || bytes[5] != b'/' {
        return None;
    }
    let year = i32::try_from(number(&bytes[6..])?).ok().filter(|year| *year > 0)?;
    let date = NaiveDate::from_ymd_opt(year, number(&bytes[3..5])?, number(&bytes[..2])?)?;
    i32::try_from(date.signed_duration_since(NaiveDate::default()).num_days()).ok()
}

/// The text of which [`day`] makes these days.
pub(crate) fn day_text(days: i32) -> String {
    let date = NaiveDate::default() + TimeDelta::days(days.into());
    let (day, month) = (date.day(), date.month());
    let year = date.year().unsigned_abs();
    let digit = |number: u32| char::from(b'0' + (number % 10) as u8);
    let text = [
        digit(day / 10),
        digit(day),
        '/',
        digit(month / 10),
        digit(month),
        '/',
        digit(year / 1000),
        digit(year / 100),
        digit(year / 10),
        digit(year),
    ];
    text.into_iter().collect()
}

/// Of up to nine digits.
fn number(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |sum, digit| {
        digit.is_ascii_digit().then(|| sum * 10 + u32::from(digit - b'0'))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::cases::cases;

    proptest! {
        #![proptest_config(cases(20_000))]

        #[test]
        fn the_usual_form_is_read_as_any_other(text in "[0-9]{4}-[01][0-9]-[0-3][0-9][Tt ][0-2][0-9]:[0-6][0-9]:[0-6][0-9]\\.[0-9]{2}[0-9:]Z") {
            if let Some(at) = usual_instant(&text) {
                prop_assert_eq!(any_instant(&text), Some(at));
            }
        }

        #[test]
        fn a_day_has_one_text(days in -719_162..=2_932_896) {
            prop_assert_eq!(day(&day_text(days)), Some(days));
        }

        #[test]
        fn every_moment_of_a_calendar_is_in_the_usual_form(at in -62_167_219_200_000i64..253_402_300_800_000) {
            let text = DateTime::from_timestamp_millis(at).expect("a moment").format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string();
            prop_assert_eq!(usual_instant(&text), Some(at), "{}", text);
        }
    }
}
