//! Who may have a token?

use hyper::StatusCode;
use serde::Deserialize;

use super::answer::Answer;
use super::clock::millis;
use super::fault::Endpoint;
use super::lender::Lender;
use super::shared::Shared;
use super::tokens::{Claims, Use};

#[derive(Deserialize)]
struct Login {
    email: String,
    password: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Refresh {
    refresh_token: String,
}

/// Answers a login or a refresh with this body.
pub(super) fn answer(shared: &Shared, endpoint: Endpoint, subdomain: &str, body: &[u8], request_id: &str) -> Answer {
    let result = match endpoint {
        Endpoint::Refresh => refresh(shared, subdomain, body),
        Endpoint::Login | Endpoint::Export => login(shared, subdomain, body),
    };
    let answer = result.unwrap_or_else(|(status, message)| Answer::error(status, message, request_id));
    let Some(effect) = shared.next_effect(endpoint, subdomain, false, false) else {
        return answer;
    };
    let mut answer = answer.under(&effect, request_id);
    answer.effect = Some(effect);
    answer
}

type Refusal = (StatusCode, &'static str);

fn login(shared: &Shared, subdomain: &str, body: &[u8]) -> Result<Answer, Refusal> {
    let login: Login = read(body)?;
    let lender = find(shared, subdomain)?;
    let access = lender.access();
    if login.email != lender.email || login.password != access.password {
        return Err((StatusCode::UNAUTHORIZED, "Invalid email or password"));
    }
    if !access.active {
        return Err((StatusCode::UNAUTHORIZED, "Lender is not active"));
    }
    let (tokens, refreshes) = (access.token_generation, access.refresh_generation);
    drop(access);
    let answer = serde_json::json!({
        "lenderPublicId": lender.public_id,
        "token": token(shared, lender, Use::Access, tokens),
        "refreshToken": token(shared, lender, Use::Refresh, refreshes),
    });
    Ok(Answer::json(StatusCode::OK, answer.to_string()))
}

fn refresh(shared: &Shared, subdomain: &str, body: &[u8]) -> Result<Answer, Refusal> {
    let refresh: Refresh = read(body)?;
    let lender = find(shared, subdomain)?;
    let no_longer_valid = (StatusCode::UNAUTHORIZED, "Refresh token is no longer valid");
    let now_ms = shared.clock.now_ms();
    let claims =
        Claims::verify(&refresh.refresh_token, Use::Refresh, shared.secret, now_ms).map_err(|_| no_longer_valid)?;
    let access = lender.access();
    let own = claims.lender_id == lender.public_id;
    if !own || !access.active || claims.generation != access.refresh_generation {
        return Err(no_longer_valid);
    }
    let generation = access.token_generation;
    drop(access);
    let answer = serde_json::json!({ "token": token(shared, lender, Use::Access, generation) });
    Ok(Answer::json(StatusCode::OK, answer.to_string()))
}

fn read<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Refusal> {
    serde_json::from_slice(body).map_err(|_| (StatusCode::BAD_REQUEST, "Bad request"))
}

fn find<'a>(shared: &'a Shared, subdomain: &str) -> Result<&'a Lender, Refusal> {
    shared
        .lenders
        .iter()
        .find(|lender| lender.subdomain == subdomain)
        .ok_or((StatusCode::NOT_FOUND, "Lender not found"))
}

fn token(shared: &Shared, lender: &Lender, token_use: Use, generation: u64) -> String {
    let lifetime = match token_use {
        Use::Access => shared.token_lifetime,
        Use::Refresh => shared.refresh_token_lifetime,
    };
    let exp_ms = shared.clock.now_ms().saturating_add(millis(lifetime));
    Claims::new(&lender.public_id, token_use, exp_ms, generation, shared.next_number()).sign(shared.secret)
}
