//! Everything a person can get wrong, with the full text they then read; layers; secrets; the reference file.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use proptest::prelude::*;
use secrecy::ExposeSecret;
use serde_json::json;
use tempfile::TempDir;

use super::keys::KEYS;
use super::kinds::ValueKind;
use super::layers;
use super::lookup::locate;
use super::values::{parse_duration, parse_size};
use super::*;
use crate::account::Extra;

/// One lender, so that the rest of a test is about what it is about.
const LENDER: &str = "[lenders.acme]\nemail = \"a@b.example\"\npassword_file = \"/run/secrets/acme\"\n";

const REFERENCE: &str = include_str!("../../config/d02-source.toml");

/// A configuration in the making: one file, some variables, some `--set`.
#[derive(Clone, Copy, Default)]
struct Given<'a> {
    file: &'a str,
    environment: &'a [(&'a str, &'a str)],
    set: &'a [&'a str],
}

impl Given<'_> {
    fn load(self) -> Result<Loaded, ConfigErrors> {
        let directory = TempDir::new().expect("a directory for the test");
        let path = directory.path().join("d02.toml");
        fs::write(&path, self.file).expect("a file for the test");
        let text = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        load(Layers {
            files: vec![path],
            environment: self.environment.iter().map(text).collect(),
            set: self.set.iter().map(|one| (*one).to_owned()).collect(),
        })
    }

    fn fine(self) -> Loaded {
        self.load().unwrap_or_else(|errors| panic!("{errors}"))
    }

    /// The messages, with the directory of the test cut from the paths.
    fn messages(self) -> Vec<String> {
        let errors = match self.load() {
            Ok(_) => return Vec::new(),
            Err(errors) => errors.0,
        };
        errors
            .iter()
            .map(|error| without_directory(&error.to_string()))
            .collect()
    }
}

fn without_directory(message: &str) -> String {
    let words = message.split_inclusive(' ').map(|word| match word.find("/d02.toml") {
        Some(at) => &word[at + 1..],
        None => word,
    });
    words.collect()
}

fn file(file: &str) -> Given<'_> {
    Given {
        file,
        ..Given::default()
    }
}

fn set<'a>(set: &'a [&'a str]) -> Given<'a> {
    Given {
        set,
        ..Given::default()
    }
}

fn environment<'a>(environment: &'a [(&'a str, &'a str)]) -> Given<'a> {
    Given {
        environment,
        ..Given::default()
    }
}

fn secret_of(source: &SecretSource) -> String {
    source.read().expect("a readable secret").expose_secret().to_owned()
}

