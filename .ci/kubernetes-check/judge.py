"""Do the manifests fit the source? Arguments: the kind of what runs its pods, what kustomize made of them, the Secret with
placeholders, the configuration as `config show` shows it to a pod, the Pod of a command.

The schemas say what Kubernetes takes; this, whether names, ports, paths and files on both sides are the same.
"""

import json
import re
import sys
import tomllib
from urllib.parse import urlsplit

import yaml

MUST_END_WITHIN = 10  # seconds, after SIGTERM: docs/operations/running.md.
UPSTREAM_PORT = 443


def main() -> None:
    kind, rendered, secret, configuration, command = sys.argv[1:]
    resources = {resource["kind"]: resource for resource in yaml.safe_load_all(open(rendered, encoding="utf-8"))}
    secret = yaml.safe_load(open(secret, encoding="utf-8"))
    configuration = tomllib.load(open(configuration, "rb"))
    workload, policy = resources[kind]["spec"], resources["NetworkPolicy"]["spec"]
    pod = workload["template"]["spec"]
    labels = workload["template"]["metadata"]["labels"].items()
    container = pod["containers"][0]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    mounts = {mount["mountPath"]: volumes[mount["name"]] for mount in container["volumeMounts"]}
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    problems = []

    def want(holds: bool, problem: str) -> None:
        if not holds:
            problems.append(problem)

    want(pod["terminationGracePeriodSeconds"] > MUST_END_WITHIN, "it is killed before it can end")
    want(workload["selector"]["matchLabels"].items() <= labels, f"the {kind} does not select its own pods")
    want(policy["podSelector"].get("matchLabels", {}).items() == labels, "the NetworkPolicy does not select these pods alone")
    want(pod["serviceAccountName"] == resources["ServiceAccount"]["metadata"]["name"], "there is no such ServiceAccount")
    want(not pod["automountServiceAccountToken"], "a token is mounted")

    # Several of them.
    group = configuration["group"]
    want(workload["replicas"] == 2, "it is not two")
    want(group["mode"] == "shared", "each one that starts ends the other with 3")
    budget = resources["PodDisruptionBudget"]["spec"]
    want(budget["selector"].get("matchLabels", {}).items() == labels, "the PodDisruptionBudget does not select these pods alone")
    want(0 < budget["minAvailable"] < workload["replicas"], "the PodDisruptionBudget lets all be evicted, or none")
    for spread in pod["topologySpreadConstraints"]:
        want(spread["labelSelector"].get("matchLabels", {}).items() == labels, "pods are spread by the labels of others")
        want(spread["whenUnsatisfiable"] == "ScheduleAnyway", "with one node there is one pod")
    if kind == "Deployment":
        rolling = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
        want(workload["strategy"] == rolling, "an update ends a pod before another one is ready")
        want("instance_id" not in group, "all pods are one static member")
    else:
        service = resources["Service"]
        want(workload["serviceName"] == service["metadata"]["name"], "there is no such Service")
        want(service["spec"].get("clusterIP") == "None", "the Service is not headless")
        want(service["spec"]["selector"].items() == labels, "the Service does not select these pods alone")
        want(workload["podManagementPolicy"] == "Parallel", "a pod waits until another one is ready")
        name = {"name": "D02__GROUP__INSTANCE_ID", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}
        want(name in container["env"], "no pod is a static member of its own name")
        session = int(group["session_timeout"].removesuffix("s"))
        want(session >= 2 * pod["terminationGracePeriodSeconds"], "the session ends before the pod can be back")

    # Probes, and who listens.
    listen = configuration["http"]["listen"].rsplit(":", 1)
    want(listen[0] in ("0.0.0.0", "[::]"), "the probes do not reach http.listen")
    pages = re.findall(r'^        "(/\w+)" => Site::', open("src/http/site.rs", encoding="utf-8").read(), re.MULTILINE)
    for probe, path in ("startupProbe", "/livez"), ("livenessProbe", "/livez"), ("readinessProbe", "/readyz"):
        asked = container[probe]["httpGet"]
        want(asked["path"] == path and path in pages, f"{probe}: its path is not {path}, or nothing answers there")
        want(str(ports.get(asked["port"])) == listen[1], f"{probe}: nothing listens on port {asked['port']}")
    for rule in policy["ingress"]:
        for port in rule["ports"]:
            want(port["port"] in ports, f"NetworkPolicy: nothing listens on port {port['port']}")

    # Files.
    path = container["args"][container["args"].index("--config") + 1]
    directory, file = path.rsplit("/", 1)
    config_map = resources["ConfigMap"]
    want(mounts.get(directory, {}).get("configMap", {}).get("name") == config_map["metadata"]["name"], f"no ConfigMap is at {directory}")
    want(file in config_map["data"], f"the ConfigMap has no {file}")
    keys = set(secret.get("stringData", {}))
    files = set(secret_files(configuration))
    for wanted in files:
        directory, key = wanted.rsplit("/", 1)
        mounted = mounts.get(directory, {}).get("secret", {}).get("secretName")
        want(mounted == secret["metadata"]["name"] and key in keys, f"no Secret brings {wanted}")
    want(len(files) == len(keys), "the Secret has keys that the configuration does not ask for")

    # A command.
    command = json.load(open(command, encoding="utf-8"))
    ran = command["spec"]["containers"][0]
    want(command["metadata"]["labels"].items() == labels, "the NetworkPolicy does not select the Pod of a command")
    want(command["spec"]["restartPolicy"] == "Never", "a command is run again and again")
    want(not [name for name in ran if name.endswith("Probe")], "a command is asked whether it lives")
    want(ran["args"] == ["--config", path, "cursor", "reset", "acme"], f"a command is run with {ran['args']}")
    for same in "volumes", "securityContext", "serviceAccountName":
        want(command["spec"][same] == pod[same], f"the Pod of a command has other {same}")

    # Egress.
    allowed = {port["port"] for rule in policy["egress"] for port in rule["ports"]}
    wanted = {int(broker.rsplit(":", 1)[1]) for broker in configuration["kafka"]["bootstrap_servers"].split(",")}
    wanted |= {urlsplit(configuration["schema_registry"]["url"]).port, UPSTREAM_PORT, 53}
    want(wanted == allowed, f"NetworkPolicy: egress to {sorted(allowed)}, needed is {sorted(wanted)}")

    # The image.
    user = re.search(r"^USER (\d+):(\d+)$", open("Dockerfile", encoding="utf-8").read(), re.MULTILINE).groups()
    context = pod["securityContext"]
    want((str(context["runAsUser"]), str(context["runAsGroup"])) == user, "it does not run as the image's user")
    want(context["fsGroup"] == context["runAsGroup"], "it cannot read the Secret's files")
    version = tomllib.load(open("Cargo.toml", "rb"))["package"]["version"]
    want(container["image"].rsplit(":", 1)[1] == version, f"the image is not that of version {version}")

    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    sys.exit(1 if problems else None)


def secret_files(table: dict):
    for key, value in table.items():
        if isinstance(value, dict):
            yield from secret_files(value)
        elif key.endswith("_file"):
            yield value


main()
