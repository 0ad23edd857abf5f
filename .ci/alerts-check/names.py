"""Is every metric that rules, their tests and the dashboard ask for one of those in docs/operations/metrics.md, with labels that it
has, and has every rule its section in docs/operations/alerts.md? Arguments: these two, the rules, their tests, the dashboard. Prints
the dashboard's expressions as rules, for promtool to read.
"""

import json
import re
import sys

# What an expression may name that is neither a metric nor a function.
GROUPING = re.compile(r"\b(?:by|without|on|ignoring)\s*\(([^)]*)\)")
# What Prometheus adds to the labels of the source's own.
ADDED = {"job", "instance"}


def main() -> None:
    table, sections, rules, tests, dashboard = (open(path, encoding="utf-8").read() for path in sys.argv[1:])
    metrics = described(table)
    anchors = {anchor(line.lstrip("#").strip()) for line in sections.splitlines() if re.match(r"#{2,4} ", line)}
    problems = []

    expressions = {f"rule {name}": expression for name, expression in rule_expressions(rules)}
    expressions |= dict(dashboard_expressions(json.loads(dashboard)))
    expressions |= {f"test of {series}": series for series in re.findall(r"- series: (.+)", tests)}
    for where, expression in expressions.items():
        problems += [f"{where}: {problem}" for problem in wrong_names(expression, metrics)]

    names = re.findall(r"^ *- alert: (\S+)$", rules, re.MULTILINE)
    for name in names:
        if f"runbook: docs/operations/alerts.md#{name.lower()}\n" not in rules:
            problems.append(f"rule {name}: its runbook is not docs/operations/alerts.md#{name.lower()}")
        if name.lower() not in anchors:
            problems.append(f"rule {name}: docs/operations/alerts.md has no section {name}")
        if f"runbook: docs/operations/alerts.md#{name.lower()}\n" not in tests:
            problems.append(f"rule {name}: it fires in no test")
    for heading in re.findall(r"^#+ (D02\w+)$", sections, re.MULTILINE):
        if heading not in names:
            problems.append(f"docs/operations/alerts.md: there is no rule {heading}")
    if not names or not metrics:
        problems.append("nothing was found to look at")
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    # What Grafana puts in place of its variables.
    shown = [expression.replace("$__rate_interval", "1m") for where, expression in expressions.items() if where.startswith("panel ")]
    rules = [{"record": f"dashboard:{number}", "expr": expression} for number, expression in enumerate(shown)]
    print(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    sys.exit(1 if problems else None)


def described(table: str) -> dict[str, set[str]]:
    """The metrics of the table, which a test holds to src/metrics.rs, and their labels."""
    metrics = {}
    for name, kind, labels in re.findall(r"^\| `(d02_\w+)` \| (\w+) \| ([\w, ]+) \|", table, re.MULTILINE):
        labels = set(labels.split(", ")) - {"none"}
        names = [name] if kind != "histogram" else [f"{name}_{part}" for part in ("bucket", "sum", "count")]
        for name in names:
            metrics[name] = labels | ({"le"} if name.endswith("_bucket") else set())
    return metrics


def anchor(heading: str) -> str:
    """As GitHub makes one of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def rule_expressions(rules: str):
    for rule in re.split(r"^ *- alert: ", rules, flags=re.MULTILINE)[1:]:
        yield rule.split("\n")[0], re.search(r"expr: (.*?)\n +(?:for|labels):", rule, re.DOTALL)[1]


def dashboard_expressions(dashboard: dict):
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            yield f"panel {panel['title']} {target['refId']}", target["expr"]
    for variable in dashboard["templating"]["list"]:
        asked, label = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["definition"]).groups()
        yield f"variable {variable['name']}", f"{asked}{{{label}=''}}"


def wrong_names(expression: str, metrics: dict[str, set[str]]):
    found = re.findall(r"\b(d02_\w+)(?:\{([^}]*)\})?", expression)
    labels_of_all = set.union(*[metrics.get(name, set()) for name, _ in found]) if found else set()
    for name, matchers in found:
        if name not in metrics:
            yield f"there is no metric {name}"
            continue
        for label in re.findall(r"(\w+)\s*(?:=|!)[=~]?", matchers):
            if label not in metrics[name] | ADDED:
                yield f"{name} has no label {label}"
    for group in GROUPING.findall(expression):
        for label in filter(None, re.split(r"[,\s]+", group)):
            if found and label not in labels_of_all | ADDED:
                yield f"there is no label {label}"


main()
