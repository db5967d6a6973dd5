package main

import (
	"context"
	"fmt"
	"time"

	"github.com/IBM/sarama"
	krb5client "github.com/jcmturner/gokrb5/v8/client"
	krb5config "github.com/jcmturner/gokrb5/v8/config"
	"github.com/jcmturner/gokrb5/v8/keytab"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/kerberos"
	"github.com/twmb/franz-go/pkg/sasl/oauth"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

// Login is how a client signs in; which fields count depends on Mechanism. With an Authority it does so over TLS.
type Login struct {
	Mechanism  string // "" for none
	Username   string
	Password   string
	Token      string
	Extensions map[string]string
	Realm      string
	Service    string
	Keytab     string
	Krb5       string // the path of krb5.conf
	IsToken    bool   `json:"is_token"` // a delegation token

	// PEM texts.
	Authority   string
	Certificate string
	Key         string
}

const loginTimeout = 10 * time.Second

func (franz) login(bootstrap string, login Login) error {
	mechanism, err := login.franz()
	if err != nil {
		return err
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(bootstrap), kgo.SASL(mechanism), kgo.RequestRetries(0))
	if err != nil {
		return err
	}
	defer client.Close()
	limited, cancel := context.WithTimeout(context.Background(), loginTimeout)
	defer cancel()
	return client.Ping(limited)
}

func (login Login) franz() (sasl.Mechanism, error) {
	switch login.Mechanism {
	case "PLAIN":
		return plain.Auth{User: login.Username, Pass: login.Password}.AsMechanism(), nil
	case "SCRAM-SHA-256":
		return scram.Auth{User: login.Username, Pass: login.Password, IsToken: login.IsToken}.AsSha256Mechanism(), nil
	case "SCRAM-SHA-512":
		return scram.Auth{User: login.Username, Pass: login.Password, IsToken: login.IsToken}.AsSha512Mechanism(), nil
	case "OAUTHBEARER":
		return oauth.Auth{Token: login.Token, Extensions: login.Extensions}.AsMechanism(), nil
	case "GSSAPI":
		config, err := krb5config.Load(login.Krb5)
		if err != nil {
			return nil, err
		}
		keys, err := keytab.Load(login.Keytab)
		if err != nil {
			return nil, err
		}
		client := krb5client.NewWithKeytab(login.Username, login.Realm, keys, config, krb5client.DisablePAFXFAST(true))
		return kerberos.Auth{Client: client, Service: login.Service}.AsMechanism(), nil
	}
	return nil, fmt.Errorf("no mechanism %q", login.Mechanism)
}

func (saramaLibrary) login(bootstrap string, login Login) error {
	config := sarama.NewConfig()
	config.Version = sarama.V2_6_0_0
	config.Metadata.Retry.Max = 0
	config.Net.DialTimeout = loginTimeout
	settings := &config.Net.SASL
	settings.Enable = true
	settings.Mechanism = sarama.SASLMechanism(login.Mechanism)
	settings.User, settings.Password = login.Username, login.Password
	switch login.Mechanism {
	case "OAUTHBEARER":
		settings.TokenProvider = tokens{login}
	case "GSSAPI":
		settings.GSSAPI = sarama.GSSAPIConfig{
			AuthType: sarama.KRB5_KEYTAB_AUTH, KeyTabPath: login.Keytab, KerberosConfigPath: login.Krb5,
			ServiceName: login.Service, Username: login.Username, Realm: login.Realm, DisablePAFXFAST: true,
		}
	}
	client, err := sarama.NewClient([]string{bootstrap}, config)
	if err != nil {
		return err
	}
	return client.Close()
}

// tokens is what sarama asks for a token.
type tokens struct{ login Login }

func (tokens tokens) Token() (*sarama.AccessToken, error) {
	return &sarama.AccessToken{Token: tokens.login.Token, Extensions: tokens.login.Extensions}, nil
}
