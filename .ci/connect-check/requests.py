"""The requests by which one REST API is compared with another, in the order in which they are to be sent.

They begin with a connector that runs, and has offsets. The word that a label begins with is the stage that the request belongs to. The
stages to "loggers" leave the connector and its config as they found them, but that it reads its source once more; those after them, which
the sources of other programs need not take part in, give it other configs and delete it.
"""

import json
from functools import partial
from typing import NamedTuple

NOPE = "nope"
TEXT = {"Content-Type": "text/plain"}
JSON = {"Content-Type": "application/json"}
RESTARTS = ["", "?includeTasks=true&onlyFailed=false", "?includeTasks=true&onlyFailed=true", "?includeTasks=false&onlyFailed=true"]


class Request(NamedTuple):
    label: str
    method: str
    path: str
    # What is sent as JSON; a text or bytes are sent as they are; a function makes it of the answers so far, by their labels.
    body: object = None
    headers: dict | None = None
    # Where there is one: to be asked again until this holds for the answer, which alone counts.
    until: object = None


def requests(name, plugin, config):
    """For a connector of this name, class and config."""
    connector, nope = f"/connectors/{name}", f"/connectors/{NOPE}"
    return [
        *worker(),
        *running(connector, name),
        *unknown(nope, config),
        *create(name, config),
        *configs(connector, name, config),
        *plugins(plugin, config),
        *http(connector, nope),
        *restart(connector),
        *offsets_at("offsets", connector),
        *paused(connector),
        *stopped(connector),
        *resumed(connector, name),
        *loggers(),
        *changed(connector, name, config),
        *failed(connector, config),
        *deleted(connector, name, config),
    ]


def reads(stage, connector):
    """What tells of a connector."""
    paths = ["", "/config", "/tasks", "/tasks/0/status", "/tasks/1/status", "/status", "/topics", "/offsets"]
    return [Request(f"{stage}: GET {path or '/connectors/{c}'}", "GET", connector + path) for path in paths]


def poll(stage, connector, state):
    """The connector is in a state, and its tasks; one that runs has tasks, and one that is stopped has none."""
    def is_reached(answer):
        tasks = {task["state"] for task in answer["tasks"]}
        usual = {"RUNNING": tasks == {state}, "STOPPED": not tasks}
        return answer["connector"]["state"] == state and usual.get(state, tasks <= {state})
    return Request(f"{stage}: status, when {state}", "GET", f"{connector}/status", until=is_reached)


def worker():
    expanded = ["status", "info", "status&expand=info", "nope", "status&expand=nope", "", "status,info"]
    paths = ["/", "/health", "/connectors", *(f"/connectors?expand={what}" for what in expanded)]
    return [Request(f"worker: GET {path}", "GET", path) for path in paths]


def running(connector, name):
    return [
        poll("running", connector, "RUNNING"),
        Request("running: topics, when there is one", "GET", f"{connector}/topics", until=lambda answer: answer[name]["topics"]),
        *reads("running", connector),
        Request("running: PUT /resume", "PUT", f"{connector}/resume"),
        Request("running: PUT /topics/reset", "PUT", f"{connector}/topics/reset"),
        Request("running: topics, when reset", "GET", f"{connector}/topics", until=lambda answer: not answer[name]["topics"]),
    ]


def unknown(nope, config):
    """All of them, for a connector that there is not."""
    alter = {"offsets": [{"partition": {"a": "b"}, "offset": {"c": 1}}]}
    return [
        *reads("unknown", nope),
        *(Request(f"unknown: PUT {path}", "PUT", nope + path) for path in ["/pause", "/resume", "/stop", "/topics/reset", "/fence"]),
        *(Request(f"unknown: POST /restart{query}", "POST", f"{nope}/restart{query}") for query in RESTARTS),
        Request("unknown: POST /tasks/0/restart", "POST", f"{nope}/tasks/0/restart"),
        Request("unknown: PATCH /offsets", "PATCH", f"{nope}/offsets", alter),
        Request("unknown: PATCH /offsets, of none", "PATCH", f"{nope}/offsets", {"offsets": []}),
        Request("unknown: PATCH /offsets, malformed", "PATCH", f"{nope}/offsets", "{"),
        Request("unknown: DELETE /offsets", "DELETE", f"{nope}/offsets"),
        Request("unknown: PATCH /config", "PATCH", f"{nope}/config", {"tasks.max": "1"}),
        Request("unknown: PUT /config, without a class", "PUT", f"{nope}/config", without(config, "connector.class")),
        Request("unknown: DELETE", "DELETE", nope),
    ]


