"""Do the examples of docs/consumers.md print what is true? judge.py DIRECTORY

Everything runs in DIRECTORY: a broker and a registry, a simulated upstream, the source, the examples. Accounts change
upstream, several times, and between two changes upstream's rows are read. What the examples print is held against these rows
alone. A transaction that was rolled back lies in the topics, so that an example that reads it too fails.
"""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from decimal import Decimal
from io import BytesIO
from pathlib import Path

import fastavro
import jsonschema
import yaml
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource

import world
from hold import hold, problems
from records import QUIET, TOPICS, Reader, name_of, roll_back

PROGRAM, TESTBED = "target/debug/d02-source", "target/debug/examples/testbed"
PYTHON, JAVA, CONNECT = "examples/python", "examples/java/target", "target/ci-tools/connect-api"
ROWS = 300
# Headers that no row of this upstream brings about.
UNSEEN = {"d02.regressed", "d02.republished", "d02.size"}


class Examples:
    """Runs them, in Python and in Java."""

    def __init__(self, directory, testbed):
        self.directory = directory
        self.environment = os.environ | {
            "BOOTSTRAP_SERVERS": testbed.servers,
            "SCHEMA_REGISTRY_URL": testbed.registry,
            "APICURIO_URL": testbed.registry.replace("/apis/ccompat/v7", "/apis/registry/v3"),
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def command(self, name, *arguments):
        if name.endswith(".py"):
            # A path of its own stands as it is.
            return [sys.executable, Path(PYTHON) / name, *arguments]
        options = ["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xmx128m", "-Dorg.slf4j.simpleLogger.defaultLogLevel=error"]
        return ["java", *options, "-cp", f"{JAVA}/classes:{JAVA}/dependency/*", name, *arguments]

    def lines(self, name, *arguments):
        with (self.directory / f"{Path(name).name}.err").open("a") as errors:
            done = subprocess.run(self.command(name, *arguments), env=self.environment, text=True, timeout=60,
                                  stdout=subprocess.PIPE, stderr=errors)
        if done.returncode != 0:
            problems.append(f"{name} ended with {done.returncode}")
        return [json.loads(line, parse_float=Decimal) for line in done.stdout.splitlines()]

    def start(self, name, **environment):
        out, err = (self.directory / f"{name}.{kind}" for kind in ("out", "err"))
        with out.open("a") as output, err.open("a") as errors:
            return world.start(self.command(name), env=self.environment | environment, stdout=output, stderr=errors)

    def printed(self, name):
        # The last line may still be on its way.
        whole_lines = (self.directory / f"{name}.out").read_text().rpartition("\n")[0]
        return [json.loads(line) for line in whole_lines.splitlines()]


class Schemas:
    """The registry, as far as it takes to decode and encode."""

    def __init__(self, url):
        self.url, self.by_id = url, {}

    def get(self, schema_id):
        if schema_id not in self.by_id:
            with urllib.request.urlopen(f"{self.url}/schemas/ids/{schema_id}", timeout=10) as answer:
                text = json.loads(answer.read())["schema"]
            self.by_id[schema_id] = (json.loads(text), fastavro.parse_schema(json.loads(text)))
        return self.by_id[schema_id]

    def decode(self, value):
        _, schema = self.get(int.from_bytes(value[1:5], "big"))
        return fastavro.schemaless_reader(BytesIO(value[5:]), schema)


def hold_to_document(reader, schemas, servers):
    """Every record against docs/asyncapi.yaml, and every topic."""
    document = yaml.safe_load(Path("docs/asyncapi.yaml").read_text())

    def found(node):
        return world_at(document, node["$ref"]) if "$ref" in node else node

    def world_at(node, reference):
        for part in reference.split("/")[1:]:
            node = node[part]
        return node

    def validator(schema):
        return jsonschema.Draft7Validator({"components": document["components"], **schema}) if schema else None

    seen, wrong = set(), Counter()
    for channel_name, topic in TOPICS.items():
        channel = document["channels"][channel_name]
        assert channel["address"] == name_of(topic), channel["address"]
        kinds = {}
        for message in map(found, channel["messages"].values()):
            payload = message["payload"]
            kinds[payload.get("type") == "null"] = (
                validator(message.get("headers", {"maxProperties": 0})),
                validator(message["bindings"]["kafka"]["key"]),
                payload if "schemaFormat" in payload else validator(payload),
            )
        for record in reader.records[name_of(topic)]:
            if (record.value() is None) not in kinds:
                wrong[f"{topic}: a value that is null, or that is not"] += 1
                continue
            headers, key, payload = kinds[record.value() is None]
            texts = {name: value.decode() for name, value in record.headers() or []}
            seen |= texts.keys()
            errors = [*headers.iter_errors(texts), *key.iter_errors(record.key() and record.key().decode())]
            if topic == "cursor" and record.value() is not None:
                errors += payload.iter_errors(json.loads(record.value()))
            elif isinstance(payload, dict):
                written, _ = schemas.get(int.from_bytes(record.value()[1:5], "big"))
                if written != json.loads((Path("docs") / payload["schema"]["$ref"]).read_text()):
                    wrong[f"{topic}: a schema that is not {payload['schema']['$ref']}"] += 1
            for error in errors:
                wrong[f"{topic}: {error.message[:200]}"] += 1
    records = sum(map(len, reader.records.values()))
    hold(f"all {records} records of the four topics are as docs/asyncapi.yaml says", Counter(), wrong)
    named = {name for message in document["components"]["messages"].values()
             for name in message.get("headers", {}).get("properties", {})}
    hold("every header that it names was seen, but for rare ones", named - UNSEEN, seen)

    admin = AdminClient(QUIET | {"bootstrap.servers": servers})
    topics = admin.list_topics(timeout=10).topics
    expected, actual = {}, {}
    for channel in document["channels"].values():
        resource = ConfigResource(ConfigResource.Type.TOPIC, channel["address"])
        settings = admin.describe_configs([resource])[resource].result(10)
        binding = channel["bindings"]["kafka"]
        for name, value in binding["topicConfiguration"].items():
            expected[channel["address"], name] = ",".join(value) if isinstance(value, list) else str(value)
            actual[channel["address"], name] = settings[name].value
        expected[channel["address"], "partitions"] = binding["partitions"]
        actual[channel["address"], "partitions"] = len(topics[channel["address"]].partitions)
    hold("the topics are as it says", expected, actual)


def hold_headers(servers, reader):
    """Every header by Connect's own default converter."""
    command = ["java", "-Xmx128m", "-cp", f"{CONNECT}/*:{JAVA}/dependency/*", "-Dorg.slf4j.simpleLogger.defaultLogLevel=error",
               ".ci/consumers-check/Headers.java", servers, *map(name_of, TOPICS.values())]
    done = subprocess.run(command, text=True, timeout=120, stdout=subprocess.PIPE, check=True)
    found = Counter()
    for line in done.stdout.splitlines():
        name, kind, count = line.rsplit(" ", 2)
        found[name, kind] += int(count)
    expected = Counter((name, "plain") for records in reader.records.values() for record in records for name, _ in record.headers() or [])
    hold(f"Connect's header converter takes each of {expected.total()} headers for text or a plain value", expected, found)


def hold_partitions(reader):
    places = {topic: {record.key(): record.partition() for record in reader.records[name_of(topic)]} for topic in ("accounts", "changes")}
    hold("each account is in the same partition of both topics", places["accounts"], places["changes"])


def true_moves(states):
    moves = Counter()
    for before, after in zip(states, states[1:]):
        for key, now in after.items():
            if key in before and before[key]["due_date"] != now["due_date"]:
                moves[key, before[key]["due_date"], now["due_date"], now["due_on"], now["balance_amount"]] += 1
    return moves


def true_trail(states, key):
    """What trail.py is to print, without the last line of an account that was deleted."""
    trail, before = [], None
    for state in states:
        now = state.get(key)
        if now is None or now == before:
            continue
        changed = sorted(name for name in world.TRACKED if before and before[name] != now[name])
        op = "u" if before else "r" if key in states[0] else "c"
        trail.append(trail_line(now["updated_at"], op, changed, before, now))
        before = now
    return trail, before


def trail_line(updated_at, op, changed, before, after):
    fields = {name: [before and before[name], after and after[name]] for name in ("balance_amount", "due_date", "status")}
    return {"updated_at": updated_at, "op": op, "changed": changed, **fields}


def true_portfolio(state):
    digits = {"SAR": 2, "AED": 2, "KWD": 3}
    count, balance = Counter(), Counter()
    for fields in state.values():
        group = (fields["currency"], fields["loan_type"], fields["status"])
        count[group] += 1
        balance[group] += fields["balance_amount"] or 0
    return Counter({
        (*group, count[group], balance[group], group[0] and f"{Decimal(balance[group]) / 10 ** digits[group[0]]:.{digits[group[0]]}f}"): 1
        for group in count
    })


def main():
    directory = Path(sys.argv[1])
    begun = time.monotonic()
    testbed = world.Testbed(TESTBED)
    upstream = world.Upstream(PROGRAM, ROWS)
    source = world.Source(PROGRAM, directory, testbed, upstream)
    reader, examples, schemas = Reader(testbed.servers), Examples(directory, testbed), Schemas(testbed.registry)
    database = str(directory / "due-dates.sqlite")

    # The listeners are there from the beginning, one in each language.
    python = examples.start("due_dates.py", DATABASE=database)
    java = examples.start("DueDates")

    states, bad = [], set()

    def note():
        state = upstream.state()
        reader.wait_for(state)
        states.append(state[0])
        bad.update(state[1])

    note()
    print(f"{len(states[0])} accounts read; they change upstream, after {time.monotonic() - begun:.1f} s")
    # Every third version of an account moves its due date.
    for _ in range(3):
        upstream.change("touch", count=ROWS)
        note()
    created = upstream.change("insert", count=20)
    note()
    created = [key for key in created if key in states[-1]]
    # A listener dies without a word, and its successor goes on: what it had not committed is delivered again.
    python.send_signal(signal.SIGKILL)
    python.wait()
    for seed in range(3):
        upstream.change("touch", count=ROWS * 2 // 3, seed=seed)
        note()
    roll_back(testbed.servers, reader)
    python = examples.start("due_dates.py", DATABASE=database)
    gone = [key for key in upstream.change("delete", count=5, seed=1) if key in states[-1]]
    source.end()
    upstream.mend()
    source.command_once("reconcile", "--max-deletes", "1")
    final, _ = upstream.state()

    print(f"The examples, after {time.monotonic() - begun:.1f} s")
    moves = true_moves(states)

    def table():
        rows = sqlite3.connect(database).execute("SELECT public_id, was, is_now, due_on, balance_minor FROM moved")
        return Counter(rows.fetchall())

    def java_moves():
        return Counter((line["public_id"], line["was"], line["is_now"], line["due_on"], line["balance_minor"])
                       for line in examples.printed("DueDates"))

    for group in ("due-dates", "due-dates-java"):
        world.wait_for(f"{group} to have read everything", 60, lambda: caught_up(reader, testbed.servers, group))
    # A JVM that ends in order at a SIGTERM says 143.
    hold("the listeners end in order", [0, 143], [world.end(python), world.end(java)])
    hold(f"DueDates.java has reacted to all {moves.total()} moves of a due date, once each, and to nothing else", moves, java_moves())
    hold("due_dates.py has, over a SIGKILL", moves, table())
    again = examples.start("due_dates.py", DATABASE=database, GROUP="once-more")
    world.wait_for("everything to be delivered again", 30, lambda: caught_up(reader, testbed.servers, "once-more"))
    world.end(again)
    hold("all of it delivered again changes nothing", moves, table())

    portfolio = true_portfolio(final)
    for name in ("portfolio.py", "Portfolio"):
        found = Counter(tuple(line.values()) for line in examples.lines(name))
        hold(f"{name}: {len(portfolio)} groups of {len(final)} accounts", portfolio, found)

    # A check that cannot fail proves nothing: copies with one mistake each must print something else.
    for mistake, right, wrong in (("reads what was rolled back", "read_committed", "read_uncommitted"),
                                  ("takes a tombstone for nothing", "accounts.pop(message.key(), None)", "pass")):
        broken = directory / "broken"
        shutil.copytree(PYTHON, broken)
        for path in broken.glob("*.py"):
            path.write_text(path.read_text().replace(right, wrong))
        found = Counter(tuple(line.values()) for line in examples.lines(str(broken / "portfolio.py")))
        hold(f"a portfolio.py that {mistake} is found out", True, bool(found) and found != portfolio)
        shutil.rmtree(broken)

    changes = Counter(key for before, after in zip(states, states[1:]) for key in after if before.get(key) != after[key])
    busiest = max((key for key in final if key in states[0]), key=lambda key: (changes[key], key))
    for what, key in (("changed most", busiest), ("created", created[0]), ("deleted", gone[0])):
        trail, last = true_trail(states, key)
        if key in gone:
            trail.append(trail_line(last["updated_at"], "d", [], last, None))
        for name in ("trail.py", "Trail"):
            found = examples.lines(name, key)
            found = [line | {"changed": sorted(line["changed"])} for line in found]
            hold(f"{name}: {len(trail)} records of an account that was {what}", trail, found)

    letters = Counter((lender, len(text.encode())) for lender, text in bad)
    found = examples.lines("dead_letters.py")
    hold(f"dead_letters.py: {len(bad)} rows", letters, Counter((line["lender"], line["bytes"]) for line in found))
    hold("each with a reason", True, all(line["reason"] for line in found))

    newest = {lender: max(fields["updated_at"] for fields in states[-1].values() if fields["lender"] == lender)
              for lender in upstream.public_ids.values()}
    expected = {lender: (None, 0, sum(fields["lender"] == lender for fields in final.values()), True) for lender in newest}
    found = {line["lender"]: (line["instance"], line["ranges"], line["accounts"], line["settled"] <= line["read"])
             for line in examples.lines("freshness.py")}
    hold("freshness.py: both lenders, read to the end and released", expected, found)

    reader.read_on()
    hold_partitions(reader)
    hold_headers(testbed.servers, reader)
    hold_to_document(reader, schemas, testbed.servers)
    upstream.end()
    testbed.end()
    if problems:
        sys.exit(f"error: {len(problems)} of what the examples print is not true, or they failed; {directory} has the logs")
    print(f"The examples print what is true, after {time.monotonic() - begun:.1f} s")


def caught_up(reader, servers, group):
    """Whether a group has committed all the records that there are in `changes`."""
    while reader.read_on():
        pass
    last = {}
    for record in reader.records[name_of("changes")]:
        last[record.partition()] = max(record.offset(), last.get(record.partition(), 0))
    consumer = Consumer(QUIET | {"bootstrap.servers": servers, "group.id": group})
    try:
        places = consumer.committed([TopicPartition(name_of("changes"), partition) for partition in last], 10)
        return all(place.offset > last[place.partition] for place in places)
    finally:
        consumer.close()


main()
