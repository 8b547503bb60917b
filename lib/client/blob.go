package client

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"

	"github.com/enmanuel/unibus/lib/api"
	"github.com/enmanuel/unibus/lib/blob"
	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/frame"
	"github.com/enmanuel/unibus/lib/internal/durable"
)

// BlobRef is all that it takes to get a blob and open it; see [blob.Ref]. It is
// as secret as the blob.
type BlobRef = blob.Ref

// PutOptions say what goes with a blob. The zero value is a blob without name.
type PutOptions struct {
	// Name is the file's name, for those who get it; see [blob.CheckName].
	Name string
	// Media is its media type, such as "text/plain".
	Media string
	// Body and Headers are those of the message that brings the reference.
	Body    []byte
	Headers []Header
	// Limit is how many bytes the content may have; 0 is [bus.MaxBlobSize]. What
	// the servers take is for them to say ([bus.CodeTooLarge], [bus.CodeQuota]).
	Limit int64
	// Progress is told how many of the sealed bytes the servers have. Calls come
	// one after the other; after a broken connection done can go back.
	Progress func(done, total int64)
}

// GetOptions say how a blob is fetched.
type GetOptions struct {
	// Force replaces a file that exists, in one step. For [Client.GetBlobFile].
	Force bool
	// Progress is told how many of the sealed bytes are here. Calls come one
	// after the other; where a server gave other bytes than it should, done goes
	// back.
	Progress func(done, total int64)
}

// BlobStatus is how far a blob is on a node.
type BlobStatus = api.BlobStatus

// Blob returns the reference that a message brings: ok tells whether it has one.
// One that does not parse is [bus.CodeMalformed].
func (m *Message) Blob() (ref BlobRef, ok bool, err error) {
	i := slices.IndexFunc(m.Headers, func(h Header) bool { return h.Key == bus.HeaderBlob })
	if i < 0 {
		return BlobRef{}, false, nil
	}
	ref, err = blob.Parse([]byte(m.Headers[i].Value))
	return ref, err == nil, err
}

// PutBlob seals what src gives, has the servers keep it, and publishes a message
// with the reference. It holds a piece of it at a time, never the whole.
//
// A connection that breaks is made again, to whichever node answers, and the
// upload goes on where it was. So does a later call, of another process too,
// for the same content, name and media type in the same room: what was sealed
// is kept in [Config].StateDir until it was sent and published, or for a week.
//
// Errors: those of src, [bus.CodeTooLarge] and [bus.CodeQuota] for the limits,
// [bus.CodeNotMember] without the right to write, [bus.CodeUnavailable] where no
// node moved it on for [Config].ControlTimeout, and those of [Room.Publish].
// After [bus.CodeUnknownOutcome] the blob is there and perhaps the message too.
//
// When ctx ends first, PutBlob returns; what it was reading from src goes on until
// that returns.
func (r *Room) PutBlob(ctx context.Context, src io.Reader, opts PutOptions) (BlobRef, Receipt, error) {
	ref, receipt, err := r.putBlob(ctx, src, opts)
	if err != nil {
		err = fmt.Errorf("put blob: %w", err)
	}
	return ref, receipt, err
}

func (r *Room) putBlob(ctx context.Context, src io.Reader, opts PutOptions) (BlobRef, Receipt, error) {
	if err := r.client.alive(); err != nil {
		return BlobRef{}, Receipt{}, err
	}
	if err := errors.Join(blob.CheckName(opts.Name), blob.CheckMedia(opts.Media)); err != nil {
		return BlobRef{}, Receipt{}, err
	}
	// What the message cannot carry is better found out before the upload.
	message := append(slices.Clone(opts.Headers), Header{Key: bus.HeaderBlob, Value: string(make([]byte, blob.MaxRef))})
	slices.SortFunc(message, compareHeaders)
	if err := frame.CheckRecord(frame.Record{Headers: message, Body: opts.Body}); err != nil {
		return BlobRef{}, Receipt{}, err
	}
	if !r.Role().CanWrite() {
		return BlobRef{}, Receipt{}, r.notMember()
	}
	ctx, cancel := r.client.bound(ctx)
	defer cancel()
	sp, err := r.client.spoolBlob(ctx, r.id, r.Policy().Flags.Has(bus.FlagPad), src, opts)
	if err != nil {
		return BlobRef{}, Receipt{}, err
	}
	defer sp.unlock()
	if err := r.client.control.upload(ctx, sp, opts.Progress); err != nil {
		if errors.Is(err, bus.ErrBlobMismatch) {
			err = errors.Join(err, sp.remove()) // the disk has changed it: what is sealed anew is right
		}
		return BlobRef{}, Receipt{}, err
	}
	raw, err := sp.ref.Encode()
	if err != nil {
		return BlobRef{}, Receipt{}, err
	}
	headers := append(slices.Clone(opts.Headers), Header{Key: bus.HeaderBlob, Value: string(raw)})
	receipt, err := r.Publish(ctx, opts.Body, headers...)
	if err != nil {
		return sp.ref, Receipt{}, err
	}
	return sp.ref, receipt, sp.remove()
}