def without(config, *names):
    return {name: value for name, value in config.items() if name not in names}


def create(name, config):
    """By POST, none of which may create one."""
    bodies = {
        "an existing name": {"name": name, "config": config},
        "an existing name, and unknown fields": {"name": name, "config": config, "nope": 1},
        "an existing name, and numbers in its config": {"name": name, "config": config | {"tasks.max": 1}},
        "an existing name, and an initial state": {"name": name, "config": config, "initial_state": "STOPPED"},
        "an unknown initial state": {"name": name, "config": config, "initial_state": "NOPE"},
        "another name in its config": {"name": name, "config": config | {"name": NOPE}},
        "no name": {"config": config},
        "an empty name": {"name": "", "config": config},
        "a name of two lines": {"name": "a\nb", "config": config},
        "no config": {"name": NOPE},
        "an empty config": {"name": NOPE, "config": {}},
        "a config that is null": {"name": NOPE, "config": None},
        "a config that is a list": {"name": NOPE, "config": []},
        "a list in its config": {"name": NOPE, "config": config | {"tasks.max": [1]}},
        "no class": {"name": NOPE, "config": without(config, "connector.class")},
        "an unknown class": {"name": NOPE, "config": config | {"connector.class": "nope.Nope"}},
        "an invalid config": {"name": NOPE, "config": config | {"tasks.max": "many"}},
        "two invalid values": {"name": NOPE, "config": config | {"tasks.max": "0", "errors.tolerance": "some"}},
        "malformed JSON": '{"name": ',
        "no object": "[]",
        "null": "null",
        "something behind its JSON": json.dumps({"name": name, "config": config}) + " nope",
        "nothing": None,
    }
    return [
        *(Request(f"create: POST with {what}", "POST", "/connectors", body) for what, body in bodies.items()),
        Request("create: POST as text/plain", "POST", "/connectors", json.dumps({"name": name, "config": config}), TEXT),
        Request("create: POST with an empty body that is JSON", "POST", "/connectors", "", JSON),
        Request("create: GET /connectors", "GET", "/connectors"),
    ]


def configs(connector, name, config):
    """By PUT and PATCH, none of which may change it."""
    bodies = {
        "no class": without(config, "connector.class"),
        "an unknown class": config | {"connector.class": "nope.Nope"},
        "an invalid value": config | {"tasks.max": "many"},
        "two invalid values": config | {"tasks.max": "0", "errors.tolerance": "some"},
        "another name": config | {"name": NOPE},
        "a list as a value": config | {"tasks.max": [1]},
        "malformed JSON": "{",
        "a list": "[]",
        "null": "null",
        "nothing": None,
    }
    return [
        *(Request(f"config: PUT with {what}", "PUT", f"{connector}/config", body) for what, body in bodies.items()),
        Request("config: PUT as text/plain", "PUT", f"{connector}/config", json.dumps(config), TEXT),
        *(Request(f"config: PATCH with {what}", "PATCH", f"{connector}/config", body) for what, body in {
            "an invalid value": {"tasks.max": "many"},
            "no class": {"connector.class": None},
            "malformed JSON": "{",
            "null": "null",
            "nothing": None,
        }.items()),
        Request("config: GET", "GET", f"{connector}/config"),
    ]


