package hostile_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/client"
	"github.com/enmanuel/unibus/lib/internal/hostile"
)

// inbox collects what an iteration hands out.
type inbox struct {
	stage *stage
	end   func()

	mu     sync.Mutex
	bodies []string
	errs   []error
	ended  bool
	change chan struct{}
}

// read reads a room in the background.
func (s *stage) read(r *client.Room, from client.From) *inbox {
	s.Helper()
	ctx, cancel := context.WithCancel(s.Context())
	in := &inbox{stage: s, change: make(chan struct{})}
	s.mu.Lock()
	s.inboxs = append(s.inboxs, in)
	s.mu.Unlock()
	seq := r.Messages(ctx, from)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for m, err := range seq {
			in.note(m, err, false)
		}
		in.note(nil, nil, true)
	}()
	in.end = sync.OnceFunc(func() { cancel(); <-done })
	s.Cleanup(in.end)
	return in
}

func (in *inbox) note(m *client.Message, err error, ended bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	switch {
	case err != nil:
		in.errs = append(in.errs, err)
	case m != nil:
		in.bodies = append(in.bodies, string(m.Body))
	}
	in.ended = ended
	close(in.change)
	in.change = make(chan struct{})
}

// wait returns what came once until is true of it, or nothing more comes.
func (in *inbox) wait(until func(bodies []string, errs []error) bool) ([]string, error) {
	limit := time.NewTimer(patience)
	defer limit.Stop()
	for {
		in.mu.Lock()
		bodies, errs, ended, change := slices.Clone(in.bodies), slices.Clone(in.errs), in.ended, in.change
		in.mu.Unlock()
		if ended || until(bodies, errs) {
			return bodies, errors.Join(errs...)
		}
		select {
		case <-change:
		case <-limit.C:
			return bodies, errors.Join(append(errs, errors.New("what was waited for did not come"))...)
		}
	}
}

// until waits for a message that is no lie, and returns the errors before it.
func (in *inbox) until(body string) error {
	_, err := in.wait(func(bodies []string, _ []error) bool { return slices.Contains(bodies, body) })
	return err
}

// verdict waits for an error, or for a lie to be handed out, and for a message
// that was sent after the lie.
func (in *inbox) verdict(body string) error {
	_, err := in.wait(func(bodies []string, errs []error) bool {
		return slices.Contains(bodies, body) && (len(errs) > 0 || in.stage.released() > 0)
	})
	return err
}

// released counts lies that were handed out, and whatever one iteration handed
// out twice.
func (s *stage) released() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for i, in := range s.inboxs {
		in.mu.Lock()
		seen := map[string]bool{}
		for _, body := range in.bodies {
			from, late := s.late[body]
			if seen[body] || slices.Contains(s.lies, body) || late && i >= from {
				n++
			}
			seen[body] = true
		}
		in.mu.Unlock()
	}
	return n
}

// deliver hands bob a live frame that came from nobody.
func (d *duo) deliver(sender *actor, data []byte) {
	d.Helper()
	d.deliverAs(sender.id.ID(), data)
}

func (d *duo) deliverAs(sender bus.ID, data []byte) {
	d.Helper()
	d.bob.tell()
	if !d.bob.data.Conn().Deliver(hostile.Delivery{Subject: bus.DataSubject(d.hers.ID(), sender, false), Payload: slices.Clone(data)}) {
		d.Fatal("bob listens to nobody")
	}
}

// store has a member put a frame into the store by hand, under an id of its
// choice.
func (d *duo) store(sender *actor, data []byte, id string) {
	d.Helper()
	d.bob.tell()
	d.must(sender.data.Conn().Publish(hostile.Sent{
		Subject: bus.DataSubject(d.hers.ID(), sender.id.ID(), true),
		Header:  []byte("NATS/1.0\r\nNats-Msg-Id: " + id + "\r\n\r\n"),
		Payload: data,
	}))
}

// frame begins a frame of a member in a session of its own.
func (d *duo) frame(sender *actor, session byte, seq bus.Seq, body string) *hostile.Frame {
	d.Helper()
	rec, key := d.head()
	return hostile.NewFrame(rec, key, sender.id.ID(), bus.SessionID{1, session}, seq, time.Now(), []byte(body))
}

// becomesLie has a message that was rightly read so far be a lie to whoever
// reads it from now on.
func (s *stage) becomesLie(body string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.late[body] = len(s.inboxs)
}
