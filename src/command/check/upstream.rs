//! Would upstream let the lender in, and what does its first page look like?

use std::sync::Arc;
use std::time::Duration;

use super::finding::{Finding, Notes};
use super::page::{Again, Look, listed};
use crate::account::{Scratch, read_row};
use crate::clock::NOTABLE_SKEW;
use crate::config::{Config, Tolerance};
use crate::exit::{Exit, Failure};
use crate::loopback::is_loopback;
use crate::metrics::{LenderMetrics, Metrics};
use crate::phase::Phase;
use crate::pipeline::DeadLetterStop;
use crate::progress::Timestamp;
use crate::reader::{AHEAD_TOLERANCE, DISCARDED};
use crate::upstream::{
    Client, HttpClient, Login, NO_ANSWER, OTHER_TOKEN, PageRequest, Route, TOO_FAR_APART, Transport, UpstreamError,
};

/// What to do about an upstream that does not answer.
pub(super) const AWAY: &str = "check upstream.base_url, proxy, DNS and upstream.ca_file, and whether upstream is up";

/// By then a time in whole seconds is another one.
const BETWEEN_READINGS: Duration = Duration::from_millis(1_100);

/// What the vendor has to mend.
const TELL: &str = "tell the vendor's support, with the request id where there is one";

/// The HTTP client of all lenders, with which no request takes longer than `limit`.
pub(super) fn http(config: &Config, limit: Duration) -> Result<Arc<dyn Transport>, Finding> {
    let mut upstream = config.upstream.clone();
    upstream.request_timeout = upstream.request_timeout.min(limit);
    match HttpClient::new(&upstream) {
        Ok(http) => Ok(Arc::new(http)),
        Err(error) => {
            let mut notes = Notes::new("upstream", None);
            notes.failure(&error.into(), "HTTP", "a client that can be set up");
            Err(notes.findings.remove(0))
        }
    }
}

/// Looks at upstream with the eyes of one lender; ends at the first thing without which the next cannot be known.
pub(super) async fn check(notes: &mut Notes, config: &Config, http: Arc<dyn Transport>, lender: &str) {
    notes.doing("name");
    if !resolves(notes, config).await {
        return;
    }
    notes.doing("login");
    let metrics = Metrics::new().lender(lender);
    let route = Arc::new(Route::new(lender, &config.upstream, Phase::alone()));
    let settings = &config.lenders[lender];
    let login = Client::login(http, &config.upstream, lender, settings, metrics.clone(), route).await;
    let (client, login) = match login {
        Ok(logged_in) => logged_in,
        Err(error) => {
            match &error {
                UpstreamError::Network { source, .. } if source.is_connect() => {
                    let wanted = match config.upstream.base_url.scheme() {
                        "https" => "a connection, over TLS with a certificate that is trusted",
                        _ => "a connection",
                    };
                    notes.failure(&Failure::of(&error), "connection", wanted);
                }
                UpstreamError::Network { .. } | UpstreamError::Secret { .. } => refused(notes, "login", &error),
                UpstreamError::OtherLender { .. } => {
                    connected(notes, config);
                    refused(notes, "lender", &error);
                }
                UpstreamError::Status { .. }
                | UpstreamError::Redirect { .. }
                | UpstreamError::ErrorIn200 { .. }
                | UpstreamError::NotUtf8 { .. }
                | UpstreamError::TooLarge { .. }
                | UpstreamError::NoEnvelope { .. }
                | UpstreamError::Credentials { .. }
                | UpstreamError::Forbidden { .. } => {
                    connected(notes, config);
                    refused(notes, "login", &error);
                }
            }
            return;
        }
    };
    connected(notes, config);
    notes.ok("login", format!("{} is authenticated", settings.email));
    if claimed(notes, &client, &login, lender, settings.public_id.is_some()) {
        notes.doing("page");
        page(notes, config, &client, &login, lender).await;
        notes.doing("newest rows");
        newest_rows(notes, config, &client, &login).await;
    }
    clocks(notes, config, &login, &metrics);
}

/// Whether the name of upstream's host has an address.
async fn resolves(notes: &mut Notes, config: &Config) -> bool {
    let url = &config.upstream.base_url;
    let host = url.host_str().unwrap_or_default();
    let variables = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];
    let is_proxied = variables.into_iter().any(|name| std::env::var_os(name).is_some());
    if (config.upstream.proxy.is_some() || is_proxied) && !is_loopback(url) {
        notes.ok("name", format!("{host} is resolved by the proxy"));
        return true;
    }
    // An address in brackets is one of IPv6.
    let name = host.trim_start_matches('[').trim_end_matches(']');
    let found = tokio::net::lookup_host((name, url.port_or_known_default().unwrap_or(443))).await;
    match found.map(|mut addresses| addresses.next()) {
        Ok(Some(_)) => {
            notes.ok("name", format!("{host} has an address"));
            return true;
        }
        Ok(None) => notes.error(
            NO_ANSWER.exit(),
            NO_ANSWER,
            "name",
            format!("{host} has no address"),
            "an address",
            AWAY,
        ),
        Err(error) => {
            let found = format!("{host} does not resolve: {error}");
            notes.error(NO_ANSWER.exit(), NO_ANSWER, "name", found, "an address", AWAY);
        }
    }
    false
}