def plugins(plugin, config):
    short = plugin.rsplit(".", 1)[1]
    shorter = short.removesuffix("Connector")
    valid = config | {"name": "a"}
    bodies = {
        "a valid config": valid,
        "no name": config,
        "an unknown field": valid | {"nope": "nope"},
        "an invalid value": valid | {"tasks.max": "many"},
        "two invalid values": valid | {"tasks.max": "0", "errors.tolerance": "some"},
        "the class alone": {"connector.class": plugin},
        "the short class": valid | {"connector.class": short},
        "no class": without(valid, "connector.class"),
        "another class": valid | {"connector.class": "nope.Nope"},
        "a number": valid | {"tasks.max": 1},
        "a list as a value": valid | {"tasks.max": [1]},
        "an empty object": {},
        "malformed JSON": "{",
        "a list": "[]",
        "null": "null",
        "nothing": None,
    }
    validate = f"/connector-plugins/{plugin}/config/validate"
    return [
        *(Request(f"plugins: GET {path}", "GET", path) for path in [
            "/connector-plugins", "/connector-plugins?connectorsOnly=true", "/connector-plugins?connectorsOnly=false",
            "/connector-plugins?connectorsOnly=nope", f"/connector-plugins/{plugin}", f"/connector-plugins/{plugin}/config",
            f"/connector-plugins/{short}/config", f"/connector-plugins/{shorter}/config", "/connector-plugins/nope.Nope/config",
            f"/connector-plugins/{plugin}/config?version=nope",
        ]),
        *(Request(f"plugins: validate with {what}", "PUT", validate, body) for what, body in bodies.items()),
        Request("plugins: validate as text/plain", "PUT", validate, json.dumps(valid), TEXT),
        *(Request(f"plugins: validate for {one}, with the long class", "PUT", f"/connector-plugins/{one}/config/validate", valid)
          for one in [short, shorter, "nope.Nope"]),
        *(Request(f"plugins: validate for {one}, with no class", "PUT", f"/connector-plugins/{one}/config/validate", bodies["no class"])
          for one in [short, shorter, "nope.Nope"]),
        Request("plugins: POST validate", "POST", validate, valid),
        Request("plugins: GET validate", "GET", validate),
    ]


