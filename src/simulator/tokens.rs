//! Whose token is this, and does it still count?
//!
//! Tokens are JWTs in form (three base64url parts, `lenderId` and `exp` among the claims). The signature is a keyed XXH3
//! hash: enough that a changed token is refused, no more.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use twox_hash::XxHash3_64;

/// Why a token is refused, in words a vendor would use.
#[derive(Debug, Error, PartialEq, Eq)]
pub(super) enum TokenError {
    #[error("Invalid token")]
    Invalid,
    #[error("Token expired")]
    Expired,
    #[error("Token revoked")]
    Revoked,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Use {
    Access,
    Refresh,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Claims {
    pub(super) lender_id: String,
    #[serde(rename = "use")]
    pub(super) token_use: Use,
    /// Seconds, rounded up.
    exp: i64,
    /// What is checked: tests use lifetimes below a second.
    exp_ms: i64,
    /// Tokens of an earlier generation are revoked.
    pub(super) generation: u64,
    /// Makes two tokens of the same moment differ.
    jti: u64,
}

impl Claims {
    pub(super) fn new(lender_id: &str, token_use: Use, exp_ms: i64, generation: u64, jti: u64) -> Self {
        Self {
            lender_id: lender_id.to_owned(),
            token_use,
            exp: exp_ms.saturating_add(999).div_euclid(1000),
            exp_ms,
            generation,
            jti,
        }
    }

    pub(super) fn sign(&self, secret: u64) -> String {
        let claims = serde_json::to_vec(self).expect("claims have only plain members");
        let signed = format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(br#"{"alg":"XXH3","typ":"JWT"}"#),
            URL_SAFE_NO_PAD.encode(claims)
        );
        format!("{signed}.{}", signature(&signed, secret))
    }

    /// The claims of a token with a true signature that has not expired.
    pub(super) fn verify(token: &str, token_use: Use, secret: u64, now_ms: i64) -> Result<Self, TokenError> {
        let claims = Self::read(token, secret)
            .filter(|claims| claims.token_use == token_use)
            .ok_or(TokenError::Invalid)?;
        if now_ms >= claims.exp_ms {
            return Err(TokenError::Expired);
        }
        Ok(claims)
    }

    fn read(token: &str, secret: u64) -> Option<Self> {
        let (signed, given) = token.rsplit_once('.')?;
        if signature(signed, secret) != given {
            return None;
        }
        let (_, claims) = signed.split_once('.')?;
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()
    }
}

fn signature(signed: &str, secret: u64) -> String {
    let hash = XxHash3_64::oneshot_with_seed(secret, signed.as_bytes());
    URL_SAFE_NO_PAD.encode(hash.to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_counts_until_it_expires_and_for_its_use_only() {
        let claims = Claims::new("id", Use::Access, 10_500, 3, 1);
        let token = claims.sign(42);
        assert_eq!(Claims::verify(&token, Use::Access, 42, 10_499), Ok(claims));
        let refused =
            |token_use, secret, now_ms| Claims::verify(&token, token_use, secret, now_ms).expect_err("a refused token");
        assert_eq!(refused(Use::Access, 42, 10_500), TokenError::Expired);
        assert_eq!(refused(Use::Refresh, 42, 0), TokenError::Invalid);
        assert_eq!(refused(Use::Access, 43, 0), TokenError::Invalid);
    }

    #[test]
    fn a_token_is_a_jwt_in_form() {
        let token = Claims::new("id", Use::Access, 10_500, 0, 1).sign(42);
        let parts: Vec<_> = token.split('.').collect();
        assert_eq!(parts.len(), 3);
        let claims = URL_SAFE_NO_PAD.decode(parts[1]).expect("base64url");
        let claims: serde_json::Value = serde_json::from_slice(&claims).expect("JSON");
        assert_eq!(claims["lenderId"], "id");
        assert_eq!(claims["exp"], 11);
    }
}
