"""A worker of Kafka Connect in distributed mode, as Maven Central has it, with a FileStreamSource: what a REST API is compared with."""

import hashlib
import http.client
import json
import os
import socket
import subprocess
from pathlib import Path
from typing import NamedTuple

import world

HERE = Path(__file__).parent
CONNECTOR = "source-lender-1"
CLASS = "org.apache.kafka.connect.file.FileStreamSourceConnector"
# The file lies in the folder that the worker is started in. Its topic is the connector's to make.
CONFIG = {
    "connector.class": CLASS,
    "tasks.max": "1",
    "file": "lender-1.txt",
    "topic": "connect-check.lender-1",
    "topic.creation.default.replication.factor": "1",
    "topic.creation.default.partitions": "1",
}
LINES = ["one", "two", "three"]


class Answer(NamedTuple):
    status: int
    headers: list
    body: bytes

    def json(self):
        """What it says; None where that is not JSON."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None


def ask(port, method, path, body=None, headers=None):
    """One request, by a connection of its own. The path is sent as it is."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=180)
    try:
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        return Answer(answer.status, answer.getheaders(), answer.read())
    finally:
        connection.close()


def fetch():
    """The worker's jars; they are fetched once."""
    pom = HERE / "pom.xml"
    jars = Path("target/ci-tools").absolute() / f"connect-{hashlib.sha256(pom.read_bytes()).hexdigest()[:12]}"
    if not (jars / "complete").exists():
        subprocess.run(["mvn", "--quiet", "--batch-mode", "--file", pom, "dependency:copy-dependencies", "-DincludeScope=runtime",
                        f"-DoutputDirectory={jars}"], check=True)
        (jars / "complete").touch()
    return jars


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


class Worker:
    """It answers when this returns, and has no connector. Its log and its source's file lie in the directory."""

    def __init__(self, servers, directory):
        self.port, self.log = free_port(), directory / "worker.log"
        (directory / CONFIG["file"]).write_text("".join(f"{line}\n" for line in LINES))
        command = ["java", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Dlog4j2.level=INFO", "-cp", f"{fetch()}/*",
                   "org.apache.kafka.connect.cli.ConnectDistributed", (HERE / "worker.properties").absolute()]
        environment = os.environ | {"BOOTSTRAP_SERVERS": servers, "WORKER_PORT": str(self.port)}
        with self.log.open("w") as log:
            self.process = world.start(command, cwd=directory, env=environment, stdout=log, stderr=log)
        world.wait_for(f"the worker; {self.log} tells", 180, self.is_ready)

    def is_ready(self):
        if self.process.poll() is not None:
            raise SystemExit(f"error: the worker ended with {self.process.returncode}:\n{self.log.read_text()[-2000:]}")
        try:
            return ask(self.port, "GET", "/health").status == 200
        except OSError:
            return False

    def create(self, name=CONNECTOR):
        """Its connector runs, and has read all lines, when this returns. Gives the answer to its creation."""
        body = json.dumps({"name": name, "config": CONFIG})
        created = ask(self.port, "POST", "/connectors", body, {"Content-Type": "application/json"})
        assert created.status == 201, created
        read = sum(len(line) + 1 for line in LINES)

        def has_read():
            offsets = ask(self.port, "GET", f"/connectors/{name}/offsets").json()
            return [entry["offset"]["position"] for entry in offsets.get("offsets", [])] == [read]

        world.wait_for("the offset behind the last line", 60, has_read)
        return created

    def end(self):
        world.end(self.process, 60)