/// Whoever answers over HTTP was reached.
fn connected(notes: &mut Notes, config: &Config) {
    let found = match config.upstream.base_url.scheme() {
        "https" => "TLS, the certificate is trusted",
        _ => "without TLS, to this machine",
    };
    notes.ok("connection", found);
}

fn refused(notes: &mut Notes, what: &str, error: &UpstreamError) {
    let wanted = match error {
        UpstreamError::Network { .. } => "an answer",
        UpstreamError::NoEnvelope { .. } | UpstreamError::NotUtf8 { .. } => "an answer of the Exports API's",
        UpstreamError::Status {
            status: 404,
            is_upstreams: true,
            ..
        } => "the dataset D02",
        UpstreamError::Redirect { .. } => "an answer of the host that upstream.base_url names",
        UpstreamError::ErrorIn200 { .. } => "a page",
        UpstreamError::Status { .. } => "status 200",
        UpstreamError::TooLarge { .. } => "a page of no more bytes than that",
        UpstreamError::Credentials { .. } => "credentials that upstream accepts",
        UpstreamError::Secret { .. } => "a password",
        UpstreamError::Forbidden { .. } | UpstreamError::OtherLender { .. } => {
            "the same lender in login, token and public_id"
        }
    };
    notes.failure(&Failure::of(error), what, wanted);
}

/// Whether the token is for the lender that the login answered: with another one every page is refused.
fn claimed(notes: &mut Notes, client: &Client, login: &Login, lender: &str, is_given: bool) -> bool {
    let public_id = &login.lender_public_id;
    match client.token_lender() {
        Some(claim) if claim == *public_id => {
            let given = if is_given {
                format!("login, token and lenders.{lender}.public_id")
            } else {
                "login and token".to_owned()
            };
            notes.ok("lender", format!("{given} say {public_id}"));
            true
        }
        Some(claim) => {
            let found = format!("the login answered lender {public_id}, its token is for lender {claim}");
            let advice = "check lenders.*.subdomain; if it is right, ask the vendor";
            notes.error(
                OTHER_TOKEN.exit(),
                OTHER_TOKEN,
                "lender",
                found,
                "one lender in both",
                advice,
            );
            false
        }
        None => {
            let found = format!("the login says {public_id}, its token does not say whose it is");
            let advice = "nothing, as long as the page below is answered";
            notes.warning("lender", found, "a `lenderId` in the token", advice);
            true
        }
    }
}

/// Asks for one page, as a first snapshot would, and for the same one again.
async fn page(notes: &mut Notes, config: &Config, client: &Client, login: &Login, lender: &str) {
    let start_from = config.lenders[lender].start_from;
    let since = start_from.map_or(Timestamp(0), Timestamp::from);
    let until = login.clock;
    let asked = PageRequest {
        since: Some(since),
        until: Some(until),
        cursor: None,
        limit: config.upstream.page_size,
        include_total: false,
    };
    let answer = match client.page_once(&asked).await {
        Ok(answer) => answer,
        Err(error) => return refused(notes, "page", &error),
    };
    let body = match answer.page() {
        Ok(body) => body,
        Err(error) => return refused(notes, "page", &error),
    };
    let (rules, id) = (config.rules(), &answer.request_id);
    let look = Look::at(&body.rows, since, until, &login.lender_public_id, &rules);
    let rows = match look.row_count {
        1 => "1 row".to_owned(),
        count => format!("{count} rows"),
    };
    match (body.rows.is_empty(), body.are_too_many, &body.next_cursor) {
        (_, true, _) => {
            let found = format!("more than {rows}{id}");
            notes.error(
                Exit::Failed,
                DISCARDED,
                "page",
                found,
                "no more than a page can have",
                TELL,
            );
        }
        (true, _, Some(_)) => {
            let found = format!("no rows, but more are said to follow{id}");
            notes.warning("page", found, "rows, or a null `nextCursor`", TELL);
        }
        (true, _, None) => {
            let advice = "nothing, if there are no accounts yet; else check lenders.*.start_from, and ask the vendor";
            notes.warning("page", "no rows", "accounts", advice);
        }
        (false, _, Some(_)) => notes.ok("page", format!("{rows}, more follow")),
        (false, _, None) => notes.ok("page", format!("{rows}, which are all")),
    }
    if (body.since, body.until) == (asked.since, asked.until) {
        notes.ok("bounds", "answered as they were asked for");
    } else {
        let shown = |at: Option<Timestamp>| at.map_or("null".to_owned(), |at| at.to_string());
        let found = format!("since {}, until {}{id}", shown(body.since), shown(body.until));
        let wanted = format!("since {since}, until {until}, as asked for");
        notes.error(Exit::Failed, DISCARDED, "bounds", found, wanted, TELL);
    }
    if look.row_count == 0 {
        return;
    }
    rows_of(notes, config, &look, &id.to_string());
    notes.doing("second reading");
    tokio::time::sleep(BETWEEN_READINGS).await;
    let second = match client.page(&asked).await {
        Ok(answer) => answer,
        Err(error) => return refused(notes, "second reading", &error),
    };
    match second.page() {
        Ok(second) => read_again(notes, &Again::of(&body.rows, &second.rows, &rules)),
        Err(error) => refused(notes, "second reading", &error),
    }
}

