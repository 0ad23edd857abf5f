package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/twmb/avro"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sr"
)

// patience is longer than a transaction can stay open (transaction.timeout.ms of the source, 60 s).
const patience = 90 * time.Second

func topic(name string) string {
	prefix, ok := os.LookupEnv("TOPIC_PREFIX")
	if !ok {
		prefix = "cleargrid.d02."
	}
	return prefix + name
}

// readToEnd calls see for each record of a topic up to what is committed now, each partition's in order.
// It uses no group and commits nothing.
func readToEnd(ctx context.Context, topic string, see func(*kgo.Record) error) error {
	client, err := kgo.NewClient(
		kgo.SeedBrokers(strings.Split(os.Getenv("BOOTSTRAP_SERVERS"), ",")...),
		// The default also gives the records of transactions that were rolled back.
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		// The last record before the end is often a transaction's marker: without it nothing tells that the end is reached.
		kgo.KeepControlRecords(),
	)
	if err != nil {
		return err
	}
	defer client.Close()

	ends, err := ends(ctx, client, topic)
	if err != nil {
		return err
	}
	offsets := map[int32]kgo.Offset{}
	for partition := range ends {
		offsets[partition] = kgo.NewOffset().AtStart()
	}
	client.AddConsumePartitions(map[string]map[int32]kgo.Offset{topic: offsets})

	for len(ends) > 0 {
		poll, cancel := context.WithTimeout(ctx, patience)
		fetches := client.PollFetches(poll)
		cancel()
		if err := fetches.Err(); errors.Is(err, context.DeadlineExceeded) {
			return fmt.Errorf("waited %s for records of %s: partitions and ends %v", patience, topic, ends)
		} else if err != nil {
			return err
		}
		for _, record := range fetches.Records() {
			end, isLeft := ends[record.Partition]
			if !isLeft {
				continue
			}
			if record.Offset < end && !record.Attrs.IsControl() {
				if err := see(record); err != nil {
					return fmt.Errorf("%s %d@%d: %w", topic, record.Partition, record.Offset, err)
				}
			}
			if record.Offset >= end-1 {
				delete(ends, record.Partition)
				client.PauseFetchPartitions(map[string][]int32{topic: {record.Partition}})
			}
		}
	}
	return nil
}

// ends gives the last stable offset of each partition that has any records: up to there a read_committed consumer is given them.
func ends(ctx context.Context, client *kgo.Client, topic string) (map[int32]int64, error) {
	admin := kadm.NewClient(client)
	starts, err := admin.ListStartOffsets(ctx, topic)
	if err = errors.Join(err, starts.Error()); err != nil {
		return nil, err
	}
	stable, err := admin.ListCommittedOffsets(ctx, topic)
	if err = errors.Join(err, stable.Error()); err != nil {
		return nil, err
	}
	ends := map[int32]int64{}
	for partition, end := range stable[topic] {
		if start, _ := starts.Lookup(topic, partition); start.Offset < end.Offset {
			ends[partition] = end.Offset
		}
	}
	return ends, nil
}

// decoder decodes values to T. It fetches each schema from the registry once, by the id before the value.
type decoder[T any] struct {
	registry *sr.Client
	// What T has of the fields: others are passed over, and those that a value's schema does not have yet are null.
	reader  *avro.Schema
	schemas map[int]*avro.Schema
}

func newDecoder[T any]() (*decoder[T], error) {
	registry, err := sr.NewClient(sr.URLs(os.Getenv("SCHEMA_REGISTRY_URL")))
	if err != nil {
		return nil, err
	}
	// Records are matched by name, which is that of the type in Go.
	reader, err := avro.SchemaFor[T](avro.WithNamespace("cleargrid.d02"))
	return &decoder[T]{registry, reader, map[int]*avro.Schema{}}, err
}

func (d *decoder[T]) decode(ctx context.Context, value []byte) (decoded T, err error) {
	id, body, err := new(sr.ConfluentHeader).DecodeID(value)
	if err != nil {
		return decoded, err
	}
	schema, ok := d.schemas[id]
	if !ok {
		if schema, err = d.fetch(ctx, id); err != nil {
			return decoded, fmt.Errorf("schema %d: %w", id, err)
		}
		d.schemas[id] = schema
	}
	_, err = schema.Decode(body, &decoded)
	return decoded, err
}

func (d *decoder[T]) fetch(ctx context.Context, id int) (*avro.Schema, error) {
	found, err := d.registry.SchemaByID(ctx, id)
	if err != nil {
		return nil, err
	}
	writer, err := avro.Parse(found.Schema)
	if err != nil {
		return nil, err
	}
	return avro.Resolve(writer, d.reader)
}
