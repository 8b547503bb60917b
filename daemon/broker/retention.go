package broker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/enmanuel/unibus/lib/bus"
)

// Expiry says from when on the frames of a persisted room are kept.
type Expiry struct {
	Room   bus.RoomID
	Before time.Time // what was stored earlier is to go
}

// Purge deletes the frames that are past their time, and nothing else. It goes
// on after a failure with the next room and returns all failures together.
func (b *Broker) Purge(ctx context.Context, expiries []Expiry) error {
	if len(expiries) == 0 {
		return nil
	}
	nc, err := b.Conn(AccountStore)
	if err != nil {
		return fmt.Errorf("purge expired frames: %w", err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return fmt.Errorf("purge expired frames: %w", err)
	}
	var errs []error
	for _, e := range expiries {
		if err := b.purge(ctx, js, e); err != nil {
			errs = append(errs, fmt.Errorf("purge expired frames of room %s: %w", e.Room, err))
		}
	}
	return errors.Join(errs...)
}

func (b *Broker) purge(ctx context.Context, js jetstream.JetStream, e Expiry) error {
	stream, err := js.Stream(ctx, bus.Stream(bus.Shard(e.Room)))
	if err != nil {
		return err
	}
	keep, err := firstSince(ctx, stream, e.Before)
	if err != nil {
		return err
	}
	purge := func() error {
		return stream.Purge(ctx, jetstream.WithPurgeSubject(bus.RoomSubject(e.Room, true)), jetstream.WithPurgeSequence(keep))
	}
	if b.tally == nil {
		return purge()
	}
	return b.tally.purging(ctx, e.Room, keep, purge)
}

// firstSince returns the sequence of the first message stored at t or later, one
// more than the last if there is none. Where a consumer would start is the only
// way to ask for it, so one is made and deleted.
func firstSince(ctx context.Context, stream jetstream.Stream, t time.Time) (uint64, error) {
	consumer, err := stream.CreateConsumer(ctx, jetstream.ConsumerConfig{
		DeliverPolicy:     jetstream.DeliverByStartTimePolicy,
		OptStartTime:      &t,
		AckPolicy:         jetstream.AckNonePolicy,
		MemoryStorage:     true,
		InactiveThreshold: time.Minute, // in case deleting it fails
	})
	if err != nil {
		return 0, err
	}
	info := consumer.CachedInfo()
	return info.Delivered.Stream + 1, stream.DeleteConsumer(ctx, info.Name)
}
