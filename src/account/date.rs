//! Which moment, which day does a text name?

use chrono::{DateTime, NaiveDate};

/// Milliseconds since the epoch of an RFC 3339 time with 0–9 fractional digits; finer digits are cut.
pub(crate) fn instant(text: &str) -> Option<i64> {
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
    let number = |digits: &[u8]| {
        digits.iter().try_fold(0u32, |sum, digit| {
            digit.is_ascii_digit().then(|| sum * 10 + u32::from(digit - b'0'))
        })
    };
    if bytes[2] != b'/' || bytes[5] != b'/' {
        return None;
    }
    let year = i32::try_from(number(&bytes[6..])?).ok().filter(|year| *year > 0)?;
    let date = NaiveDate::from_ymd_opt(year, number(&bytes[3..5])?, number(&bytes[..2])?)?;
    i32::try_from(date.signed_duration_since(NaiveDate::default()).num_days()).ok()
}
