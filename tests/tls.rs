//! Do upstream and the registry get in and out over TLS with a CA of their own, past a proxy, and with a token?

use d02_source::simulator::{Authority, Options};

use crate::support::http_proxy::HttpProxy;
use crate::support::judge;
use crate::support::registry::Door;
use crate::support::shown::shown;
use crate::support::world::{World, options};

/// An upstream over https, with a CA that the configuration names, under a name that the proxy alone knows.
fn https_world(directory: &tempfile::TempDir) -> World {
    World::with(Options {
        tls: Some(directory.path().to_owned()),
        tls_names: vec!["upstream.test".to_owned()],
        ..options(&[1_500])
    })
}

#[test]
fn upstream_is_read_through_a_proxy_that_asks_for_a_password() {
    let directory = tempfile::tempdir().expect("a directory");
    let world = https_world(&directory);
    let proxy = HttpProxy::start("svc", "planted-proxy");
    let url = proxy.url("svc", "planted-proxy");
    let environment = [("D02__UPSTREAM__PROXY", url.as_str())];
    let found = shown(&world, &["check"], &environment).expect(0);
    assert!(
        found
            .out
            .contains("✓ upstream lender-1, connection: TLS, the certificate is trusted"),
        "{}",
        found.out
    );
    let mut source = world.command(&["run", "--until-caught-up"], &environment);
    source.expect_exit(0);
    judge::everything(&world.judged_accounts(), &world.simulator.rows(0));
    // Nothing else goes that way.
    let upstream = world.simulator.base_url().trim_start_matches("https://").to_owned();
    let tunnels = proxy.tunnels();
    assert!(
        !tunnels.is_empty() && tunnels.iter().all(|target| *target == upstream),
        "{tunnels:?}"
    );

    let url = proxy.url("svc", "planted-wrong");
    let refused = shown(&world, &["check"], &[("D02__UPSTREAM__PROXY", &url)]).expect(1);
    assert!(
        refused.out.contains("✗ upstream lender-1, connection: ") && refused.out.contains("proxy"),
        "{}",
        refused.out
    );
    shown(&world, &["config", "show"], &environment).expect(0);
}

#[test]
fn a_ca_file_of_the_registry_that_is_replaced_is_read_again_when_a_handshake_fails() {
    let world = World::new(&[300]);
    let [old, new] = ["old", "new"].map(|name| Authority::new(name).expect("an authority"));
    let certified = new.server([127, 0, 0, 1].into(), &[]).expect("a certificate");
    let door = Door::guarded(&certified, "Bearer planted-token");
    let ca_file = world.path("registry-ca.pem");
    let write = |authority: &Authority| std::fs::write(&ca_file, authority.pem()).expect("written");
    let (url, path) = (door.url(), ca_file.display().to_string());
    let environment = [
        ("D02__SCHEMA_REGISTRY__URL", url.as_str()),
        ("D02__SCHEMA_REGISTRY__CA_FILE", path.as_str()),
        ("D02__SCHEMA_REGISTRY__TOKEN", "planted-token"),
    ];
    write(&old);
    let mut source = world.command(&["run", "--until-caught-up"], &environment);
    source.wait_for_line("certificate verify failed");
    // One that is being replaced may be gone for a moment.
    std::fs::remove_file(&ca_file).expect("removed");
    source.wait_for_line("the registry is asked by the certificates that were read before");
    assert!(door.heard().is_empty(), "{:?}", door.heard());
    write(&new);
    source.expect_exit(0);
    judge::everything(&world.judged_accounts(), &world.simulator.rows(0));
}

#[test]
fn the_registry_is_asked_over_tls_with_a_token_that_is_read_again() {
    let world = World::new(&[300]);
    let authority = Authority::new("registry").expect("an authority");
    let certified = authority.server([127, 0, 0, 1].into(), &[]).expect("a certificate");
    let door = Door::guarded(&certified, "Bearer planted-first");
    let (ca_file, token_file) = (world.path("registry-ca.pem"), world.path("registry-token"));
    std::fs::write(&ca_file, authority.pem()).expect("written");
    std::fs::write(&token_file, "planted-first\n").expect("written");
    let (url, ca_file, token_path) = (
        door.url(),
        ca_file.display().to_string(),
        token_file.display().to_string(),
    );
    let environment = [
        ("D02__SCHEMA_REGISTRY__URL", url.as_str()),
        ("D02__SCHEMA_REGISTRY__CA_FILE", ca_file.as_str()),
        ("D02__SCHEMA_REGISTRY__TOKEN_FILE", token_path.as_str()),
    ];
    let found = shown(&world, &["check"], &environment).expect(0);
    assert!(found.out.contains("✓ registry, subject "), "{}", found.out);
    let mut source = world.command(&["run", "--until-caught-up"], &environment);
    source.expect_exit(0);
    judge::everything(&world.judged_accounts(), &world.simulator.rows(0));

    door.let_in("Bearer planted-second");
    let refused = shown(&world, &["check"], &environment).expect(2);
    assert!(
        refused.out.contains("✗ registry, ") && refused.out.contains("401"),
        "{}",
        refused.out
    );
    world.simulator.insert(0, 1);
    let mut source = world.command(&["run"], &environment);
    source.wait_for_line("401");
    std::fs::write(&token_file, "planted-second\n").expect("written");
    source.wait_for_line("claimed and restored");
    source.signal("TERM");
    source.expect_exit(0);

    let distrusted = [environment[0], environment[2]];
    let distrusted = shown(&world, &["check"], &distrusted).expect(1);
    assert!(
        distrusted.out.contains("✗ registry, ") && distrusted.out.contains("certificate"),
        "{}",
        distrusted.out
    );
}