/// What was given, and every message in order.
type Case = (Given<'static>, &'static [&'static str]);

#[rustfmt::skip]
fn cases() -> Vec<Case> {
    vec![
        (file("upstream = 5"),
            &[
                "upstream (file d02.toml): this is a table of keys, not a value",
            ]),
        (file("[upstrem]"),
            &[
                "upstrem (file d02.toml): there is no such key; the nearest is upstream",
            ]),
        (file("[upstream]
page_sze = 5"),
            &[
                "upstream.page_sze (file d02.toml): there is no such key; the nearest is upstream.page_size",
            ]),
        (file("page_size = 5"),
            &[
                "page_size (file d02.toml): there is no such key; the nearest is upstream.page_size",
            ]),
        (file(r#"lenders = "hunter2""#),
            &[
                "lenders (file d02.toml): this is a table of keys, not a value",
            ]),
        (file(r#"[lenders]
acme = "hunter2""#),
            &[
                "lenders.acme (file d02.toml): this is a table of keys, not a value",
            ]),
        (file(r#"[lenders.ACME]
email = "a@b""#),
            &[
                "lenders.ACME (file d02.toml): the name of a lender is made of lower-case letters, digits and hyphens",
            ]),
        (file("[lenders.acme]"),
            &[
                "lenders.acme.email is missing, the login at upstream (file d02.toml names the lender)",
                "lenders.acme.password is missing, password_file or password (file d02.toml names the lender)",
            ]),
        (file(r#"[[lenders]]
email="a""#),
            &[
                "lenders (file d02.toml): this is a table of keys, not a value",
            ]),
        (file("[lenders.acme]
password = 12345
email=5"),
            &[
                "lenders.acme.email = 5 (file d02.toml): allowed is an e-mail address, in quotes",
                "lenders.acme.password (file d02.toml): the value is not shown because it may be secret; allowed is text that is not empty, in quotes",
            ]),
        (file(r#"[lenders.acme]
email="a@b"
password = "x"
password_file="y""#),
            &[
                "lenders.acme.password (file d02.toml) and lenders.acme.password_file (file d02.toml) are both given: one of them has to go",
            ]),
        (file(r#"[lenders.acme]
email="a@b"
pasword = "x""#),
            &[
                "lenders.acme.pasword (file d02.toml): there is no such key; the nearest is lenders.acme.password",
                "lenders.acme.password is missing, password_file or password (file d02.toml names the lender)",
            ]),
        (file(r#"[upstream]
page_size = 0
poll_interval = 5
max_body = "1KiB"
late_window="0s"
request_timeout="1 lightyear"
base_url="http://u:hunter2@x.example/?a=hunter2""#),
            &[
                r#"upstream.base_url = "http://(redacted)@x.example/…" (file d02.toml): allowed is an https:// URL without credentials, query and fragment; http:// only to this machine"#,
                r#"upstream.late_window = "0s" (file d02.toml): allowed is a duration with its unit from "1ms" to "1d" (what comes late is waited for as long)"#,
                r#"upstream.max_body = "1KiB" (file d02.toml): allowed is a size with its unit from "64KiB" to "1GiB" (it must hold a page of rows, and all of it stands in memory)"#,
                "upstream.page_size = 0 (file d02.toml): allowed is a whole number from 1 to 1000 (upstream cuts anything larger to 1000 in silence)",
                r#"upstream.poll_interval = 5 (file d02.toml): allowed is a duration with its unit from "1ms" to "1d" (it is how old a live record can be)"#,
                r#"upstream.request_timeout = "1 lightyear" (file d02.toml): allowed is a duration with its unit from "1ms" to "10m" (a request that hangs holds up its lender for as long)"#,
            ]),
        (file(r#"[upstream]
base_url="http://x.example"
proxy="socks5://u:hunt/er2@p"
ca_file=5
page_size=[1]
snapshot_parallelism=0
max_requests_per_second=0
reconcile_interval="1s""#),
            &[
                r#"upstream.base_url = "http://x.example" (file d02.toml): allowed is an https:// URL without credentials, query and fragment; http:// only to this machine"#,
                "upstream.ca_file = 5 (file d02.toml): allowed is the path of a file, in quotes",
                "upstream.max_requests_per_second = 0 (file d02.toml): allowed is a number from 0.001 to below 10000 (leave it out for no limit)",
                "upstream.page_size = […] (file d02.toml): allowed is a whole number from 1 to 1000 (upstream cuts anything larger to 1000 in silence)",
                r#"upstream.proxy = "socks5://(redacted)@p" (file d02.toml): allowed is an http:// or https:// URL of a host, without a path"#,
                r#"upstream.reconcile_interval = "1s" (file d02.toml): allowed is a duration with its unit from "1m" to "400d" (it reads every account again)"#,
                "upstream.snapshot_parallelism = 0 (file d02.toml): allowed is a whole number from 1 to 64 (each is a request in flight at the vendor)",
            ]),
        (file(r#"name = "a b"
[kafka]
bootstrap_servers="a,,b"
create_topics="yes"
[kafka.topics]
accounts="a b"
cursor=""
changes="x"
dead_letters="x"
[kafka.topic_settings.accounts]
partitions=0
replication_factor=0
replication-factor=3
"a.b"=[1]
[kafka.topic_settings.acounts]
partitions=1"#),
            &[
                "kafka.topic_settings.accounts.replication-factor (file d02.toml): there is no such key; the nearest is kafka.topic_settings.accounts.replication_factor",
                "kafka.topic_settings.acounts.partitions (file d02.toml): there is no such key; the nearest is kafka.topic_settings.accounts.partitions",
                r#"kafka.bootstrap_servers = "a,,b" (file d02.toml): allowed is brokers as host:port, separated by commas"#,
                r#"kafka.create_topics = "yes" (file d02.toml): allowed is true or false"#,
                "kafka.topic_settings.accounts.a.b = […] (file d02.toml): allowed is one text, number or boolean",
                "kafka.topic_settings.accounts.partitions = 0 (file d02.toml): allowed is a whole number from 1 to 10000",
                "kafka.topic_settings.accounts.replication_factor = 0 (file d02.toml): allowed is -1 for the broker's default, or a whole number from 1 to 32767",
                r#"name = "a b" (file d02.toml): allowed is 1 to 100 letters, digits, dots, underscores and hyphens"#,
                r#"kafka.topics.accounts (file d02.toml): "a b" is no topic name; allowed are 1 to 249 letters, digits, dots, underscores and hyphens, and {lender} for the lender's name"#,
                r#"kafka.topics.cursor (file d02.toml): "" is no topic name; allowed are 1 to 249 letters, digits, dots, underscores and hyphens, and {lender} for the lender's name"#,
                r#"kafka.topics.dead_letters (file d02.toml): "x" is taken by kafka.topics.changes: each topic needs a name of its own"#,
            ]),
        (file(r#"[kafka.properties]
acks="1"
"sasl.password"="a"
"sasl.password_file"="b"
"bootstrap.servers"="x"
"sasl.jaas"=["hunter2"]
debug=["x"]
group.id="g""#),
            &[
                "kafka.properties.debug = […] (file d02.toml): allowed is one text, number or boolean",
                "kafka.properties.sasl.jaas (file d02.toml): the value is not shown because it may be secret; allowed is one text, number or boolean",
                "kafka.properties: acks (file d02.toml) is not yours to set: fewer than all in-sync replicas can lose a committed record",
                "kafka.properties: bootstrap.servers (file d02.toml) is not yours to set: the key for it is kafka.bootstrap_servers",
                "kafka.properties: group.id (file d02.toml) is not yours to set: the key for it is group.id",
                "kafka.properties.sasl.password (file d02.toml) and kafka.properties.sasl.password_file (file d02.toml) are both given: one of them has to go",
            ]),
        (file(r#"[transaction]
max_rows=100001
max_delay="11s"
heartbeat_interval="2h"
[avro]
encoding="json"
subject_strategy="x"
extra=[1]
[errors]
tolerance="some"
bad_field=""
amount_tolerance=0.5
max_dead_letters_per_hour=-1"#),
            &[
                r#"avro.encoding = "json" (file d02.toml): allowed is "confluent" or "single-object""#,
                r#"avro.extra = […] (file d02.toml): allowed is "all", "none" or the names of fields"#,
                r#"avro.subject_strategy = "x" (file d02.toml): allowed is "topic-name" or "record-name" or "topic-record-name""#,
                "errors.amount_tolerance = 0.5 (file d02.toml): allowed is a number from 0 to below 0.5 (in minor units; half of one could be either amount)",
                r#"errors.bad_field = "" (file d02.toml): allowed is "null" or "dead-letter""#,
                "errors.max_dead_letters_per_hour = -1 (file d02.toml): allowed is a whole number from 0 (leave it out for no limit)",
                r#"errors.tolerance = "some" (file d02.toml): allowed is "all" or "none""#,
                r#"transaction.heartbeat_interval = "2h" (file d02.toml): allowed is a duration with its unit from "1ms" to "1h" (a dead instance counts as alive for three of them)"#,
                r#"transaction.max_delay = "11s" (file d02.toml): allowed is a duration with its unit from "1ms" to "10s" (a decided row waits for as long, and readers of the topic with it)"#,
                "transaction.max_rows = 100001 (file d02.toml): allowed is a whole number from 1 to 100000 (the rows of a transaction stand in memory)",
            ]),
        (file("[content]\nignore=[\"exported_at\", \"updated_at\"]"),
            &[
                "content.ignore = […] (file d02.toml): allowed is at most 50 names of members, each of 1 to 200 characters (without public_id, which says whose row it is, and updated_at, which is no content anyway)",
            ]),
        (file(r#"[http]
listen="8080"
token="""#),
            &[
                r#"http.listen = "8080" (file d02.toml): allowed is an IP address and a port such as "127.0.0.1:8080""#,
                "http.token (file d02.toml): the value is not shown because it may be secret; allowed is text that is not empty, in quotes",
            ]),
        (file(r#"[schema_registry]
url="""#),
            &[
                r#"avro.encoding (default): "confluent" needs schema_registry.url; "single-object" does without a registry"#,
            ]),
        (file(r#"[schema_registry]
username="u""#),
            &[
                "schema_registry.username (file d02.toml): it needs schema_registry.password_file",
            ]),
        (file(r#"[schema_registry]
password_file="u"
url="http://u:hunter2@x""#),
            &[
                r#"schema_registry.url = "http://(redacted)@x" (file d02.toml): allowed is an http:// or https:// URL without query and fragment (credentials go to schema_registry.username and schema_registry.password_file)"#,
                "schema_registry.password_file (file d02.toml): it needs schema_registry.username",
            ]),
        (file(r#"[schema_registry]
password_file="u"
token_file="x"
username="a:b""#),
            &[
                r#"schema_registry.username = "a:b" (file d02.toml): allowed is a user name without a colon and control characters"#,
            ]),
        (file(r#"[schema_registry]
password_file="u"
token_file="x"
username="a""#),
            &[
                "schema_registry.username (file d02.toml): schema_registry.token is given as well: a request carries one of them",
            ]),
        (file(r#"[lenders.a]
email="a@b"
password="x"
public_id="1"
start_from="yesterday"
[lenders.b]
email="a@b"
password="x"
public_id="1"
subdomain="a""#),
            &[
                r#"lenders.a.start_from = "yesterday" (file d02.toml): allowed is a time such as "2026-01-01T00:00:00Z""#,
                r#"lenders.b.public_id (file d02.toml): "1" is the one of lenders.a: a lender is read once"#,
                "lenders.b (file d02.toml): subdomain and email are those of lenders.a: a lender is read once",
            ]),
        (file("password = hunter2"),
            &[
                r#"the configuration file d02.toml is not valid TOML, line 1: invalid string, expected `"`, `'`"#,
            ]),
        (file(r#"password = "hunter2"#),
            &[
                "the configuration file d02.toml is not valid TOML, line 1: invalid basic string",
            ]),
        (file("[lenders.acme]
password = 'hunter2' x"),
            &[
                "the configuration file d02.toml is not valid TOML, line 2: expected newline, `#`",
            ]),
        (file(r#"[a]
password="hunter2"
password="hunter2""#),
            &[
                "the configuration file d02.toml is not valid TOML, line 3: duplicate key `password` in table `a`",
            ]),
        (file(r#"[a]
p = "hunter2\q""#),
            &[
                r#"the configuration file d02.toml is not valid TOML, line 2: invalid escape sequence, expected `b`, `f`, `n`, `r`, `t`, `u`, `U`, `\`, `"`"#,
            ]),
        (file("a = 2026-13-01"),
            &[
                "the configuration file d02.toml is not valid TOML, line 1: invalid date-time, value is out of range",
            ]),
        (file("a = 1e999
b=99999999999999999999"),
            &[
                "the configuration file d02.toml is not valid TOML, line 1: invalid floating-point number",
            ]),
        (file("[hunter2"),
            &[
                "the configuration file d02.toml is not valid TOML, line 1: invalid table header, expected `.`, `]`",
            ]),
        (file(r#"a.b="hunter2"
a="hunter2""#),
            &[
                "the configuration file d02.toml is not valid TOML, line 2: duplicate key `a` in document root",
            ]),
        (file(r#"a = {b="hunter2",
}"#),
            &[
                "the configuration file d02.toml is not valid TOML, line 1: invalid inline table, expected `}`",
            ]),
        (file(r#"a = hunter2""#),
            &[
                r#"the configuration file d02.toml is not valid TOML, line 1: invalid string, expected `"`, `'`"#,
            ]),
        (set(&["hunter2"]),
            &[
                "--set number 1 is not KEY=VALUE; an example: --set upstream.page_size=500",
            ]),
        (set(&["=x"]),
            &[
                "--set number 1 is not KEY=VALUE; an example: --set upstream.page_size=500",
            ]),
        (set(&["lenders.acme.pasword=hunter2"]),
            &[
                "lenders.acme.pasword (--set): there is no such key; the nearest is lenders.acme.password",
            ]),
        (set(&["lenders.acme.email="]),
            &[
                r#"lenders.acme.email = "" (--set): allowed is an e-mail address"#,
                "lenders.acme.password is missing, password_file or password (--set names the lender)",
            ]),
        (set(&["upstream.page_size=many"]),
            &[
                r#"upstream.page_size = "many" (--set): allowed is a whole number from 1 to 1000 (upstream cuts anything larger to 1000 in silence)"#,
            ]),
        (set(&["schema_registry.password="]),
            &[
                "schema_registry.password (--set): the value is not shown because it may be secret; allowed is text that is not empty, in quotes",
            ]),
        (environment(&[("D02__UPSTREAM__PAGE_SZE", "5")]),
            &[
                "D02__UPSTREAM__PAGE_SZE (environment): there is no such key; the nearest is D02__UPSTREAM__PAGE_SIZE",
            ]),
        (environment(&[("D02__X", "hunter2")]),
            &[
                "D02__X (environment): there is no such key; the nearest is D02__NAME",
            ]),
        (environment(&[("D02__", "hunter2")]),
            &[
                "D02__ (environment): there is no such key; the nearest is D02__NAME",
            ]),
        (environment(&[("D02__UPSTREAM", "hunter2")]),
            &[
                "upstream (environment variable D02__UPSTREAM): this is a table of keys, not a value",
            ]),
        (environment(&[("D02__KAFKA__PROPERTYS__SSL_KEY_PASSWORD_FILE", "hunter2")]),
            &[
                "D02__KAFKA__PROPERTYS__SSL_KEY_PASSWORD_FILE (environment): there is no such key; the nearest is D02__KAFKA__PROPERTIES__SSL_KEY_PASSWORD_FILE",
            ]),
        (environment(&[("D02__KAFKA__TOPIC_SETTINGS__CURSOR__PARTITION", "3")]),
            &[
                "D02__KAFKA__TOPIC_SETTINGS__CURSOR__PARTITION (environment): there is no such key; the nearest is D02__KAFKA__TOPIC_SETTINGS__CURSOR__PARTITIONS",
            ]),
        (environment(&[("D02__NAME", "�")]),
            &[
                "environment variable D02__NAME: the value is not valid UTF-8",
            ]),
        (environment(&[("D02__LENDERS__ACME__PASSWRD_FILE", "x")]),
            &[
                "D02__LENDERS__ACME__PASSWRD_FILE (environment): there is no such key; the nearest is D02__LENDERS__ACME__PASSWORD_FILE",
            ]),
        (environment(&[("D02__LENDERS__AC_ME__EMAIL", "x")]),
            &[
                r#"lenders.ac-me.email = "x" (environment variable D02__LENDERS__AC_ME__EMAIL): allowed is an e-mail address"#,
                "lenders.ac-me.password is missing, password_file or password (environment variable D02__LENDERS__AC_ME__EMAIL names the lender)",
            ]),
    ]
}

#[test]
fn every_error_says_layer_key_value_and_what_is_allowed() {
    for (given, expected) in cases() {
        assert_eq!(
            given.messages(),
            expected,
            "{:?}",
            (given.file, given.environment, given.set)
        );
    }
}

#[test]
fn no_error_shows_a_secret() {
    for (given, _) in cases() {
        let Err(errors) = given.load() else {
            panic!("{:?} was taken", given.file)
        };
        let text = format!("{errors} {errors:?}");
        assert!(!text.contains("hunter2"), "{text}");
    }
}

#[test]
fn every_refused_property_has_a_reason() {
    let refused = [
        "enable.idempotence",
        "acks",
        "max.in.flight",
        "max.in.flight.requests.per.connection",
        "transactional.id",
        "transaction.timeout.ms",
        "retry.backoff.ms",
        "retry.backoff.max.ms",
        "message.timeout.ms",
        "partitioner",
        "isolation.level",
        "group.id",
        "enable.auto.commit",
        "delivery.report.only.error",
        "allow.auto.create.topics",
        "bootstrap.servers",
        "metadata.broker.list",
    ];
    for name in refused {
        let reason = validate::refusal(name).expect("a reason");
        for given in [name.to_owned(), format!("{name}_file")] {
            let assignment = format!("kafka.properties.{given}=x");
            let expected = format!("kafka.properties: {given} (--set) is not yours to set: {reason}");
            assert_eq!(set(&[&assignment]).messages(), [expected]);
        }
        let variable = format!("D02__KAFKA__PROPERTIES__{}", name.replace('.', "_").to_uppercase());
        let layer = format!("environment variable {variable}");
        let expected = format!("kafka.properties: {name} ({layer}) is not yours to set: {reason}");
        assert_eq!(environment(&[(&variable, "x")]).messages(), [expected]);
    }
}

#[test]
fn bearer_tokens_need_whom_to_ask_and_nothing_else() {
    const FULL: &str = r#"[kafka.properties]
sasl.mechanism="OAUTHBEARER"
sasl.oauthbearer.method="oidc"
sasl.oauthbearer.token.endpoint.url="https://login.example/token"
sasl.oauthbearer.client.id="d02-source"
sasl.oauthbearer.client.secret_file="/run/secrets/oauth"
"#;
    let with = |lines: &str| file(&format!("{FULL}{lines}")).messages();
    let loaded = file(&format!(
        "{FULL}sasl.oauthbearer.scope=\"kafka\"\nhttps.ca.location=\"/ca.pem\""
    ))
    .fine();
    let kafka = loaded.config.kafka;
    let oauth = kafka.oauth.expect("whom to ask");
    // What librdkafka cannot do is not for librdkafka.
    assert_eq!(kafka.properties.into_keys().collect::<Vec<_>>(), ["sasl.mechanism"]);
    assert_eq!(oauth.client_id.plain(), Some("d02-source"));
    assert_eq!(oauth.scope.expect("a scope").plain(), Some("kafka"));
    assert_eq!(oauth.ca_file, Some(PathBuf::from("/ca.pem")));
    assert!(oauth.client_secret.is_file());

    let needs = "OAUTHBEARER needs sasl.oauthbearer.token.endpoint.url, client.id and client.secret_file";
    assert_eq!(
        file("[kafka.properties]\nsasl.mechanism=\"OAUTHBEARER\"").messages(),
        [
            "kafka.properties.sasl.mechanism (file d02.toml): tokens come by sasl.oauthbearer.method = \"oidc\" alone"
                .to_owned(),
            format!("kafka.properties.sasl.mechanism (file d02.toml): {needs}"),
        ]
    );
    for (line, problem) in [
        (
            "sasl.oauthbearer.extensions=\"a=b\"",
            "kafka.properties.sasl.oauthbearer.extensions (file d02.toml): it is not supported; method, grant.type, \
             token.endpoint.url, client.id, client.secret and scope are",
        ),
        (
            "sasl.oauthbearer.grant.type=\"password\"",
            "kafka.properties.sasl.oauthbearer.grant.type (file d02.toml): the one grant that is asked for is \
             \"client_credentials\"",
        ),
    ] {
        assert_eq!(with(line), [problem], "{line}");
    }
    for (line, problem) in [
        (
            "https.ca.location_file=\"/ca\"",
            "kafka.properties.https.ca.location_file (file d02.toml): it is a path, and has to stand here",
        ),
        (
            "sasl.oauthbearer.client.credentials.client.id=\"x\"",
            "kafka.properties.sasl.oauthbearer.client.credentials.client.id (file d02.toml): sasl.oauthbearer.client.id is \
             given as well: they are two names of one thing",
        ),
    ] {
        assert_eq!(with(line), [problem], "{line}");
    }
    for (endpoint, is_fine) in [
        ("http://127.0.0.1:8080/token", true),
        ("http://[::1]/token", true),
        ("http://login.example/token", false),
        ("https://user:hunter2@login.example/token", false),
        ("login.example", false),
    ] {
        let text = FULL.replace("https://login.example/token", endpoint);
        let messages = file(&text).messages();
        assert_eq!(messages.is_empty(), is_fine, "{endpoint}: {messages:?}");
        assert!(!messages.concat().contains("hunter2"), "{messages:?}");
    }
    assert_eq!(
        file("[kafka.properties]\nsasl.oauthbearer.method=\"oidc\"").messages(),
        ["kafka.properties.sasl.oauthbearer.method (file d02.toml): it is for sasl.mechanism = \"OAUTHBEARER\" alone"]
    );
}

#[test]
fn a_file_that_cannot_be_read_is_named_and_hides_what_only_follows_from_it() {
    let layers = Layers {
        files: vec![PathBuf::from("/nowhere/d02.toml")],
        environment: vec![("D02__LENDERS__ACME__EMAIL".to_owned(), "a@b".to_owned())],
        set: Vec::new(),
    };
    let errors = load(layers).expect_err("no such file");
    let expected = "the configuration cannot be used: cannot read the configuration file /nowhere/d02.toml: \
                    No such file or directory (os error 2)";
    assert_eq!(errors.to_string(), expected);
}

#[test]
fn all_errors_come_at_once() {
    let given = Given {
        file: "nam = 1",
        environment: &[("D02__NAME", "")],
        set: &["kafka.create_topics=0"],
    };
    let errors = given.load().expect_err("three errors");
    let expected = r#"the configuration cannot be used, 3 errors:
  - nam (file d02.toml): there is no such key; the nearest is name (C05)
  - kafka.create_topics = "0" (--set): allowed is true or false (C08)
  - name = "" (environment variable D02__NAME): allowed is 1 to 100 letters, digits, dots, underscores and hyphens (C08)"#;
    assert_eq!(without_directory(&errors.to_string()), expected);
}

#[test]
fn a_command_that_needs_a_lender_says_how_to_name_one() {
    let errors = file("").fine().config.require_lenders().expect_err("no lender");
    let expected = "the configuration cannot be used: no lender is configured: in a file, [lenders.NAME] with email and \
                    password_file; in the environment, D02__LENDERS__NAME__EMAIL and D02__LENDERS__NAME__PASSWORD_FILE";
    assert_eq!(errors.to_string(), expected);
    assert!(file(LENDER).fine().config.require_lenders().is_ok());
}

#[test]
fn later_layers_win() {
    let directory = TempDir::new().expect("a directory for the test");
    let path = |name: &str, text: &str| {
        let path = directory.path().join(name);
        fs::write(&path, text).expect("a file for the test");
        path
    };
    let first = "[upstream]\npage_size = 1\nmax_body = \"1MiB\"\nlate_window = \"1m\"\nrequest_timeout = \"1s\"\n";
    let second = "[upstream]\npage_size = 2\nmax_body = \"2MiB\"\nlate_window = \"2m\"\n";
    let loaded = load(Layers {
        files: vec![path("1.toml", first), path("2.toml", second)],
        environment: vec![
            ("D02__UPSTREAM__PAGE_SIZE".to_owned(), "3".to_owned()),
            ("D02__UPSTREAM__MAX_BODY".to_owned(), "3MiB".to_owned()),
        ],
        set: vec!["upstream.page_size=4".to_owned(), "upstream.page_size=5".to_owned()],
    });
    let loaded = loaded.unwrap_or_else(|errors| panic!("{errors}"));
    let upstream = &loaded.config.upstream;
    assert_eq!(upstream.page_size, 5);
    assert_eq!(upstream.max_body, 3 * 1024 * 1024);
    assert_eq!(upstream.late_window, Duration::from_secs(120));
    assert_eq!(upstream.request_timeout, Duration::from_secs(1));
    assert_eq!(upstream.poll_interval, Duration::from_secs(5));
    let layer = |key: &str| {
        let from = loaded.to_json()[key]["from"].as_str().unwrap_or_default().to_owned();
        from.replace(&format!("{}/", directory.path().display()), "")
    };
    assert_eq!(layer("upstream.page_size"), "--set");
    assert_eq!(
        layer("upstream.max_body"),
        "environment variable D02__UPSTREAM__MAX_BODY"
    );
    assert_eq!(layer("upstream.late_window"), "file 2.toml");
    assert_eq!(layer("upstream.request_timeout"), "file 1.toml");
    assert_eq!(layer("upstream.poll_interval"), "default");
}

#[test]
fn every_layer_can_add_to_a_lender() {
    let given = Given {
        file: "[lenders.acme-eu]\nemail = \"a@b\"",
        environment: &[("D02__LENDERS__ACME_EU__PASSWORD", "12345")],
        set: &["lenders.acme-eu.public_id=7"],
    };
    let lender = &given.fine().config.lenders["acme-eu"];
    assert_eq!(lender.email, "a@b");
    assert_eq!(secret_of(&lender.password), "12345");
    assert_eq!(lender.public_id.as_deref(), Some("7"));
    assert_eq!(lender.subdomain, "acme-eu");
}

#[test]
fn text_from_the_environment_stays_text() {
    for password in [
        "12345",
        "007",
        "1e5",
        "true",
        "[1]",
        "{a=1}",
        " x ",
        "\"quoted\"",
        "a=b",
    ] {
        let loaded = environment(&[
            ("D02__LENDERS__A__EMAIL", "1@2"),
            ("D02__LENDERS__A__PASSWORD", password),
        ])
        .fine();
        assert_eq!(secret_of(&loaded.config.lenders["a"].password), password);
        let assignment = format!("lenders.a.password={password}");
        let loaded = set(&["lenders.a.email=1@2", &assignment]).fine();
        assert_eq!(secret_of(&loaded.config.lenders["a"].password), password);
    }
}

#[test]
fn names_of_kafka_come_back_from_the_environment() {
    let loaded = environment(&[
        ("D02__KAFKA__PROPERTIES__SECURITY_PROTOCOL", "SASL_SSL"),
        ("D02__KAFKA__PROPERTIES__SASL_PASSWORD_FILE", "/run/secrets/kafka"),
        ("D02__KAFKA__PROPERTIES__SSL_KEY_PASSWORD", "12345"),
        ("D02__KAFKA__TOPIC_SETTINGS__DEAD_LETTERS__RETENTION_MS", "1000"),
        ("D02__KAFKA__TOPIC_SETTINGS__DEAD_LETTERS__REPLICATION_FACTOR", "3"),
        ("D02__KAFKA__TOPIC_SETTINGS__ACCOUNTS__MIN_INSYNC_REPLICAS", "2"),
    ])
    .fine();
    let properties = &loaded.config.kafka.properties;
    assert_eq!(properties["security.protocol"].plain(), Some("SASL_SSL"));
    let Property::Secret(SecretSource::File(path)) = &properties["sasl.password"] else {
        panic!("no file")
    };
    assert_eq!(path, Path::new("/run/secrets/kafka"));
    let inline = properties["ssl.key.password"].read().expect("an inline secret");
    assert_eq!(
        (properties["ssl.key.password"].plain(), inline.expose_secret()),
        (None, "12345")
    );
    let dead_letters = &loaded.config.kafka.topic_settings.dead_letters;
    assert_eq!(
        (
            dead_letters.replication_factor,
            dead_letters.settings["retention.ms"].as_str()
        ),
        (3, "1000")
    );
    assert_eq!(dead_letters.settings["cleanup.policy"], "delete");
    assert_eq!(
        loaded.config.kafka.topic_settings.accounts.settings["min.insync.replicas"],
        "2"
    );
}

#[test]
fn a_property_means_the_same_with_and_without_quotes() {
    let plain = |text: &str| format!("{:?}", file(text).fine().config.kafka.properties);
    let quoted = plain("[kafka.properties]\n\"linger.ms\" = 5\n\"socket.keepalive.enable\" = true");
    let bare = plain("[kafka.properties]\nlinger.ms = \"5\"\nsocket.keepalive.enable = \"true\"");
    assert_eq!(
        quoted,
        r#"{"linger.ms": Plain("5"), "socket.keepalive.enable": Plain("true")}"#
    );
    assert_eq!(quoted, bare);
}

#[test]
fn variables_of_kubernetes_and_of_others_are_left_alone() {
    let given = environment(&[
        ("D02_SOURCE_PORT", "tcp://10.0.0.1:8080"),
        ("D02_SOURCE_SERVICE_HOST", "10.0.0.1"),
        ("D02_SOURCE__X", "1"),
        ("D02_NAME", "other"),
        ("PATH", "/bin"),
    ]);
    assert_eq!(given.fine().config.name, "d02-source");
}

#[test]
fn nothing_between_the_quotes_takes_an_optional_key_back() {
    let given = Given {
        file: "[upstream]\nca_file = \"/a.pem\"\nproxy = \"http://p:1\"\n[kafka.topics]\nchanges = \"\"\n\
               [avro]\nencoding = \"single-object\"",
        environment: &[("D02__UPSTREAM__CA_FILE", ""), ("D02__SCHEMA_REGISTRY__URL", "")],
        set: &["upstream.proxy="],
    };
    let config = given.fine().config;
    assert_eq!((config.upstream.ca_file, config.upstream.proxy), (None, None));
    assert_eq!((config.kafka.topics.changes, config.schema_registry.url), (None, None));
}

#[test]
fn values_of_every_form_are_read() {
    let text = "[upstream]\nbase_url = \"http://[::1]:9000/api\"\npoll_interval = \"1m 30s\"\n\
                [lenders.acme]\nemail = \"a@b\"\npassword_file = \"x\"\nstart_from = 2026-01-01T00:00:00Z\n\
                [avro]\nextra = [\"b\", \"a\"]\nsubject_strategy = \"record-name\"\n\
                [errors]\namount_tolerance = 0\nmax_dead_letters_per_hour = 0\n\
                [http]\nlisten = \"0.0.0.0:80\"\ntoken_file = \"t\"";
    let config = file(text).fine().config;
    assert_eq!(config.upstream.base_url.as_str(), "http://[::1]:9000/api");
    assert_eq!(config.upstream.poll_interval, Duration::from_secs(90));
    assert_eq!(
        config.lenders["acme"].start_from.map(|time| time.timestamp()),
        Some(1_767_225_600)
    );
    assert_eq!(
        config.avro.extra,
        Extra::Only(BTreeSet::from(["a".to_owned(), "b".to_owned()]))
    );
    assert_eq!(config.avro.subject_strategy, SubjectStrategy::RecordName);
    assert_eq!(config.errors.max_dead_letters_per_hour, Some(0));
    assert_eq!(
        environment(&[("D02__AVRO__EXTRA", "b, a")]).fine().config.avro.extra,
        config.avro.extra
    );
    assert_eq!(
        environment(&[("D02__AVRO__EXTRA", "none")]).fine().config.avro.extra,
        Extra::None
    );
    let ignored = |config: Config| config.content.ignore.into_iter().collect::<Vec<_>>();
    assert_eq!(ignored(config), [""; 0]);
    let two = ["exported_at", "served by"];
    assert_eq!(
        ignored(
            file("[content]\nignore = [\"served by\", \"exported_at\"]")
                .fine()
                .config
        ),
        two
    );
    assert_eq!(
        ignored(set(&["content.ignore=served by, exported_at"]).fine().config),
        two
    );
    let taken_back = Given {
        file: "[content]\nignore = [\"a\"]",
        environment: &[],
        set: &["content.ignore="],
    };
    assert_eq!(ignored(taken_back.fine().config), [""; 0]);
    assert_eq!(ignored(file("[content]\nignore = []").fine().config), [""; 0]);
    let many = (0..51).map(|number| format!("m{number}")).collect::<Vec<_>>().join(",");
    let long = "m".repeat(201);
    for wrong in [&*many, &*long, "a,", ",", "public_id", "a, updated_at"] {
        assert_eq!(
            set(&[&format!("content.ignore={wrong}")]).messages().len(),
            1,
            "{wrong}"
        );
    }
    for wrong in ["[1]", "[\"\"]", "[\"a,b\"]", "true"] {
        assert_eq!(
            file(&format!("[content]\nignore = {wrong}")).messages().len(),
            1,
            "{wrong}"
        );
    }
    for url in ["http://localhost:1", "http://127.0.0.2:1", "https://x.example"] {
        set(&[&format!("upstream.base_url={url}")]).fine();
    }
    for url in [
        "http://localhost.example",
        "http://127.0.0.1.example",
        "ftp://localhost",
        "localhost:1",
        "http://0.0.0.0",
    ] {
        assert_eq!(set(&[&format!("upstream.base_url={url}")]).messages().len(), 1, "{url}");
    }
}

#[test]
fn four_topics_stay_four_for_every_lender() {
    let given = Given {
        file: "[lenders.cursor]\nemail = \"a@b\"\npassword_file = \"x\"\n",
        set: &["kafka.topics.accounts=d02.{lender}", "kafka.topics.cursor=d02_cursor"],
        ..Given::default()
    };
    let problem = "\"d02_cursor\" is taken by kafka.topics.accounts: each topic needs a name of its own";
    assert_eq!(given.messages(), [format!("kafka.topics.cursor (--set): {problem}")]);
    let topics = Given {
        set: &["kafka.topics.accounts=d02.{lender}"],
        ..file(LENDER)
    }
    .fine()
    .config
    .kafka
    .topics;
    assert_eq!(topics.for_lender("acme").accounts, "d02.acme");
    assert_eq!(topics.for_lender("acme").cursor, topics.cursor);
    for name in ["..", "a/b", "{Lender}", &"x".repeat(250)] {
        assert_eq!(
            set(&[&format!("kafka.topics.accounts={name}")]).messages().len(),
            1,
            "{name}"
        );
    }
}

#[test]
fn health_and_metrics_need_no_token_also_where_other_machines_reach_them() {
    let http = set(&["http.listen=0.0.0.0:8080"]).fine().config.http;
    assert!(http.listen.is_some_and(|listen| !listen.ip().is_loopback()) && http.token.is_none());
    assert_eq!(file("").fine().config.http.listen, None);
}

#[test]
fn config_show_says_where_each_value_came_from() {
    let given = Given {
        file: "[lenders.acme]\nemail = \"a@b\"\npassword = \"hunter2\"\n[kafka.properties]\nlinger.ms = 5",
        environment: &[
            ("D02__UPSTREAM__PROXY", "http://u:hunter2@p:1"),
            ("D02__KAFKA__PROPERTIES__SASL_PASSWORD", "hunter2"),
            ("D02__SCHEMA_REGISTRY__TOKEN_FILE", "/run/t"),
        ],
        set: &["upstream.page_size=500"],
    };
    let loaded = given.fine();
    let toml = without_directory(&loaded.to_toml());
    let start = r#"name = "d02-source"  # default

[upstream]
base_url = "https://v3-api.cleargrid.ai"  # default
page_size = 500  # --set
poll_interval = "5s"  # default
"#;
    let parts = [
        start,
        "\nproxy = \"http://(redacted)@p:1\"  # environment variable D02__UPSTREAM__PROXY\n",
        r#"
[lenders.acme]
email = "a@b"  # file d02.toml
password = "(redacted)"  # file d02.toml
subdomain = "acme"  # default
"#,
        "\n\"linger.ms\" = 5  # file d02.toml\n",
        "\n\"sasl.password\" = \"(redacted)\"  # environment variable D02__KAFKA__PROPERTIES__SASL_PASSWORD\n",
        "\ntoken_file = \"/run/t\"  # environment variable D02__SCHEMA_REGISTRY__TOKEN_FILE\n",
    ];
    for part in parts {
        assert!(toml.contains(part), "{part}\nis not in\n{toml}");
    }
    let json = loaded.to_json();
    assert_eq!(json["upstream.page_size"], json!({ "value": 500, "from": "--set" }));
    assert_eq!(json["name"], json!({ "value": "d02-source", "from": "default" }));
    assert_eq!(json["lenders.acme.password"]["value"], "(redacted)");
}

#[test]
fn what_config_show_prints_is_a_configuration_again() {
    let odd = "[lenders.a]\nemail = \"a@b\"\npassword_file = 'C:\\x\"\u{e9}'\n\
               [kafka.properties]\n\"client.id\" = \"a\\u007f\\n\\\"b\"\n\"x.y\" = \"007\"";
    let first = file(odd).fine();
    let second = file(&first.to_toml()).fine();
    assert_eq!(format!("{:?}", first.config), format!("{:?}", second.config));
}

#[test]
fn a_secret_file_is_read_again_at_each_call_and_loses_one_newline() {
    let directory = TempDir::new().expect("a directory for the test");
    let path = directory.path().join("secret");
    let source = SecretSource::File(path.clone());
    let write = |bytes: &[u8]| fs::write(&path, bytes).expect("a file for the test");
    let message = || match source.read() {
        Ok(_) => "read".to_owned(),
        Err(error) => error.to_string().replace(&path.display().to_string(), "PATH"),
    };
    assert_eq!(message(), "cannot read the secret file PATH");
    assert_eq!(source.modified(), None);
    for (bytes, secret) in [
        ("one", "one"),
        ("two\n", "two"),
        ("3\r\n", "3"),
        ("four\n\n", "four\n"),
        (" 5 ", " 5 "),
    ] {
        write(bytes.as_bytes());
        assert_eq!(secret_of(&source), secret);
    }
    assert!(source.modified().is_some());
    write(b"\n");
    assert_eq!(message(), "the secret file PATH is empty");
    write(b"\xff\xfe");
    assert_eq!(message(), "the secret file PATH is not UTF-8 text");
    write(&[b'x'; 64 * 1024]);
    assert_eq!(message(), "read");
    write(&[b'x'; 64 * 1024 + 1]);
    assert_eq!(
        message(),
        "the secret file PATH has more than 65536 bytes: is it the right one?"
    );
}

#[test]
fn the_reference_file_has_every_built_key_with_its_default() {
    let is_made_of_the_table = reference() == REFERENCE;
    assert!(
        is_made_of_the_table,
        "after a change of a key: `cargo run -- config reference > config/d02-source.toml`"
    );
    let active = file(REFERENCE).fine();
    let written = |loaded: &Loaded| -> BTreeSet<String> {
        let full = |one: &Effective| format!("{}.{}", one.table, one.name).trim_start_matches('.').to_owned();
        loaded
            .effective
            .iter()
            .filter(|one| one.layer != layers::DEFAULT)
            .map(full)
            .collect()
    };
    let defaults = KEYS
        .iter()
        .filter(|key| key.default.is_some())
        .map(|key| key.name.to_owned());
    assert_eq!(
        written(&active),
        defaults.collect(),
        "active settings are the keys with a default"
    );
    assert_eq!(
        format!("{:?}", active.config),
        format!("{:?}", file("").fine().config),
        "and have that default"
    );

    // With the settings that are commented out, which a `#` without a space marks. User name and token exclude one
    // another; everything else in the file goes together.
    let is_commented_out = |line: &str| line.starts_with('#') && line.len() > 1 && !line.starts_with("# ");
    let lines = REFERENCE.lines().filter(|line| !line.starts_with("#token_file"));
    let uncommented = lines.map(|line| if is_commented_out(line) { &line[1..] } else { line });
    let all = file(&uncommented.collect::<Vec<_>>().join("\n")).fine();
    assert_eq!(REFERENCE.matches("\n#token_file = ").count(), 2);
    let mut found = BTreeSet::from(["schema_registry.token", "http.token"]);
    for full in written(&all) {
        let parts: Vec<String> = full.split('.').map(str::to_owned).collect();
        let (_, key) = locate(&parts).expect("a known key");
        found.insert(key.name);
    }
    for key in KEYS.iter().filter(|key| !key.name.starts_with("kafka.topic_settings.")) {
        assert!(found.contains(key.name), "{} is not in the reference file", key.name);
    }

    let mut before = "";
    for line in REFERENCE.lines() {
        let setting = line.contains(" = ") && (is_commented_out(line) || !line.starts_with('#'));
        assert!(!setting || before.starts_with("# "), "no comment above: {line}");
        before = line;
    }
}

#[test]
fn the_table_of_keys_holds_together() {
    let mut names = BTreeSet::new();
    for key in KEYS {
        assert!(names.insert(key.name), "{} twice", key.name);
        assert!(
            key.default.is_none_or(|text| key.kind.accepts(text)),
            "{}: its own default is refused",
            key.name
        );
        assert!(
            !key.is_secret() || key.default.is_none(),
            "{}: a secret has no default",
            key.name
        );
        match key.kind {
            ValueKind::Duration { min, max, .. } => {
                assert!(parse_duration(min) < parse_duration(max), "{}", key.name)
            }
            ValueKind::Size { min, max, .. } => {
                assert!(parse_size(min) < parse_size(max), "{}", key.name)
            }
            _ => {}
        }
    }
    let settings = file("").fine().config.kafka.topic_settings;
    let milliseconds = |days: u64| (days * 24 * 3_600_000).to_string();
    assert_eq!(settings.accounts.settings["delete.retention.ms"], milliseconds(7));
    assert_eq!(settings.changes.settings["retention.ms"], milliseconds(400));
    assert_eq!(settings.dead_letters.settings["retention.ms"], milliseconds(30));
}

/// Every kind of place where a secret stands, and some where a person puts one by mistake.
const PLACES: [&str; 14] = [
    "lenders.acme.password",
    "lenders.acme.pasword",
    "lenders.acme",
    "lenders.acme.password.x",
    "lenders",
    "schema_registry.password",
    "schema_registry.token",
    "schema_registry.tokn",
    "http.token",
    "kafka.properties.sasl.password",
    "kafka.properties.ssl.key.pem",
    "kafka.properties.sasl.jaas.config",
    "kafka.properties.sasl.oauthbearer.client.secret",
    "kafka.propertie.sasl.password",
];

proptest! {
    #[test]
    fn a_secret_never_appears(
        place in prop::sample::select(&PLACES[..]),
        before in "[ -~]{0,4}",
        after in "[ -~\n]{0,4}",
        form in 0..9_usize,
        other in prop::sample::select(vec!["", "name = 'a b'", "[upstream]\npage_size = 0"]),
    ) {
        const CANARY: &str = "Xq7canary9Z";
        let secret = format!("{before}{CANARY}{after}");
        let line = match form {
            0 => format!("{place} = {}", json!(secret)),
            1 => format!("{place} = '{secret}'"),
            2 => format!("{place} = \"{secret}"),
            3 => format!("{place} = [{}]", json!(secret)),
            4 => format!("{place} = {secret}"),
            5 => format!("{place} = '''{secret}''' x"),
            _ => String::new(),
        };
        let text = format!("{line}\n{other}\n");
        let flat = place.replacen('.', "__", 2).replace('.', "_").to_uppercase();
        let variable = format!("D02__{flat}");
        let assignment = format!("{place}={secret}");
        let proxy = format!("upstream.proxy=http://u:{secret}@proxy");
        let given = Given {
            file: &text,
            environment: if form == 6 { &[(variable.as_str(), secret.as_str())] } else { &[] },
            set: match form {
                7 => &[assignment.as_str()],
                8 => &[proxy.as_str()],
                _ => &[],
            },
        };
        let seen = match given.load() {
            Ok(loaded) => format!("{loaded:?} {} {}", loaded.to_toml(), loaded.to_json()),
            Err(errors) => format!("{errors} {errors:?}"),
        };
        prop_assert!(!seen.contains(CANARY), "{}", seen);
    }

    #[test]
    fn no_text_makes_it_panic(key in prop::sample::select(KEYS.iter().collect::<Vec<_>>()), text in "\\PC{0,12}|[-+]?[0-9]{1,25}[a-zA-Z]{0,3}|-?0|[0-9]{1,12}(s|d|MiB|PiB|years)") {
        let assignment = format!("{}={text}", key.name.replace("lenders.*", "lenders.x").replace('*', "x.y"));
        drop(set(&[&assignment]).load());
    }
}
