//! What does the query string ask for?

use thiserror::Error;

use super::clock::read_instant;
use super::store::Filter;

const DEFAULT_LIMIT: usize = 500;
const MAX_LIMIT: usize = 1000;

/// A bound that is no RFC 3339 instant. The vendor does not validate bounds: the query fails with 500.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("cannot read the bound {0:?}")]
pub(super) struct UnreadableBound(String);

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Query {
    pub(super) filter: Filter,
    pub(super) cursor: Option<String>,
    /// Clamped to 1–1000.
    pub(super) limit: usize,
    pub(super) include_total: bool,
}

impl Query {
    /// Reads a query string; of a repeated member the last one counts, unknown ones are ignored.
    pub(super) fn parse(query: &str) -> Result<Self, UnreadableBound> {
        let mut parsed = Self {
            filter: Filter {
                since: None,
                until: None,
                descending: false,
            },
            cursor: None,
            limit: DEFAULT_LIMIT,
            include_total: false,
        };
        for pair in query.split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = percent_decode(value);
            match name {
                "since" => parsed.filter.since = Some(bound(value)?),
                "until" => parsed.filter.until = Some(bound(value)?),
                "sort" => parsed.filter.descending = value == "desc",
                "cursor" => parsed.cursor = Some(value),
                "limit" => parsed.limit = limit(&value),
                "includeTotal" => parsed.include_total = value == "true",
                _ => {}
            }
        }
        Ok(parsed)
    }
}

fn bound(text: String) -> Result<i64, UnreadableBound> {
    read_instant(&text).ok_or(UnreadableBound(text))
}

fn limit(text: &str) -> usize {
    let most = i64::try_from(MAX_LIMIT).expect("1000 fits");
    text.parse::<i64>().map_or(DEFAULT_LIMIT, |limit| {
        usize::try_from(limit.clamp(1, most)).expect("clamped to 1–1000")
    })
}

/// `%41` and `+` as what they stand for.
pub(super) fn percent_decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        let escaped = tail
            .first_chunk::<2>()
            .filter(|_| byte == b'%')
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        if escaped.is_some() {
            rest = &tail[2..];
        }
        bytes.push(match byte {
            b'+' => b' ',
            other => escaped.unwrap_or(other),
        });
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit_of(query: &str) -> usize {
        Query::parse(query).expect("a readable query").limit
    }

    #[test]
    fn the_limit_is_clamped() {
        assert_eq!(limit_of(""), 500);
        assert_eq!(limit_of("limit=0"), 1);
        assert_eq!(limit_of("limit=-3"), 1);
        assert_eq!(limit_of("limit=1000"), 1000);
        assert_eq!(limit_of("limit=1001"), 1000);
        assert_eq!(limit_of("limit=many"), 500);
    }

    #[test]
    fn bounds_are_percent_decoded() {
        let query = Query::parse("since=2026-05-29T07%3A20%3A55.000Z&until=2026-05-29T11:20:56%2B04:00&sort=desc&includeTotal=true&cursor=a-_b&new=1")
            .expect("a readable query");
        assert_eq!(query.filter.since, read_instant("2026-05-29T07:20:55Z"));
        assert_eq!(query.filter.until, read_instant("2026-05-29T07:20:56Z"));
        assert!(query.filter.descending && query.include_total);
        assert_eq!(query.cursor.as_deref(), Some("a-_b"));
    }

    #[test]
    fn an_unreadable_bound_is_an_error() {
        for query in ["since=yesterday", "until=", "since=2026-05-29T11:20:56+04:00"] {
            assert!(Query::parse(query).is_err(), "{query}");
        }
    }
}
