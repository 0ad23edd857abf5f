#!/usr/bin/env python3
"""Do two builds of the source make the same of odd rows, byte for byte? For changes to how a row is read.

    cargo build --release --example testbed --bins && benches/odd_rows.py BEFORE target/release/d02-source [ROWS [SEED]]

An upstream serves ROWS rows (100,000), each with up to four oddities: numbers, dates and times in every form that JSON and RFC 3339 have,
values of other types, escaped and repeated and unknown names, white space, half surrogate pairs. Each build reads them into topics of
its own. What stands there, keys, values, headers, has to be the same. Needs confluent-kafka.
"""

import json
import random
import subprocess
import sys
import tempfile
import threading
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

LENDER = "5f0c0000-0000-4000-8000-000000000001"
PAGE = 1000
FIRST = datetime(2026, 1, 1, tzinfo=timezone.utc)

AMOUNTS = [
    "total_amount", "balance_amount", "actual_balance_amount", "paid_amount", "balance_principal_amount", "balance_interest",
    "balance_fee", "minimum_due_amount",
]
NUMBERS = [
    "0", "-0", "0.0", "-0.0", "7", "-120", "1200.0", "1200.00", "12.5", "1.5e1", "1.25E2", "12e-1", "120e-1", "1e18", "1e19", "1E+2",
    "0e5", "9223372036854775807", "9223372036854775808", "-9223372036854775808", "-9223372036854775809", "9007199254740993",
    "0.1e1", "1e400", "1e-400", "123456789012345678901234567890", "0.000000000000000000001", "100000000000000000000e-2",
]
DATES = [
    "22/02/2026", "31/02/2026", "29/02/2024", "29/02/2100", "1/2/2026", "01/13/2026", "00/01/2026", "", " ", "x", "31/12/9999",
    "01/01/0000", "01/01/0001", "2026-02-22", "22-02-2026", "22/02/20261", "٢٢/02/2026", "22/02/2026 ",
]
TIMES = [
    "2026-01-01T00:00:00.000Z", "2026-01-01T00:00:00Z", "2026-01-01t00:00:00.5z", "2026-01-01T00:00:00.123456789Z",
    "2026-01-01T00:00:00.1234567891Z", "2026-01-01T03:00:00.000+03:00", "2026-01-01 00:00:00Z", "2026-01-01T00:00:60.000Z",
    "2026-13-01T00:00:00.000Z", "2026-02-30T00:00:00.000Z", "2026-01-01T24:00:00.000Z", "2026-01-01T00:00:00.000", "",
    "2026-01-01T00:00:00.000−03:00", "0000-01-01T00:00:00.000Z", "9999-12-31T23:59:59.999Z", "+10000-01-01T00:00:00.000Z",
]
TEXTS = [
    '"IN_COLLECTION"', '""', '"ä"', '"\\u00e4"', '"\\ud83d\\ude00"', '"\\ud83d"', '"\\ude00x"', '"a\\nb"', '"\\"\\\\\\/"', '"\\u0041"',
    '"null"', '"[1]"', '" {"', '"' + "x" * 300 + '"', '"\\u0000"', '"😀"',
]
OTHERS = [
    "null", "true", "false", "{}", "[]", "[1, 2.0, 20e-1]", '{"b": 1, "a": [null, {"z": "\\u00e4"}]}', '{"a": 1, "a": 2}',
    "[" * 40 + "]" * 40, '{"\\u0061": 1}', "[ ]", '{ "x" : 1 }',
]
NAMES = ["score", "", "a b", "ü", "\\u00fc", "\\u0073core", "\\ud800", "x" * 250, "_id", "updated_at2", "zz", "Balance_amount"]
SPACES = ["", "", "", "", " ", "\n", "\t", "  \r\n"]


def moment(number, rng):
    """Of a row, in a form that may be odd: rows are in the order of their times."""
    at = FIRST + timedelta(seconds=number)
    usual = at.strftime("%Y-%m-%dT%H:%M:%S.") + f"{at.microsecond // 1000:03}Z"
    if rng.random() < 0.9:
        return f'"{usual}"'
    later = at + timedelta(hours=3)
    return rng.choice([
        f'"{usual[:-1]}999999Z"', f'"{usual[:19]}Z"', f'"{usual.lower()}"', f'"{later.strftime("%Y-%m-%dT%H:%M:%S")}.000+03:00"',
        f'"\\u0032{usual[1:]}"', "null", "7", f'"{usual[:10]} {usual[11:]}"', f'"{usual[:23]}1234567Z"',
    ])


