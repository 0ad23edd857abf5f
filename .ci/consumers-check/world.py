"""What the examples are tried in: a broker, a registry, an upstream, the source. And what upstream says is true.

Nothing here is shared with the source: the rows are read by the Exports API, by rules written down once more.
"""

import ctypes
import json
import os
import re
import signal
import subprocess
import time
import urllib.request
from datetime import date, datetime
from decimal import Decimal

LENDERS = ["lender-1", "lender-2"]
AMOUNTS = ["total_amount", "balance_amount", "actual_balance_amount", "paid_amount", "balance_principal_amount",
           "balance_interest", "balance_fee", "minimum_due_amount"]
TRACKED = [*AMOUNTS, "currency", "due_date", "status", "delinquent_days_on_submission"]


def start(command, **options):
    """A process that ends with this one, however this one ends."""
    def with_parent():
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    return subprocess.Popen(command, text=True, preexec_fn=with_parent, **options)


def wait_for(what, seconds, check):
    deadline = time.monotonic() + seconds
    while not (answer := check()):
        if time.monotonic() > deadline:
            raise SystemExit(f"error: waited {seconds} s in vain: {what}")
        time.sleep(0.1)
    return answer


def end(process, seconds=20):
    process.terminate()
    return process.wait(seconds)


class Testbed:
    """Kafka and a registry, as the tests have them."""

    def __init__(self, program):
        self.process = start([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        lines = dict(self.process.stdout.readline().strip().split("=", 1) for _ in range(2))
        self.servers, self.registry = lines["BOOTSTRAP_SERVERS"], lines["SCHEMA_REGISTRY_URL"]

    def end(self):
        self.process.stdin.close()
        self.process.wait(30)


class Upstream:
    """A simulator with two lenders, and its control requests."""

    def __init__(self, program, rows, bad_rate=0.02):
        self.process = start(
            [program, "simulate", f"--lenders={len(LENDERS)}", f"--rows={rows}", "--odd-rate=0.1", f"--bad-rate={bad_rate}"],
            stdout=subprocess.PIPE,
        )
        self.config = ""
        # The last line that it prints at its start.
        while f'password = "secret-{len(LENDERS)}"' not in self.config:
            self.config += self.process.stdout.readline()
        self.url = re.search(r'base_url = "(.*)"', self.config)[1]
        self.public_ids = dict(zip(LENDERS, re.findall(r'public_id = "(.*)"', self.config)))
        self.logins = {}

    def ask(self, path, method="GET", body=None, **headers):
        body = body and json.dumps(body).encode()
        if body:
            headers["Content-Type"] = "application/json"
        request = urllib.request.Request(self.url + path, body, headers, method=method)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.read().decode()

    def change(self, what, **parameters):
        """A control request for each lender; gives the ids."""
        query = "&".join(f"{name}={value}" for name, value in parameters.items())
        answers = [self.ask(f"/simulator/lenders/{lender}/{what}?{query}", "POST") for lender in LENDERS]
        return [public_id for answer in answers for public_id in json.loads(answer)["ids"]]

    def state(self):
        """Accounts by id, and the texts of rows that are none with their lenders, as upstream shows them now."""
        accounts, bad = {}, set()
        for lender in LENDERS:
            listed = json.loads(self.ask(f"/simulator/lenders/{lender}/rows"))["rows"]
            texts = self.rows(lender)
            assert len(listed) == len(texts), "upstream stands still"
            for row, text in zip(listed, texts):
                if row["kind"] == "bad":
                    bad.add((self.public_ids[lender], text))
                else:
                    accounts[row["id"]] = account(json.loads(text, parse_float=Decimal), self.public_ids[lender])
        return accounts, bad

    def mend(self):
        """Takes out the rows that are no accounts: one that does not say whose it is keeps everybody from being deleted."""
        for lender in LENDERS:
            listed = json.loads(self.ask(f"/simulator/lenders/{lender}/rows"))["rows"]
            for row in listed:
                if row["kind"] == "bad":
                    self.ask(f"/simulator/lenders/{lender}/delete?id={row['id']}", "POST")

    def rows(self, lender):
        """The text of each row, by the Exports API."""
        if lender not in self.logins:
            body = {"email": f"exports@{lender}.example", "password": f"secret-{lender[-1]}"}
            self.logins[lender] = json.loads(self.ask(f"/admin/auth/{lender}/login", "POST", body))
        login = self.logins[lender]
        login = login.get("body", login)
        path = f"/admin/v3/lenders/{login['lenderPublicId']}/exports/S1/D02?limit=1000"
        texts, cursor = [], ""
        while cursor is not None:
            page = self.ask(path + (cursor and f"&cursor={cursor}"), Authorization=f"Bearer {login['token']}")
            texts.extend(elements(page, '"rows":['))
            cursor = json.loads(page)["body"]["pagination"]["nextCursor"]
        return texts

    def end(self):
        end(self.process)


def elements(text, opening):
    """The elements of a JSON array, each as it is written."""
    at, found, decoder = text.index(opening) + len(opening), [], json.JSONDecoder()
    while text[at] != "]":
        _, after = decoder.raw_decode(text, at)
        found.append(text[at:after])
        at = after + (text[after] == ",")
    return found


def whole(value):
    return int(value) if isinstance(value, (int, Decimal)) and not isinstance(value, bool) and value == int(value) else None


def label(value):
    """A text, or the digits of a code that has no label."""
    is_code = isinstance(value, int) and not isinstance(value, bool)
    return str(value) if is_code else value if isinstance(value, str) else None


def day(text):
    found = re.fullmatch(r"(\d\d)/(\d\d)/(\d{4})", text or "")
    try:
        return found and date(int(found[3]), int(found[2]), int(found[1])).isoformat()
    except ValueError:
        return None


def account(row, lender):
    """What a row is to be as an account, as far as the examples show it."""
    texts = {name: row.get(name) if isinstance(row.get(name), str) else None for name in ("currency", "due_date")}
    moment = datetime.fromisoformat(row["updated_at"])
    return {
        **{name: whole(row.get(name)) for name in [*AMOUNTS, "delinquent_days_on_submission"]},
        **texts,
        "status": label(row.get("status")),
        "loan_type": label(row.get("loan_type")),
        "due_on": day(texts["due_date"]),
        "lender": lender,
        "updated_at": int(moment.timestamp()) * 1000 + moment.microsecond // 1000,
    }


class Source:
    """The program under `run`, or, where it does not run, for its other commands."""

    def __init__(self, program, directory, testbed, upstream, runs=True):
        self.command = [program, "--config", str(directory / "d02-source.toml")]
        (directory / "d02-source.toml").write_text(
            f'[kafka]\nbootstrap_servers = "{testbed.servers}"\n\n[schema_registry]\nurl = "{testbed.registry}"\n\n'
            + upstream.config.replace("[upstream]\n", '[upstream]\npoll_interval = "250ms"\n')
        )
        # Nothing that configures the user's own source may reach this one.
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("D02__")}
        self.log = directory / "d02-source.log"
        if not runs:
            return
        self.command_once("setup")
        with self.log.open("a") as log:
            self.process = start([*self.command, "run"], env=self.environment, stdout=log, stderr=log)

    def end(self):
        status = end(self.process)
        if status != 0:
            raise SystemExit(f"error: the source ended with {status}:\n{self.log.read_text()[-2000:]}")

    def command_once(self, *arguments):
        if (status := self.status(*arguments)) != 0:
            raise SystemExit(f"error: {arguments} ended with {status}:\n{self.log.read_text()[-2000:]}")

    def status(self, *arguments):
        """What a command ends with."""
        return self.ended(arguments).returncode

    def output(self, *arguments):
        """What a command prints."""
        return self.ended(arguments, check=True, stdout=subprocess.PIPE, text=True).stdout

    def ended(self, arguments, **options):
        with self.log.open("a") as log:
            options = {"stdout": log, "stderr": log} | options
            return subprocess.run([*self.command, *arguments], env=self.environment, timeout=60, **options)
