-- Accounts and balance by currency, as a report that ends.

-- The last record of a key holds, and a tombstone deletes. Columns are found by their names in the schema.
CREATE TABLE accounts (
  public_id      STRING,
  currency       STRING,
  balance_amount BIGINT,  -- minor units
  PRIMARY KEY (public_id) NOT ENFORCED
) WITH (
  'connector' = 'upsert-kafka',
  'topic' = '${TOPIC_PREFIX}accounts',
  'properties.bootstrap.servers' = '${BOOTSTRAP_SERVERS}',
  -- The default also counts what was rolled back.
  'properties.isolation.level' = 'read_committed',
  -- Without this line the query goes on for ever, and keeps its answer up to date.
  'scan.bounded.mode' = 'latest-offset',
  'key.format' = 'raw',
  'value.format' = 'avro-confluent',
  'value.avro-confluent.url' = '${SCHEMA_REGISTRY_URL}'
);

-- Null is not known, which is not 0: a report to people should say how many there are.
-- A sum of BIGINT that is too large becomes a wrong number without an error. DECIMAL has 38 digits.
SELECT currency, COUNT(*) AS accounts, SUM(CAST(COALESCE(balance_amount, 0) AS DECIMAL(19, 0))) AS balance_minor
FROM accounts
GROUP BY currency;
