"""Does a source go on where its topics were mirrored to? mirror.py DIRECTORY JARS

Two clusters and one registry. A source fills the topics of the old one, and two transactions are rolled back there; it ends, and its
cursors are exported. MirrorMaker 2 copies the rest by the runbook's settings; the cursors are imported, and the source goes on there.
Then the same into a third cluster by MirrorMaker's default isolation level, where a start must refuse.
"""

import sys
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace

import world
from hold import hold, problems
from records import Reader, name_of, read_to_end, roll_back

PROGRAM, TESTBED = "target/debug/d02-source", "target/debug/examples/testbed"
COPIED = ["accounts", "changes", "dead-letters"]


def mirror(directory, jars, old, new, settings):
    """MirrorMaker 2 from the one to the other."""
    file = directory / "mirror.properties"
    internal = ["offset.storage", "status.storage", "config.storage", "offset-syncs.topic", "checkpoints.topic", "heartbeats.topic"]
    file.write_text("\n".join([
        "clusters=old,new",
        f"old.bootstrap.servers={old.servers}",
        f"new.bootstrap.servers={new.servers}",
        "old->new.enabled=true",
        "new->old.enabled=false",
        "topics=" + ",".join(name_of(topic) for topic in COPIED),
        "emit.heartbeats.enabled=false",
        "emit.checkpoints.enabled=false",
        "refresh.topics.interval.seconds=5",
        # One broker each.
        "replication.factor=1",
        *(f"{name}.replication.factor=1" for name in internal),
        *settings,
    ]) + "\n")
    with (directory / "mirror.log").open("w") as log:
        return world.start(["java", "-Xmx512m", "-cp", f"{jars}/*", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
                            "org.apache.kafka.connect.mirror.MirrorMaker", file], stdout=log, stderr=log)


def contents(servers):
    """Of each topic, by partition, what is committed, in order."""
    found = defaultdict(list)
    for record in read_to_end(servers, map(name_of, COPIED), "read_committed"):
        place = (record.topic(), record.partition())
        found[place].append((record.key(), record.value(), tuple(record.headers() or ()), record.timestamp()))
    return found


def main():
    directory, jars = Path(sys.argv[1]), sys.argv[2]
    old, new, other = (world.Testbed(TESTBED) for _ in range(3))
    upstream = world.Upstream(PROGRAM, 1000)
    source = world.Source(PROGRAM, directory, old, upstream)
    reader = Reader(old.servers)
    for seed in range(3):
        reader.wait_for(upstream.state())
        upstream.change("touch", count=300, seed=seed)
    reader.wait_for(upstream.state())
    roll_back(old.servers, reader)
    source.end()
    cursors = {lender: source.output("cursor", "export", lender) for lender in world.LENDERS}
    committed = contents(old.servers)

    def at(cluster, name, settings):
        """The configured source there, with what MirrorMaker copies; it does not run yet."""
        place = directory / name
        place.mkdir()
        copier = mirror(place, jars, old, cluster, settings)
        count = sum(map(len, committed.values()))

        def is_copied():
            assert copier.poll() is None, f"MirrorMaker ended: {(place / 'mirror.log').read_text()[-2000:]}"
            return sum(map(len, contents(cluster.servers).values())) >= count

        world.wait_for(f"{name}: {count} records", 180, is_copied)
        world.end(copier, 60)
        moved = world.Source(PROGRAM, place, SimpleNamespace(servers=cluster.servers, registry=old.registry), upstream, runs=False)
        moved.command_once("setup")
        for lender, record in cursors.items():
            file = place / f"{lender}.json"
            file.write_text(record)
            moved.command_once("cursor", "import", lender, file)
        return moved

    policy = "replication.policy.class=org.apache.kafka.connect.mirror.IdentityReplicationPolicy"
    moved = at(new, "new", [policy, "old.consumer.isolation.level=read_committed"])
    hold("read_committed: keys, values, headers, times and partitions are those of the old cluster", committed, contents(new.servers))
    before = upstream.state()[0]
    upstream.change("touch", count=50, seed=9)
    changed = {key for key, fields in upstream.state()[0].items() if fields != before[key]}
    moved.command_once("run", "--until-caught-up")
    copied, now = committed, contents(new.servers)
    written = [record[0].decode() for place in now if place[0] == name_of("accounts") for record in now[place][len(copied[place]):]]
    hold("the source goes on there, and writes each account that has changed once, and no other", sorted(changed), sorted(written))
    hold("verify finds no difference", 0, moved.status("verify"))

    uncommitted = at(other, "other", [policy])
    hold("by the default isolation level more is copied", True, sum(map(len, contents(other.servers).values())) > sum(map(len, committed.values())))
    hold("and a start there refuses", 2, uncommitted.status("run", "--until-caught-up"))
    hold("and says why", True, "does not hold what was committed" in uncommitted.log.read_text())
    upstream.end()
    for cluster in (old, new, other):
        cluster.end()
    if problems:
        sys.exit(f"error: {len(problems)} of what is to be after a move is not; {directory} has the logs")


main()
