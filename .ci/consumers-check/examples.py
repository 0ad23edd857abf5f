"""Does each example that is a folder give what upstream shows? examples.py DIRECTORY ROWS NAME…

A broker and a registry, a simulated upstream with two lenders, the source. Accounts change, are created and deleted; two transactions
that were rolled back lie side by side in the topics. Then `examples/NAME/run` is started, one after the other: it is given the
addresses, and prints the portfolio, a line of JSON for each currency, and with the argument `due-dates` each due date that moved.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import world
from hold import hold, problems
from records import Reader, name_of, read_to_end, roll_back

PROGRAM, TESTBED = "target/debug/d02-source", "target/debug/examples/testbed"
# The longest that an example may take, with what it fetches the first time.
PATIENCE = 900


def portfolio(accounts):
    """By currency, how many accounts and the sum of their balances in minor units."""
    count, balance = Counter(), Counter()
    for fields in accounts:
        count[fields["currency"]] += 1
        balance[fields["currency"]] += fields["balance_amount"] or 0
    return Counter({(currency, count[currency], balance[currency]): 1 for currency in count})


def moves(states):
    found = Counter()
    for before, after in zip(states, states[1:]):
        for key, now in after.items():
            if key in before and before[key]["due_date"] != now["due_date"]:
                found[key, before[key]["due_date"], now["due_date"]] += 1
    return found


def keys_of_the_uncommitted(servers):
    """The keys of `accounts` for whoever reads what was rolled back too."""
    return {message.key().decode() for message in read_to_end(servers, [name_of("accounts")], "read_uncommitted")}


class Example:
    def __init__(self, name, directory, testbed):
        self.path, self.log = Path("examples") / name / "run", directory / f"{name}.log"
        self.command, self.testbed = [self.path], testbed
        self.environment = os.environ | {
            "BOOTSTRAP_SERVERS": testbed.servers,
            "SCHEMA_REGISTRY_URL": testbed.registry,
            "APICURIO_URL": testbed.registry.replace("/apis/ccompat/v7", "/apis/registry/v3"),
        }

    def lines(self, *arguments):
        """What it prints, and after how many seconds it had."""
        status, lines, _, took = self.ended(*arguments)
        if status != 0:
            problems.append(f"{self.path} {' '.join(arguments)} ended with {status}")
            print(f"  ✗ {problems[-1]}:\n{self.log.read_text()[-2000:]}", flush=True)
        return lines, took

    def ended(self, *arguments, patience=PATIENCE, **environment):
        """What it ended with (None: not within so many seconds), printed and said, and after how many seconds."""
        begun, before = time.monotonic(), self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("a") as log:
            process = world.start([*self.command, *arguments], env=self.environment | environment, stdout=subprocess.PIPE, stderr=log,
                                  stdin=subprocess.DEVNULL, start_new_session=True)
            try:
                output, _ = process.communicate(timeout=patience)
                status = process.returncode
            except BaseException as error:
                # With all that it has started.
                os.killpg(process.pid, signal.SIGTERM)
                if not isinstance(error, subprocess.TimeoutExpired):
                    raise
                output, status = process.communicate()[0], None
        said = self.log.read_bytes()[before:].decode(errors="replace")
        return status, [json.loads(line) for line in output.splitlines()], said, time.monotonic() - begun

    def gives_due_dates(self):
        return "due-dates" in self.path.read_text()


def main():
    directory, rows, names = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
    testbed = world.Testbed(TESTBED)
    upstream = world.Upstream(PROGRAM, rows)
    source = world.Source(PROGRAM, directory, testbed, upstream)
    reader, states = Reader(testbed.servers), []

    def note():
        state = upstream.state()
        reader.wait_for(state)
        states.append(state[0])

    note()
    for seed in range(3):
        upstream.change("touch", count=rows // 2, seed=seed)
        note()
    upstream.change("insert", count=20)
    note()
    roll_back(testbed.servers, reader)
    upstream.change("delete", count=5, seed=1)
    source.end()
    upstream.mend()
    source.command_once("reconcile", "--max-deletes", "1")
    final, _ = upstream.state()
    expected, moved = portfolio(final.values()), moves(states)
    # What is held against is nothing that a reader gets right by chance.
    uncommitted = keys_of_the_uncommitted(testbed.servers)
    assert len(uncommitted - final.keys()) >= 105, "there are records that were rolled back, and tombstones"
    print(f"{len(final)} accounts, {len(uncommitted)} keys for whoever reads what was rolled back, {moved.total()} due dates that moved")

    for name in names:
        example = Example(name, directory, testbed)
        lines, took = example.lines()
        found = Counter((line["currency"], line["accounts"], line["balance_minor"]) for line in lines)
        hold(f"{name}: the portfolio, {took:.1f} s", expected, found)
        if example.gives_due_dates():
            lines, took = example.lines("due-dates")
            found = Counter((line["public_id"], line["was"], line["is_now"]) for line in lines)
            hold(f"{name}: the due dates that moved, {took:.1f} s", moved, found)
    upstream.end()
    testbed.end()
    if problems:
        sys.exit(f"error: {len(problems)} of what the examples give is not true, or they failed; {directory} has the logs")


if __name__ == "__main__":
    main()
