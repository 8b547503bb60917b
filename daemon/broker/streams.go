package broker

import (
	"context"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/enmanuel/unibus/lib/bus"
)

// streamConfig describes the stream of a shard. A member's publish can carry
// any header, so everything that headers could ask for is off: no rollup, no
// time to live, no schedules, no counters, no batches. Messages are deleted
// one way only: the daemon purges a room's subjects past the room's max_age.
func streamConfig(shard int, maxBytes int64) jetstream.StreamConfig {
	if maxBytes <= 0 {
		maxBytes = -1
	}
	return jetstream.StreamConfig{
		Name:        bus.Stream(shard),
		Description: "frames of persisted rooms",
		Subjects:    []string{bus.StreamSubjects(shard)},
		Storage:     jetstream.FileStorage,
		Replicas:    1,
		Retention:   jetstream.LimitsPolicy,
		Discard:     jetstream.DiscardNew,
		MaxBytes:    maxBytes,
		MaxMsgs:     -1,
		MaxMsgSize:  MaxPayload,
		Duplicates:  bus.DedupWindow,
		DenyDelete:  true,
	}
}

// ensureStreams makes the streams that are missing and brings the others up to
// the configuration.
func ensureStreams(ctx context.Context, js jetstream.JetStream, maxBytes int64) error {
	for shard := range bus.Shards {
		want := streamConfig(shard, maxBytes)
		stream, err := js.CreateOrUpdateStream(ctx, want)
		if err != nil {
			return fmt.Errorf("make stream %s: %w", want.Name, err)
		}
		// An update leaves some settings as they were without an error.
		have := stream.CachedInfo().Config
		if have.AllowRollup || have.AllowMsgTTL || have.AllowDirect || have.AllowMsgSchedules ||
			have.AllowMsgCounter || have.AllowAtomicPublish || have.PersistMode == jetstream.AsyncPersistMode ||
			have.Storage != want.Storage || have.Duplicates != want.Duplicates || have.MaxBytes != want.MaxBytes {
			return fmt.Errorf("make stream %s: it has settings that cannot be trusted: %+v", want.Name, have)
		}
	}
	return nil
}
