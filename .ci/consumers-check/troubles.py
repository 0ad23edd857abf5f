"""Does each example show the right thing of odd input, or say why not? troubles.py DIRECTORY ROWS NAME…

A broker and a registry, and no source: what a source writes seldom or never is written here, in its headers, frame, partitions and
transactions, and under the schemas of `avro/`. Each trouble has topics of its own (TOPIC_PREFIX), in which the odd records stand among
usual ones. An example that fails has to end with another status than 0, without a line of numbers, and to say what it could not do, and where.
"""

import copy
import http.server
import json
import os
import re
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections import Counter
from datetime import date, datetime, timedelta, timezone
from hashlib import sha256
from io import BytesIO
from pathlib import Path

import fastavro
import world
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from examples import TESTBED, Example, portfolio
from hold import hold, problems
from records import QUIET

# So long a transaction stays open, at most, in seconds: as after a crash of the source, and a little more.
OPEN = 75
# The longest that an example may take until it says that it cannot, in seconds.
PATIENCE_OF_FAILURES = 300
LENDER = "66a1f0c2a1b2c3d4e5f60001"
LAST_DAY = date(9999, 12, 31)
# What they do about a transaction that is open. Where one waits for its end, its README says so.
AT_ONCE = "gives what was committed before it"
WAIT = {"flink": "waits, and says so"}


def schema(name):
    return json.loads(Path(f"avro/{name}.avsc").read_text())


def later(node):
    """A later version of a schema: accounts, wherever they stand, have a field more, which may be null."""
    node = copy.deepcopy(node)
    if isinstance(node, list):
        return [later(one) for one in node]
    if isinstance(node, dict):
        node = {name: later(value) for name, value in node.items()}
        if node.get("name") == "Account":
            node["fields"].insert(7, {"name": "collector", "type": ["null", "string"], "default": None, "doc": "Who calls."})
    return node


class Topics:
    """`accounts` and `changes` of a trouble, and what is true of them: the accounts as they are, and the due dates that moved."""

    def __init__(self, testbed, trouble):
        self.prefix, self.servers = f"{trouble}.d02.", testbed.servers
        self.registry = SchemaRegistryClient({"url": testbed.registry})
        self.accounts, self.moved, self.writers = {}, Counter(), {}
        client = AdminClient(QUIET | {"bootstrap.servers": testbed.servers})
        kinds = {"accounts": "compact", "changes": "delete"}
        made = client.create_topics([NewTopic(self.prefix + name, 6, config={"cleanup.policy": kind}) for name, kind in kinds.items()])
        for one in made.values():
            one.result(30)
        self.use(lambda schema: schema)
        for name in kinds:
            # As `setup` does.
            self.registry.set_compatibility(self.subject(name), "FULL_TRANSITIVE")
        self.producer = self.transactional("source")

    def subject(self, topic):
        return f"{self.prefix}{topic}-value"

    def use(self, version):
        """Registers a version of both schemas. What comes is written by it."""
        for topic, name in (("accounts", "account"), ("changes", "account_change")):
            content = version(schema(name))
            identifier = self.registry.register_schema(self.subject(topic), Schema(json.dumps(content), "AVRO"))
            self.writers[topic] = (identifier, fastavro.parse_schema(content))

    def transactional(self, name):
        producer = Producer(QUIET | {"bootstrap.servers": self.servers, "transactional.id": f"{self.prefix}{name}",
                                     "transaction.timeout.ms": 240_000, "partitioner": "murmur2_random", "compression.type": "lz4"})
        producer.init_transactions(30)
        return producer

    def value(self, topic, content):
        identifier, parsed = self.writers[topic]
        out = BytesIO(b"\0" + identifier.to_bytes(4, "big"))
        out.seek(5)
        fastavro.schemaless_writer(out, parsed, content)
        return out.getvalue()

    def write(self, accounts, producer=None, counts=True):
        """Versions of accounts with their changes, in the transaction of a producer, or in one of its own."""
        own = producer is None
        producer = producer or self.producer
        if own:
            producer.begin_transaction()
        for account in accounts:
            key, before = account["public_id"], self.accounts.get(account["public_id"])
            op = "u" if before else "r"
            milliseconds = int(account["updated_at"].timestamp() * 1000)
            headers = [("__op", op), ("__source_ts_ms", str(milliseconds)), ("d02.lender", LENDER),
                       ("d02.digest", "xxh3-1:" + sha256(repr(account).encode()).hexdigest()[:16])]
            producer.produce(self.prefix + "accounts", self.value("accounts", account), key, headers=headers)
            changed = [name for name in world.TRACKED if before and before[name] != account[name]]
            if changed:
                headers.append(("d02.changed", ",".join(changed)))
            if "due_date" in changed:
                headers += [("d02.previous_due_date", before["due_date"]), ("d02.due_date", account["due_date"])]
            change = {"public_id": key, "lender_public_id": LENDER, "op": op, "updated_at": account["updated_at"],
                      "previous_updated_at": before and before["updated_at"], "changed": changed,
                      "before": before and {name: before[name] for name in [*world.TRACKED, "due_date_parsed"]}, "after": account}
            producer.produce(self.prefix + "changes", self.value("changes", change), key, headers=headers)
            if counts:
                self.accounts[key] = account
                if "due_date" in changed:
                    self.moved[key, before["due_date"], account["due_date"]] += 1
        if own:
            producer.commit_transaction(30)

    def bury(self, keys):
        """Deletions, as reconciliation writes them."""
        self.producer.begin_transaction()
        for key in keys:
            before = self.accounts.pop(key, None)
            headers = [("__op", "d"), ("d02.lender", LENDER)]
            self.producer.produce(self.prefix + "accounts", None, key, headers=headers)
            change = {"public_id": key, "lender_public_id": LENDER, "op": "d", "updated_at": NOW, "previous_updated_at": None,
                      "changed": [], "before": before and {name: before[name] for name in [*world.TRACKED, "due_date_parsed"]}, "after": None}
            self.producer.produce(self.prefix + "changes", self.value("changes", change), key, headers=headers)
        self.producer.commit_transaction(30)


