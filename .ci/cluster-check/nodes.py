"""Two nodes without a kubelet: what it would tell the API server of the pods that the scheduler gives to them. Nothing is started.

Arguments: the address of the API server, its certificate, a token, and a file for what was seen, a JSON object a line: what happened to
which pod, and how many there are then in its namespace: ready, wanted (not being ended), and all.

A pod is ready after READY seconds, or never where its image has the tag `never-ready`. A pod that is to end is gone after END seconds.
"""

import json
import ssl
import sys
import time
import urllib.error
import urllib.request

READY, END = 2, 2  # seconds
NODES = ("node-1", "node-2")
# Room for all pods of an update on one node.
CAPACITY = {"cpu": "4", "memory": "8Gi", "pods": "20", "ephemeral-storage": "20Gi"}
FORMS = {"PATCH": "application/strategic-merge-patch+json"}

server, certificate, token, seen = sys.argv[1:]
context = ssl.create_default_context(cafile=certificate)


def ask(method: str, path: str, body: dict | None = None) -> dict:
    headers = {"Authorization": f"Bearer {token}", "Content-Type": FORMS.get(method, "application/json")}
    request = urllib.request.Request(server + path, json.dumps(body).encode() if body else None, headers, method=method)
    with urllib.request.urlopen(request, timeout=10, context=context) as answer:
        return json.load(answer)


def now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def condition(kind: str, holds: bool = True) -> dict:
    return {"type": kind, "status": "True" if holds else "False", "lastTransitionTime": now()}


def join(name: str) -> None:
    labels = {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux"}
    try:
        ask("POST", "/api/v1/nodes", {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}})
    except urllib.error.HTTPError as error:
        if error.code != 409:
            raise
    ready = condition("Ready") | {"reason": "Said", "message": "by .ci/cluster", "lastHeartbeatTime": now()}
    ask("PATCH", f"/api/v1/nodes/{name}/status", {"status": {"capacity": CAPACITY, "allocatable": CAPACITY, "conditions": [ready]}})


def is_ready(pod: dict) -> bool:
    return any(one["type"] == "Ready" and one["status"] == "True" for one in pod["status"].get("conditions", []))


def run(pod: dict, number: int) -> None:
    ready = all(not container["image"].endswith(":never-ready") for container in pod["spec"]["containers"])
    containers = [
        {
            "name": container["name"],
            "image": container["image"],
            "imageID": container["image"],
            "ready": ready,
            "started": ready,
            "restartCount": 0,
            "state": {"running": {"startedAt": now()}},
        }
        for container in pod["spec"]["containers"]
    ]
    address = f"10.1.{number // 250}.{number % 250 + 1}"
    conditions = [condition("Initialized"), condition("ContainersReady", ready), condition("Ready", ready)]
    status = {"phase": "Running", "startTime": now(), "podIP": address, "podIPs": [{"ip": address}], "conditions": conditions}
    ask("PATCH", path_of(pod) + "/status", {"status": status | {"containerStatuses": containers}})


def path_of(pod: dict) -> str:
    return f"/api/v1/namespaces/{pod['metadata']['namespace']}/pods/{pod['metadata']['name']}"


def counts(pods: dict[str, dict], namespace: str) -> dict:
    here = [pod for pod in pods.values() if pod["metadata"]["namespace"] == namespace]
    wanted = [pod for pod in here if "deletionTimestamp" not in pod["metadata"]]
    return {"namespace": namespace, "ready": sum(map(is_ready, wanted)), "wanted": len(wanted), "all": len(here)}


def main() -> None:
    for node in NODES:
        join(node)
    states: dict[str, str] = {}
    since: dict[str, float] = {}
    namespaces: dict[str, str] = {}
    number = 0
    with open(seen, "a", buffering=1, encoding="utf-8") as log:
        while True:
            pods = {pod["metadata"]["uid"]: pod for pod in ask("GET", "/api/v1/pods")["items"]}
            # What was seen at once is told as it has to have been: one is ready before the next one ends.
            for uid, pod in sorted(pods.items(), key=lambda one: "deletionTimestamp" in one[1]["metadata"]):
                ends = "deletionTimestamp" in pod["metadata"]
                state = "ends" if ends else "ready" if is_ready(pod) else "placed" if pod["spec"].get("nodeName") else "made"
                if states.get(uid) != state:
                    states[uid], since[uid], namespaces[uid] = state, time.monotonic(), pod["metadata"]["namespace"]
                    said = {"at": time.monotonic(), "is": state, "pod": pod["metadata"]["name"], "node": pod["spec"].get("nodeName")}
                    log.write(json.dumps(said | {"image": pod["spec"]["containers"][0]["image"]} | counts(pods, namespaces[uid])) + "\n")
                waited = time.monotonic() - since[uid]
                try:
                    if state == "ends" and waited >= END:
                        ask("DELETE", path_of(pod), {"gracePeriodSeconds": 0, "preconditions": {"uid": uid}})
                    elif state == "placed" and waited >= READY and pod["status"]["phase"] == "Pending":
                        number += 1
                        run(pod, number)
                except urllib.error.HTTPError as error:
                    # It has gone, or is another one by now.
                    if error.code not in (404, 409):
                        raise
            for uid in states.keys() - pods.keys():
                log.write(json.dumps({"at": time.monotonic(), "is": "gone", "uid": uid} | counts(pods, namespaces[uid])) + "\n")
                del states[uid], since[uid], namespaces[uid]
            time.sleep(0.2)


main()
