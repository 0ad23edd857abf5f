//! What does the export endpoint answer?
//!
//! The order of checks: token (401), lender (403), dataset (404), bounds (500), the page limit (504), the fault script,
//! cursor (500), page. So a fault meets only a request that would have been answered.

use bytes::Bytes;
use hyper::StatusCode;

use super::answer::Answer;
use super::clock::iso;
use super::cursor::Cursor;
use super::fault::{Effect, Endpoint};
use super::lender::Lender;
use super::options::Total;
use super::query::Query;
use super::shared::Shared;
use super::store::{Filter, Page};
use super::tokens::{Claims, TokenError, Use};

/// An export request as it came in.
pub(super) struct Request<'a> {
    /// The `Authorization` header.
    pub(super) authorization: Option<&'a str>,
    pub(super) lender_public_id: &'a str,
    pub(super) section: &'a str,
    pub(super) dataset: &'a str,
    pub(super) query: &'a str,
    pub(super) id: &'a str,
}

/// Answers an export request.
pub(super) fn answer(shared: &Shared, request: &Request<'_>) -> Answer {
    let mut effect = None;
    let mut answer = export(shared, request, &mut effect)
        .unwrap_or_else(|(status, message)| Answer::error(status, &message, request.id));
    answer.effect = effect;
    answer
}

type Refusal = (StatusCode, String);

fn timed_out() -> Refusal {
    (StatusCode::GATEWAY_TIMEOUT, "Gateway Timeout".to_owned())
}

