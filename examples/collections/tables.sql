CREATE SCHEMA IF NOT EXISTS collections;

-- How far each partition is dealt with. It is written with what its records did, in one transaction.
CREATE TABLE IF NOT EXISTS collections.place (
  topic       text,
  partition   integer,
  next_offset bigint NOT NULL,
  PRIMARY KEY (topic, partition)
);

-- The accounts as they are.
CREATE TABLE IF NOT EXISTS collections.account (
  public_id      text PRIMARY KEY,
  currency       text,
  balance_amount bigint,
  updated_at     timestamptz NOT NULL
);

-- The work list: somebody has a due date to tell a customer about.
CREATE TABLE IF NOT EXISTS collections.task (
  public_id      text,
  updated_at     timestamptz,
  -- Upstream changes content without a new updated_at now and then; records of one account stand in one partition.
  record_offset  bigint,
  was            text,
  is_now         text,
  due_on         date,
  balance_amount bigint,
  currency       text,
  done_at        timestamptz,
  PRIMARY KEY (public_id, updated_at, record_offset)
);
