"""All records of the four topics, and what lies between them that was rolled back."""

from collections import defaultdict

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, Producer, TopicPartition

import world

TOPICS = {"accounts": "accounts", "changes": "changes", "cursor": "cursor", "deadLetters": "dead-letters"}
# That the broker is gone at the end is nothing to log.
QUIET = {"log_level": 2}


def name_of(topic):
    return f"cleargrid.d02.{topic}"


def read_to_end(servers, topics, isolation):
    """The records of topics as they are named, to the end of each partition; one that is not there has none."""
    consumer = Consumer(QUIET | {"bootstrap.servers": servers, "group.id": isolation, "isolation.level": isolation,
                                 "enable.partition.eof": True})
    left = {(topic, partition) for topic in topics for partition in consumer.list_topics(topic, 10).topics[topic].partitions}
    consumer.assign([TopicPartition(*place, OFFSET_BEGINNING) for place in left])
    while left:
        for message in consumer.consume(5000, 1):
            if not message.error():
                yield message
                continue
            assert message.error().code() == KafkaError._PARTITION_EOF, message.error()
            left.discard((message.topic(), message.partition()))
    consumer.close()


class Reader:
    """All committed records of all four topics, as far as they have come."""

    def __init__(self, servers):
        self.records = defaultdict(list)
        self.accounts = {}
        self.consumer = Consumer(QUIET | {"bootstrap.servers": servers, "group.id": "judge", "isolation.level": "read_committed",
                                  "enable.auto.commit": False, "enable.partition.eof": True})
        places = [TopicPartition(name_of(topic), partition, OFFSET_BEGINNING) for topic in TOPICS.values()
                  for partition in self.consumer.list_topics(name_of(topic), 10).topics[name_of(topic)].partitions]
        self.consumer.assign(places)

    def read_on(self):
        """Gives how many there were."""
        count = 0
        for message in self.consumer.consume(5000, 0.2):
            if message.error():
                assert message.error().code() == KafkaError._PARTITION_EOF, message.error()
                continue
            count += 1
            self.records[message.topic()].append(message)
            if message.topic() == name_of("accounts"):
                headers = dict(message.headers())
                self.accounts[message.key().decode()] = int(headers.get("__source_ts_ms", -1))
        return count

    def wait_for(self, state):
        """Until everything that upstream shows is there."""
        accounts, bad = state
        expected = {key: fields["updated_at"] for key, fields in accounts.items()}

        def is_there():
            self.read_on()
            buried = {(dict(letter.headers())["d02.lender"].decode(), letter.value().decode())
                      for letter in self.records[name_of("dead-letters")]}
            # Not more: what was deleted upstream stays until it is reconciled.
            return expected.items() <= self.accounts.items() and bad <= buried
        world.wait_for("records of all that upstream shows", 60, is_there)


def roll_back(servers, reader):
    """Leaves two transactions in the topics that never were, side by side: accounts that do not exist, and due dates that never moved.
    The one that began first ends last, which some clients do not expect."""
    producers = [Producer(QUIET | {"bootstrap.servers": servers, "transactional.id": f"judge-{number}", "partitioner": "murmur2_random"})
                 for number in range(2)]
    accounts = [account for account in reader.records[name_of("accounts")] if account.value()]
    moves = [change for change in reader.records[name_of("changes")]
             if b"due_date" in dict(change.headers()).get("d02.changed", b"")]
    for number, producer in enumerate(producers):
        producer.init_transactions(30)
        producer.begin_transaction()
        for place, account in enumerate(accounts[number:100:2]):
            producer.produce(account.topic(), account.value(), f"{number}{place:023}", headers=account.headers())
        for change in moves[number:100:2]:
            producer.produce(change.topic(), change.value(), change.key(), headers=change.headers())
        assert producer.flush(30) == 0
    for producer in reversed(producers):
        producer.abort_transaction(30)