def http(connector, nope):
    """Paths, methods and headers that there are not."""
    name, status, resume = connector.rsplit("/", 1)[1], f"{connector}/status", f"{connector}/resume"
    elsewhere = {"Origin": "http://nope.example"}
    return [
        *(Request(f"http: GET {path.replace(connector, '/connectors/{c}')}", "GET", path) for path in [
            "/nope", "/Connectors", "/admin", "/metrics", "/favicon.ico", "/application.wadl", "/openapi.json", f"{connector}/nope",
            f"{status}/nope", f"{connector}/tasks-config", f"{connector}/tasks/0", f"{connector}/tasks/0/nope",
            f"{connector}/tasks/x/status", f"{connector}/tasks/-1/status", f"{connector}/tasks/99999999999/status",
            f"{status}?nope=nope", f"{status}?",
            # Slashes more than there should be, and dots.
            "/connectors/", f"{connector}/", f"{status}/", f"{connector}/offsets/", "/health/", "/connector-plugins/", "/admin/loggers/",
            "//", "//connectors", "/connectors//", f"/connectors//{name}/status", f"/connectors/./{name}/status",
            f"/connectors/x/../{name}/status",
            # Names that are written otherwise.
            f"/connectors/{name.replace('-', '%2D')}/status", f"/connectors/{name.upper()}/status", f"{connector};a=b/status",
            "/connectors/a%20b/status", "/connectors/a+b/status", "/connectors/%C3%A4/status", "/connectors/a%2Fb/status",
            "/connectors/a%00b/status", "/connectors/%zz/status", "/connectors/%ff/status",
        ]),
        *(Request(f"http: {method} {path}", method, path.replace("{c}", name)) for methods, paths in [
            ("PUT POST DELETE TRACE FOO get", ["/"]),
            ("PUT", ["/health", "/connector-plugins", "/admin/loggers"]),
            ("PUT PATCH DELETE", ["/connectors"]),
            ("POST PUT PATCH", ["/connectors/{c}"]),
            ("POST PUT DELETE", ["/connectors/{c}/status", "/connectors/{c}/topics"]),
            ("POST DELETE", ["/connectors/{c}/config"]),
            ("POST PUT", ["/connectors/{c}/offsets", "/connectors/{c}/tasks/0/status"]),
            ("PUT", ["/connectors/{c}/tasks"]),
            ("GET POST DELETE", [f"/connectors/{{c}}/{what}" for what in ("pause", "resume", "stop", "topics/reset", "fence")]),
            ("GET PUT", ["/connectors/{c}/restart", "/connectors/{c}/tasks/0/restart"]),
            ("POST", ["/connector-plugins", "/admin/loggers"]),
            ("POST PATCH DELETE", ["/admin/loggers/root"]),
            ("POST PUT PATCH DELETE", ["/nope", "/connectors/{c}/nope"]),
            ("HEAD OPTIONS", [
                "/", "/health", "/connectors", "/connectors/{c}", "/connectors/{c}/status", "/connectors/{c}/config",
                "/connectors/{c}/tasks", "/connectors/{c}/tasks/0/status", "/connectors/{c}/topics", "/connectors/{c}/topics/reset",
                "/connectors/{c}/offsets", "/connectors/{c}/pause", "/connectors/{c}/resume", "/connectors/{c}/stop",
                "/connectors/{c}/restart", "/connectors/{c}/tasks/0/restart", "/connectors/nope/status", "/nope",
                "/connector-plugins", "/admin/loggers", "/admin/loggers/root", "/admin/loggers/unknown.logger",
            ]),
        ] for path in paths for method in methods.split()),
        # What only workers may ask of each other.
        Request("http: PUT /fence", "PUT", f"{connector}/fence"),
        Request("http: POST /tasks", "POST", f"{connector}/tasks", []),
        *(Request(f"http: {method} {what} for {accepted}", method, path, None, {"Accept": accepted}) for method, what, path, accepted in [
            ("GET", "/", "/", "text/html"),
            ("GET", "/status", status, "text/html"),
            ("GET", "/status", status, "text/plain"),
            ("GET", "/status", status, "text/html,*/*;q=0.8"),
            ("GET", "/status", status, "application/*"),
            ("GET", "/status", status, "nope"),
            ("GET", "/status of nope", f"{nope}/status", "text/html"),
            ("GET", "/nope", "/nope", "text/html"),
            ("PUT", "/resume", resume, "text/html"),
            ("PUT", "/pause of nope", f"{nope}/pause", "text/html"),
        ]),
        *(Request(f"http: PUT /resume with {what}", "PUT", resume, body, headers) for what, body, headers in [
            ("text", "nope", TEXT),
            ("nothing, as text", None, TEXT),
            ("a form", "a=b", {"Content-Type": "application/x-www-form-urlencoded"}),
            ("an object", {}, None),
            ("malformed JSON", "{", None),
            ("something of no type", "nope", {}),
            ("something of an unknown type", "nope", {"Content-Type": "nope"}),
        ]),
        *(Request(f"http: PUT /config as {kind}", "PUT", f"{connector}/config", "{", {"Content-Type": kind}) for kind in [
            "application/json; charset=utf-8", "application/json; charset=nope", "application/problem+json", "text/json", "*/*"]),
        Request("http: PUT /config as nothing", "PUT", f"{connector}/config", "{", {}),
        Request("http: GET /status with a body", "GET", status, {"a": 1}),
        Request("http: GET / from elsewhere", "GET", "/", None, elsewhere),
        Request("http: OPTIONS / from elsewhere", "OPTIONS", "/", None, elsewhere | {"Access-Control-Request-Method": "PUT"}),
        Request("http: GET a path of 10,000 characters", "GET", "/" + "a" * 9_999),
        Request("http: GET / with a header of 10,000 characters", "GET", "/", None, {"X-Nope": "a" * 10_000}),
        Request("http: GET /status at last", "GET", status),
        Request("http: GET /config at last", "GET", f"{connector}/config"),
    ]


def restarts(stage, connector, state):
    """Each with the state that it leads to; a task is restarted where there is one."""
    return [
        *(request for query in RESTARTS for request in [
            Request(f"{stage}: POST /restart{query}", "POST", f"{connector}/restart{query}"),
            poll(f"{stage}{query}", connector, state),
        ]),
        Request(f"{stage}: POST /tasks/0/restart", "POST", f"{connector}/tasks/0/restart"),
        poll(f"{stage} of its task", connector, state),
        Request(f"{stage}: POST /tasks/9/restart", "POST", f"{connector}/tasks/9/restart"),
    ]


