package client

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/frame"
)

// launch has alice send a message, by hand, over a connection.
func (p *pair) launch(t *testing.T, nc *nats.Conn, body string) *flight {
	t.Helper()
	pub := p.room.pub
	b := newBatch()
	if _, ok := b.add(frame.Record{Body: []byte(body)}); !ok {
		t.Fatal("the message does not fit")
	}
	pub.mu.Lock()
	pub.open[b] = struct{}{}
	pub.mu.Unlock()
	defer func(nc *nats.Conn) { p.alice.nc = nc }(p.alice.nc)
	p.alice.nc = nc
	pub.flights.launch(t.Context(), b)
	if len(pub.flights.list) != 1 {
		t.Fatalf("%d frames are on their way: %v", len(pub.flights.list), b.err)
	}
	return pub.flights.list[0]
}

// land handles answers until a flight has its outcome.
func (p *pair) land(t *testing.T, f *flight) error {
	t.Helper()
	pub := p.room.pub
	limit := time.After(10 * time.Second)
	for !f.resolved {
		select {
		case <-pub.wake:
		case <-limit:
			t.Fatal("no outcome")
		}
		for _, a := range pub.takeAnswers() {
			pub.flights.handle(a, time.Now())
		}
	}
	return f.batch.outcome()
}

// A frame that could not leave is sealed anew when somebody was removed
// meanwhile; one that a server may have goes as it is, to be the same frame.
func TestWhatNeverLeftIsSealedToTheNewKey(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	fs := &p.room.pub.flights
	unable := &nats.Conn{} // takes nothing
	f := p.launch(t, unable, "for those who are left")
	if f.attempts != 0 || f.receipt.Epoch != 1 {
		t.Fatalf("%d attempts in epoch %d", f.attempts, f.receipt.Epoch)
	}
	under1 := slices.Clone(f.data)
	if err := p.room.Remove(t.Context(), "bob"); err != nil {
		t.Fatal(err)
	}
	fs.sendAgain(t.Context(), f.retryAt)
	if f.attempts != 1 || f.receipt.Epoch != 2 || f.receipt.Seq != 0 || slices.Equal(f.data, under1) {
		t.Fatalf("%d attempts, receipt %+v", f.attempts, f.receipt)
	}
	if h, err := frame.ParseHeader(f.data); err != nil || h.Epoch != 2 || h.Seq != 0 {
		t.Errorf("sent %+v, %v", h, err)
	}
	if err := p.land(t, f); err != nil {
		t.Fatal(err)
	}
	f = p.launch(t, p.alice.nc, "sent before")
	under2 := slices.Clone(f.data)
	if err := p.room.Rotate(t.Context()); err != nil {
		t.Fatal(err)
	}
	fs.sendAgain(t.Context(), time.Now().Add(time.Hour))
	if f.attempts != 2 || f.receipt.Epoch != 2 || !slices.Equal(f.data, under2) {
		t.Errorf("%d attempts, receipt %+v", f.attempts, f.receipt)
	}
	if err := p.land(t, f); err != nil {
		t.Error(err)
	}
	var bodies []string
	for m, err := range p.room.Messages(t.Context(), Stored) {
		if err != nil {
			t.Fatal(err)
		}
		bodies = append(bodies, string(m.Body))
	}
	if !slices.Equal(bodies, []string{"for those who are left", "sent before"}) {
		t.Errorf("stored %q", bodies)
	}
}

// A frame that could not leave is not sent at all once the sender may not.
func TestWhatNeverLeftIsNotSentWithoutTheRight(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	f := p.launch(t, &nats.Conn{}, "too late")
	honest := p.alice.config.Now
	p.alice.config.Now = func() time.Time { return honest().Add(bus.DefaultRecordLife + bus.ClockSkew + time.Hour) }
	defer func() { p.alice.config.Now = honest }()
	p.room.pub.flights.sendAgain(t.Context(), f.retryAt)
	if !f.resolved || f.attempts != 0 || !errors.Is(f.batch.outcome(), bus.ErrExpired) {
		t.Errorf("%d attempts, %v", f.attempts, f.batch.outcome())
	}
}
