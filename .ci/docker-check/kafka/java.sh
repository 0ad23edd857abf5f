#!/bin/bash
# Logs to standard output, where the testbed looks for the word that the broker has started.
exec java ${KAFKA_HEAP_OPTS:--Xmx256m} -Dorg.slf4j.simpleLogger.logFile="${LOG_TO:-System.out}" -cp '/opt/kafka/libs/*' "$@"