/// Whether rows are the same when they are read a second time.
fn read_again(notes: &mut Notes, again: &Again) {
    let Again {
        row_count,
        differing_count,
        members,
    } = again;
    if *differing_count == 0 {
        notes.ok("second reading", "content is the same where `updated_at` is");
        return;
    }
    let found = format!(
        "content differs under the same `updated_at` in {differing_count} of {row_count} rows: {}",
        listed(members)
    );
    let advice = "ask the vendor; a member that differs at each reading is no content: name it in content.ignore, or every \
                  poll and sweep writes these rows again";
    notes.warning("second reading", found, "the same content at each reading", advice);
}

/// What the rows of the page are like.
fn rows_of(notes: &mut Notes, config: &Config, look: &Look, request_id: &str) {
    let of = |count: u64| format!("{count} of {} rows", look.row_count);
    match (look.disorder_count, look.outside_count) {
        (0, 0) => notes.ok("order", "`updated_at` never goes back, and lies within the bounds"),
        (0, outside) => {
            let found = format!("{} lie outside of what was asked for{request_id}", of(outside));
            notes.error(Exit::Failed, DISCARDED, "order", found, "rows within the bounds", TELL);
        }
        (disorder, _) => {
            let found = format!("{} are older than the one before{request_id}", of(disorder));
            let wanted = "rows in the order of `updated_at`";
            notes.error(Exit::Failed, DISCARDED, "order", found, wanted, TELL);
        }
    }
    let found = match look.tied_count {
        0 => "no two rows have the same `updated_at`".to_owned(),
        tied => format!(
            "{} share their `updated_at` with another one, up to {} at one time",
            of(tied),
            look.largest_tie
        ),
    };
    notes.ok("equal times", found);
    dead_letters(notes, config, look);
    match look.tolerated_count {
        0 => {}
        count => {
            let found = format!("{count} are whole numbers only within errors.amount_tolerance");
            notes.warning("amounts", found, "whole numbers of minor units", TELL);
        }
    }
    let kept = "nothing has to be done; if there are many, tell the vendor";
    for (what, fine, counts, odd, wanted, advice) in [
        (
            "dates",
            "every date is a day in DD/MM/YYYY",
            &look.unreal_dates,
            "no day in DD/MM/YYYY, kept as text",
            "days in DD/MM/YYYY",
            kept,
        ),
        (
            "codes",
            "every `status` and `loan_type` has a label",
            &look.unmapped_codes,
            "numbers instead of labels, kept as they are",
            "labels",
            "tell whoever reads `accounts`, and ask the vendor what the codes mean",
        ),
        (
            "values",
            "every value fits its field",
            &look.invalid,
            "values that do not fit, null in the account",
            "values that fit their fields",
            TELL,
        ),
        (
            "members",
            "none that D02 is not known to have",
            &look.unknown,
            "not known of D02, kept in `extra` as far as avro.extra lets them pass",
            "those of D02",
            "see CHANGELOG.md for a newer version that has a field for them; avro.extra leaves them out",
        ),
    ] {
        if counts.is_empty() {
            notes.ok(what, fine);
        } else {
            notes.warning(what, format!("{odd}: {}", listed(counts)), wanted, advice);
        }
    }
}

