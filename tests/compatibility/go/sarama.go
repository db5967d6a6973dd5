package main

import (
	"context"
	"errors"
	"time"

	"github.com/IBM/sarama"
)

type saramaLibrary struct{}

var saramaCodecs = map[string]sarama.CompressionCodec{
	"none":   sarama.CompressionNone,
	"gzip":   sarama.CompressionGZIP,
	"snappy": sarama.CompressionSnappy,
	"lz4":    sarama.CompressionLZ4,
	"zstd":   sarama.CompressionZSTD,
}

func saramaConfig() *sarama.Config {
	config := sarama.NewConfig()
	config.Version = sarama.V3_6_0_0
	config.Consumer.Offsets.Initial = sarama.OffsetOldest
	config.Consumer.MaxWaitTime = 100 * time.Millisecond
	return config
}

func (saramaLibrary) produce(command Command) ([]int64, error) {
	config := saramaConfig()
	config.Producer.Return.Successes = true
	config.Producer.RequiredAcks = sarama.WaitForAll
	config.Producer.Partitioner = sarama.NewManualPartitioner
	config.Producer.Compression = saramaCodecs[command.Codec]
	config.Producer.Flush.Frequency = 20 * time.Millisecond
	if command.Idempotent {
		config.Producer.Idempotent = true
		config.Net.MaxOpenRequests = 1
	}
	producer, err := sarama.NewSyncProducer([]string{command.Bootstrap}, config)
	if err != nil {
		return nil, err
	}
	defer producer.Close()
	messages := make([]*sarama.ProducerMessage, len(command.Records))
	for index, record := range command.Records {
		message := &sarama.ProducerMessage{Topic: command.Topic, Partition: record.Partition}
		if record.Key != nil {
			message.Key = sarama.ByteEncoder(record.Key)
		}
		if record.Value != nil {
			message.Value = sarama.ByteEncoder(record.Value)
		}
		if record.Timestamp != nil {
			message.Timestamp = time.UnixMilli(*record.Timestamp)
		}
		for _, header := range record.Headers {
			message.Headers = append(message.Headers, sarama.RecordHeader{Key: []byte(header.Name), Value: header.Value})
		}
		messages[index] = message
	}
	if err := producer.SendMessages(messages); err != nil {
		var problems sarama.ProducerErrors
		if errors.As(err, &problems) {
			return nil, problems[0].Err
		}
		return nil, err
	}
	offsets := make([]int64, len(messages))
	for index, message := range messages {
		offsets[index] = message.Offset
	}
	return offsets, nil
}

func (saramaLibrary) consume(command Command) ([]Record, error) {
	config := saramaConfig()
	if command.Committed {
		config.Consumer.IsolationLevel = sarama.ReadCommitted
	}
	consumer, err := sarama.NewConsumer([]string{command.Bootstrap}, config)
	if err != nil {
		return nil, err
	}
	defer consumer.Close()
	partitions, err := consumer.Partitions(command.Topic)
	if err != nil {
		return nil, err
	}
	messages := make(chan *sarama.ConsumerMessage, 1000)
	for _, partition := range partitions {
		reader, err := consumer.ConsumePartition(command.Topic, partition, sarama.OffsetOldest)
		if err != nil {
			return nil, err
		}
		defer reader.AsyncClose()
		go func() {
			for message := range reader.Messages() {
				messages <- message
			}
		}()
	}
	records := []Record{}
	timeout := time.After(time.Until(command.deadline()))
	for len(records) < command.Count {
		select {
		case message := <-messages:
			timestamp := message.Timestamp.UnixMilli()
			read := Record{message.Partition, message.Offset, &timestamp, message.Key, message.Value, []Header{}}
			for _, header := range message.Headers {
				read.Headers = append(read.Headers, Header{string(header.Key), header.Value})
			}
			records = append(records, read)
		case <-timeout:
			return records, nil
		}
	}
	return records, nil
}

type saramaHandler struct {
	member *Member
}

func (handler saramaHandler) Setup(session sarama.ConsumerGroupSession) error {
	handler.member.Lock()
	defer handler.member.Unlock()
	handler.member.rebalances++
	for _, partitions := range session.Claims() {
		for _, partition := range partitions {
			handler.member.assignment[partition] = true
		}
	}
	return nil
}

func (handler saramaHandler) Cleanup(sarama.ConsumerGroupSession) error {
	handler.member.Lock()
	defer handler.member.Unlock()
	handler.member.assignment = map[int32]bool{}
	return nil
}

func (handler saramaHandler) ConsumeClaim(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	for {
		select {
		case message, open := <-claim.Messages():
			if !open {
				return nil
			}
			handler.member.Lock()
			handler.member.received = append(handler.member.received, message.Value)
			handler.member.Unlock()
			session.MarkMessage(message, "")
			session.Commit()
		case <-session.Context().Done():
			return nil
		}
	}
}

func (saramaLibrary) join(command Command) (*Member, error) {
	config := saramaConfig()
	config.Consumer.Offsets.AutoCommit.Enable = false
	config.Consumer.Group.Session.Timeout = 10 * time.Second
	config.Consumer.Group.Heartbeat.Interval = 300 * time.Millisecond
	strategies := map[string]sarama.BalanceStrategy{
		"range": sarama.NewBalanceStrategyRange(), "roundrobin": sarama.NewBalanceStrategyRoundRobin(),
		"sticky": sarama.NewBalanceStrategySticky(),
	}
	config.Consumer.Group.Rebalance.GroupStrategies = []sarama.BalanceStrategy{strategies[command.Strategy]}
	if command.Instance != nil {
		config.Consumer.Group.InstanceId = *command.Instance
	}
	group, err := sarama.NewConsumerGroup([]string{command.Bootstrap}, command.Group, config)
	if err != nil {
		return nil, err
	}
	member := newMember()
	running, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	member.stop = func() {
		cancel()
		<-done
		group.Close()
	}
	go func() {
		defer close(done)
		for running.Err() == nil {
			if err := group.Consume(running, []string{command.Topic}, saramaHandler{member}); err != nil {
				member.failed(err)
				time.Sleep(100 * time.Millisecond)
			}
		}
	}()
	return member, nil
}