def restart(connector):
    return [
        *restarts("restart", connector, "RUNNING"),
        *(Request(f"restart: POST {path}", "POST", connector + path) for path in [
            "/tasks/x/restart", "/tasks/-1/restart", "/restart?includeTasks=nope", "/restart?includeTasks", "/restart?forward=nope"]),
        poll("restart at last", connector, "RUNNING"),
    ]


def offsets_at(stage, connector):
    """Where the connector is not stopped."""
    same = f"{stage}: GET /offsets, before"
    path = f"{connector}/offsets"

    def of(**fields):
        return lambda given: changed_entry(given[same], **fields)

    return [
        Request(same, "GET", path),
        Request(f"{stage}: PATCH /offsets, the same", "PATCH", path, lambda given: given[same]),
        Request(f"{stage}: PATCH /offsets, null", "PATCH", path, of(offset=None)),
        Request(f"{stage}: PATCH /offsets, of another partition", "PATCH", path, of(partition={"nope": "nope"})),
        Request(f"{stage}: PATCH /offsets, of none", "PATCH", path, {"offsets": []}),
        Request(f"{stage}: PATCH /offsets, malformed", "PATCH", path, "{"),
        Request(f"{stage}: PATCH /offsets, unknown field", "PATCH", path, lambda given: given[same] | {"nope": 1}),
        Request(f"{stage}: DELETE /offsets", "DELETE", path),
        Request(f"{stage}: GET /offsets, after", "GET", path),
    ]


def paused(connector):
    return [
        Request("paused: PUT /pause", "PUT", f"{connector}/pause"),
        poll("paused", connector, "PAUSED"),
        Request("paused: PUT /pause again", "PUT", f"{connector}/pause"),
        *reads("paused", connector),
        Request("paused: GET /connectors, expanded", "GET", "/connectors?expand=status&expand=info"),
        *restarts("paused, restart", connector, "PAUSED"),
        *offsets_at("paused", connector),
        Request("paused: PUT /resume", "PUT", f"{connector}/resume"),
        poll("paused no more", connector, "RUNNING"),
        Request("paused: PUT /resume again", "PUT", f"{connector}/resume"),
    ]


def changed_entry(given, **fields):
    """The first of the offsets with other fields; one that is ... is taken out."""
    first = given["offsets"][0] | fields
    return {"offsets": [{name: value for name, value in first.items() if value is not ...}]}


def with_numbers(given, digits):
    """The offsets, as text, with these digits for each number."""
    def mark(value):
        if isinstance(value, dict):
            return {name: mark(inner) for name, inner in value.items()}
        return "@" if isinstance(value, int) else value
    return json.dumps({"offsets": [entry | {"offset": mark(entry["offset"])} for entry in given["offsets"]]}).replace('"@"', digits)


