"""What a real worker answers to each of the requests. record.py DIRECTORY FILE

A broker and the worker run in DIRECTORY; the answers are written to FILE, a list of them, as JSON, in the order of the requests.
"""

import json
import sys
import time
from pathlib import Path

import requests
import worker
import world

TESTBED = "target/debug/examples/testbed"
# What is sent and is longer is written by its beginning and its length.
LONGEST = 2000
# How long a state may take, and how long it has to last to count, in seconds: the worker does some things after it has answered.
PATIENCE, LASTING = 60, 1


def body_of(request, given):
    """As it is sent, and its headers: a body is JSON unless its headers tell otherwise."""
    body, headers = request.body, request.headers
    if callable(body):
        body = body(given)
    if body is None:
        return None, headers or {}
    if not isinstance(body, (str, bytes)):
        body = json.dumps(body)
    return body if isinstance(body, bytes) else body.encode(), {"Content-Type": "application/json"} if headers is None else headers


def holds(until, answer):
    try:
        return bool(until(answer))
    except (AttributeError, KeyError, TypeError):
        # Another answer than the one that is waited for.
        return False


def answer_to(port, request, body, headers):
    first = since = time.monotonic()
    while True:
        answer = worker.ask(port, request.method, request.path, body, headers)
        now = time.monotonic()
        if request.until is None:
            return answer
        if not holds(request.until, answer.json()):
            since = now
        elif now > since + LASTING:
            return answer
        if now > first + PATIENCE:
            raise SystemExit(f"error: {request.label}: waited {PATIENCE} s in vain; it answers {answer}")
        time.sleep(0.2)


def shortened(sent):
    return sent if len(sent) <= LONGEST else f"{sent[:100]}… ({len(sent)} characters)"


def text(body):
    return body.decode(errors="backslashreplace")


def parsed(body):
    try:
        return json.loads(body)
    except ValueError:
        return text(body)


def record(port, request, given):
    """An answer as it is written down; what is JSON stands with the answers so far, too."""
    body, headers = body_of(request, given)
    written = {"label": request.label, "method": request.method, "path": shortened(request.path)}
    if headers:
        written["request_headers"] = {name: shortened(value) for name, value in headers.items()}
    # Its text: what is no JSON, and how a number is written, matters.
    written["request_body"] = None if body is None else shortened(text(body))
    try:
        answer = answer_to(port, request, body, headers)
    except OSError as error:
        return written | {"status": None, "error": str(error)}
    given[request.label] = answer.json()
    # Of its length, that there is one.
    told = {name: "present" if name == "Content-Length" else value for name, value in answer.headers if name not in ("Date", "Server")}
    return written | {"status": answer.status, "headers": told, "body": parsed(answer.body)}


def main():
    directory, file = Path(sys.argv[1]), Path(sys.argv[2])
    testbed = world.Testbed(TESTBED)
    real = worker.Worker(testbed.servers, directory)
    real.create()
    given, answers = {}, []
    for request in requests.requests(worker.CONNECTOR, worker.CLASS, worker.CONFIG):
        assert request.label not in given, request.label
        answers.append(record(real.port, request, given))
        # Whatever becomes of the rest.
        file.write_text(json.dumps(answers, indent=2, ensure_ascii=False) + "\n")
    real.end()
    testbed.end()


main()
