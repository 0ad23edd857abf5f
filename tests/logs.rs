//! Does the log say what happens, at each level, and never what is secret? Each process of each test is searched for secrets
//! (`support::secrets`); here it is those that say the most.

use d02_source::simulator::{Effect, Fault};
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use crate::support::shown::shown;
use crate::support::world::World;
use crate::support::{PATIENCE, secrets};

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

/// Refuses each request and says in its message all that it was sent, as a gateway may that wants to help.
fn echo() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let answer = |mut stream: TcpStream| -> std::io::Result<()> {
        stream.set_read_timeout(Some(PATIENCE))?;
        let (mut request, mut part) = (String::new(), [0; 4096]);
        let (head, body) = loop {
            let length = stream.read(&mut part)?;
            if length == 0 {
                return Ok(());
            }
            request.push_str(&String::from_utf8_lossy(&part[..length]));
            let whole = request.split_once("\r\n\r\n").filter(|(head, body)| {
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
                length.is_none_or(|length| length.parse() == Ok(body.len()))
            });
            if let Some((head, body)) = whole {
                break (head.to_owned(), body.to_owned());
            }
        };
        let authorization = head.lines().find(|line| line.starts_with("authorization: "));
        let credentials = authorization.and_then(|line| line.rsplit(' ').next());
        let message = format!("refused: {} {body}", credentials.unwrap_or_default());
        // Escaped as others escape.
        let said = serde_json::json!({ "error_code": 40101, "message": message }).to_string();
        let said = said.replace('=', "\\u003d").replace('-', "\\u002d");
        let length = said.len();
        write!(
            stream,
            "HTTP/1.1 401 Unauthorized\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{said}"
        )
    };
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            // Whoever goes away needs no answer.
            let _ = answer(stream);
        }
    });
    url
}

#[test]
fn an_answer_that_says_what_it_was_sent_brings_no_secret_into_the_log() {
    let world = World::new(&[1]);
    let echo = echo();
    let upstream = [
        ("D02__UPSTREAM__BASE_URL", echo.as_str()),
        ("D02__LENDERS__LENDER_1__PASSWORD", "planted-\"lender\""),
    ];
    let log = shown(&world, &["run", "--until-caught-up"], &upstream).expect(4).log;
    let said = r#"401: refused:  {"email":"exports@lender-1.example","password":"(redacted)"}"#;
    assert!(log.contains(said), "{log}");

    let registry = ("D02__SCHEMA_REGISTRY__URL", echo.as_str());
    let username = ("D02__SCHEMA_REGISTRY__USERNAME", "somebody");
    let password = ("D02__SCHEMA_REGISTRY__PASSWORD", "planted-registry");
    let log = shown(&world, &["setup"], &[registry, username, password]).expect(2).log;
    assert!(log.contains("refused: (redacted) {"), "{log}");
    let token = ("D02__SCHEMA_REGISTRY__TOKEN", "planted-token");
    let log = shown(&world, &["setup"], &[registry, token]).expect(2).log;
    assert!(log.contains("refused: (redacted) {"), "{log}");
}

#[test]
fn a_secret_property_that_librdkafka_refuses_is_named_and_not_shown() {
    const UNKNOWN: &str = "No such configuration property";
    let world = World::new(&[1]);
    let file = world.path("secret");
    std::fs::write(&file, "planted-in-a-file").expect("written");
    let file = file.display().to_string();
    for (name, key, value, why) in [
        (
            "SASL_JAAS_CONFIG",
            "sasl.jaas.config",
            "x password=\"planted-jaas\";",
            "Java JAAS configuration is not supported",
        ),
        (
            "SSL_TRUSTSTORE_PASSWORD",
            "ssl.truststore.password",
            "planted-store",
            UNKNOWN,
        ),
        // By its name it is none.
        ("SASL_PASWORD", "sasl.pasword", "planted-typo", UNKNOWN),
        ("SASL_KEY_PASSWORD_FILE", "sasl.key.password", &file, UNKNOWN),
    ] {
        let name = &format!("D02__KAFKA__PROPERTIES__{name}");
        for args in [&["run"][..], &["setup"], &["cursor", "show"], &["verify"], &["check"]] {
            let said = shown(&world, args, &[(name, value)]).expect(2);
            let text = format!("{}{}", said.out, said.log);
            let refused = format!("kafka.properties.\"{key}\" is refused: ");
            assert!(
                text.contains(why) && text.contains(&refused),
                "{name}, {args:?}: {text}"
            );
        }
    }
}