def stopped(connector):
    path, before = f"{connector}/offsets", "stopped: GET /offsets, before"

    def of(change):
        return lambda given: change(given[before])

    def inside(field, **more):
        return of(lambda given: changed_entry(given, **{field: given["offsets"][0][field] | more}))

    bodies = {
        "nothing": None,
        "an empty body that is JSON": "",
        "malformed JSON": '{"offsets": [',
        "a list": "[]",
        "null": "null",
        "a text": '"nope"',
        "an empty object": {},
        "offsets that are null": {"offsets": None},
        "offsets that are an object": {"offsets": {}},
        "no offsets in its list": {"offsets": []},
        "null in its list": {"offsets": [None]},
        "an entry without fields": {"offsets": [{}]},
        "a text in its list": {"offsets": ["nope"]},
        "an unknown field": of(lambda given: given | {"nope": 1}),
        "an unknown field in an entry": of(lambda given: changed_entry(given, nope=1)),
        "no partition": of(lambda given: changed_entry(given, partition=...)),
        "a partition that is null": of(lambda given: changed_entry(given, partition=None)),
        "an empty partition": of(lambda given: changed_entry(given, partition={})),
        "a partition that is a text": of(lambda given: changed_entry(given, partition="nope")),
        "a wrong partition": of(lambda given: changed_entry(given, partition={"nope": "nope"})),
        "a wrong partition, and the right one": of(
            lambda given: {"offsets": given["offsets"] + changed_entry(given, partition={"nope": "nope"})["offsets"]}),
        "an offset that is a text": of(lambda given: changed_entry(given, offset="nope")),
        "an empty offset": of(lambda given: changed_entry(given, offset={})),
        "an offset of an unknown field alone": of(lambda given: changed_entry(given, offset={"nope": 1})),
        "something behind its JSON": of(lambda given: json.dumps(given) + " nope"),
        "bytes that are not UTF-8": b'{"offsets": [{"partition": {"\xff": 1}, "offset": null}]}',
    }
    numbers = {
        **{digits: digits for digits in ["-1", "0", "1.5", "1.0", "1e2", "1e400", "01", "NaN", "true", "null"]},
        "a text": '"1"', "a list": "[1]",
        "2^53 + 1": str(2**53 + 1), "2^63 - 1": str(2**63 - 1), "2^63": str(2**63), "10^30": str(10**30),
    }
    effective = {
        "the same": of(lambda given: given),
        "the same twice": of(lambda given: {"offsets": given["offsets"] * 2}),
        "an unknown field in the offset": inside("offset", nope=1),
        "an unknown field in the partition": inside("partition", nope=1),
        "null for that partition": of(
            lambda given: changed_entry(given, partition=given["offsets"][0]["partition"] | {"nope": 1}, offset=None)),
        "null for a partition that there is not": of(lambda given: changed_entry(given, partition={"nope": "nope"}, offset=None)),
        "a field twice": of(lambda given: json.dumps(given)[:-1] + ', "offsets": []}'),
        "no offset": of(lambda given: changed_entry(given, offset=...)),
        "the same once more": of(lambda given: given),
        "a null offset": of(lambda given: changed_entry(given, offset=None)),
        "the same after a null offset": of(lambda given: given),
        "1 MiB of spaces around it": of(lambda given: " " * 2**20 + json.dumps(given)),
        "10 MiB of spaces around it": of(lambda given: " " * (10 * 2**20) + json.dumps(given)),
        "1 MiB in it": inside("offset", nope="a" * 2**20),
    }

    return [
        Request("stopped: PUT /stop", "PUT", f"{connector}/stop"),
        poll("stopped", connector, "STOPPED"),
        Request("stopped: PUT /stop again", "PUT", f"{connector}/stop"),
        *reads("stopped", connector),
        Request("stopped: GET /connectors, expanded", "GET", "/connectors?expand=status&expand=info"),
        *restarts("stopped, restart", connector, "STOPPED"),
        Request("stopped: PUT /topics/reset", "PUT", f"{connector}/topics/reset"),
        Request(before, "GET", path),
        *(Request(f"stopped: PATCH with {what}", "PATCH", path, body, JSON if body == "" else None) for what, body in bodies.items()),
        Request("stopped: PATCH as text/plain", "PATCH", path, of(json.dumps), TEXT),
        Request("stopped: PATCH without a type", "PATCH", path, of(json.dumps), {}),
        Request("stopped: PATCH for text/html", "PATCH", path, of(json.dumps), JSON | {"Accept": "text/html"}),
        Request("stopped: GET /offsets, after those", "GET", path),
        *(request for what, digits in numbers.items() for request in [
            Request(f"stopped: PATCH with {what} for its numbers", "PATCH", path, of(partial(with_numbers, digits=digits))),
            Request(f"stopped: GET /offsets, after {what} for its numbers", "GET", path),
        ]),
        *(request for what, body in effective.items() for request in [
            Request(f"stopped: PATCH with {what}", "PATCH", path, body),
            Request(f"stopped: GET /offsets, after {what}", "GET", path),
        ]),
        Request("stopped: DELETE with a body", "DELETE", path, {"offsets": []}),
        Request("stopped: DELETE", "DELETE", path),
        Request("stopped: GET /offsets, after DELETE", "GET", path),
        Request("stopped: DELETE again", "DELETE", path),
        Request("stopped: PATCH with the same after DELETE", "PATCH", path, of(lambda given: given)),
        Request("stopped: DELETE at last", "DELETE", path),
        Request("stopped: PUT /pause", "PUT", f"{connector}/pause"),
        poll("stopped, then paused", connector, "PAUSED"),
        Request("stopped: PUT /stop out of a pause", "PUT", f"{connector}/stop"),
        poll("stopped out of a pause", connector, "STOPPED"),
    ]


