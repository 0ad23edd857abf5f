//! Does a request stay on this machine? Then no proxy may see it.

use std::net::IpAddr;

use reqwest::{ClientBuilder, Url};

/// Whether the host of `url` is this machine: `localhost`, 127.0.0.0/8, or `[::1]`.
pub(crate) fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_matches(['[', ']']).parse();
    host == "localhost" || address.is_ok_and(|ip: IpAddr| ip.is_loopback())
}

/// The client for `url` alone: to this machine it goes directly, whatever proxy the configuration or the environment names.
pub(crate) fn direct_to_loopback(builder: ClientBuilder, url: &Url) -> ClientBuilder {
    if is_loopback(url) { builder.no_proxy() } else { builder }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_told_from_others() {
        let is_here = |url: &str| is_loopback(&Url::parse(url).expect("a URL"));
        for url in [
            "http://localhost:8081",
            "https://LOCALHOST/base",
            "http://127.0.0.1",
            "http://127.9.8.7:1",
            "http://[::1]:1",
        ] {
            assert!(is_here(url), "{url}");
        }
        for url in [
            "https://localhost.example",
            "http://128.0.0.1",
            "http://0.0.0.0",
            "http://[::2]",
            "https://v3-api.cleargrid.ai",
        ] {
            assert!(!is_here(url), "{url}");
        }
    }
}
