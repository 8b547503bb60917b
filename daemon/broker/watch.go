package broker

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// watch reports when the server can no longer store. NATS goes on serving then,
// without acknowledging anything: a full disk stops one stream and a directory
// that turned read-only all of JetStream, until the process is restarted.
func (b *Broker) watch(ctx context.Context, interval time.Duration) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if err := b.storeError(); err != nil {
				b.fail(err)
				return
			}
		}
	}
}

func (b *Broker) storeError() error {
	if !b.srv.JetStreamEnabled() {
		return fmt.Errorf("store messages: jetstream turned itself off; its log says why")
	}
	health := b.srv.Healthz(&server.HealthzOptions{Account: string(AccountStore), Details: true})
	for _, e := range health.Errors {
		// Consumers come and go while the check looks at them.
		if e.Type == server.HealthzErrorStream {
			return fmt.Errorf("store messages: %s", e.Error)
		}
	}
	return nil
}