def resumed(connector, name):
    """It reads its source again, for its offsets are gone."""
    return [
        Request("resumed: PUT /resume", "PUT", f"{connector}/resume"),
        poll("resumed", connector, "RUNNING"),
        Request("resumed: GET /offsets, when there are some", "GET", f"{connector}/offsets", until=lambda answer: answer["offsets"]),
        Request("resumed: GET /topics, when there is one", "GET", f"{connector}/topics", until=lambda answer: answer[name]["topics"]),
        *reads("resumed", connector),
    ]


def loggers():
    one = "/admin/loggers/org.apache.kafka.connect"

    def is_at(level):
        return lambda answer: answer["level"] == level

    bodies = {
        "a bad level": {"level": "NOPE"},
        "no level": {},
        "a level that is null": {"level": None},
        "a number as level": {"level": 1},
        "a list as level": {"level": ["DEBUG"]},
        "an unknown field alone": {"nope": "DEBUG"},
        "malformed JSON": "{",
        "a list": "[]",
        "null": "null",
        "nothing": None,
    }
    return [
        *(Request(f"loggers: GET {path}", "GET", path) for path in [
            "/admin/loggers", "/admin/loggers/root", "/admin/loggers/ROOT", "/admin/loggers/unknown.logger", one, "/admin/loggers/org"]),
        *(Request(f"loggers: PUT with {what}", "PUT", one, body) for what, body in bodies.items()),
        Request("loggers: PUT as text/plain", "PUT", one, '{"level": "DEBUG"}', TEXT),
        Request("loggers: PUT DEBUG", "PUT", one, {"level": "DEBUG"}),
        Request("loggers: GET at DEBUG", "GET", one),
        Request("loggers: PUT debug, and an unknown field", "PUT", one, {"level": "debug", "nope": "nope"}),
        Request("loggers: PUT by an unknown scope", "PUT", f"{one}?scope=nope", {"level": "WARN"}),
        Request("loggers: PUT by the scope worker", "PUT", f"{one}?scope=worker", {"level": "WARN"}),
        Request("loggers: PUT by the scope cluster, a bad level", "PUT", f"{one}?scope=cluster", {"level": "NOPE"}),
        Request("loggers: PUT by the scope cluster", "PUT", f"{one}?scope=cluster", {"level": "ERROR"}),
        Request("loggers: GET, when at ERROR", "GET", one, until=is_at("ERROR")),
        Request("loggers: PUT INFO by the scope CLUSTER", "PUT", f"{one}?scope=CLUSTER", {"level": "INFO"}),
        Request("loggers: GET, when at INFO", "GET", one, until=is_at("INFO")),
        Request("loggers: PUT for one that is unknown", "PUT", "/admin/loggers/unknown.logger", {"level": "INFO"}),
        Request("loggers: GET the one that was unknown", "GET", "/admin/loggers/unknown.logger"),
        *(Request(f"loggers: PUT {level}", "PUT", "/admin/loggers/unknown.logger", {"level": level})
          for level in ["TRACE", "WARN", "ERROR", "FATAL", "OFF", "ALL", "Info"]),
        Request("loggers: PUT root", "PUT", "/admin/loggers/root", {"level": "INFO"}),
        Request("loggers: GET all, after those", "GET", "/admin/loggers"),
    ]


