//! What is asked for beyond health and metrics, and who may ask?

use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{HOST, HeaderMap, ORIGIN};
use hyper::{Method, Response, Uri};

/// A request beyond health and metrics.
#[derive(Debug)]
pub(crate) struct ApiRequest {
    pub method: Method,
    pub path: String,
    pub query: String,
}

/// Whoever answers those.
pub(crate) trait Api: Send + Sync {
    fn answer<'a>(
        &'a self,
        request: &'a ApiRequest,
    ) -> Pin<Box<dyn Future<Output = Response<Full<Bytes>>> + Send + 'a>>;
}

/// Why a request is not answered, whoever sends it: a page in somebody's browser may have made it.
pub(super) fn refused(headers: &HeaderMap, is_loopback: bool) -> Option<&'static str> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let Some(host) = text(HOST) else {
        return Some("a request says in Host whom it means");
    };
    // A name that anybody can point to this machine: the page behind it would be asking.
    if is_loopback && !is_loopback_name(host) {
        return Some("Host is not this machine's own name; ask for localhost or 127.0.0.1");
    }
    let origin = headers
        .get(ORIGIN)?
        .to_str()
        .ok()
        .and_then(|origin| origin.parse::<Uri>().ok());
    let is_own = origin.is_some_and(|origin| origin.authority().is_some_and(|authority| authority.as_str() == host));
    (!is_own).then_some("Origin is another site's")
}

fn is_loopback_name(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|digit| digit.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || name.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    fn headers(host: Option<&'static str>, origin: Option<&'static str>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in [(HOST, host), (ORIGIN, origin)] {
            if let Some(value) = value {
                headers.insert(name, HeaderValue::from_static(value));
            }
        }
        headers
    }

    #[test]
    fn on_loopback_only_this_machines_own_names_are_answered() {
        for host in [
            "localhost",
            "LOCALHOST:8080",
            "127.0.0.1:8080",
            "127.1.2.3",
            "[::1]:8080",
            "[::1]",
        ] {
            assert_eq!(refused(&headers(Some(host), None), true), None, "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example:8080",
            "10.0.0.1",
            "",
            "127.0.0.1.evil.example",
        ] {
            assert!(refused(&headers(Some(host), None), true).is_some(), "{host}");
            assert_eq!(
                refused(&headers(Some(host), None), false),
                None,
                "behind a token: {host}"
            );
        }
        assert!(refused(&headers(None, None), false).is_some());
    }

    #[test]
    fn what_another_sites_page_asks_is_not_answered() {
        let host = Some("localhost:8080");
        assert_eq!(refused(&headers(host, Some("http://localhost:8080")), true), None);
        for origin in [
            "http://evil.example",
            "http://localhost:9090",
            "http://localhost",
            "null",
            "file://",
        ] {
            assert!(refused(&headers(host, Some(origin)), true).is_some(), "{origin}");
            assert!(refused(&headers(host, Some(origin)), false).is_some(), "{origin}");
        }
    }
}
