package main

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

type franz struct{}

var franzCodecs = map[string]kgo.CompressionCodec{
	"none":   kgo.NoCompression(),
	"gzip":   kgo.GzipCompression(),
	"snappy": kgo.SnappyCompression(),
	"lz4":    kgo.Lz4Compression(),
	"zstd":   kgo.ZstdCompression(),
}

func (franz) produce(command Command) ([]int64, error) {
	options := []kgo.Opt{
		kgo.SeedBrokers(command.Bootstrap),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerBatchCompression(franzCodecs[command.Codec]),
		kgo.ProducerLinger(20 * time.Millisecond),
		kgo.RequiredAcks(kgo.AllISRAcks()),
	}
	if !command.Idempotent {
		options = append(options, kgo.DisableIdempotentWrite())
	}
	client, err := kgo.NewClient(options...)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	records := make([]*kgo.Record, len(command.Records))
	for index, record := range command.Records {
		message := &kgo.Record{Topic: command.Topic, Partition: record.Partition, Key: record.Key, Value: record.Value}
		if record.Timestamp != nil {
			message.Timestamp = time.UnixMilli(*record.Timestamp)
		}
		for _, header := range record.Headers {
			message.Headers = append(message.Headers, kgo.RecordHeader{Key: header.Name, Value: header.Value})
		}
		records[index] = message
	}
	limited, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := client.ProduceSync(limited, records...).FirstErr(); err != nil {
		return nil, err
	}
	offsets := make([]int64, len(records))
	for index, record := range records {
		offsets[index] = record.Offset
	}
	return offsets, nil
}

func (franz) consume(command Command) ([]Record, error) {
	options := []kgo.Opt{
		kgo.SeedBrokers(command.Bootstrap),
		kgo.ConsumeTopics(command.Topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
	}
	if command.Committed {
		options = append(options, kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	}
	client, err := kgo.NewClient(options...)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	limited, cancel := context.WithDeadline(context.Background(), command.deadline())
	defer cancel()
	records := []Record{}
	for len(records) < command.Count && limited.Err() == nil {
		fetches := client.PollFetches(limited)
		fetches.EachError(func(topic string, partition int32, problem error) {
			if limited.Err() == nil {
				err = fmt.Errorf("%s-%d: %w", topic, partition, problem)
			}
		})
		if err != nil {
			return nil, err
		}
		fetches.EachRecord(func(record *kgo.Record) {
			timestamp := record.Timestamp.UnixMilli()
			read := Record{record.Partition, record.Offset, &timestamp, record.Key, record.Value, []Header{}}
			for _, header := range record.Headers {
				read.Headers = append(read.Headers, Header{header.Key, header.Value})
			}
			records = append(records, read)
		})
	}
	return records, nil
}

func (franz) join(command Command) (*Member, error) {
	balancers := map[string]kgo.GroupBalancer{
		"range": kgo.RangeBalancer(), "roundrobin": kgo.RoundRobinBalancer(), "sticky": kgo.StickyBalancer(),
		"cooperative-sticky": kgo.CooperativeStickyBalancer(),
	}
	member := newMember()
	lost := func(_ context.Context, _ *kgo.Client, partitions map[string][]int32) {
		member.Lock()
		defer member.Unlock()
		for _, partition := range partitions[command.Topic] {
			delete(member.assignment, partition)
		}
	}
	options := []kgo.Opt{
		kgo.SeedBrokers(command.Bootstrap),
		kgo.ConsumerGroup(command.Group),
		kgo.ConsumeTopics(command.Topic),
		kgo.Balancers(balancers[command.Strategy]),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.DisableAutoCommit(),
		kgo.SessionTimeout(10 * time.Second),
		kgo.HeartbeatInterval(300 * time.Millisecond),
		kgo.OnPartitionsAssigned(func(_ context.Context, _ *kgo.Client, partitions map[string][]int32) {
			member.Lock()
			defer member.Unlock()
			member.rebalances++
			for _, partition := range partitions[command.Topic] {
				member.assignment[partition] = true
			}
		}),
		kgo.OnPartitionsRevoked(lost),
		kgo.OnPartitionsLost(lost),
	}
	if command.Instance != nil {
		options = append(options, kgo.InstanceID(*command.Instance))
	}
	client, err := kgo.NewClient(options...)
	if err != nil {
		return nil, err
	}
	running, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	member.stop = func() {
		cancel()
		<-done
		client.Close()
	}
	go func() {
		defer close(done)
		for running.Err() == nil {
			fetches := client.PollFetches(running)
			fetches.EachRecord(func(record *kgo.Record) {
				member.Lock()
				member.received = append(member.received, record.Value)
				member.Unlock()
			})
			if fetches.NumRecords() > 0 {
				if err := client.CommitUncommittedOffsets(context.Background()); err != nil {
					member.failed(err)
				}
			}
		}
	}()
	return member, nil
}
