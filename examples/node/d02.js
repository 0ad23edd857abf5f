// What both share: reading a topic from its beginning to its end, and decoding its values.
import { promisify } from 'node:util'
import avro from 'avsc'
import kafka from 'node-rdkafka'

// So long nothing may come at all, in milliseconds.
const patience = 30_000
// librdkafka's RD_KAFKA_OFFSET_BEGINNING.
const beginning = -2

export function topicOf(name) {
  return (process.env.TOPIC_PREFIX ?? 'cleargrid.d02.') + name
}

/** All messages of a topic up to what is committed now, each partition's in order. No group, and nothing is committed. */
export async function* readToEnd(topic) {
  const consumer = new kafka.KafkaConsumer({
    'metadata.broker.list': process.env.BOOTSTRAP_SERVERS,
    'group.id': 'unused',
    // librdkafka's default; said, because all depends on it.
    'isolation.level': 'read_committed',
    'enable.auto.commit': false,
    // Comes at the last stable offset: while a transaction is open, no consumer gets further.
    'enable.partition.eof': true,
  }, { 'auto.offset.reset': 'earliest' })
  const call = (method, ...values) => promisify(method).apply(consumer, values)

  const { topics } = await call(consumer.connect, { topic, timeout: patience })
  const found = topics.find(({ name }) => name === topic)
  if (!found) throw new Error(`there is no topic ${topic}`)
  const partitions = found.partitions.map(({ id }) => id)
  const left = new Set(partitions)
  consumer.on('partition.eof', ({ partition }) => left.delete(partition))
  consumer.assign(partitions.map((partition) => ({ topic, partition, offset: beginning })))
  consumer.setDefaultConsumeTimeout(1000)

  let deadline = Date.now() + patience
  while (left.size > 0) {
    const leftBefore = left.size
    const messages = await call(consumer.consume, 1000)
    yield* messages
    if (messages.length > 0 || left.size < leftBefore) deadline = Date.now() + patience
    if (Date.now() > deadline) throw new Error(`waited ${patience} ms for records of ${topic}, partitions ${[...left]}`)
  }
  await call(consumer.disconnect)
}

// Numbers of JavaScript are exact up to 2^53, amounts are longs: avsc gives these as BigInt only if it is told how, by all six.
const long = avro.types.LongType.__with({
  fromBuffer: (bytes) => bytes.readBigInt64LE(),
  toBuffer: (value) => {
    const bytes = Buffer.alloc(8)
    bytes.writeBigInt64LE(value)
    return bytes
  },
  fromJSON: BigInt,
  toJSON: String,
  isValid: (value) => typeof value === 'bigint',
  compare: (left, right) => (left < right ? -1 : left > right ? 1 : 0),
})

/** A function from a message to its value. It fetches each schema from the registry once, by the id before the value. */
export function decoder() {
  const types = new Map()
  return async ({ value }) => {
    if (value[0] !== 0) throw new Error('a value without a schema id')
    const id = value.readUInt32BE(1)
    if (!types.has(id)) types.set(id, await typeOf(id))
    return types.get(id).fromBuffer(value.subarray(5))
  }
}

async function typeOf(id) {
  const url = `${process.env.SCHEMA_REGISTRY_URL}/schemas/ids/${id}`
  const answer = await fetch(url, { signal: AbortSignal.timeout(patience) }).catch((error) => {
    // "fetch failed" says not where.
    throw new Error(`${url}: ${error.message}`, { cause: error.cause })
  })
  if (!answer.ok) throw new Error(`${url}: ${answer.status} ${await answer.text()}`)
  const { schema } = await answer.json()
  return avro.Type.forSchema(JSON.parse(schema), { registry: { long } })
}