def changed(connector, name, config):
    """Its config, changed and changed back."""
    return [
        Request("changed: PUT /config, the same", "PUT", f"{connector}/config", config),
        poll("changed to the same", connector, "RUNNING"),
        Request("changed: PUT /config, a value more", "PUT", f"{connector}/config", config | {"errors.log.enable": "true"}),
        poll("changed", connector, "RUNNING"),
        Request("changed: GET /config", "GET", f"{connector}/config"),
        Request("changed: PATCH /config", "PATCH", f"{connector}/config", {"errors.log.enable": "false"}),
        poll("changed by PATCH", connector, "RUNNING"),
        Request("changed: PATCH /config with {}", "PATCH", f"{connector}/config", {}),
        Request("changed: PATCH /config with null for a value", "PATCH", f"{connector}/config", {"errors.log.enable": None}),
        poll("changed back", connector, "RUNNING"),
        Request("changed: PATCH /config with another name", "PATCH", f"{connector}/config", {"name": NOPE}),
        poll("changed in its name", connector, "RUNNING"),
        Request("changed: GET /connectors, with another name", "GET", "/connectors?expand=info"),
        Request("changed: PUT /config, the same as at first", "PUT", f"{connector}/config", config),
        poll("changed back at last", connector, "RUNNING"),
        Request("changed: GET /config at last", "GET", f"{connector}/config"),
    ]


def failed(connector, config):
    """A task that fails, for its topic cannot be made."""
    bad = config | {"topic": "connect-check.never", "topic.creation.default.replication.factor": "9"}

    def has_failed(answer):
        return [task["state"] for task in answer["tasks"]] == ["FAILED"]

    def failure(after):
        return Request(f"failed: status, when its task is FAILED, {after}", "GET", f"{connector}/status", until=has_failed)

    return [
        Request("failed: PUT /stop", "PUT", f"{connector}/stop"),
        poll("failed, stopped before", connector, "STOPPED"),
        Request("failed: DELETE /offsets", "DELETE", f"{connector}/offsets"),
        Request("failed: PUT /config while stopped", "PUT", f"{connector}/config", bad),
        Request("failed: PUT /resume", "PUT", f"{connector}/resume"),
        failure("at first"),
        *reads("failed", connector),
        Request("failed: GET /connectors, expanded", "GET", "/connectors?expand=status"),
        Request("failed: POST /restart", "POST", f"{connector}/restart"),
        failure("after a restart of the connector alone"),
        Request(f"failed: POST /restart{RESTARTS[2]}", "POST", f"{connector}/restart{RESTARTS[2]}"),
        failure("after a restart of what has failed"),
        Request("failed: POST /tasks/0/restart", "POST", f"{connector}/tasks/0/restart"),
        failure("after a restart of its task"),
        Request("failed: PUT /pause", "PUT", f"{connector}/pause"),
        Request("failed: status, when the connector is PAUSED", "GET", f"{connector}/status",
                until=lambda answer: answer["connector"]["state"] == "PAUSED"),
        Request("failed: PUT /resume out of the pause", "PUT", f"{connector}/resume"),
        Request("failed: status, when the connector is RUNNING", "GET", f"{connector}/status",
                until=lambda answer: answer["connector"]["state"] == "RUNNING"),
        Request("failed: PUT /config, as it was", "PUT", f"{connector}/config", config),
        poll("failed no more", connector, "RUNNING"),
    ]


def deleted(connector, name, config):
    def gone(when):
        return Request(f"deleted: status, when there is none {when}", "GET", f"{connector}/status",
                       until=lambda answer: answer.get("error_code") == 404)

    return [
        Request("deleted: DELETE", "DELETE", connector),
        gone("after its end"),
        *reads("deleted", connector),
        Request("deleted: GET /connectors", "GET", "/connectors"),
        Request("deleted: GET /connectors, expanded", "GET", "/connectors?expand=status&expand=info"),
        Request("deleted: DELETE again", "DELETE", connector),
        Request("deleted: POST, STOPPED", "POST", "/connectors", {"name": name, "config": config, "initial_state": "STOPPED"}),
        poll("deleted, created again", connector, "STOPPED"),
        *reads("deleted, created STOPPED", connector),
        Request("deleted: DELETE a stopped one", "DELETE", connector),
        gone("again"),
        Request("deleted: PUT /config, which creates", "PUT", f"{connector}/config", config),
        poll("deleted, created by PUT", connector, "RUNNING"),
        Request("deleted: DELETE a running one", "DELETE", connector),
        gone("after that"),
        Request("deleted: POST", "POST", "/connectors", {"name": name, "config": config}),
        poll("deleted, created by POST", connector, "RUNNING"),
        Request("deleted: DELETE at last", "DELETE", connector),
    ]
