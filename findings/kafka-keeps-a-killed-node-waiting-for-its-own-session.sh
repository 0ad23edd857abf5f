#!/usr/bin/env bash
# Apache Kafka 4.4.0 (KRaft): a lone node that was killed is refused by its own controller as a duplicate of itself.
#
# Expected   A node that is broker and controller, and the only one, serves again as soon as it has started after a SIGKILL: nobody
#            else can have its place, and its controller begins anew with it.
# Instead    The controller takes the broker that stands in the metadata for alive for a whole broker.session.timeout.ms (9 s) from its
#            own start on, and answers the registration with DUPLICATE_BROKER_REGISTRATION until then. After an end in order it
#            serves at once. Where initial.broker.registration.timeout.ms (60 s) is no longer than the session, the node gives up and
#            ends by itself, at every start.
# Matters    A session time-out that is raised for a slow machine is what every restart after a kill takes, and can keep a lone node
#            from ever coming back. "docker compose kill" of a single broker costs its clients that long, "stop" does not.
# Project    Its testbed raises the session time-out for the broker that is never killed, and for no other
#            (src/testbed/services.rs).
#
# A minute.
. "$(dirname "$0")/support.bash"

needs grep
session=20
cluster 4.4.0 1 "broker.session.timeout.ms=${session}000"

stop() { # SIGNAL
  kill "-$1" "${pids[1]}"
  wait "${pids[1]}" 2>/dev/null || true
}

start 1
stop TERM
begun=$SECONDS
start 1
in_order=$((SECONDS - begun))
stop KILL
begun=$SECONDS
start 1
killed=$((SECONDS - begun))
refusals=$(grep -c DUPLICATE_BROKER_REGISTRATION "$folder/node-1.log" || true)
echo "serves again after an end in order: $in_order s; after SIGKILL: $killed s, refused $refusals times as its own duplicate"

stop KILL
echo initial.broker.registration.timeout.ms=10000 >>"$folder/node-1.properties"
java -Xmx512m -cp "$folder/kafka/*" kafka.Kafka "$folder/node-1.properties" >"$folder/node-1.log" 2>&1 &
last=$!
started+=("$last")
ended=no
for ((second = 0; second < 60; second++)); do
  kill -0 "$last" 2>/dev/null || { ended=yes; break; }
  sleep 1
done
served=$(grep -c 'Kafka Server started' "$folder/node-1.log" || true)
echo "with a registration time-out of 10 s: ended by itself: $ended, served: $served"

[ "$in_order" -lt $((session - 5)) ] || { echo "not tried: this machine is too slow" >&2; exit 2; }
[ "$killed" -ge $((session - 2)) ] && [ "$refusals" -gt 0 ] && [ "$ended" = yes ] && [ "$served" -eq 0 ] || changed "a killed node comes back sooner"
echo SEEN
