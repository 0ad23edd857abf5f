# Sourced by each `run`: what they ask for before they fetch or start anything. They end with 2 where the user has to set something,
# and with 1 where a tool is missing, or whatever else fails.

fail() {
  echo "error: $*" >&2
  exit 1
}

refuse() {
  echo "error: $*" >&2
  exit 2
}

# Where Kafka and the registry are.
need_addresses() {
  local name
  for name in BOOTSTRAP_SERVERS SCHEMA_REGISTRY_URL; do
    [ -n "${!name:-}" ] ||
      refuse "$name is not set; \`cargo run --example testbed\` starts a broker and a registry, and prints it"
  done
}

# Apicurio's own API stands beside the one that is compatible with Confluent's.
need_apicurio() {
  export APICURIO_URL=${APICURIO_URL:-${SCHEMA_REGISTRY_URL/%\/apis\/ccompat\/v7/\/apis\/registry\/v3}}
  [ "$APICURIO_URL" != "$SCHEMA_REGISTRY_URL" ] ||
    refuse "APICURIO_URL is not set, and SCHEMA_REGISTRY_URL does not end as Apicurio's does, with /apis/ccompat/v7"
}

# need TOOL:PACKAGE…: each tool, and the package that Debian has it in. `venv` is no program, but a module of Python's.
need() {
  local tool
  for tool in "$@"; do
    case ${tool%:*} in
    venv) python3 -c 'import ensurepip, venv' 2>/dev/null ;;
    *) type -P "${tool%:*}" >/dev/null ;;
    esac || fail "${tool%:*} is missing: Debian's package ${tool#*:}"
  done
}

# A port of the loopback interface that nobody listens on.
free_port() {
  local port
  port=$((20000 + RANDOM % 10000))
  while (: <"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do
    port=$((20000 + RANDOM % 10000))
  done
  echo "$port"
}

usage() {
  echo "usage: run [due-dates]" >&2
  exit 2
}