def row(number, rng):
    text = lambda choices: json.dumps(rng.choice(choices), ensure_ascii=rng.random() < 0.5)
    any_value = lambda: rng.choice(rng.choice([NUMBERS, TEXTS, OTHERS])) if rng.random() < 0.7 else text(DATES + TIMES)
    public_id = f"{number // 3:024x}" if rng.random() < 0.95 else rng.choice([f"{number:024X}", f"id {number}", f"é{number}"])
    members = [("public_id", json.dumps(public_id, ensure_ascii=rng.random() < 0.5))]
    members += [(name, json.dumps(f"{name[:3].upper()}-{number % 977}")) for name in
                ("account_reference_id", "customer_reference_id", "reference_id")]
    members += [(name, str(rng.randrange(0, 10**rng.randrange(1, 8)))) for name in AMOUNTS]
    members += [
        ("currency", text(["SAR", "AED", "KWD"])), ("submitted_date", text(DATES[:3])), ("due_date", text(DATES[:3])),
        ("delinquent_days_on_submission", str(number % 400)), ("loan_type", text(["BNPL", "Charge Back"])),
        ("status", text(["IN_COLLECTION"])), ("merchant_name", text(["Al Noor"])), ("lender_display_name", text(["Lender"])),
        ("created_at", text(TIMES[:1])), ("updated_at", moment(number, rng)),
    ]
    for _ in range(rng.randrange(5)):
        place = rng.randrange(len(members))
        name, _ = members[place]
        kind = rng.randrange(8)
        if name == "updated_at" and kind != 7:
            continue
        if kind == 0:
            members[place] = (name, any_value())
        elif kind == 1:
            numbers = [at for at, (name, _) in enumerate(members) if name in AMOUNTS]
            if numbers:
                at = rng.choice(numbers)
                members[at] = (members[at][0], rng.choice(NUMBERS))
        elif kind == 2:
            members[place] = (name, text(DATES) if "date" in name else text(TIMES) if name == "created_at" else rng.choice(TEXTS))
        elif kind == 3:
            del members[place]
        elif kind == 4 and rng.random() < 0.3:
            members.insert(rng.randrange(len(members) + 1), (name, any_value()))
        elif kind == 5 and name:
            members[place] = (f"\\u{ord(name[0]):04x}{name[1:]}" if name[0] != "\\" else name, members[place][1])
        elif kind == 6:
            members.insert(rng.randrange(len(members) + 1), (rng.choice(NAMES), any_value()))
        elif kind == 7:
            rng.shuffle(members)
    if rng.random() < 0.003:
        return rng.choice(["null", "7", "[]", '"row"', "{}", "[1]"])
    is_spaced = rng.random() < 0.1
    space = (lambda: rng.choice(SPACES)) if is_spaced else (lambda: "")
    body = ",".join(f'{space()}"{name}"{space()}:{space()}{value}{space()}' for name, value in members)
    return "{" + (body or space()) + "}"


