package client

import (
	"context"
	"crypto/sha256"
	"errors"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/frame"
	"github.com/enmanuel/unibus/lib/wire"
)

// heightsOf returns how far the sessions of senders have come, the least recent
// first, by counting what is stored. It counts by what senders have signed, so
// that the frames of epochs whose key this member has not count as well.
func (r *Room) heightsOf(ctx context.Context, persisted bool, senders map[bus.ID]bool) ([]frame.Height, error) {
	if !persisted {
		if r.of != nil {
			r = r.of
		}
		return r.seen.heights(senders), nil
	}
	rd, err := r.newCounter(ctx, senders)
	if err != nil {
		return nil, err
	}
	var failed error
	rd.run(func(_ *Message, err error) bool {
		if _, ok := errors.AsType[*FrameError](err); ok {
			return true // what fails a check counts for nobody
		}
		failed = err
		return false
	})
	if failed == nil && ctx.Err() != nil {
		failed = bus.Errorf(bus.CodeTimeout, "read room %s: %w", r.id, ctx.Err())
	}
	if failed != nil {
		return nil, failed
	}
	return rd.counted.heights(senders), nil
}

// newCounter begins to read for the count of the senders' frames alone.
func (r *Room) newCounter(ctx context.Context, senders map[bus.ID]bool) (*reader, error) {
	rd, err := r.newReader(ctx, Stored)
	if err != nil {
		return nil, err
	}
	rd.counted = &seenFrames{}
	rd.opener = frame.NewOpener(unkeyed{rd.view}, rd.window, r.client.config.Now)
	rd.only = map[string]bool{}
	for id := range senders {
		rd.only[id.Token()] = true
	}
	return rd, nil
}

// unkeyed shows a room as somebody sees it who has none of its keys.
type unkeyed struct{ view }

// Epoch implements [frame.View].
func (u unkeyed) Epoch(e bus.Epoch) (frame.Epoch, bool) {
	epoch, ok := u.view.Epoch(e)
	epoch.Key = nil
	return epoch, ok
}

// count takes in how far a frame says that its sender's session has come, if a
// member who could write signed it. The caller holds the model's read lock.
func (rd *reader) count(w *waitingFrame) error {
	// Where frames are encrypted, all checks that need no key come before the one
	// that finds it missing; where they are not, all checks are made.
	_, err := rd.opener.Open(rd.room.id.Token(), w.sender, w.data)
	if bus.CodeOf(err) == bus.CodeDecrypt {
		err = rd.checkSignature(w)
	}
	if err != nil && !errors.Is(err, frame.ErrDuplicate) {
		return err
	}
	rd.counted.note(&w.header)
	return nil
}

// checkSignature checks who signed a frame whose header was parsed.
func (rd *reader) checkSignature(w *waitingFrame) error {
	end := len(w.data) - frame.SignatureSize
	st := frame.Statement{
		Header:    [frame.HeaderSize]byte(w.data),
		Digest:    sha256.Sum256(w.data[frame.HeaderSize:end]),
		Signature: [frame.SignatureSize]byte(w.data[end:]),
	}
	hash := st.Hash()
	pub, ok := rd.view.SignPub(w.header.Sender)
	if !ok || !wire.Verify(pub[:], wire.LabelFrame, hash[:], st.Signature[:]) {
		return bus.Errorf(bus.CodeBadSignature, "count frame: not signed by %s, its sender", w.header.Sender)
	}
	return nil
}