/// Rows that cannot be accounts, and whether that is more than `[errors]` allows.
fn dead_letters(notes: &mut Notes, config: &Config, look: &Look) {
    let dead = look.dead_count();
    if look.inexact_amounts.is_empty() {
        notes.ok("amounts", "whole numbers of minor units");
    }
    let (errors, stops) = (
        &config.errors,
        "`run` stops this lender: let the vendor mend the rows, or loosen it",
    );
    let (stop, limit) = match (errors.tolerance, errors.max_dead_letters_per_hour) {
        (Tolerance::None, _) => (
            Some(DeadLetterStop::FIRST),
            "errors.tolerance = \"none\" allows no dead letter",
        ),
        (Tolerance::All, Some(most)) => (
            (dead > most).then_some(DeadLetterStop::TOO_MANY),
            "more than errors.max_dead_letters_per_hour allows",
        ),
        (Tolerance::All, None) => (None, ""),
    };
    let kinds = [
        ("amounts", "no exact whole number of minor units", &look.inexact_amounts),
        ("rows", "rows that cannot be accounts", &look.rejected),
    ];
    for (what, odd, counts) in kinds.into_iter().filter(|(_, _, counts)| !counts.is_empty()) {
        let found = format!("{odd}, which makes dead letters: {}", listed(counts));
        if let Some(code) = stop {
            notes.error(
                code.exit(),
                code,
                what,
                format!("{found}; {limit}"),
                "rows that are accounts",
                stops,
            );
        } else {
            let advice = "tell the vendor; errors.amount_tolerance and the table of dead letters in docs/operations/runbooks.md \
                          say what else can be done";
            notes.warning(what, found, "rows that are accounts", advice);
        }
    }
}

/// Whether rows are dated after the clock of their answer: then that one is behind, or the one that dates rows is ahead.
async fn newest_rows(notes: &mut Notes, config: &Config, client: &Client, login: &Login) {
    let asked = PageRequest {
        since: Some(login.clock),
        until: None,
        cursor: None,
        limit: config.upstream.page_size,
        include_total: false,
    };
    // What is wrong with upstream or its pages was said of the page before.
    let Ok(answer) = client.page(&asked).await else { return };
    let Ok(body) = answer.page() else { return };
    let (public_id, rules, mut scratch) = (&login.lender_public_id, config.rules(), Scratch::default());
    let dated = body
        .rows
        .iter()
        .filter_map(|json| match read_row(json, public_id, &rules, &mut scratch) {
            Ok(row) => Some(row.account.updated_at),
            Err(rejected) => rejected.updated_at,
        });
    let latest = answer.latest;
    match dated.max().filter(|newest| *newest > latest.0 + AHEAD_TOLERANCE) {
        None => notes.ok("newest rows", "none is dated ahead of its answer"),
        Some(newest) => {
            let found = format!("dated up to {} s ahead of their answer", (newest - latest.0) / 1_000);
            let advice = "let NTP set the clock of this machine, or tell the vendor; such rows are written, and read again until \
                          their time has come";
            notes.warning(
                "newest rows",
                found,
                "rows that are dated before they are shown",
                advice,
            );
        }
    }
}

fn clocks(notes: &mut Notes, config: &Config, login: &Login, metrics: &LenderMetrics) {
    if login.date.is_none() {
        let advice = "nothing; ages are then shown, and bounds taken, by this machine's clock: let NTP set it";
        notes.warning("clock", "upstream's answers carry no Date", "the header Date", advice);
        return;
    }
    let seconds = metrics.upstream_clock_skew_seconds.get();
    let wanted = format!("no more than {NOTABLE_SKEW:.0} s apart");
    // What was measured is never nothing to the last bit.
    if seconds == 0.0 {
        let advice = "find out why upstream is so slow; until then, compare this machine's clock with NTP by hand";
        notes.warning(
            "clock",
            "no answer came quickly enough to compare the clocks",
            wanted,
            advice,
        );
        return;
    }
    if metrics.clocks_apart.get() > 0 {
        let found = format!(
            "upstream's Date and this machine's clock are {:.0} s apart",
            seconds.abs()
        );
        let late_window = humantime::format_duration(config.upstream.late_window);
        let wanted = format!("no more than upstream.late_window, {late_window}: `run` is not ready until then");
        let advice = "let NTP set the clock of this machine, or tell the vendor if it is theirs that is wrong";
        notes.error(Exit::Failed, TOO_FAR_APART, "clock", found, wanted, advice);
        return;
    }
    if seconds.abs() <= NOTABLE_SKEW {
        notes.ok("clock", format!("upstream's and this machine's are {wanted}"));
        return;
    }
    let side = if seconds > 0.0 { "ahead of" } else { "behind" };
    let found = format!("upstream's is {:.0} s {side} this machine's", seconds.abs());
    let advice = "let NTP set the clock of this machine, or tell the vendor if it is theirs that is wrong";
    notes.warning("clock", found, wanted, advice);
}
