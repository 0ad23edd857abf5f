//! Which page is asked for? The query of one request.

use reqwest::Url;

use crate::progress::Timestamp;

/// One page of a walk. `since`, `until` and `cursor` belong together; `limit` may change under a cursor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PageRequest {
    /// Inclusive.
    pub since: Option<Timestamp>,
    /// Exclusive.
    pub until: Option<Timestamp>,
    pub cursor: Option<String>,
    /// 1–1000.
    pub limit: u16,
    /// Whether upstream is to count the rows of the whole filter, which costs it an extra query.
    pub include_total: bool,
}

impl PageRequest {
    /// The address of this page of `lender_public_id`'s D02.
    pub(super) fn url(&self, base: &Url, lender_public_id: &str) -> Url {
        let mut url = with_path(
            base,
            &["admin", "v3", "lenders", lender_public_id, "exports", "S1", "D02"],
        );
        let mut query = url.query_pairs_mut();
        if let Some(since) = self.since {
            query.append_pair("since", &since.to_string());
        }
        if let Some(until) = self.until {
            query.append_pair("until", &until.to_string());
        }
        if let Some(cursor) = &self.cursor {
            query.append_pair("cursor", cursor);
        }
        query
            .append_pair("limit", &self.limit.to_string())
            .append_pair("sort", "asc");
        if self.include_total {
            query.append_pair("includeTotal", "true");
        }
        drop(query);
        url
    }
}

/// `base` with further path segments, each escaped.
pub(super) fn with_path(base: &Url, segments: &[&str]) -> Url {
    let mut url = base.clone();
    url.path_segments_mut()
        .expect("the configuration takes http and https only")
        .pop_if_empty()
        .extend(segments);
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_milliseconds_and_the_cursor_is_escaped() {
        let base = Url::parse("https://host/base/").expect("a URL");
        let request = PageRequest {
            since: Some(Timestamp(0)),
            until: Some(Timestamp(1_780_000_000_123)),
            cursor: Some("a+b=&".into()),
            limit: 7,
            include_total: true,
        };
        let expected = "https://host/base/admin/v3/lenders/l%2F1/exports/S1/D02?since=1970-01-01T00%3A00%3A00.000Z\
                        &until=2026-05-28T20%3A26%3A40.123Z&cursor=a%2Bb%3D%26&limit=7&sort=asc&includeTotal=true";
        assert_eq!(request.url(&base, "l/1").as_str(), expected);
    }
}
