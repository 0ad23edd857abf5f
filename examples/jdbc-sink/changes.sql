-- Made by hand: the sink cannot make a table of a field that is an array with a default.
CREATE TABLE IF NOT EXISTS d02_changes (
  -- A record's place names it for ever, so one that is delivered again meets its own row.
  __connect_topic      text,
  __connect_partition  integer,
  __connect_offset     bigint,
  public_id            text NOT NULL,
  updated_at           timestamp NOT NULL,
  op                   text NOT NULL,
  changed              text[] NOT NULL,
  before_due_date      text,
  after_due_date       text,
  after_balance_amount bigint,
  after_currency       text,
  PRIMARY KEY (__connect_topic, __connect_partition, __connect_offset)
);
