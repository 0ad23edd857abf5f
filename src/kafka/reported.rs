//! What did librdkafka last report of its connections, and who refuses this client, or holds it back, by that? Pure.

use std::fmt;
use std::time::Duration;

use crate::exit::ErrorCode;

/// What each reason begins with why there is no bearer token.
pub(super) const NO_TOKEN: &str = "no token for Kafka";

/// The code of what a quota holds back.
const THROTTLED: ErrorCode = ErrorCode::K23;

/// What librdkafka last reported of its connections: the calls themselves often say no more than "timed out".
#[derive(Debug, Clone, Default)]
pub(crate) struct LastReported {
    pub reason: Option<String>,
    /// For so long the brokers did not read from this client: it had sent more than a quota grants.
    pub throttled: Option<Duration>,
}

/// Who refuses this client: nobody lets it in until that is mended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    Credentials,
    /// A side of TLS does not take the other's certificate.
    Tls,
    TokenRefused,
    NoToken,
}

impl LastReported {
    pub(crate) fn of(reason: String) -> Self {
        Self {
            reason: Some(reason),
            throttled: None,
        }
    }

    /// `None`: nobody does, as far as is known.
    pub(crate) fn refusal(&self) -> Option<Refusal> {
        let reason = self.reason.as_deref()?;
        // `sasl_ssl://host:9093/bootstrap: ` says only what was asked for.
        let said = match reason.split_once("://") {
            Some((_, rest)) => rest.split_once(": ").map_or(rest, |(_, said)| said),
            None => reason,
        };
        let said = said.to_lowercase();
        let has = |signs: &[&str]| signs.iter().any(|sign| said.contains(sign));
        let tls = [
            "ssl handshake",
            "certificate",
            "ssl transport",
            "ssl alert",
            "ssl error",
        ];
        if has(&[&NO_TOKEN.to_lowercase()]) {
            Some(if has(&["no answer from"]) {
                Refusal::NoToken
            } else {
                Refusal::TokenRefused
            })
        } else if has(&tls) {
            Some(Refusal::Tls)
        } else if has(&["authentication", "sasl"]) {
            Some(Refusal::Credentials)
        } else {
            None
        }
    }
}

impl LastReported {
    /// The code of who refuses, else `code`.
    pub(crate) fn code_or(&self, code: ErrorCode) -> ErrorCode {
        self.refusal().map_or(code, Refusal::code)
    }

    /// Of what was not written in time: the code of who refuses, of a quota that is known, else `code`.
    pub(crate) fn slow_code_or(&self, code: ErrorCode) -> ErrorCode {
        self.code_or(self.throttled.map_or(code, |_| THROTTLED))
    }

    /// What to do about that.
    pub(crate) fn slow_advice(&self) -> &'static str {
        self.advice_or(match self.throttled {
            Some(_) => "have the quota of this user or client.id raised (producer_byte_rate)",
            None => {
                "the brokers are slow or away, or a quota holds this client back: look at them, at the network, and at the \
                 quotas of this user and client.id"
            }
        })
    }

    /// What to do about who refuses, else `advice`.
    pub(crate) fn advice_or(&self, advice: &'static str) -> &'static str {
        self.refusal().map_or(advice, Refusal::advice)
    }
}

impl Refusal {
    pub(crate) fn code(self) -> ErrorCode {
        match self {
            Self::Credentials => ErrorCode::K05,
            Self::Tls => ErrorCode::K06,
            Self::TokenRefused => ErrorCode::K07,
            Self::NoToken => ErrorCode::K08,
        }
    }

    pub(crate) fn advice(self) -> &'static str {
        match self {
            Self::Credentials => {
                "correct user name, password and sasl.mechanism in kafka.properties, or have the brokers' owner change theirs; \
                 files of secrets are read again at the next try"
            }
            Self::Tls => "correct security.protocol and the ssl settings in kafka.properties (ssl.ca.location)",
            Self::TokenRefused => {
                "correct client.id, client.secret and scope of sasl.oauthbearer in kafka.properties, or ask the owner of the \
                 authorization server"
            }
            Self::NoToken => {
                "check that the authorization server is up, sasl.oauthbearer.token.endpoint.url, https.ca.location and a proxy"
            }
        }
    }
}

impl fmt::Display for LastReported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(reason) = &self.reason {
            write!(f, " (last reported: {reason})")?;
        }
        match self.throttled {
            Some(throttled) => {
                let throttled = humantime::format_duration(throttled);
                write!(
                    f,
                    " (a quota: the brokers read nothing from this client for up to {throttled} at a time)"
                )
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_does_not_let_it_in_is_told_from_who_is_away() {
        let refusal = |reason: &str| LastReported::of(reason.to_owned()).refusal();
        let broker = "sasl_ssl://broker:9093/bootstrap: ";
        for (reason, told) in [
            (
                "Connect to ipv4#10.0.0.1:9093 failed: Connection refused (after 0ms in state CONNECT)",
                None,
            ),
            ("Failed to resolve 'broker:9093': Name or service not known", None),
            (
                "SASL authentication error: Authentication failed (after 3ms in state AUTH_REQ)",
                Some(Refusal::Credentials),
            ),
            (
                "SSL handshake failed: error:0A000086:SSL routines::certificate verify failed",
                Some(Refusal::Tls),
            ),
        ] {
            assert_eq!(refusal(&format!("{broker}{reason}")), told, "{reason}");
        }
        let token = |why: &str| format!("Failed to acquire SASL OAUTHBEARER token: no token for Kafka: {why}");
        let away = refusal(&token("no answer from the authorization server: error sending request"));
        assert_eq!(away, Some(Refusal::NoToken));
        let refused = refusal(&token(
            "the authorization server answered 401 Unauthorized (invalid_client)",
        ));
        assert_eq!(refused, Some(Refusal::TokenRefused));
        assert_eq!(LastReported::default().refusal(), None);
    }

    #[test]
    fn a_quota_that_is_known_has_a_code_of_its_own_unless_the_client_is_refused() {
        let code = |reason: &str, throttled| {
            let reported = LastReported {
                reason: Some(reason.to_owned()),
                throttled,
            };
            (
                reported.slow_code_or(ErrorCode::K03),
                reported.slow_advice().contains("quota"),
            )
        };
        let throttled = Some(Duration::from_millis(2_500));
        assert_eq!(code("Connection refused", None), (ErrorCode::K03, true));
        assert_eq!(code("3 requests timed out", throttled), (ErrorCode::K23, true));
        assert_eq!(code("SASL authentication error", throttled), (ErrorCode::K05, false));
        let reported = LastReported {
            reason: None,
            throttled,
        };
        let text = " (a quota: the brokers read nothing from this client for up to 2s 500ms at a time)";
        assert_eq!(reported.to_string(), text);
    }
}
