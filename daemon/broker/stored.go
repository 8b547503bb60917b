package broker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/enmanuel/unibus/lib/bus"
)

// Ledger is told what persisted rooms store, and says which take no more. A
// room goes by its token ([bus.RoomID.Token]), which is all that a subject has
// of it. Its methods are called from many goroutines and must be quick.
type Ledger interface {
	// Stored adds what a room stores more, in bytes; negative is less.
	Stored(room string, bytes int64)
	// Full reports whether new frames of the room are to be refused.
	Full(room []byte) bool
}

// tally counts what rooms store for a [Ledger]: everything once in the
// background after the start, then what is added and purged. It reads headers
// only and keeps nothing on disk.
type tally struct {
	ledger Ledger
	log    *slog.Logger
	nc     *nats.Conn
	js     jetstream.JetStream
	shards [bus.Shards]shardTally
}

// shardTally is how far a shard is counted.
type shardTally struct {
	mu   sync.Mutex
	last uint64 // everything up to here is counted
	// purged has the rooms whose messages were deleted up to a place beyond
	// last: those may still arrive and count no more. The value is the first
	// sequence that was kept.
	purged map[string]uint64
}

const (
	tallyBatch   = 512              // messages asked for at once
	tallyExpires = 30 * time.Second // how long the server holds such a request
	tallyPause   = time.Second      // before a shard is followed again after a failure
	// tallyLost is when such a request or its answer must have been lost.
	tallyLost = tallyExpires + 30*time.Second
	// tallyIdle is when the server forgets a consumer that nobody asks.
	tallyIdle = 5 * time.Minute
	// recountTime bounds looking again at what a failed purge left.
	recountTime = 10 * time.Second
)

// follow counts a shard until ctx ends.
func (t *tally) follow(ctx context.Context, shard int) {
	s := &t.shards[shard]
	for {
		s.mu.Lock()
		from := s.last + 1
		s.mu.Unlock()
		err := t.read(ctx, shard, "", from, func(m stored) bool { t.count(s, m); return true })
		if ctx.Err() != nil {
			return
		}
		t.log.Warn("what rooms store is not followed; it is tried again", "shard", shard, "error", err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(tallyPause):
		}
	}
}

// count takes in one message, once.
func (t *tally) count(s *shardTally, m stored) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if m.seq <= s.last {
		return
	}
	s.last = m.seq
	if m.seq >= s.purged[m.room] {
		t.ledger.Stored(m.room, m.size)
	}
}

// purging runs purge, which deletes the messages of a room before keep, and
// counts off what is gone. The shard is not followed meanwhile, so that what is
// counted off is what was counted.
func (t *tally) purging(ctx context.Context, room bus.RoomID, keep uint64, purge func() error) error {
	s := &t.shards[bus.Shard(room)]
	s.mu.Lock()
	defer s.mu.Unlock()
	before, err := t.sum(ctx, room, min(keep-1, s.last))
	if err != nil {
		return fmt.Errorf("count what is purged: %w", err)
	}
	var after int64
	purged := purge()
	if purged != nil {
		// It may have taken place all the same.
		again, cancel := context.WithTimeout(context.WithoutCancel(ctx), recountTime)
		defer cancel()
		if after, err = t.sum(again, room, min(keep-1, s.last)); err != nil {
			return errors.Join(purged, fmt.Errorf("count what the purge left: %w", err))
		}
	}
	t.ledger.Stored(room.Token(), after-before)
	for other, kept := range s.purged {
		if kept <= s.last+1 {
			delete(s.purged, other)
		}
	}
	if purged == nil && keep > s.last+1 {
		if s.purged == nil {
			s.purged = make(map[string]uint64)
		}
		s.purged[room.Token()] = keep
	}
	return purged
}

// sum adds up the messages of a room, up to a sequence.
func (t *tally) sum(ctx context.Context, room bus.RoomID, to uint64) (total int64, err error) {
	if to == 0 {
		return 0, nil
	}
	err = t.read(ctx, bus.Shard(room), bus.RoomSubject(room, true), 1, func(m stored) bool {
		if m.seq <= to {
			total += m.size
		}
		return m.seq < to && m.pending > 0
	})
	return total, err
}

// stored is what there is to know of a message in a stream.
type stored struct {
	seq     uint64
	room    string // its token
	size    int64  // bytes on disk
	pending uint64 // how many of those asked for come after it
}

