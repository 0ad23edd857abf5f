"""What the examples share: where Kafka is, how a value is decoded, and reading a topic from its beginning to its end."""

import json
import os

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.serialization import MessageField, SerializationContext

SETTINGS = {
    "bootstrap.servers": os.environ["BOOTSTRAP_SERVERS"],
    # Only what was committed: anything else may never have happened.
    "isolation.level": "read_committed",
    # Nothing is read before it was dealt with.
    "enable.auto.commit": False,
    "auto.offset.reset": "earliest",
}


def topic(name):
    return os.environ.get("TOPIC_PREFIX", "cleargrid.d02.") + name


def decoder():
    """A function from a message to its value as a dict. It fetches each schema from the registry once, by the id before the value."""
    registry = os.environ["SCHEMA_REGISTRY_URL"]
    # fastavro decodes, and gives dates as datetime.date and moments as datetime.datetime.
    deserialize = AvroDeserializer(SchemaRegistryClient({"url": registry}))

    def decode(message):
        try:
            return deserialize(message.value(), SerializationContext(message.topic(), MessageField.VALUE))
        except Exception as error:
            # "Connection refused" says neither where nor what for.
            place = f"{message.topic()} {message.partition()}@{message.offset()}"
            raise RuntimeError(f"cannot decode {place} by the schemas of {registry}: {error!r}") from error

    return decode


def headers(message):
    return {name: value and value.decode() for name, value in message.headers() or []}


def listed(header):
    """The names in d02.changed or d02.invalid: with commas between them; None where there are none. 0.1 wrote a JSON array."""
    return json.loads(header) if header and header.startswith("[") else header.split(",") if header else []


def partitions_of(consumer, name):
    """The partitions of a topic. One that is not there is an entry with an error and without partitions, and no exception."""
    found = consumer.list_topics(name, timeout=10).topics[name]
    if found.error:
        raise KafkaException(found.error)
    return set(found.partitions)


def read_to_end(name):
    """All messages of a topic up to what is committed now, each partition's in order. No group, and nothing is committed."""
    consumer = Consumer(SETTINGS | {"group.id": "unused", "enable.partition.eof": True})
    partitions = partitions_of(consumer, name)
    consumer.assign([TopicPartition(name, partition, OFFSET_BEGINNING) for partition in partitions])
    try:
        while partitions:
            message = consumer.poll(10)
            if message is None:
                raise TimeoutError("Kafka does not answer")
            if message.error() is None:
                yield message
            elif message.error().code() == KafkaError._PARTITION_EOF:
                partitions.discard(message.partition())
            else:
                raise KafkaException(message.error())
    finally:
        consumer.close()
