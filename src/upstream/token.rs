//! How long is a token good? What a JWT says about itself; verifying it is upstream's work.

use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use tokio::time::Instant;

use crate::jwt::claims;
use crate::phase::Phase;
use crate::progress::Timestamp;

/// The share of its life after which a token is refreshed at the latest: of an hour, twelve minutes are left for tries that fail.
const SHARE: f64 = 0.8;

/// Between two early refreshes, however short the lives: no storm of refreshes where the answer to one is due at once.
pub(super) const MIN_PAUSE: Duration = Duration::from_secs(1);

/// A token with the times that follow from its claims, by the monotonic clock: a local clock that is wrong or set changes
/// nothing. Without times it is used until it is refused.
pub(super) struct Token {
    pub secret: SecretString,
    due_at: Option<Instant>,
    over_at: Option<Instant>,
}

#[derive(Deserialize)]
struct TimeClaims {
    exp: f64,
    iat: Option<f64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LenderClaim {
    lender_id: String,
}

impl Token {
    /// `clock`: upstream's when it was made, for a token that does not say itself.
    pub(super) fn new(secret: SecretString, clock: Timestamp, received_at: Instant, phase: Phase) -> Self {
        let life = life(secret.expose_secret(), clock);
        let after = |wait: Duration| received_at.checked_add(wait);
        let over_at = life.and_then(after);
        // What is over in time can be added to.
        let due_at = life.filter(|_| over_at.is_some()).and_then(|life| {
            let next = phase.next(received_at, life.mul_f64(SHARE));
            Some(next.max(after(MIN_PAUSE)?))
        });
        Self {
            secret,
            due_at,
            over_at,
        }
    }

    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.due_at.is_some_and(|at| at <= now)
    }

    /// Whether upstream will refuse it.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        self.over_at.is_some_and(|at| at <= now)
    }

    /// Its `lenderId`.
    pub(super) fn lender(&self) -> Option<String> {
        claims(self.secret.expose_secret()).map(|LenderClaim { lender_id }| lender_id)
    }
}

/// `exp` less `iat`, else less `clock`; `None` where there is no such time, or none is left: then a clock is wrong.
fn life(jwt: &str, clock: Timestamp) -> Option<Duration> {
    let TimeClaims { exp, iat } = claims(jwt)?;
    let begun = iat.unwrap_or(clock.0 as f64 / 1_000.0);
    Duration::try_from_secs_f64(exp - begun)
        .ok()
        .filter(|life| !life.is_zero())
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::prelude::BASE64_URL_SAFE_NO_PAD;

    use super::*;

    const CLOCK: Timestamp = Timestamp(1_780_000_000_000);

    fn jwt(claims: &str) -> SecretString {
        SecretString::from(format!("h.{}.s", BASE64_URL_SAFE_NO_PAD.encode(claims)))
    }

    /// When it is due and when it is over, in seconds after its receipt.
    fn times(claims: &str) -> (Option<f64>, Option<f64>) {
        let received_at = Instant::now();
        let token = Token::new(jwt(claims), CLOCK, received_at, Phase::alone());
        let after = |at: Option<Instant>| at.map(|at| (at - received_at).as_secs_f64());
        (after(token.due_at), after(token.over_at))
    }

    #[test]
    fn a_token_is_due_after_four_fifths_of_its_life() {
        for (claims, due, over) in [
            (r#"{"exp":1780003600}"#, 2_880.0, 3_600.0),
            (r#"{"exp":1780000000.5}"#, 1.0, 0.5),
            // Its own word counts more than the clock of the answer.
            (r#"{"exp":2000,"iat":1000}"#, 800.0, 1_000.0),
            (r#"{"exp":1780003600,"iat":null,"lenderId":"l"}"#, 2_880.0, 3_600.0),
        ] {
            assert_eq!(times(claims), (Some(due), Some(over)), "{claims}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn tokens_that_came_together_are_refreshed_apart_and_none_later_than_after_four_fifths_of_its_life() {
        let received_at = Instant::now();
        let due = (0..50).map(|place| {
            let phase = Phase::of(received_at, place, 50);
            let token = Token::new(jwt(r#"{"exp":1780003600}"#), CLOCK, received_at, phase);
            (token.due_at.expect("a life") - received_at).as_secs()
        });
        let mut due: Vec<u64> = due.collect();
        due.sort_unstable();
        assert!(due[0] >= 720 && due[49] == 2_880, "{due:?}");
        let most = due.chunk_by(|one, other| other - one < 25).map(<[u64]>::len).max();
        assert!(most <= Some(2), "{due:?}");
    }

    #[test]
    fn a_token_without_a_life_that_can_be_is_used_until_it_is_refused() {
        for claims in [
            "",
            "[]",
            r#"{"iat":1}"#,
            r#"{"exp":"soon"}"#,
            r#"{"exp":1780000000}"#,
            r#"{"exp":1e300}"#,
            r#"{"exp":1000,"iat":2000}"#,
        ] {
            assert_eq!(times(claims), (None, None), "{claims}");
        }
        for text in ["", "opaque", "h.x.s"] {
            let token = Token::new(SecretString::from(text), CLOCK, Instant::now(), Phase::alone());
            assert!(!token.is_due(Instant::now() + Duration::from_secs(1 << 30)), "{text}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn time_goes_by_the_monotonic_clock() {
        let token = Token::new(jwt(r#"{"exp":1780000010}"#), CLOCK, Instant::now(), Phase::alone());
        let mut states = Vec::new();
        for _ in 0..3 {
            states.push((token.is_due(Instant::now()), token.is_over(Instant::now())));
            tokio::time::advance(Duration::from_secs(8)).await;
        }
        assert_eq!(states, [(false, false), (true, false), (true, true)]);
    }

    #[test]
    fn the_lender_claim_is_read_and_rubbish_is_not() {
        let lender = |secret| Token::new(secret, CLOCK, Instant::now(), Phase::alone()).lender();
        assert_eq!(lender(jwt(r#"{"lenderId":"5f0c","exp":1}"#)).as_deref(), Some("5f0c"));
        assert_eq!(lender(SecretString::from("h.x.s")), None);
        assert_eq!(lender(SecretString::from("")), None);
    }
}
