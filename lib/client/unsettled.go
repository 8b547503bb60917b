package client

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"time"

	"github.com/enmanuel/unibus/lib/api"
	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/internal/durable"
	"github.com/enmanuel/unibus/lib/room"
)

const (
	// sendWait is how long a record is sent again while the servers neither take
	// it nor show another.
	sendWait     = grantWait
	maxSendPause = 500 * time.Millisecond
	// refusedRest is how long a record that was refused keeps this client from
	// making another of its own accord.
	refusedRest = 24 * time.Hour
)

// unsettled is a signed record that servers have, or may have, and of which it
// is not known whether it became the room's head. Two records after one head,
// signed by one key, are an equivocation, whoever asked for them: until the head
// has come as far, this one is sent again and no other is signed.
type unsettled struct {
	V       int              `json:"v"`
	Upload  api.RecordUpload `json:"upload"`
	Refused bool             `json:"refused,omitempty"` // a server said that it will never take it
}

// signing is the right to sign records of a room, which one has at a time among
// all processes of an identity.
type signing struct {
	room   *Room
	file   stateFile[unsettled]
	unlock func()
}

// beginSigning waits for the right.
func (r *Room) beginSigning(ctx context.Context) (*signing, error) {
	if err := r.client.alive(); err != nil {
		return nil, err
	}
	dir := r.client.state.path("unsettled")
	if err := durable.MkdirAll(dir); err != nil {
		return nil, fmt.Errorf("keep record: %w", err)
	}
	s := &signing{room: r, file: stateFile[unsettled]{r.client.state.path("unsettled", r.id.String()+".json")}}
	var err error
	if s.unlock, err = durable.Lock(ctx, s.file.path+".lock"); err != nil {
		return nil, fmt.Errorf("keep record: %w", err)
	}
	return s, nil
}

// finishEarlier settles a record that was signed before, by this process or
// another. Without an error none is left.
func (s *signing) finishEarlier(ctx context.Context, why occasion) error {
	kept, err := s.file.read()
	if err != nil || kept.V == 0 {
		return err
	}
	rec, err := room.ParseRecord(kept.Upload.Record, kept.Upload.Members)
	if err != nil {
		return fmt.Errorf("read state %s: %w", s.file.path, err)
	}
	if err := s.room.sync(ctx); err != nil {
		return err
	}
	head, _, _ := s.room.model.current()
	if rec.Epoch <= head.Epoch || s.room.of != nil && head.Hash() != rec.Prev {
		// On a branch that is given up it can never count.
		return s.forget()
	}
	if !kept.Refused {
		err := s.send(ctx, kept, rec)
		if err == nil || bus.CodeOf(err) == bus.CodeConflict {
			return nil
		}
		if _, refused := errors.AsType[*refusedError](err); !refused {
			return fmt.Errorf("finish the change before: %w", err)
		}
	}
	if why == unasked && s.room.client.config.Now().Sub(rec.Created) < refusedRest {
		return bus.Errorf(bus.CodeRefused, "record %d, which was made at %s, was refused", rec.Epoch, rec.Created.Format(time.RFC3339))
	}
	s.room.client.log.Warn("client", "room", s.room.id.String(), "gives_up_record", rec.Hash().String())
	return s.forget()
}

// put keeps a new record and has the servers accept it.
func (s *signing) put(ctx context.Context, signed *room.Signed) error {
	kept := unsettled{V: 1, Upload: upload(signed)}
	// First kept, then shown.
	if err := s.file.write(kept); err != nil {
		return err
	}
	return s.send(ctx, kept, signed.Record)
}

// refusedError is that a server will not take a record as it is.
type refusedError struct{ err error }

func (e *refusedError) Error() string { return e.err.Error() }
func (e *refusedError) Unwrap() error { return e.err }

// send has the servers accept a record. They may have done so although the
// answer got lost, or say that somebody else was first when it was this very
// record, or nobody: what counts is what they have afterwards. While that is no
// record of this epoch the same bytes are sent again.
//
// Errors: [bus.CodeConflict] where another record has taken its place,
// [*refusedError], and [bus.CodeUnknownOutcome]. After the last two it is kept.
func (s *signing) send(ctx context.Context, kept unsettled, rec *room.Record) error {
	r := s.room
	pause := retryPause
	var taken bool
	for began := time.Now(); ; pause = min(2*pause, maxSendPause) {
		var err error
		if !taken {
			err = r.client.control.call(ctx, http.MethodPost, api.RecordsPath(r.id), kept.Upload, nil)
			taken = err == nil
		}
		if refuses(err) {
			kept.Refused = true
			return errors.Join(&refusedError{err}, s.file.write(kept))
		}
		syncErr := r.sync(ctx)
		if now := r.model.at(rec.Epoch); now != nil {
			if err := s.forget(); err != nil {
				return err
			}
			if now.Hash() != rec.Hash() {
				return bus.Errorf(bus.CodeConflict, "somebody else made record %d", rec.Epoch)
			}
			return nil
		}
		// Another node than the one that took it may be a little behind.
		if syncErr != nil || time.Since(began) > sendWait || !sleep(ctx, pause) {
			return unknownOutcome(rec, taken, errors.Join(err, syncErr, ctx.Err()))
		}
	}
}

func unknownOutcome(rec *room.Record, taken bool, cause error) error {
	switch {
	case cause != nil:
		return bus.Errorf(bus.CodeUnknownOutcome, "record %d was sent, and it is not known what became of it: %w", rec.Epoch, cause)
	case taken:
		return bus.Errorf(bus.CodeUnknownOutcome, "the server took record %d and does not show it", rec.Epoch)
	}
	return bus.Errorf(bus.CodeUnknownOutcome, "the server does not take record %d and shows no other", rec.Epoch)
}

// refuses reports whether err is a server's word that the record is not to be
// had, and not that it could not serve, or that another one was first.
func refuses(err error) bool {
	if err == nil || maybeDone(err) {
		return false
	}
	switch bus.CodeOf(err) {
	case bus.CodeConflict, bus.CodeGap, bus.CodeFork, bus.CodeExists,
		bus.CodeUnavailable, bus.CodeTimeout, bus.CodeRateLimited, bus.CodeUnknownOutcome, bus.CodeNonceSpent,
		bus.CodeInternal, bus.CodeClosed:
		return false
	}
	return true
}

// forget is for a record whose epoch the head has reached. A file that comes
// back after a crash is found to be settled again.
func (s *signing) forget() error {
	if err := os.Remove(s.file.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("forget record: %w", err)
	}
	return nil
}
