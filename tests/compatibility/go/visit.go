package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// visitAll makes visits at once; nil where there was no problem.
func visitAll(visits []Command) []*string {
	problems := make([]*string, len(visits))
	var all sync.WaitGroup
	for index, command := range visits {
		all.Go(func() {
			if err := (franz{}).visit(command); err != nil {
				text := err.Error()
				problems[index] = &text
			}
		})
	}
	all.Wait()
	return problems
}

// visit signs in, writes records with a pause behind each, and reads them back from where they were written to.
func (franz) visit(command Command) error {
	options, err := command.Login.options()
	if err != nil {
		return err
	}
	options = append(options, kgo.SeedBrokers(command.Bootstrap), kgo.ClientID(command.ClientID))
	producer, err := kgo.NewClient(append(options, kgo.RecordPartitioner(kgo.ManualPartitioner()))...)
	if err != nil {
		return err
	}
	defer producer.Close()
	pauses := time.Duration(command.PauseMs*int64(len(command.Records))) * time.Millisecond
	limited, cancel := context.WithDeadline(context.Background(), command.deadline().Add(pauses))
	defer cancel()
	// Producing would go on trying; a ping tells at once.
	if err := producer.Ping(limited); err != nil {
		return err
	}
	first := int64(0)
	for index, record := range command.Records {
		written := &kgo.Record{Topic: command.Topic, Partition: 0, Value: record.Value}
		if err := producer.ProduceSync(limited, written).FirstErr(); err != nil {
			return fmt.Errorf("record %d: %w", index, err)
		}
		if index == 0 {
			first = written.Offset
		}
		time.Sleep(time.Duration(command.PauseMs) * time.Millisecond)
	}
	from := map[string]map[int32]kgo.Offset{command.Topic: {0: kgo.NewOffset().At(first)}}
	consumer, err := kgo.NewClient(append(options, kgo.ConsumePartitions(from))...)
	if err != nil {
		return err
	}
	defer consumer.Close()
	seen := 0
	for seen < len(command.Records) {
		fetches := consumer.PollFetches(limited)
		if err := fetches.Err(); err != nil {
			return err
		}
		for _, record := range fetches.Records() {
			if seen < len(command.Records) && string(record.Value) != string(command.Records[seen].Value) {
				return fmt.Errorf("record %d is not what was written", seen)
			}
			seen++
		}
	}
	return nil
}

func (login Login) options() ([]kgo.Opt, error) {
	options := []kgo.Opt{}
	if login.Mechanism != "" {
		mechanism, err := login.franz()
		if err != nil {
			return nil, err
		}
		options = append(options, kgo.SASL(mechanism))
	}
	if login.Authority == "" {
		return options, nil
	}
	config := &tls.Config{RootCAs: x509.NewCertPool(), ServerName: "localhost"}
	config.RootCAs.AppendCertsFromPEM([]byte(login.Authority))
	if login.Key != "" {
		pair, err := tls.X509KeyPair([]byte(login.Certificate), []byte(login.Key))
		if err != nil {
			return nil, err
		}
		// Shown whoever is asked for, as other clients do.
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
	}
	return append(options, kgo.DialTLSConfig(config)), nil
}
