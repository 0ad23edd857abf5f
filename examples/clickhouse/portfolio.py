"""Prints the portfolio as it stands: librdkafka reads the accounts, ClickHouse decodes and adds."""

import os
import tempfile

import chdb
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition

QUERY = """
    -- A sum of Int64 may overflow, and ClickHouse would not say so. Null is not known, which is not 0; a report to people should say
    -- how many there are.
    SELECT currency, count() AS accounts, sum(toInt128(ifNull(balance_amount, 0))) AS balance_minor
    FROM file({path:String}, AvroConfluent, 'currency Nullable(String), balance_amount Nullable(Int64)')
    GROUP BY currency
    SETTINGS format_avro_schema_registry_url = {registry:String}, output_format_json_quote_64bit_integers = 0
"""


def latest_values(topic):
    """The value of each account as it is committed now. No group, and nothing is committed."""
    consumer = Consumer({
        "bootstrap.servers": os.environ["BOOTSTRAP_SERVERS"],
        "group.id": "unused",
        # librdkafka's default; said, because all depends on it.
        "isolation.level": "read_committed",
        "enable.auto.commit": False,
        # Comes at the last stable offset: while a transaction is open, no consumer gets further.
        "enable.partition.eof": True,
    })
    values = {}
    try:
        found = consumer.list_topics(topic, timeout=10).topics[topic]
        if found.error:
            raise KafkaException(found.error)
        partitions = set(found.partitions)
        consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in partitions])
        while partitions:
            message = consumer.poll(30)
            if message is None:
                raise TimeoutError(f"waited 30 s for records of {topic}, partitions {partitions}")
            if message.error() is None:
                # Compaction runs now and then, so several versions of an account may be there: the last one holds.
                values[message.key()] = message.value()
            elif message.error().code() == KafkaError._PARTITION_EOF:
                partitions.discard(message.partition())
            else:
                raise KafkaException(message.error())
    finally:
        consumer.close()
    # A tombstone: the account is gone.
    return [value for value in values.values() if value is not None]


with tempfile.NamedTemporaryFile() as file:
    file.writelines(latest_values(os.environ.get("TOPIC_PREFIX", "cleargrid.d02.") + "accounts"))
    file.flush()
    # Each value has the id of its schema before it, and the format knows this frame.
    print(chdb.query(QUERY, "JSONEachRow", params={"path": file.name, "registry": os.environ["SCHEMA_REGISTRY_URL"]}), end="")
