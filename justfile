# Short names for the usual commands; `just` alone lists them.

_list:
    @just --list

# Everything that continuous integration runs
ci *options:
    .ci/run {{options}}

# Unit and integration tests; a name runs those that contain it
test name="":
    cargo test {{name}}

# The unit tests: no broker, no Java
unit:
    cargo test --lib

# Half an hour of kills while brokers, registry and topics come and go; what it did is printed at the end
soak minutes="30":
    D02_TEST_SOAK_MINUTES={{minutes}} cargo test --test main killed_again_and_again_while_all -- --nocapture

# Three processes of a group that are killed, ended and stopped for so long, of so many lenders
soak-group minutes="2" lenders="12":
    D02_TEST_SOAK_MINUTES={{minutes}} D02_TEST_SOAK_LENDERS={{lenders}} cargo test --test main members_that_come_and_go -- --nocapture

# One module of tests/, such as `delivery`
integration module:
    cargo test --test main {{module}}

# The layout of the source
fmt:
    cargo fmt

# Licences, sources and advisories of all dependencies
deny:
    cargo deny check

# docker-compose.yml and the Dockerfile, without a Docker engine
compose-check:
    .ci/compose

# The examples of docs/consumers.md, and docs/asyncapi.yaml, against what is written
consumers:
    .ci/consumers

# The examples for engines, sinks and other clients, each from what it fetches to its result
examples *names='--all':
    .ci/examples {{names}}

# What the last test run saw at /metrics, against Prometheus' rules
metrics:
    .ci/metrics

# The alert rules and the dashboard, by promtool
alerts:
    .ci/alerts

# The documents as a book with a search in target/book, all their links checked
book:
    .ci/book

# The manifests for Kubernetes and the unit for systemd, by their own readers
manifests:
    .ci/kubernetes
    .ci/systemd

# The Debian package, in target/debian
package:
    .ci/package

# Image, docker-compose.yml, the testbed's Docker way and the Debian package on a real engine with stand-ins for the base images: half an hour, as root
docker *steps:
    .ci/docker {{steps}}

# The manifests on Kubernetes' API server, controllers and scheduler, built from their modules; no node runs anything
cluster *options:
    .ci/cluster {{options}}

# MirrorMaker 2 by the runbook's settings, and the source where it copied to
mirror:
    .ci/mirror

# README's list of what building needs, on a bare Debian: as long as a first build, as root
fresh *options:
    .ci/fresh {{options}}

# A broker and a registry, until Ctrl-D
testbed:
    cargo run --example testbed

# A simulated upstream on port 8099
simulate rows="10000":
    cargo run -- simulate --port 8099 --rows {{rows}}