NOW = datetime(2026, 11, 30, 12, tzinfo=timezone.utc)


def account(number, **fields):
    """One as most are."""
    made = {name: number * 1_000 + place for place, name in enumerate(world.AMOUNTS)} | {
        "public_id": f"{number:024x}", "lender_public_id": LENDER, "updated_at": NOW + timedelta(seconds=number),
        "currency": (None, "SAR", "KWD", "AED", "SAR")[number % 5], "due_date": None, "due_date_parsed": None, "loan_type": "CREDIT_CARD",
        "status": "IN_COLLECTION", "delinquent_days_on_submission": 30,
    }
    if number % 7 == 0:
        made["balance_amount"] = None
    return due(made, date(2026, 12, 1) + timedelta(days=number % 28)) | fields


def due(account, day):
    return account | {"due_date": f"{day:%d/%m}/{day.year:04}", "due_date_parsed": day}


def usual(topics, rows):
    """What stands in the topics in each trouble: accounts, due dates that moved, some that are gone, and what was rolled back."""
    topics.write([account(number) for number in range(1, rows + 1)])
    topics.write([due(account(number), date(2027, 1, number % 28 + 1)) for number in range(1, rows, 3)])
    topics.bury([account(number)["public_id"] for number in range(2, 12)])
    topics.producer.begin_transaction()
    topics.write(never(topics), topics.producer, counts=False)
    # All of it is to be in the topics first: what is not sent yet is dropped.
    assert topics.producer.flush(30) == 0
    topics.producer.abort_transaction(30)


def never(topics):
    """Balances and due dates that never are, of accounts that there are and of others; in each partition, so many are they."""
    ghosts = [due(account(number, balance_amount=777_777), date(2028, 2, 29)) for number in range(100_000, 100_050)]
    return ghosts + [due(one | {"balance_amount": 888_888}, date(2028, 2, 29)) for one in list(topics.accounts.values())[:50]]


class Portfolio(Example):
    """examples/python: no folder with a `run`. Its portfolio is by kind of loan and status, too."""

    def __init__(self, directory, testbed):
        super().__init__("python", directory, testbed)
        self.path = Path("examples/python/portfolio.py")
        self.command = [sys.executable, self.path]


def totals(lines):
    count, balance = Counter(), Counter()
    for line in lines:
        count[line["currency"]] += line["accounts"]
        balance[line["currency"]] += line["balance_minor"]
    return Counter({(currency, count[currency], balance[currency]): 1 for currency in count})


def gives(name, example, topics, **environment):
    """The portfolio, and the due dates that moved where it knows them: exactly what is true."""
    status, lines, said, took = example.ended(TOPIC_PREFIX=topics.prefix, **environment)
    held(f"{name}: the portfolio, {took:.1f} s", portfolio(topics.accounts.values()), status, totals(lines), said)
    if example.gives_due_dates():
        status, lines, said, took = example.ended("due-dates", TOPIC_PREFIX=topics.prefix, **environment)
        held(f"{name}: the due dates that moved, {took:.1f} s", topics.moved, status, moves(lines), said)


