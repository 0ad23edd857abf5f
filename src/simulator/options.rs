//! What can a simulator be asked to be like?

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use thiserror::Error;
use twox_hash::XxHash3_64;

/// 2025-06-01T00:00:00Z: seeded rows are the same on every day, and never dated ahead.
const NEWEST_AT_MS: i64 = 1_748_736_000_000;
/// How late a change is at most, or how far ahead it is dated, if nothing is said: what a slow transaction, or a clock that
/// nobody sets, brings about.
pub const DEFAULT_BY: Duration = Duration::from_secs(5);
/// A hundred years: how far a clock or a row is moved at most. Years keep four digits, and no sum overflows.
pub const MAX_SHIFT: Duration = Duration::from_secs(36_500 * 86_400);

/// What a simulator is like from the start.
#[derive(Debug, Clone)]
pub struct Options {
    /// Port 0: any free one.
    pub listen: SocketAddr,
    pub lenders: Vec<LenderOptions>,
    /// Rows, ids and live changes follow from it.
    pub seed: u64,
    pub token_lifetime: Duration,
    pub refresh_token_lifetime: Duration,
    /// Compresses for clients that accept it.
    pub gzip: bool,
    /// Serves https with a fresh authority, whose certificate is written into this directory.
    pub tls: Option<PathBuf>,
    /// DNS names that the certificate has beside `localhost`; the first one stands in the base URL.
    pub tls_names: Vec<String>,
    /// How `includeTotal` is answered.
    pub total: Total,
    /// A larger `limit` is answered with 504.
    pub page_limit: Option<usize>,
    /// The simulator's clock minus the machine's, in milliseconds.
    pub clock_skew_ms: i64,
    /// `Date` minus the simulator's clock, in milliseconds.
    pub date_skew_ms: i64,
    /// Passes between query and answer.
    pub latency: Duration,
    /// Members of every row that have another value in each answer: letters, digits and underscores, and none that rows have.
    pub volatile_members: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            lenders: vec![LenderOptions::numbered(1)],
            seed: 1,
            token_lifetime: Duration::from_secs(3_600),
            refresh_token_lifetime: Duration::from_secs(86_400),
            gzip: false,
            tls: None,
            tls_names: Vec::new(),
            total: Total::Exact,
            page_limit: None,
            clock_skew_ms: 0,
            date_skew_ms: 0,
            latency: Duration::ZERO,
            volatile_members: Vec::new(),
        }
    }
}

/// One lender: its credentials and its rows at the start.
#[derive(Debug, Clone)]
pub struct LenderOptions {
    pub subdomain: String,
    pub public_id: String,
    pub email: String,
    pub password: String,
    /// At most 2^24.
    pub rows: u32,
    /// Sizes of groups with one `updated_at`, repeated over the rows; empty: all differ.
    pub tie_groups: Vec<u32>,
    /// Share of odd rows, 0–1.
    pub odd_rate: f64,
    /// Share of bad rows, 0–1.
    pub bad_rate: f64,
    /// So many of the oldest rows have 1.2 MB each.
    pub oversized_rows: u32,
    /// `updated_at` of the newest seeded row.
    pub newest_at_ms: i64,
    /// Time over which the seeded rows are spread.
    pub span: Duration,
    /// Live changes to accounts, a second.
    pub change_rate: f64,
    /// New accounts, a second.
    pub insert_rate: f64,
    /// Rows that vanish, a second.
    pub delete_rate: f64,
    /// Changes that become visible after the time that they are dated, a second.
    pub late_rate: f64,
    /// After up to so much time.
    pub late_by: Duration,
    /// Changes that are dated ahead, a second.
    pub ahead_rate: f64,
    /// By so much time.
    pub ahead_by: Duration,
}

impl LenderOptions {
    /// The lender `lender-<number>` with 1,000 sound rows, some of them tied.
    pub fn numbered(number: u32) -> Self {
        let subdomain = format!("lender-{number}");
        let hash = XxHash3_64::oneshot(subdomain.as_bytes());
        Self {
            public_id: format!("{:08x}-{:04x}-4000-8000-{number:012x}", hash >> 32, hash & 0xffff),
            email: format!("exports@{subdomain}.example"),
            password: format!("secret-{number}"),
            subdomain,
            rows: 1_000,
            tie_groups: vec![1, 1, 1, 3, 1, 1, 10],
            odd_rate: 0.0,
            bad_rate: 0.0,
            oversized_rows: 0,
            newest_at_ms: NEWEST_AT_MS,
            span: Duration::from_secs(400 * 86_400),
            change_rate: 0.0,
            insert_rate: 0.0,
            delete_rate: 0.0,
            late_rate: 0.0,
            late_by: DEFAULT_BY,
            ahead_rate: 0.0,
            ahead_by: DEFAULT_BY,
        }
    }
}

/// Whether a text can be the name of a volatile member.
pub(crate) fn is_member(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    (1..=100).contains(&name.len()) && name.bytes().all(allowed)
}

/// How `includeTotal` is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Total {
    Exact,
    /// No more than so many are counted.
    Capped(usize),
    Timeout,
    /// So many more than there are, or fewer, and called exact.
    Off(i64),
}

/// A text that names no way to answer `includeTotal`.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("a total is exact, timeout, capped:N or off:N, for example capped:1000 or off:-3")]
pub struct UnknownTotal;

impl FromStr for Total {
    type Err = UnknownTotal;

    fn from_str(text: &str) -> Result<Self, UnknownTotal> {
        match text.split_once(':') {
            None if text == "exact" => Ok(Self::Exact),
            None if text == "timeout" => Ok(Self::Timeout),
            Some(("capped", most)) => most.parse().map(Self::Capped).map_err(|_| UnknownTotal),
            Some(("off", by)) => by.parse().map(Self::Off).map_err(|_| UnknownTotal),
            None | Some(_) => Err(UnknownTotal),
        }
    }
}

impl fmt::Display for Total {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact => formatter.write_str("exact"),
            Self::Capped(most) => write!(formatter, "capped:{most}"),
            Self::Timeout => formatter.write_str("timeout"),
            Self::Off(by) => write!(formatter, "off:{by}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_total_is_read_as_it_is_written() {
        for total in [
            Total::Exact,
            Total::Capped(1_000),
            Total::Timeout,
            Total::Off(3),
            Total::Off(-3),
        ] {
            assert_eq!(total.to_string().parse(), Ok(total));
        }
        for text in [
            "",
            "capped",
            "capped:",
            "capped:-1",
            "capped:many",
            "Exact",
            "1000",
            "off",
            "off:few",
        ] {
            assert_eq!(text.parse::<Total>(), Err(UnknownTotal), "{text}");
        }
    }
}
