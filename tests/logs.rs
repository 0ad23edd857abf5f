//! Does the log say what happens, at each level, and never what is secret? Each process of each test is searched for secrets
//! (`support::secrets`); here it is those that say the most.

use d02_source::simulator::{Effect, Fault};

use crate::support::secrets;
use crate::support::shown::shown;
use crate::support::world::World;

/// Every secret that there can be, beside the lenders' passwords. None is asked for where nobody authenticates.
const PLANTED: [(&str, &str); 5] = [
    ("D02__KAFKA__PROPERTIES__SASL_USERNAME", "somebody"),
    ("D02__KAFKA__PROPERTIES__SASL_PASSWORD", "planted-kafka"),
    ("D02__SCHEMA_REGISTRY__USERNAME", "somebody"),
    ("D02__SCHEMA_REGISTRY__PASSWORD", "planted-registry"),
    ("D02__HTTP__TOKEN", "planted-http"),
];

#[test]
fn the_search_for_secrets_finds_them() {
    for text in [
        "x\nlogin with secret-1",
        "eyJhbGciOiJub25lIn0.e30.",
        "authorization: Bearer x",
    ] {
        assert!(secrets::first_in(text).is_some(), "{text}");
    }
    assert_eq!(secrets::first_in("exports@lender-1.example"), None);
}

#[test]
fn at_every_level_and_with_all_that_librdkafka_says_no_secret_is_printed() {
    let world = World::new(&[300]);
    for effect in [Effect::TokenRevoked, Effect::Reset, Effect::CutOffJson] {
        world.simulator.push_fault(Fault::export(effect));
    }
    let mut environment = PLANTED.to_vec();
    environment.extend([("RUST_LOG", "trace"), ("D02__KAFKA__PROPERTIES__DEBUG", "all")]);
    // Searched, as everything is that is shown.
    let log = shown(&world, &["run", "--until-caught-up"], &environment).expect(0).log;
    for said in ["TRACE", "committed lender=\"lender-1\"", "accounts=300", "librdkafka"] {
        assert!(log.contains(said), "nothing of `{said}`");
    }
    for args in [
        &["config", "show"][..],
        &["check"],
        &["check", "--json"],
        &["cursor", "show", "--json"],
        &["verify"],
        &["replay"],
    ] {
        shown(&world, args, &environment).expect(0);
    }
    environment.push(("D02__LENDERS__LENDER_1__PASSWORD", "planted-wrong"));
    shown(&world, &["run", "--until-caught-up"], &environment).expect(4);
}
