package broker

import (
	"crypto/tls"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
)

// turnAway lets nobody in.
type turnAway struct{}

func (turnAway) Check(server.ClientAuthentication) bool { return false }

func TestProbeSeesWhatStrangersMeet(t *testing.T) {
	for name, c := range map[string]struct {
		members func(*Broker) server.Authentication
		tls     bool
		want    Seen
	}{
		"a door that is shut":           {func(*Broker) server.Authentication { return turnAway{} }, false, Seen{Denied: true}},
		"a door that is shut, with TLS": {func(*Broker) server.Authentication { return turnAway{} }, true, Seen{TLS: true, Denied: true}},
		"one that is open":              {func(b *Broker) server.Authentication { return admit{b} }, false, Seen{}},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := testConfig(t)
			if c.tls {
				cert, _ := selfSigned(t)
				cfg.TLS = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS13}
			}
			b := start(t, cfg)
			if _, err := b.Probe(t.Context()); err == nil {
				t.Error("probed before it was open")
			}
			if err := b.Open(c.members(b)); err != nil {
				t.Fatal(err)
			}
			seen, err := b.Probe(t.Context())
			if err != nil || seen != c.want {
				t.Errorf("saw %+v, %v, want %+v", seen, err, c.want)
			}
		})
	}
}