// bound ends a context with the client too.
func (c *Client) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(c.ctx, func() { cancel(c.closedErr()) })
	return ctx, func() { stop(); cancel(nil) }
}

// endedBy says why a context of bound has ended: with the client, or as its
// caller wanted, in the words of [context.Context.Err].
func endedBy(ctx context.Context) error {
	if closed, ok := errors.AsType[*bus.Error](context.Cause(ctx)); ok {
		return closed
	}
	return ctx.Err()
}

// GetBlob fetches a blob and writes its content to w, once all of it is here and
// was found to be what the reference says. It holds a piece of it at a time. A
// connection that breaks is made again, and a later call, of another process too,
// goes on where this one was.
//
// Errors: [bus.CodeNotFound] where no node has the blob, [bus.CodeBlobMismatch]
// where none gives the right bytes, or where the reference itself is wrong,
// [bus.CodeUnavailable], and those of w. Nothing was written to w before any but
// the last.
func (c *Client) GetBlob(ctx context.Context, ref BlobRef, w io.Writer, opts GetOptions) error {
	err := c.getBlob(ctx, ref, opts, func(open func() (io.Reader, error)) error {
		content, err := open()
		if err != nil {
			return err
		}
		_, err = io.CopyBuffer(onlyWriter{w}, content, make([]byte, blobBuffer))
		return err
	})
	if err != nil {
		return fmt.Errorf("get blob %s: %w", ref.Hash, err)
	}
	return nil
}

// onlyWriter keeps io.Copy from giving its buffer up for one of the writer's.
type onlyWriter struct{ io.Writer }

// GetBlobFile is [Client.GetBlob] into a file, whose name appears when all of its
// content is there, durably, with mode 0600. A name that exists is [bus.CodeFileExists], found
// out before anything is fetched, unless opts.Force is set.
func (c *Client) GetBlobFile(ctx context.Context, ref BlobRef, path string, opts GetOptions) error {
	err := checkFree(path, opts.Force)
	if err == nil {
		err = c.getBlob(ctx, ref, opts, func(open func() (io.Reader, error)) error {
			content, err := open()
			if err != nil {
				return err
			}
			return durable.CopyFile(path, content, stateFileMode, opts.Force)
		})
	}
	if err != nil {
		return fmt.Errorf("get blob %s: %w", ref.Hash, err)
	}
	return nil
}

// StatBlob asks how far a blob is: complete, or uploaded in part by this very
// user. Where there is neither the error has [bus.CodeNotFound].
func (c *Client) StatBlob(ctx context.Context, hash bus.BlobHash) (BlobStatus, error) {
	ctx, cancel := c.bound(ctx)
	defer cancel()
	var status BlobStatus
	err := c.control.persist(ctx, func(n target) (err error) {
		status, err = c.control.stat(n, hash)
		return err
	})
	if err != nil {
		return BlobStatus{}, fmt.Errorf("stat blob %s: %w", hash, err)
	}
	return status, nil
}

// RemoveBlob has the servers delete a blob that this user has put, or anybody's
// for admins of the bus ([bus.CodeForbidden] for others). The message with the
// reference stays. Removing what is not there is [bus.CodeNotFound].
func (c *Client) RemoveBlob(ctx context.Context, hash bus.BlobHash) error {
	err := c.control.call(ctx, http.MethodDelete, api.BlobPath(hash), nil, nil)
	if errors.Is(err, bus.ErrNotFound) && maybeDone(err) {
		return nil
	}
	return err
}

// spoolKey is what two calls have in common that put the same.
func spoolKey(room bus.RoomID, ref BlobRef) [sha256.Size]byte {
	h := sha256.New()
	fmt.Fprintf(h, "unibus/1 spool\n%s\n%x\n%q\n%q\n%d", room, ref.Digest, ref.Name, ref.Media, ref.SealedSize)
	return [sha256.Size]byte(h.Sum(nil))
}
