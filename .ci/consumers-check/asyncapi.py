"""Does docs/asyncapi.yaml hold? asyncapi.py SCHEMA, where SCHEMA is AsyncAPI's own JSON schema for version 3.0.0.

- It is valid by that schema, with the Avro schemas that it refers to in their places (AsyncAPI's schema has Avro's).
- Every reference leads somewhere, each payload in Avro to the .avsc file of its topic, and that is a schema by fastavro, too.
- It has every header that the source names, and no other.

Then each of a few broken copies must be refused: a check that cannot fail proves nothing.
"""

import copy
import json
import re
import sys
from pathlib import Path

import fastavro
import jsonschema
import yaml

DOCUMENT = Path("docs/asyncapi.yaml")
PAYLOADS = {"account": "avro/account.avsc", "accountChange": "avro/account_change.avsc"}


def load(path):
    return yaml.safe_load(path.read_text())


def at(document, pointer):
    """What a JSON pointer leads to."""
    for part in pointer.split("/")[1:]:
        document = document[part.replace("~1", "/").replace("~0", "~")]
    return document


def resolved(document, node=None):
    """A copy in which what stands in other files is in its place; references within the document stay."""
    node = document if node is None else node
    if isinstance(node, dict):
        target = node.get("$ref")
        if target is not None and not target.startswith("#"):
            return load(DOCUMENT.parent / target)
        return {name: resolved(document, value) for name, value in node.items()}
    if isinstance(node, list):
        return [resolved(document, value) for value in node]
    return node


def references(node, place="#"):
    if isinstance(node, dict):
        for name, value in node.items():
            if name == "$ref":
                yield place, value
            yield from references(value, f"{place}/{name}")
    elif isinstance(node, list):
        for number, value in enumerate(node):
            yield from references(value, f"{place}/{number}")


def headers_of_source():
    """The names of headers that stand in the program as texts, tests' made-up ones included: there are none."""
    names = set()
    for path in Path("src").rglob("*.rs"):
        if "simulator" in path.parts or path.parts[1] == "config":
            continue
        for name in re.findall(r'"(d02\.[a-z_]+|__[a-z_.]+)"', path.read_text()):
            names.add(name)
    # Topics in unit tests.
    return names - {"d02.accounts", "d02.dead"}


def headers_of(document):
    messages = document["components"]["messages"].values()
    return {name for message in messages for name in message.get("headers", {}).get("properties", {})}


def problems(document, validator):
    found = []
    for place, target in references(document):
        try:
            at(document, target[1:]) if target.startswith("#") else load(DOCUMENT.parent / target)
        except (KeyError, TypeError, OSError):
            found.append(f"{place}: there is no {target}")
    if found:
        return found
    for error in validator.iter_errors(resolved(document)):
        deepest = jsonschema.exceptions.best_match([error])
        found.append(f"#/{'/'.join(map(str, deepest.absolute_path))}: {deepest.message[:300]}")
    if found:
        return found
    for name, message in document["components"]["messages"].items():
        payload = message["payload"]
        is_avro = "avro" in payload.get("schemaFormat", "")
        target = is_avro and payload["schema"].get("$ref")
        if is_avro != (name in PAYLOADS) or (is_avro and target != f"../{PAYLOADS[name]}"):
            found.append(f"{name}: its payload is not {PAYLOADS.get(name, 'without Avro')}")
    for missing in sorted(headers_of_source() - headers_of(document)):
        found.append(f"the source has a header {missing}")
    for surplus in sorted(headers_of(document) - headers_of_source()):
        found.append(f"the source has no header {surplus}")
    return found


def without(pointer):
    def change(document):
        parent, name = pointer.rsplit("/", 1)
        del at(document, parent)[name]
    return change


def put(pointer, value):
    def change(document):
        parent, name = pointer.rsplit("/", 1)
        at(document, parent)[name] = value
    return change


BROKEN = {
    "no title": without("/info/title"),
    "a misspelt key": put("/chanels", {}),
    "an action that does not exist": put("/operations/writeAccounts/action", "publish"),
    "a topic setting of the wrong type": put("/channels/changes/bindings/kafka/topicConfiguration/retention.ms", "400d"),
    "a message that does not exist": put("/channels/accounts/messages/account/$ref", "#/components/messages/acount"),
    "a file that does not exist": put("/components/messages/account/payload/schema/$ref", "../avro/acount.avsc"),
    "the schema of another topic": put("/components/messages/account/payload/schema/$ref", "../avro/account_change.avsc"),
    "an Avro schema that is none": put("/components/messages/account/payload/schema", {"type": "rekord", "name": "Account"}),
    "a header that is missing": without("/components/messages/accountChange/headers/properties/d02.changed"),
    "a header that nobody writes": put("/components/messages/account/headers/properties/d02.colour", {"type": "string"}),
}


def main():
    schema = json.loads(Path(sys.argv[1]).read_text())
    validator = jsonschema.Draft7Validator(schema)
    for path in PAYLOADS.values():
        fastavro.parse_schema(json.loads(Path(path).read_text()))
    document = load(DOCUMENT)
    found = problems(document, validator)
    for change in BROKEN:
        broken = copy.deepcopy(document)
        BROKEN[change](broken)
        if not found and not problems(broken, validator):
            found.append(f"{change}: not refused")
    if found:
        sys.exit("\n".join(f"error: {DOCUMENT}: {problem}" for problem in found))
    print(f"{DOCUMENT} holds; {len(BROKEN)} broken copies were refused")


main()
