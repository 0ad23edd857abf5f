//! Which keys exist, what may stand in them, what holds when nobody sets them, and why that?
//!
//! One table, [`KEYS`]: unknown-key detection, the environment, `config show` and the reference file are all made of it.
//! A `*` stands for a name the operator chooses.

use super::key::{ConfigKey, duration, key, number, size, whole};
use super::kinds::{UrlRule, ValueKind};
use super::values::NUMBER_OF_ROWS_MAX;

const PARTITIONS: ValueKind = whole(1, 10_000, "");

/// What the reference file says over a table of keys.
pub(super) const TABLES: &[(&str, &str)] = &[
    (
        "lenders.*",
        "One table a lender; its name (lower-case letters, digits, hyphens) stands in logs, labels and the cursor's \
         key.",
    ),
    (
        "kafka.topics",
        "Names of the topics. {lender} in one stands for the name of the lender. Each topic needs a name of its own.",
    ),
    (
        "kafka.topic_settings.accounts",
        "How a missing topic is created; an existing one is never altered. Any setting of a Kafka topic may stand \
         here under Kafka's name, in quotes. min.insync.replicas becomes 2 where there are 3 replicas, unless it is \
         set here.",
    ),
    (
        "kafka.properties",
        "Handed to librdkafka as they are; KEY_file reads a secret. What would break a promise of this source is \
         refused.",
    ),
    (
        "group",
        "Who runs a lender, where several processes could: Kafka's group protocol, over the partitions of the cursor topic.",
    ),
    ("content", "What counts as the same content of an account."),
    ("changes", "The trail of changes; kafka.topics.changes turns it off."),
    ("errors", "What happens to a row that does not fit."),
    (
        "http",
        "Health and metrics, for a supervisor and for Prometheus: /livez, /readyz, /metrics. Served by `run` only.",
    ),
];