class Upstream(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    rows = []

    def answer(self, body):
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.answer(json.dumps({"lenderPublicId": LENDER, "token": "t", "refreshToken": "r"}).encode())

    def do_GET(self):
        asked = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}

        def place(bound, default):
            if bound not in asked:
                return default
            at = (datetime.fromisoformat(asked[bound]) - FIRST).total_seconds()
            return max(0, min(len(self.rows), -int(-at // 1)))

        first, end = place("since", 0), place("until", len(self.rows))
        at = int(asked["cursor"]) if "cursor" in asked else first
        behind = min(at + min(PAGE, int(asked.get("limit", 500))), end)
        found = self.rows[at:behind] if at < end else []
        pagination = {"nextCursor": str(behind) if behind < end else None}
        if asked.get("includeTotal") == "true":
            pagination |= {"total": max(0, end - first), "totalExact": True, "totalNote": None}
        meta = {"since": asked.get("since"), "until": asked.get("until"), "tenantPathKind": "direct"}
        tail = json.dumps({"pagination": pagination, "meta": meta})
        self.answer(('{"code":200,"message":"","errors":[],"body":{"rows":[' + ",".join(found) + "]," + tail[1:] + "}").encode())

    def log_message(self, *_):
        pass


def read(build, name, base_url, kafka, registry):
    """Has a build read everything; gives what stands in its topics."""
    directory = tempfile.mkdtemp()
    topics = {topic: f"{name}.{topic}" for topic in ("accounts", "changes", "dead-letters", "cursor")}
    configuration = f"{directory}/source.toml"
    with open(configuration, "w") as file:
        file.write(
            f'name = "{name}"\n[upstream]\nbase_url = "{base_url}"\nsnapshot_parallelism = 1\n'
            '[lenders.lender-1]\nemail = "a@b.example"\npassword = "secret"\n'
            f'[kafka]\nbootstrap_servers = "{kafka}"\n[schema_registry]\nurl = "{registry}"\n[kafka.topics]\n'
            + "".join(f'{topic.replace("-", "_")} = "{full}"\n' for topic, full in topics.items())
        )
    with open(f"{directory}/log", "w") as log:
        done = subprocess.run([build, "--config", configuration, "run", "--until-caught-up"], stderr=log)
    assert done.returncode == 0, open(f"{directory}/log").read()[-3000:]
    return {topic: records(kafka, full, name) for topic, full in topics.items() if topic != "cursor"}


def records(kafka, topic, name):
    """By partition and in order: key, value without its schema's id, headers, without the name of the one that wrote them."""
    consumer = Consumer({
        "bootstrap.servers": kafka, "group.id": "odd", "isolation.level": "read_committed", "enable.partition.eof": True,
        "enable.auto.commit": False,
    })
    partitions = consumer.list_topics(topic, 30).topics[topic].partitions
    consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in partitions])
    found, ended = [], 0
    while ended < len(partitions):
        message = consumer.poll(30)
        assert message is not None, f"{topic} does not end"
        if message.error():
            ended += 1
            continue
        value = message.value()
        if topic.endswith((".accounts", ".changes")) and value:
            value = value[:1] + value[5:]
        headers = [(header, (text or b"").replace(name.encode(), b"NAME")) for header, text in message.headers() or []]
        headers = [kept for header, text in headers if (kept := as_today(header, text))]
        found.append((message.partition(), message.offset(), message.key(), value, tuple(headers)))
    consumer.close()
    return [record[:1] + record[2:] for record in sorted(found, key=lambda record: record[:2])]


def as_today(header, text):
    """What 0.1.0 wrote as JSON is a list of names today, and absent where it is empty; so is a date that looks like JSON."""
    if header in ("d02.changed", "d02.invalid") and text.startswith(b"["):
        text = ",".join(json.loads(text)).encode()
    is_absent = header == "d02.changed" and not text
    is_absent |= header.endswith("due_date") and (text.strip() == b"null" or text.strip().startswith((b"[", b"{")))
    return None if is_absent else (header, text)


def main(before, now, count="100000", seed="1"):
    rng = random.Random(int(seed))
    Upstream.rows = [row(number, rng) for number in range(int(count))]
    server = ThreadingHTTPServer(("127.0.0.1", 0), Upstream)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    base_url = f"http://127.0.0.1:{server.server_address[1]}"
    testbed = subprocess.Popen(
        ["target/release/examples/testbed"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    kafka, registry = (testbed.stdout.readline().strip().split("=", 1)[1] for _ in range(2))
    both = [read(build, f"odd-{which}", base_url, kafka, registry) for which, build in (("before", before), ("now", now))]
    testbed.stdin.close()
    differs = False
    for topic, expected in both[0].items():
        found = both[1][topic]
        different = [pair for pair in zip(expected, found) if pair[0] != pair[1]]
        print(f"{topic}: {len(expected)} and {len(found)} records, {len(different)} differ")
        for one, other in different[:3]:
            print(f"  before {one}\n  now    {other}")
        differs |= bool(different) or len(expected) != len(found)
    sys.exit(differs)


main(*sys.argv[1:])