/// Leaves what the request met in `met`, also where it is refused.
fn export(shared: &Shared, request: &Request<'_>, met: &mut Option<Effect>) -> Result<Answer, Refusal> {
    let unauthorized = |message: &str| (StatusCode::UNAUTHORIZED, message.to_owned());
    let (index, lender) = authenticated(shared, request.authorization).map_err(|message| unauthorized(&message))?;
    if lender.public_id != request.lender_public_id {
        let message = "You are not allowed to access this lender".to_owned();
        return Err((StatusCode::FORBIDDEN, message));
    }
    if (request.section, request.dataset) != ("S1", "D02") {
        let message = format!("Unknown dataset {}/{}", request.section, request.dataset);
        return Err((StatusCode::NOT_FOUND, message));
    }
    let failed = |message: String| (StatusCode::INTERNAL_SERVER_ERROR, message);
    let query = Query::parse(request.query).map_err(|error| failed(error.to_string()))?;
    if shared.control().page_limit.is_some_and(|most| query.limit > most) {
        return Err(timed_out());
    }
    let scan_limit = shared.control().scan_limit;
    if scan_limit.is_some_and(|most| lender.read().store.count(&query.filter) > most) {
        return Err(timed_out());
    }

    // Who only asks how much there is reads nothing, so no fault of a script is meant for it.
    if !query.include_total {
        let (cursor, until) = (query.cursor.is_some(), query.filter.until.is_some());
        *met = shared.next_effect(Endpoint::Export, &lender.subdomain, cursor, until);
    }
    let effect = met.as_ref();
    match effect {
        Some(Effect::TokenRevoked) => {
            lender.access().token_generation += 1;
            return Err(unauthorized(&TokenError::Revoked.to_string()));
        }
        Some(Effect::AllCursorsDead) => shared.control().cursor_epoch += 1,
        _ => {}
    }
    let control = shared.control();
    let (epoch, total, poisoned) = (control.cursor_epoch, control.total, control.poisoned.clone());
    let volatile_members = control.volatile_members.clone();
    drop(control);
    let sent = query
        .cursor
        .as_deref()
        .map(|text| Cursor::open(text, index, &query.filter, epoch))
        .transpose()
        .map_err(|error| failed(error.to_string()))?;

    if let Some(Effect::Vanish { count }) = effect {
        let after = sent.as_ref().and_then(Cursor::after);
        shared.vanish(index, &query.filter, after.as_ref(), query.limit, *count);
    }
    let at = Place {
        lender: index,
        epoch,
        sent,
    };
    let total = query.include_total.then_some(total);
    // The same in all rows of an answer, as a time of exporting would be.
    let number = if volatile_members.is_empty() {
        0
    } else {
        shared.next_number()
    };
    let volatile: String = volatile_members
        .iter()
        .map(|name| format!(r#","{name}":{number}"#))
        .collect();
    let answer = page(lender, &query, &at, total, effect, &volatile);
    let holds = |id: String| answer.body.windows(id.len()).any(|bytes| bytes == id.as_bytes());
    if poisoned.is_some_and(holds) {
        return Err(failed("Internal Server Error".to_owned()));
    }
    Ok(match effect {
        Some(effect) => answer.under(effect, request.id),
        None => answer,
    })
}

fn authenticated<'a>(shared: &'a Shared, authorization: Option<&str>) -> Result<(usize, &'a Lender), String> {
    let token = authorization
        .and_then(|header| header.strip_prefix("Bearer "))
        .ok_or("Authorization token is missing")?;
    let claims =
        Claims::verify(token, Use::Access, shared.secret, shared.clock.now_ms()).map_err(|error| error.to_string())?;
    let (index, lender) = shared
        .lenders
        .iter()
        .enumerate()
        .find(|(_, lender)| lender.public_id == claims.lender_id)
        .ok_or_else(|| TokenError::Invalid.to_string())?;
    let access = lender.access();
    if claims.generation != access.token_generation {
        return Err(TokenError::Revoked.to_string());
    }
    if !access.active {
        return Err("Lender is not active".to_owned());
    }
    drop(access);
    Ok((index, lender))
}

/// Where the walk stands, and what its next cursor is bound to.
struct Place {
    lender: usize,
    epoch: u64,
    sent: Option<Cursor>,
}

/// `volatile`: members for every row, as they stand behind others.
fn page(
    lender: &Lender,
    query: &Query,
    at: &Place,
    total: Option<Total>,
    effect: Option<&Effect>,
    volatile: &str,
) -> Answer {
    let filter = &query.filter;
    let after = at.sent.as_ref().and_then(Cursor::after);
    let data = lender.read();
    let store = match effect {
        Some(Effect::OldCopy) => data.old(),
        _ => &data.store,
    };
    let mut page = store.page(filter, after.as_ref(), query.limit);
    let cursor = |key: Option<&_>| Cursor::new(at.lender, filter, at.epoch, key);
    let mut next = page.next.as_ref().map(|key| cursor(Some(key)).encode());
    match effect {
        Some(Effect::DuplicatePage) => {
            if let Some(last) = &after {
                let before = data.store.page_up_to(filter, last, query.limit);
                // All of its rows may have moved meanwhile; an empty page would be another fault.
                if !before.is_empty() {
                    page.rows = before;
                }
            }
        }
        Some(Effect::PageOutOfOrder) => page.rows.reverse(),
        Some(Effect::LongCursor { bytes }) => {
            let long = |key| cursor(Some(key)).padded(*bytes).encode();
            next = page.next.as_ref().map(long);
        }
        Some(Effect::CursorAnswersItself) => next.clone_from(&query.cursor),
        Some(Effect::EmptyPageWithCursor) => {
            page.rows.clear();
            let stay = at.sent.clone().unwrap_or_else(|| cursor(None));
            next = Some(stay.renamed().encode());
        }
        _ => {}
    }
    let exact = |count: usize| format!(r#","total":{count},"totalExact":true,"totalNote":null"#);
    let total = total.map(|total| match total {
        Total::Exact => exact(data.store.count(filter)),
        Total::Off(by) => exact(data.store.count(filter).saturating_add_signed(by as isize)),
        Total::Capped(most) => match data.store.count(filter) {
            count if count > most => {
                format!(r#","total":{most},"totalExact":false,"totalNote":"capped""#)
            }
            count => exact(count),
        },
        Total::Timeout => r#","total":null,"totalExact":false,"totalNote":"timeout""#.to_owned(),
    });
    let mut echoed = *filter;
    if effect == Some(&Effect::BoundsNotEchoed) {
        echoed.since = Some(filter.since.unwrap_or_default() + 1_000);
        echoed.until = filter.until.map(|until| until + 1_000);
    }
    let mut answer = Answer::json(
        StatusCode::OK,
        envelope(&page, volatile, next.as_deref(), total.as_deref(), &echoed),
    );
    answer.row_count = page.rows.len();
    answer
}

/// Concatenates the stored texts: the rows are not looked at.
fn envelope(page: &Page<'_>, volatile: &str, next: Option<&str>, total: Option<&str>, echoed: &Filter) -> Bytes {
    let text = |value: Option<String>| value.map_or("null".to_owned(), |text| format!("\"{text}\""));
    let tail = format!(
        r#"],"pagination":{{"nextCursor":{}{}}},"meta":{{"since":{},"until":{},"tenantPathKind":"direct"}}}},"errors":[]}}"#,
        text(next.map(str::to_owned)),
        total.unwrap_or_default(),
        text(echoed.since.map(iso)),
        text(echoed.until.map(iso)),
    );
    let head = r#"{"code":200,"message":"Export fetched successfully","body":{"rows":["#;
    let rows: usize = page.rows.iter().map(|row| row.len() + volatile.len() + 1).sum();
    let mut body = Vec::with_capacity(head.len() + rows + tail.len());
    body.extend_from_slice(head.as_bytes());
    for (at, row) in page.rows.iter().enumerate() {
        if at > 0 {
            body.push(b',');
        }
        match row.strip_suffix('}').filter(|_| !volatile.is_empty()) {
            Some(members) => {
                body.extend_from_slice(members.as_bytes());
                body.extend_from_slice(volatile.as_bytes());
                body.push(b'}');
            }
            None => body.extend_from_slice(row.as_bytes()),
        }
    }
    body.extend_from_slice(tail.as_bytes());
    body.into()
}