/// Every key there is, in the order of the reference file.
pub(super) const KEYS: &[ConfigKey] = &[
    key("name", ValueKind::Name).defaults_to("d02-source").reason(
        "Who this source is: the prefix of every transactional.id and a part of the cursor's key. Never \
                 change it on a running set-up: another name starts from the beginning and does not fence the \
                 instance that runs under the old one.",
    ),
    key("upstream.base_url", ValueKind::Url(UrlRule::Upstream))
        .defaults_to("https://v3-api.cleargrid.ai")
        .reason("The Exports API. https, or http to this machine only: the login sends a password."),
    key(
        "upstream.page_size",
        whole(1, 1000, "upstream cuts anything larger to 1000 in silence"),
    )
    .defaults_to("1000")
    .reason("Rows a request, 1 to 1000. The most that upstream gives; fewer only mean more requests."),
    key(
        "upstream.poll_interval",
        duration("1ms", "1d", "it is how old a live record can be"),
    )
    .defaults_to("5s")
    .reason(
        "From the beginning of one poll to the next: how old a live record can be. An empty poll is cheap. A \
                 quarter of it is a pause, however slow upstream is, and no poll begins before the one before it is \
                 committed.",
    ),
    key(
        "upstream.request_timeout",
        duration("1ms", "10m", "a request that hangs holds up its lender for as long"),
    )
    .defaults_to("60s")
    .reason(
        "For one request, from sending to the last byte. Above the vendor's own limit, so that its 504 is \
                 seen and acted upon.",
    ),
    key(
        "upstream.max_body",
        size(
            "64KiB",
            "1GiB",
            "it must hold a page of rows, and all of it stands in memory",
        ),
    )
    .defaults_to("64MiB")
    .reason("Largest answer after decompression. A page of 1000 rows has about 0.7 MB."),
    key(
        "upstream.late_window",
        duration("1ms", "1d", "what comes late is waited for as long"),
    )
    .defaults_to("10m")
    .reason("How long after its updated_at a row may still become visible. Far beyond the lag of any replica."),
    key(
        "upstream.late_sweep_interval",
        duration("1ms", "1d", "late rows wait for as long"),
    )
    .defaults_to("1m")
    .reason("Pause between two sweeps, which read again what may have become visible late."),
    key(
        "upstream.backlog",
        duration("1s", "30d", "what is further behind is read in ranges"),
    )
    .defaults_to("5m")
    .reason("A live walk that is further behind becomes ranges, like a snapshot. As long as http.stale_after."),
    key(
        "upstream.snapshot_parallelism",
        whole(1, 64, "each is a request in flight at the vendor"),
    )
    .defaults_to("4")
    .reason(
        "Ranges of a snapshot that are read side by side, 1 to 64: the round trip of one hides behind the \
                 others.",
    ),
    key(
        "upstream.max_requests_per_second",
        number(0.001, 10_000.0, "leave it out for no limit"),
    )
    .reason(
        "Requests a second of one lender, logins and polls included, from 0.001; after a pause one second's \
                 worth may go at once. A request that waits for its turn is not yet running out of its time. \
                 Without: no limit.",
    )
    .example("10"),
    key("upstream.ca_file", ValueKind::Path)
        .reason(
            "Certificates (PEM) to trust beside the system's; read again when upstream gives no answer. Without: the \
                 system's alone.",
        )
        .example("/etc/ssl/corporate-ca.pem"),
    key("upstream.proxy", ValueKind::Url(UrlRule::Proxy))
        .reason(
            "A proxy for upstream only; user name and password may stand in it. Without: the one the environment \
                 names, if any. A loopback address is asked directly.",
        )
        .example("http://proxy.example:3128"),
    key(
        "upstream.reconcile_interval",
        duration("1m", "400d", "it reads every account again"),
    )
    .reason(
        "Pause between two times that everything is read once more: what is missing or different is written, \
                 what upstream does not show any more is deleted. Each costs as much as a snapshot. Without: only \
                 `d02-source reconcile` does.",
    )
    .example("7d"),
    key(
        "upstream.reconcile_max_deletes",
        number(0.0, 1.0, "a share of the accounts"),
    )
    .defaults_to("0.05")
    .reason(
        "The largest share of the accounts that such a reading may delete, from 0 to 1. An upstream that \
                 suddenly shows much less is rather wrong than right.",
    ),
    key("lenders.*.email", ValueKind::Email)
        .reason("The login at upstream. No default.")
        .example("exports@acme.example"),
    key("lenders.*.password", ValueKind::Secret)
        .reason("The file with the password (a mounted secret), or `password` for the password itself. No default.")
        .example("/run/secrets/acme"),
    key("lenders.*.subdomain", ValueKind::Word)
        .reason("The part of the login path that names the lender. Without: the name of this table.")
        .example("acme"),
    key("lenders.*.public_id", ValueKind::Word)
        .reason("The lender's UUID. The login answers it; if given here, the two must match.")
        .example("5f0c0e9a-6f0b-4a53-9d5e-0a7c1d2b3e4f"),
    key("lenders.*.start_from", ValueKind::Time)
        .reason("Rows with an older updated_at are ignored, unless their account is held already. Without: none are.")
        .example("2026-01-01T00:00:00Z"),
    key("kafka.bootstrap_servers", ValueKind::Servers)
        .defaults_to("localhost:9092")
        .reason("Brokers as host:port, separated by commas."),
    key("kafka.create_topics", ValueKind::Flag).defaults_to("true").reason(
        "Whether `run` creates missing topics. A topic that the broker creates by itself would not be \
                 compacted.",
    ),
    key("kafka.topics.accounts", ValueKind::Topic)
        .defaults_to("cleargrid.d02.accounts")
        .reason("The latest state of every account, compacted by public_id."),
    key("kafka.topics.cursor", ValueKind::Topic)
        .defaults_to("cleargrid.d02.cursor")
        .reason("How far each lender has been read, committed together with the records."),
    key("kafka.topics.changes", ValueKind::Topic)
        .defaults_to("cleargrid.d02.changes")
        .reason(
            "What was, what differs and what is, a record a change: the trail of balances, due dates and \
                 statuses. \"\": none is written.",
        ),
    key("kafka.topics.dead_letters", ValueKind::Topic)
        .defaults_to("cleargrid.d02.dead-letters")
        .reason("Rows that cannot be an account, byte for byte."),
    key("kafka.topic_settings.accounts.partitions", PARTITIONS)
        .defaults_to("6")
        .reason("Can never change later: keys would move to other partitions and lose their order."),
    key(
        "kafka.topic_settings.accounts.replication_factor",
        ValueKind::Replication,
    )
    .defaults_to("-1")
    .reason("-1: the broker's default."),
    key("kafka.topic_settings.accounts.cleanup.policy", ValueKind::Setting)
        .defaults_to("compact")
        .reason("The latest record of each account stays for ever."),
    key("kafka.topic_settings.accounts.delete.retention.ms", ValueKind::Setting)
        .defaults_to("604800000")
        .reason("7 days, in milliseconds: how long a reader may be away and still see that an account was removed."),
    key(
        "kafka.topic_settings.accounts.min.compaction.lag.ms",
        ValueKind::Setting,
    )
    .defaults_to("3600000")
    .reason("1 hour, in milliseconds: a reader that is a little behind sees every change."),
    key(
        "kafka.topic_settings.accounts.unclean.leader.election.enable",
        ValueKind::Setting,
    )
    .defaults_to("false")
    .reason("A replica that lags behind must not become leader: committed records would be lost."),
    key("kafka.topic_settings.accounts.*", ValueKind::Setting)
        .reason("The largest record, in bytes. Without: the broker's default; a larger row is a dead letter.")
        .example(r#""max.message.bytes" = 4194304"#),
    key("kafka.topic_settings.cursor.partitions", PARTITIONS)
        .defaults_to("24")
        .reason(
            "Processes share the lenders out by them: of a topic with one, one process runs all. A topic that exists keeps what it \
                 has; more may be added at any time, and count once the processes are started anew.",
        ),
    key("kafka.topic_settings.cursor.replication_factor", ValueKind::Replication)
        .defaults_to("-1")
        .reason("-1: the broker's default."),
    key("kafka.topic_settings.cursor.cleanup.policy", ValueKind::Setting)
        .defaults_to("compact")
        .reason("Only the latest position counts."),
    key("kafka.topic_settings.cursor.segment.ms", ValueKind::Setting)
        .defaults_to("3600000")
        .reason("1 hour, in milliseconds: closed segments can be compacted, so that a start reads little."),
    key(
        "kafka.topic_settings.cursor.unclean.leader.election.enable",
        ValueKind::Setting,
    )
    .defaults_to("false")
    .reason("A replica that lags behind must not become leader: progress would go back."),
    key("kafka.topic_settings.cursor.*", ValueKind::Setting),
    key("kafka.topic_settings.changes.partitions", PARTITIONS)
        .defaults_to("6")
        .reason("As many as accounts has, so that the two can be joined by key."),
    key(
        "kafka.topic_settings.changes.replication_factor",
        ValueKind::Replication,
    )
    .defaults_to("-1")
    .reason("-1: the broker's default."),
    key("kafka.topic_settings.changes.cleanup.policy", ValueKind::Setting)
        .defaults_to("delete")
        .reason("Changes go by age."),
    key("kafka.topic_settings.changes.retention.ms", ValueKind::Setting)
        .defaults_to("34560000000")
        .reason(
            "400 days, in milliseconds: a year and a little of every account. A broker's usual 7 days are no \
                 trail.",
        ),
    key(
        "kafka.topic_settings.changes.unclean.leader.election.enable",
        ValueKind::Setting,
    )
    .defaults_to("false")
    .reason("A replica that lags behind must not become leader: committed records would be lost."),
    key("kafka.topic_settings.changes.*", ValueKind::Setting),
    key("kafka.topic_settings.dead_letters.partitions", PARTITIONS)
        .defaults_to("1")
        .reason("One: there are few, and their order helps the person who reads them."),
    key(
        "kafka.topic_settings.dead_letters.replication_factor",
        ValueKind::Replication,
    )
    .defaults_to("-1")
    .reason("-1: the broker's default."),
    key("kafka.topic_settings.dead_letters.cleanup.policy", ValueKind::Setting)
        .defaults_to("delete")
        .reason("Dead letters go by age."),
    key("kafka.topic_settings.dead_letters.retention.ms", ValueKind::Setting)
        .defaults_to("2592000000")
        .reason("30 days, in milliseconds: time enough for someone to look and to replay."),
    key(
        "kafka.topic_settings.dead_letters.unclean.leader.election.enable",
        ValueKind::Setting,
    )
    .defaults_to("false")
    .reason("A replica that lags behind must not become leader: committed records would be lost."),
    key("kafka.topic_settings.dead_letters.*", ValueKind::Setting),
    key("kafka.properties.*", ValueKind::Property)
        .reason("How to talk to the brokers. Without: librdkafka's own default, plaintext.")
        .example(
            r#""security.protocol" = "SASL_SSL"
# A secret for librdkafka, from a file.
"sasl.password_file" = "/run/secrets/kafka"
# docs/operations/kafka.md, "Authentication", has all of it for SCRAM, PLAIN, certificates and OAUTHBEARER."#,
        ),
    key(
        "memory.in_flight",
        size(
            "16MiB",
            "64GiB",
            "less holds no few pages of 1000 rows, as they come, as accounts and on their way to Kafka",
        ),
    )
    .defaults_to("64MiB")
    .reason(
        "Memory for what is in flight in the process, all lenders together: a quarter on its way to Kafka, a \
                 quarter in equal parts for what each lender reads, the rest for who comes first. Reading waits for it. Where \
                 there are more lenders than MiB, it is 1 MiB a lender. \
                 Beside it stand the indexes.",
    ),
    key("group.mode", ValueKind::Choice(&["shared", "single"]))
        .defaults_to("shared")
        .reason(
            "\"shared\": processes of the same name share the lenders out by Kafka's group protocol, each lender runs once, and \
                 what one process leaves another takes. \"single\": no group; a second process takes all over, and the first one \
                 ends with 3.",
        ),
    key("group.id", ValueKind::Name)
        .reason("The Kafka group, on which this user needs READ. Without: as `name`.")
        .example("d02-source"),
    key("group.protocol", ValueKind::Choice(&["classic", "consumer"]))
        .defaults_to("classic")
        .reason(
            "\"consumer\" is KIP-848's: its session time-out is the broker's (group.consumer.session.timeout.ms, 45 s by default), \
                 and so a process that is killed is noticed later.",
        ),
    key(
        "group.session_timeout",
        duration("1s", "30m", "the broker has bounds too: group.min.session.timeout.ms, 6 s by default, and its max"),
    )
    .defaults_to("10s")
    .reason("How long a process may be silent before its lenders are another's. By the classic protocol."),
    key("group.standby", ValueKind::Choice(&["warm", "cold"]))
        .defaults_to("warm")
        .reason(
            "\"warm\": what another process runs is held here too, as large as an index, and read on once a second, so that it is taken \
                 over at once. \"cold\": it is read when it is taken, which takes seconds for each million accounts.",
        ),
    key("group.instance_id", ValueKind::Name)
        .reason(
            "Makes this process a static member, each with a name of its own, as of a StatefulSet's pod: a restart within the \
                 session time-out moves nothing. Without: what it leaves is taken at once.",
        )
        .example("d02-source-0"),
    key(
        "transaction.max_rows",
        whole(1, NUMBER_OF_ROWS_MAX, "the rows of a transaction stand in memory"),
    )
    .defaults_to("20000")
    .reason(
        "Rows in one transaction, 1 to 100000, while there is a backlog. The commit is then a few per cent \
                 of the time.",
    ),
    key(
        "transaction.max_delay",
        duration(
            "1ms",
            "10s",
            "a decided row waits for as long, and readers of the topic with it",
        ),
    )
    .defaults_to("500ms")
    .reason("How long decided rows wait for more before they are committed, at most 10 s."),
    key(
        "transaction.heartbeat_interval",
        duration("1ms", "1h", "a dead instance counts as alive for three of them"),
    )
    .defaults_to("1m")
    .reason(
        "How often an idle lender commits its cursor alone, at most 1 h. A dead instance counts as alive for \
                 three of them, and one whose commit takes longer than that counts as dead.",
    ),
    key("content.ignore", ValueKind::Ignored).defaults_to("").reason(
        "Members that are no content, such as [\"exported_at\"]: a row that differs in nothing else is not written \
                 again. They still pass into `extra`, as far as avro.extra lets them, with the next change of another \
                 member. None: whatever the vendor sends counts.",
    ),
    key("avro.encoding", ValueKind::Choice(&["confluent", "single-object"]))
        .defaults_to("confluent")
        .reason(
            "What stands before the Avro bytes: \"confluent\" (a schema id; needs the registry) or \
                 \"single-object\" (a fingerprint). The latter must be asked for, so that a forgotten registry never \
                 fills a topic with bytes that nobody can read.",
        ),
    key(
        "avro.subject_strategy",
        ValueKind::Choice(&["topic-name", "record-name", "topic-record-name"]),
    )
    .defaults_to("topic-name")
    .reason(
        "How a schema's subject is named: \"topic-name\", \"record-name\" or \"topic-record-name\". The \
                 default of every client.",
    ),
    key("avro.extra", ValueKind::Extra).defaults_to("all").reason(
        "Which members without a field of their own pass into `extra`: \"all\", \"none\", or a list of names \
                 such as [\"risk_band\"]. The same holds for the text of a value that does not fit its field. All: \
                 what the vendor adds tomorrow is in Kafka tomorrow.",
    ),
    key("schema_registry.url", ValueKind::Url(UrlRule::Registry))
        .defaults_to("http://localhost:8081")
        .reason("Needed for \"confluent\"; may have a path. \"\" is none."),
    key("schema_registry.auto_register", ValueKind::Flag)
        .defaults_to("true")
        .reason("Whether `run` registers a missing schema. Off where only a pipeline may."),
    key("schema_registry.username", ValueKind::User)
        .reason("For HTTP basic authentication, with password_file. Without: no authentication.")
        .example("d02-source"),
    key("schema_registry.password", ValueKind::Secret)
        .reason("The file with the password, or `password` for the password itself.")
        .example("/run/secrets/registry-password"),
    key("schema_registry.token", ValueKind::Secret)
        .reason("The file with a bearer token, instead of user name and password; or `token` for the token itself.")
        .example("/run/secrets/registry-token"),
    key("schema_registry.ca_file", ValueKind::Path)
        .reason(
            "Certificates (PEM) to trust beside the system's; read again when there is no connection. Without: the system's alone.",
        )
        .example("/etc/ssl/corporate-ca.pem"),
    key("changes.initial", ValueKind::Flag).defaults_to("true").reason(
        "Whether every account of the first snapshot gets an opening record, so that its trail begins with \
                 what was there before.",
    ),
    key("errors.tolerance", ValueKind::Choice(&["all", "none"]))
        .defaults_to("all")
        .reason(
            "\"none\" stops the lender at the first row that would be a dead letter, with nothing of its page or \
                 after it committed. \"all\": one odd row does not hold back the others.",
        ),
    key("errors.bad_field", ValueKind::Choice(&["null", "dead-letter"]))
        .defaults_to("null")
        .reason(
            "\"dead-letter\": a value that does not fit its field sends the whole row to the dead letters. \
                 \"null\": the field is null, its text stands in `extra`, and one odd field does not hold back a due \
                 date. Amounts that do not fit are dead letters in any case.",
        ),
    key(
        "errors.amount_tolerance",
        number(0.0, 0.5, "in minor units; half of one could be either amount"),
    )
    .defaults_to("0")
    .reason(
        "How far an amount may be from a whole number of minor units and still be taken for it, from 0 to \
                 below 0.5: 0.000001 takes 1998.9999999999998 for 1999. 0: never, since it is the vendor who should \
                 say what a balance is.",
    ),
    key(
        "errors.max_dead_letters_per_hour",
        whole(0, i64::MAX, "leave it out for no limit"),
    )
    .reason(
        "Stops the lender before it commits more dead letters than this within an hour: upstream has turned \
                 to rubbish. Without: no limit.",
    )
    .example("1000"),
    key("http.listen", ValueKind::Address)
        .reason(
            "The address to listen on; a port that is taken is an error before anything else is touched. Other \
                 machines reach these pages only if it is not a loopback address: \"0.0.0.0:8080\". Without: no \
                 HTTP.",
        )
        .example("127.0.0.1:8080"),
    key("http.token", ValueKind::Secret)
        .reason(
            "The file with a bearer token, or `token` for the token itself: asked for by every path but health \
                 and metrics, unless `listen` is a loopback address.",
        )
        .example("/run/secrets/http-token"),
    key(
        "http.stale_after",
        duration("1ms", "1d", "a stuck lender counts as ready for as long"),
    )
    .defaults_to("5m")
    .reason(
        "How long a lender may stand still (nothing further is read and committed) and be called ready. Above every \
                 back-off.",
    ),
];