def moves(lines):
    return Counter((line["public_id"], line["was"], line["is_now"]) for line in lines)


def held(what, expected, status, found, said):
    hold(what, expected, found if status == 0 else f"status {status}, after {found.total()} rows: {said[-1500:]}")


def says_why(what, ended, *words):
    """It failed in time, gave no numbers, and its last words say all of these: those after `error:`, or of an exception."""
    status, lines, said, took = ended
    last = [line for line in said.splitlines() if re.match(r'error:|[\w.]+Error:|Exception in thread "main"', line)][-1:]
    missing = [word for word in words if not (last and re.search(word, last[0]))]
    found = "a status of 0" if status == 0 else "no end" if status is None else "an error"
    if missing:
        found += f" that does not say {missing}: {said[-1500:]}"
    hold(f"{what}, {took:.1f} s: {last[0][:200] if last else ''}", ("an error", []), (found, lines))


def free_port():
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


def at(port):
    """The environment of an example whose registry is there."""
    return {"SCHEMA_REGISTRY_URL": f"http://127.0.0.1:{port}/apis/ccompat/v7", "APICURIO_URL": f"http://127.0.0.1:{port}/apis/registry/v3"}


def place(port):
    """The address in whatever words: `127.0.0.1:1`, `host='127.0.0.1', port=1`."""
    return rf"127\.0\.0\.1\D{{1,12}}{port}\b"


class DyingRegistry:
    """Passes on what it is asked, and is gone when a second schema is wanted: the connection ends, and then the port refuses."""

    def __init__(self, testbed):
        origin, first, dying = testbed.registry.removesuffix("/apis/ccompat/v7"), set(), self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                wanted = re.search(r"/ids/(?:\w+/)?(\d+)", self.path)
                if wanted and first and wanted[1] not in first:
                    dying.is_dead = True
                    # Not waited for: it waits for this.
                    threading.Thread(target=dying.server.shutdown).start()
                    dying.server.socket.close()
                    return
                if wanted:
                    first.add(wanted[1])
                try:
                    with urllib.request.urlopen(origin + self.path, timeout=30) as answer:
                        status, kind, body = answer.status, answer.headers["Content-Type"], answer.read()
                except urllib.error.HTTPError as answer:
                    status, kind, body = answer.code, answer.headers["Content-Type"], answer.read()
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.is_dead = False
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_port
        threading.Thread(target=self.server.serve_forever, args=[0.1], daemon=True).start()


class OpenTransaction:
    """A transaction that stays open, and committed records behind it. It is rolled back in the end: at the latest after OPEN seconds."""

    def __init__(self, topics, number):
        self.topics, self.seen = topics, (portfolio(topics.accounts.values()), topics.moved.copy())
        self.producer = topics.transactional(f"open-{number}")
        self.producer.begin_transaction()
        topics.write(never(topics), self.producer, counts=False)
        assert self.producer.flush(30) == 0
        # Behind it: nobody can read on to these before it ends.
        begun = 1_000 * (number + 1)
        topics.write([account(number) for number in range(begun, begun + 50)])
        topics.write([due(account(number), date(2027, 3, 3)) for number in range(begun, begun + 50)])
        self.has_ended = False
        self.lock = threading.Lock()
        self.timer = threading.Timer(OPEN, self.end)
        self.timer.start()

    def end(self):
        self.timer.cancel()
        with self.lock:
            if not self.has_ended:
                self.producer.abort_transaction(30)
            self.has_ended = True


def open_transaction(name, example, topics):
    """What was committed before it, at once; or, of those that wait, all that is committed once it has ended."""
    for number, arguments in enumerate([[], ["due-dates"]] if example.gives_due_dates() else [[]]):
        transaction = OpenTransaction(topics, number)
        status, lines, said, took = example.ended(*arguments, TOPIC_PREFIX=topics.prefix)
        waited = transaction.has_ended
        transaction.end()
        find = moves if arguments else totals
        expected = (topics.moved if arguments else portfolio(topics.accounts.values())) if waited else transaction.seen[len(arguments)]
        held(f"{name}: {'due dates' if arguments else 'the portfolio'}, {took:.1f} s", expected, status, find(lines), said)
        waits = "waits, and says so" if "behind a transaction that is open" in said else "waits without a word"
        hold(f"{name}: {WAIT.get(name, AT_ONCE)}", WAIT.get(name, AT_ONCE), waits if waited else AT_ONCE)