// read has each called with the messages of a shard from a sequence on, in
// order, until it returns false. With a filter, it returns when there is none;
// without one it waits for more until ctx ends.
//
// It asks for messages by itself, because the client library takes a message
// without a body for one of the server if the headers say so, and members write
// headers. Only what the server says itself has no reply subject.
func (t *tally) read(ctx context.Context, shard int, filter string, from uint64, each func(stored) bool) error {
	consumer, err := t.js.CreateConsumer(ctx, bus.Stream(shard), jetstream.ConsumerConfig{
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: from, FilterSubject: filter,
		AckPolicy: jetstream.AckNonePolicy, MemoryStorage: true, HeadersOnly: true, InactiveThreshold: tallyIdle,
	})
	if err != nil {
		return err
	}
	info := consumer.CachedInfo()
	defer func() {
		// One that stays is forgotten by the server when nobody asks it.
		if err := t.js.DeleteConsumer(ctx, info.Stream, info.Name); err != nil && ctx.Err() == nil {
			t.log.Debug("consumer not deleted", "shard", shard, "error", err)
		}
	}()
	if filter != "" && info.NumPending == 0 {
		return nil
	}
	arrived := make(chan *nats.Msg, tallyBatch+1) // what one request can bring
	sub, err := t.nc.ChanSubscribe(t.nc.NewInbox(), arrived)
	if err != nil {
		return err
	}
	defer func() { _ = sub.Unsubscribe() }() // fails only where the connection is closed
	next := "$JS.API.CONSUMER.MSG.NEXT." + info.Stream + "." + info.Name
	return t.pull(ctx, next, sub.Subject, arrived, filter != "", each)
}

// pull asks a consumer for messages until each has enough of them or, if it is
// to end then, there are no more.
func (t *tally) pull(ctx context.Context, next, inbox string, arrived <-chan *nats.Msg, ends bool, each func(stored) bool) error {
	request, err := json.Marshal(server.JSApiConsumerGetNextRequest{Batch: tallyBatch, Expires: tallyExpires})
	if err != nil {
		return err
	}
	lost := time.NewTimer(tallyLost)
	defer lost.Stop()
	for {
		if err := t.nc.PublishRequest(next, inbox, request); err != nil {
			return err
		}
		lost.Reset(tallyLost)
		for range tallyBatch {
			var msg *nats.Msg
			select {
			case msg = <-arrived:
			case <-lost.C:
				return errors.New("read stream: no answer")
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			if msg.Reply == "" {
				if status := msg.Header.Get("Status"); status != "408" {
					return fmt.Errorf("read stream: status %.3q: %.80q", status, msg.Header.Get("Description"))
				}
				if ends {
					return nil
				}
				break
			}
			m, err := storedOf(msg)
			if err != nil {
				return err
			}
			if !each(m) {
				return nil
			}
		}
	}
}

// storedOf reads a message that came without its body.
func storedOf(msg *nats.Msg) (stored, error) {
	meta, err := msg.Metadata()
	if err != nil {
		return stored{}, err
	}
	room, _, _, ok := bus.ParseDataSubject(msg.Subject)
	if !ok {
		return stored{}, fmt.Errorf("read stream: message %d has subject %.100q", meta.Sequence.Stream, msg.Subject)
	}
	return stored{seq: meta.Sequence.Stream, room: room, size: storedSize(msg.Subject, msg.Header), pending: meta.NumPending}, nil
}

// What the store keeps with each message: length, sequence, time, length of the
// subject and a checksum; and the length of headers where there are any.
const (
	recordOverhead = 4 + 8 + 8 + 2 + 8
	headerOverhead = 4
)

// storedSize returns the bytes that a message takes on disk. The server has
// added the size of the body as the last header. Where the headers cannot be
// read the message counts as the largest there can be.
func storedSize(subject string, header nats.Header) int64 {
	size := int64(recordOverhead + len(subject))
	sizes := header[server.JSMsgSize]
	if len(sizes) == 0 {
		return size + headerOverhead + MaxPayload
	}
	body, err := strconv.ParseUint(sizes[len(sizes)-1], 10, 31)
	if err != nil {
		return size + headerOverhead + MaxPayload
	}
	size += int64(body)
	lines := 0
	for key, values := range header {
		for _, value := range values {
			lines++
			size += int64(len(key) + len(": ") + len(value) + len("\r\n"))
		}
	}
	size -= int64(len(server.JSMsgSize) + len(": ") + len(sizes[len(sizes)-1]) + len("\r\n"))
	if lines > 1 {
		size += int64(len("NATS/1.0\r\n") + len("\r\n") + headerOverhead)
	}
	return size
}

// startTally begins to count for the ledger. It must have its own connection:
// what waits in it must hold up nobody else.
func (b *Broker) startTally(ctx context.Context, ledger Ledger) error {
	nc, err := b.Conn(AccountStore)
	if err != nil {
		return err
	}
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	b.tally = &tally{ledger: ledger, log: b.log, nc: nc, js: js}
	for shard := range bus.Shards {
		b.watching.Go(func() { b.tally.follow(ctx, shard) })
	}
	return nil
}
