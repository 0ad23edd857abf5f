#!/usr/bin/env python3
"""What upstream is asked in an hour, by two builds of the source side by side, in real time: 80 minutes.

    cargo build --release --example testbed --bins && benches/requests.py BEFORE target/release/d02-source

BEFORE and the other are two builds of the program; the simulators are of the second one.

Each build reads simulators of its own into topics of its own, with the defaults of the configuration. Counted is what the
simulators were asked: pages, logins and all.
"""

import json
import subprocess
import sys
import tempfile
import time
import urllib.request

MINUTES = 60
# Until sweeps are in step with what changes.
SETTLE = 14
CASES = {
    "at rest": ["--rows", "10000"],
    "10 changes a second": ["--rows", "200000", "--change-rate", "10"],
    "a bulk night: 35 changes a second, 1,000,000 in eight hours": ["--rows", "200000", "--change-rate", "35"],
    "a bulk update of 100,000 rows with one time": ["--rows", "100000"],
}
BULK = list(CASES)[-1]
# 0.1.0 reads a bulk update again at each poll, without end: a part of the hour shows it, and leaves the machine to the others.
BULK_MINUTES_BEFORE = 2


def ask(simulator, path, method="GET"):
    request = urllib.request.Request(f"{simulator}/simulator/{path}", method=method)
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


class Reading:
    """One build that reads one simulator."""

    def __init__(self, number, build, simulator, case, kafka, registry):
        self.simulator = subprocess.Popen(
            [simulator, "simulate", *CASES[case]],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        lines = iter(self.simulator.stdout.readline, "")
        settings = []
        for line in lines:
            settings.append(line)
            if line.startswith("password"):
                break
        self.url = settings[1].split('"')[1]
        directory = tempfile.gettempdir()
        configuration = f"{directory}/requests-{number}.toml"
        with open(configuration, "w") as file:
            file.writelines(settings)
        options = {
            "name": f"requests-{number}",
            "kafka.bootstrap_servers": kafka,
            "kafka.create_topics": "true",
            "schema_registry.url": registry,
            **{
                f"kafka.topics.{topic.replace('-', '_')}": f"{topic}-{number}"
                for topic in ("accounts", "cursor", "changes", "dead-letters")
            },
        }
        options = [part for key, value in options.items() for part in ("--set", f"{key}={value}")]
        with open(f"{directory}/requests-{number}.log", "w") as log:
            self.source = subprocess.Popen([build, "--config", configuration, *options, "run"], stderr=log)

    def counts(self):
        counts = ask(self.url, "counts")
        return counts["request_count"], counts["row_count"]

    def end(self):
        self.source.terminate()
        self.source.wait(20)
        self.simulator.kill()


def main(before, after):
    testbed = subprocess.Popen(
        ["target/release/examples/testbed"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    kafka, registry = (testbed.stdout.readline().strip().split("=", 1)[1] for _ in range(2))
    builds = {"before": before, "after": after}
    readings = {}
    for number, (case, build) in enumerate((case, build) for case in CASES for build in builds):
        readings[case, build] = Reading(number, builds[build], after, case, kafka, registry)
    time.sleep(60 * SETTLE)
    for build in builds:
        ask(readings[BULK, build].url, "lenders/lender-1/touch?count=100000", "POST")
    begun = {key: reading.counts() for key, reading in readings.items()}
    time.sleep(60 * BULK_MINUTES_BEFORE)
    rows = {}

    def end(key, minutes):
        reading = readings[key]
        assert reading.source.poll() is None, key
        now = reading.counts()
        reading.end()
        per_hour = [(now[part] - begun[key][part]) * 60 / minutes for part in range(2)]
        rows[key] = per_hour

    end((BULK, "before"), BULK_MINUTES_BEFORE)
    time.sleep(60 * (MINUTES - BULK_MINUTES_BEFORE))
    for key in readings:
        if key not in rows:
            end(key, MINUTES)
    testbed.stdin.close()
    print("| An hour | Requests before | Requests | Rows before | Rows |\n|---|---:|---:|---:|---:|")
    for case in CASES:
        (asked, shown), (asked_now, shown_now) = rows[case, "before"], rows[case, "after"]
        print(f"| {case} | {asked:,.0f} | {asked_now:,.0f} | {shown:,.0f} | {shown_now:,.0f} |")


main(*sys.argv[1:])