class Database:
    """A PostgreSQL, as the examples start one, to look into tables that an example has left."""

    def __init__(self):
        script = 'set -euo pipefail; . examples/run.bash; . examples/postgresql; start_postgresql >&2; echo "$DATABASE_URL"; cat'
        environment = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
        self.process = world.start(["bash", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                   env=environment)
        self.url = self.process.stdout.readline().strip()
        assert self.url, "PostgreSQL did not start"

    def ask(self, query):
        command = ["psql", "--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--set", "ON_ERROR_STOP=1", "--command", query, self.url]
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=60).stdout.split()

    def end(self):
        self.process.stdin.close()
        self.process.wait(30)


def dead_registry(name, example, topics):
    port = free_port()
    ended = example.ended(TOPIC_PREFIX=topics.prefix, patience=PATIENCE_OF_FAILURES, **at(port))
    says_why(f"{name}: dead from the start", ended, place(port), "schema|registry")
    dying = DyingRegistry(example.testbed)
    ended = example.ended(TOPIC_PREFIX=topics.prefix, patience=PATIENCE_OF_FAILURES, **at(dying.port))
    hold(f"{name}: it asked for a second schema", True, dying.is_dead)
    says_why(f"{name}: dead on the way", ended, place(dying.port), "schema|registry")


# Where an example keeps the days in a table: that of each account, or of each move, to the last day.
TABLES = {
    "collections": "SELECT due_on FROM collections.task WHERE is_now = '31/12/9999'",
    "jdbc-sink": "SELECT due_date_parsed FROM d02_accounts WHERE due_date = '31/12/9999'",
}


def last_day(name, example, topics):
    if name not in TABLES:
        gives(name, example, topics)
        return
    database = Database()
    gives(name, example, topics, DATABASE_URL=database.url)
    expected = sum(one["due_date_parsed"] == LAST_DAY for one in topics.accounts.values())
    hold(f"{name}: the day in the table", [LAST_DAY.isoformat()] * expected, database.ask(TABLES[name]))
    database.end()


def write_later_schema(topics):
    topics.use(later)
    topics.write([due(account(number, collector="Aisha"), date(2027, 2, 2)) for number in range(20, 60)])
    topics.write([account(number, collector=None) for number in range(5_000, 5_020)])


def write_unknown_tombstone(topics):
    # So many that each partition has some.
    topics.bury([account(number)["public_id"] for number in range(7_000, 7_060)])


def write_last_day(topics):
    topics.write([due(topics.accounts[account(number)["public_id"]], LAST_DAY) for number in range(20, 30)])


def write_large_amounts(topics):
    # 2^53 + 1 is the first that a double has not; the sums are no doubles either.
    topics.write([account(number, currency="KWD", balance_amount=2**53 + 1) for number in (20, 21, 22)])
    topics.write([account(6_000, currency="JPY", balance_amount=2**53 + 1), account(6_001, currency="BHD", balance_amount=2**63 - 1),
                  account(6_002, currency="OMR", balance_amount=-(2**63))])


def write_large_sums(topics):
    topics.write([account(number, currency="BHD", balance_amount=2**63 - 1) for number in range(6_000, 6_003)])


# What is put to each, what is written for it, and what has to be seen.
TROUBLES = {
    "later-schema": ("records of a later version of the schema", write_later_schema, gives),
    "dead-registry": ("a registry that is dead", write_later_schema, dead_registry),
    "unknown-tombstone": ("a tombstone of a key that was never seen", write_unknown_tombstone, gives),
    "last-day": ("a due date in the year 9999", write_last_day, last_day),
    "large-amounts": ("amounts beyond 2^53", write_large_amounts, gives),
    "large-sums": ("a sum beyond 2^63", write_large_sums, gives),
    "open-transaction": (f"a transaction that is open for {OPEN} s", lambda topics: None, open_transaction),
}


def main():
    directory, rows, names = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
    only = os.environ.get("D02_TROUBLES", "").split() or TROUBLES
    testbed = world.Testbed(TESTBED)
    for name in names:
        example = Portfolio(directory, testbed) if name == "python" else Example(name, directory, testbed)
        for trouble in only:
            words, write, check = TROUBLES[trouble]
            print(f"{name}: {words}", flush=True)
            # Of its own, for what one example meets is not to be what another has left.
            topics = Topics(testbed, f"{name}-{trouble}")
            usual(topics, rows)
            write(topics)
            check(name, example, topics)
    testbed.end()
    if problems:
        sys.exit(f"error: {len(problems)} of what the examples make of odd input is not as it has to be; {directory} has the logs")


if __name__ == "__main__":
    main()
