package broker

import (
	"context"
	"errors"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/enmanuel/unibus/daemon/metrics"
	"github.com/enmanuel/unibus/lib/bus"
)

// book is a ledger with a list of rooms that are full.
type book struct {
	mu    sync.Mutex
	rooms map[string]int64
	full  map[string]bool
}

func newBook() *book { return &book{rooms: map[string]int64{}, full: map[string]bool{}} }

func (b *book) Stored(room string, bytes int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.rooms[room] += bytes; b.rooms[room] == 0 {
		delete(b.rooms, room)
	}
}

func (b *book) Full(room []byte) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.full[string(room)]
}

func (b *book) fill(room bus.RoomID, full bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.full[room.Token()] = full
}

func (b *book) stored() map[string]int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return maps.Clone(b.rooms)
}

func (b *book) total() (sum int64) {
	for _, n := range b.stored() {
		sum += n
	}
	return sum
}

// onDisk is what the server says of all streams.
func onDisk(t *testing.T, b *Broker) (sum int64) {
	t.Helper()
	uses, err := b.Streams()
	if err != nil {
		t.Fatal(err)
	}
	for _, use := range uses {
		if use.Consumers != 0 {
			t.Errorf("shard %d has %d consumers of readers", use.Shard, use.Consumers)
		}
		sum += int64(use.Bytes)
	}
	return sum
}

func TestWhatRoomsStoreIsCountedAsTheServerDoes(t *testing.T) {
	cfg := testConfig(t)
	ledger := newBook()
	cfg.Ledger = ledger
	b := start(t, cfg)
	js := store(t, b)
	put := func(room bus.RoomID, header nats.Header, size int) {
		t.Helper()
		msg := &nats.Msg{Subject: bus.DataSubject(room, bus.ID{1}, true), Header: header, Data: make([]byte, size)}
		if _, err := js.PublishMsg(t.Context(), msg); err != nil {
			t.Fatal(err)
		}
	}
	one, two, far := bus.RoomID{1, 1}, bus.RoomID{1, 2}, bus.RoomID{2}
	put(one, nil, 0)
	put(one, nil, 1000)
	put(two, nats.Header{"Nats-Msg-Id": {"x"}}, 100_000)
	// What members write into headers is taken for nothing else.
	put(two, nats.Header{"Status": {"503"}, "Description": {"no"}}, 0)
	put(two, nats.Header{"Nats-Msg-Size": {"-7", "1"}, "Nats-Sequence": {"9"}}, 3000)
	for range 2*tallyBatch + 1 {
		if _, err := js.PublishAsync(bus.DataSubject(far, bus.ID{1}, true), []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	<-js.PublishAsyncComplete()
	await(t, "the counts", func() bool { return ledger.total() == onDisk(t, b) })
	before := ledger.stored()
	if len(before) != 3 || before[one.Token()] < 1000 || before[two.Token()] < 103_000 {
		t.Errorf("counted %v", before)
	}

	shutdown(t, b)
	ledger = newBook()
	cfg.Ledger = ledger
	b = start(t, cfg)
	await(t, "the counts after a restart", func() bool { return maps.Equal(before, ledger.stored()) })

	js = store(t, b)
	put(one, nil, 10)
	await(t, "the next message", func() bool { return ledger.total() == onDisk(t, b) })
	if err := b.Purge(t.Context(), []Expiry{{one, time.Now().Add(-time.Hour)}, {two, time.Now().Add(time.Hour)}}); err != nil {
		t.Fatal(err)
	}
	if after := ledger.stored(); after[one.Token()] <= before[one.Token()] || after[two.Token()] != 0 || after[far.Token()] != before[far.Token()] {
		t.Errorf("after the purge of one room: %v, before %v", after, before)
	}
	if have, want := ledger.total(), onDisk(t, b); have != want {
		t.Errorf("counted %d, the server has %d", have, want)
	}
}

// A purge can meet messages that are not counted yet.
func TestPurgedMessagesAreNotCountedLater(t *testing.T) {
	ledger := newBook()
	tl := &tally{ledger: ledger}
	s := &tl.shards[0]
	room := bus.RoomID{}
	tl.count(s, stored{seq: 1, room: room.Token(), size: 10})
	s.purged = map[string]uint64{room.Token(): 3}
	tl.count(s, stored{seq: 2, room: room.Token(), size: 100})
	tl.count(s, stored{seq: 3, room: room.Token(), size: 1000})
	tl.count(s, stored{seq: 3, room: room.Token(), size: 1000})
	if have := ledger.total(); have != 1010 {
		t.Errorf("counted %d", have)
	}
}

func TestFailedPurgeCountsOffWhatIsGone(t *testing.T) {
	cfg := testConfig(t)
	ledger := newBook()
	cfg.Ledger = ledger
	b := start(t, cfg)
	js := store(t, b)
	room := bus.RoomID{4}
	for range 3 {
		if _, err := js.Publish(t.Context(), bus.DataSubject(room, bus.ID{1}, true), []byte("frame")); err != nil {
			t.Fatal(err)
		}
	}
	await(t, "the counts", func() bool { return ledger.total() == onDisk(t, b) })
	stream, err := js.Stream(t.Context(), bus.Stream(bus.Shard(room)))
	if err != nil {
		t.Fatal(err)
	}
	lost := errors.New("no answer")
	for name, purge := range map[string]func(context.Context) error{
		"that did nothing": func(context.Context) error { return lost },
		"whose answer is lost": func(ctx context.Context) error {
			if err := stream.Purge(ctx, jetstream.WithPurgeSequence(3)); err != nil {
				return err
			}
			return lost
		},
	} {
		if err := b.tally.purging(t.Context(), room, 3, func() error { return purge(t.Context()) }); !errors.Is(err, lost) {
			t.Errorf("a purge %s: %v", name, err)
		}
		if have, want := ledger.total(), onDisk(t, b); have != want {
			t.Errorf("after a purge %s: counted %d, the server has %d", name, have, want)
		}
	}
}

func TestFullRoomsRefuseAsAFullStreamDoes(t *testing.T) {
	cfg := testConfig(t)
	ledger := newBook()
	cfg.Ledger, cfg.Metrics = ledger, metrics.New("")
	b := open(t, cfg)
	js, err := jetstream.NewWithAPIPrefix(member(t, b), bus.APIPrefix)
	if err != nil {
		t.Fatal(err)
	}
	room, other := bus.RoomID{3, 1}, bus.RoomID{3, 2}
	publish := func(room bus.RoomID) error {
		_, err := js.Publish(t.Context(), bus.DataSubject(room, bus.ID{1}, true), make([]byte, 100_000))
		return err
	}
	for range 2 {
		if err := publish(room); err != nil {
			t.Fatal(err)
		}
		ledger.fill(room, true)
		err := publish(room)
		if refused, ok := errors.AsType[*jetstream.APIError](err); !ok || refused.ErrorCode != 10077 {
			t.Fatalf("to a full room: %v", err)
		}
		if err := publish(other); err != nil {
			t.Fatalf("to another room of the shard: %v", err)
		}
		ledger.fill(room, false)
	}
	uses, err := b.Streams()
	if err != nil || uses[3].Messages != 4 {
		t.Errorf("stored %d messages, %v", uses[3].Messages, err)
	}
	if err := testutil.CollectAndCompare(cfg.Metrics, strings.NewReader(`
		# HELP unibus_denials_total Requests, sessions and messages refused, by plane and error code.
		# TYPE unibus_denials_total counter
		unibus_denials_total{code="quota",plane="data"} 2
	`), "unibus_denials_total"); err != nil {
		t.Error(err)
	}
}
