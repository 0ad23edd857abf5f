-- Each due date that moved, as a report that ends.

CREATE TABLE changes (
  public_id STRING,
  changed   ARRAY<STRING>,
  `before`  ROW<due_date STRING>,
  `after`   ROW<due_date STRING>
) WITH (
  'connector' = 'kafka',
  'topic' = '${TOPIC_PREFIX}changes',
  'properties.bootstrap.servers' = '${BOOTSTRAP_SERVERS}',
  -- The default also gives what was rolled back.
  'properties.isolation.level' = 'read_committed',
  'scan.startup.mode' = 'earliest-offset',
  -- Without this line the query goes on for ever, and gives each move as it comes.
  'scan.bounded.mode' = 'latest-offset',
  'format' = 'avro-confluent',
  'avro-confluent.url' = '${SCHEMA_REGISTRY_URL}'
);

SELECT public_id, `before`.due_date AS was, `after`.due_date AS is_now
FROM changes
WHERE ARRAY_CONTAINS(changed, 'due_date');
