package client

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/enmanuel/unibus/lib/api"
	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/httpsig"
)

// minPart is how small the parts of an upload become on a line that keeps breaking.
const minPart = 256 << 10

// target is one node during one attempt.
type target struct {
	ctx   context.Context
	base  *url.URL
	moved func() // tells that the work has moved on
}

// persist makes attempts at the nodes, one after the other and again and again,
// until one succeeds, or all refuse, or nothing has moved on for as long as a
// call may take. A refusal for what another node may judge otherwise, that it
// has no such blob or a broken one, is final once every node has made it.
func (k *control) persist(ctx context.Context, attempt func(n target) error) error {
	pause := controlFirstPause
	last := time.Now()
	refusals := 0
	for i := int(k.preferred.Load()); ; i++ {
		n := i % len(k.urls)
		moved := false
		err := attempt(target{ctx: ctx, base: k.urls[n], moved: func() { moved = true }})
		if err == nil {
			k.preferred.Store(int32(n))
			return nil
		}
		k.log.Debug("client", "blob", k.urls[n].String(), "err", err)
		var wait time.Duration
		if e, ok := errors.AsType[*api.Error](err); ok {
			wait = e.RetryAfter()
		}
		if moved {
			pause, last = controlFirstPause, time.Now()
		}
		switch {
		case ctx.Err() != nil:
			return endedBy(ctx)
		case errors.Is(err, bus.ErrNotFound) || errors.Is(err, bus.ErrBlobMismatch):
			if refusals++; refusals >= len(k.urls) {
				return err
			}
			continue
		case !worthRetrying(err) && !errors.Is(err, bus.ErrConflict):
			return err
		case time.Since(last)+wait > k.total:
			return bus.Errorf(bus.CodeUnavailable, "no node moved it on for %s: %w", k.total, err)
		}
		if !sleep(ctx, max(wait, pause/2+mathrand.N(pause/2))) {
			return endedBy(ctx)
		}
		pause = min(2*pause, controlMaxPause)
	}
}

// content is what a request sends.
type content struct {
	r      io.Reader
	n      int64
	digest [sha256.Size]byte
}

var noContent = content{digest: sha256.Sum256(nil)}

// do makes one signed request whose content streams in either direction. It
// is ended where nothing moves for as long as one attempt may take; the caller
// ends it with done, once it has read the answer through what wrap returns.
func (k *control) do(n target, method, path string, body content) (resp *http.Response, wrap func(io.Reader) io.Reader, done func(), err error) {
	ctx, cancel := context.WithCancelCause(n.ctx)
	timer := time.AfterFunc(k.attempt, func() {
		cancel(bus.Errorf(bus.CodeTimeout, "nothing moved for %s", k.attempt))
	})
	end := func() { timer.Stop(); cancel(nil) }
	wrap = func(r io.Reader) io.Reader { return &watched{r, timer, k.attempt} }
	defer func() {
		if err != nil {
			end()
		}
	}()
	var rd io.Reader = http.NoBody
	if body.n > 0 {
		rd = wrap(body.r)
	}
	req, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(n.base.String(), "/")+path, rd)
	if err != nil {
		return nil, nil, nil, bus.Errorf(bus.CodeUsage, "make request: %w", err)
	}
	req.ContentLength = body.n
	req.GetBody = nil // a request sent twice has a nonce that is spent
	if body.n > 0 {
		req.Header.Set("Content-Type", api.MediaBlob)
		// What is refused for its size, a quota or its place is not sent.
		req.Header.Set("Expect", "100-continue")
	}
	if err := httpsig.SignDigest(req, body.digest, k.signer, k.now(), rand.Reader); err != nil {
		return nil, nil, nil, err
	}
	resp, err = k.http.Do(req)
	if err != nil {
		return nil, nil, nil, &networkError{err}
	}
	return resp, wrap, func() { resp.Body.Close(); end() }, nil
}

// watched puts off the end of a request with everything that moves.
type watched struct {
	r     io.Reader
	timer *time.Timer
	limit time.Duration
}

// Read implements [io.Reader].
func (w *watched) Read(p []byte) (int, error) {
	n, err := w.r.Read(p)
	if n > 0 {
		w.timer.Reset(w.limit)
	}
	return n, err
}

// stat asks a node how far a blob is.
func (k *control) stat(n target, hash bus.BlobHash) (api.BlobStatus, error) {
	resp, _, done, err := k.do(n, http.MethodHead, api.BlobPath(hash), noContent)
	if err != nil {
		return api.BlobStatus{}, err
	}
	defer done()
	if resp.StatusCode == http.StatusOK {
		return api.ReadBlobStatus(resp.Header)
	}
	err = api.ReadProblem(resp)
	if resp.StatusCode == http.StatusUnauthorized || resp.StatusCode == http.StatusForbidden {
		// An answer to HEAD has no body that could say why.
		if _, _, end, why := k.fetch(n, hash, 0); why == nil {
			end()
		} else if !worthRetrying(why) {
			err = why
		}
	}
	return api.BlobStatus{}, err
}

// upload has the servers keep what was spooled.
func (k *control) upload(ctx context.Context, sp *spool, progress func(done, total int64)) error {
	f, err := os.Open(sp.path + spoolFile)
	if err != nil {
		return fmt.Errorf("read sealed file: %w", err)
	}
	defer f.Close() // it was only read
	u := &blobUpload{k: k, f: f, ref: sp.ref, part: bus.MaxBlobPart, progress: progress}
	return k.persist(ctx, u.attempt)
}

// blobUpload is an upload on its way.
type blobUpload struct {
	k        *control
	f        *os.File
	ref      BlobRef
	part     int64 // size of the parts
	progress func(done, total int64)
}

// attempt goes on from where a node is until it has everything.
func (u *blobUpload) attempt(n target) error {
	status, err := u.k.stat(n, u.ref.Hash)
	switch {
	case errors.Is(err, bus.ErrNotFound):
		status = api.BlobStatus{Size: u.ref.SealedSize}
	case err != nil:
		return err
	}
	for !status.Complete {
		if status.Size != u.ref.SealedSize || status.Offset >= u.ref.SealedSize {
			return bus.Errorf(bus.CodeBlobMismatch, "the node has %d of %d bytes of it, and it has %d", status.Offset, status.Size, u.ref.SealedSize)
		}
		u.tell(status.Offset)
		before := status.Offset
		if status, err = u.send(n, before); err != nil {
			if worthRetrying(err) {
				u.part = max(u.part/2, minPart)
			}
			return err
		}
		if status.Offset <= before {
			return bus.Errorf(bus.CodeMalformed, "the node took a part at %d and is at %d", before, status.Offset)
		}
		u.part = min(2*u.part, bus.MaxBlobPart)
		n.moved()
	}
	u.tell(u.ref.SealedSize)
	return nil
}

func (u *blobUpload) tell(done int64) {
	if u.progress != nil {
		u.progress(done, u.ref.SealedSize)
	}
}

// send uploads the part at offset.
func (u *blobUpload) send(n target, offset int64) (api.BlobStatus, error) {
	size := min(u.part, u.ref.SealedSize-offset)
	h := sha256.New()
	if _, err := io.CopyBuffer(onlyWriter{h}, io.NewSectionReader(u.f, offset, size), make([]byte, blobBuffer)); err != nil {
		return api.BlobStatus{}, fmt.Errorf("read sealed file: %w", err)
	}
	body := content{r: io.NewSectionReader(u.f, offset, size), n: size, digest: [sha256.Size]byte(h.Sum(nil))}
	resp, wrap, done, err := u.k.do(n, http.MethodPut, api.BlobPartPath(u.ref.Hash, offset, u.ref.SealedSize), body)
	if err != nil {
		return api.BlobStatus{}, err
	}
	defer done()
	resp.Body = io.NopCloser(wrap(resp.Body)) // done closes it
	var status api.BlobStatus
	err = api.ReadReply(resp, &status)
	return status, err
}

// fetch asks a node for the bytes of a blob from offset on.
func (k *control) fetch(n target, hash bus.BlobHash, offset int64) (io.Reader, int64, func(), error) {
	resp, wrap, done, err := k.do(n, http.MethodGet, api.BlobFromPath(hash, offset), noContent)
	if err != nil {
		return nil, 0, nil, err
	}
	if resp.StatusCode != http.StatusOK {
		defer done()
		return nil, 0, nil, api.ReadProblem(resp)
	}
	return wrap(resp.Body), resp.ContentLength, done, nil
}

// download brings the sealed bytes of ref into f, which has some of them
// already, until they are all there and right.
func (k *control) download(ctx context.Context, ref BlobRef, f *os.File, progress func(done, total int64)) error {
	tell := func(done int64) {
		if progress != nil {
			progress(done, ref.SealedSize)
		}
	}
	// What was here before may be what a crash left of it: that it is wrong is
	// held against no node.
	leftover, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return fmt.Errorf("keep what is fetched: %w", err)
	}
	return k.persist(ctx, func(n target) error {
		for {
			if err := k.fill(n, ref, f, tell); err != nil {
				return err
			}
			right, err := sealedRight(n.ctx, ref, f)
			if err != nil || right {
				return err
			}
			if err := f.Truncate(0); err != nil {
				return fmt.Errorf("keep what is fetched: %w", err)
			}
			if leftover == 0 {
				return bus.Errorf(bus.CodeBlobMismatch, "node %s gave other bytes than those of its hash", n.base)
			}
			leftover = 0
		}
	})
}

// fill fetches what is missing at the end of f.
func (k *control) fill(n target, ref BlobRef, f *os.File, tell func(int64)) error {
	have, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return fmt.Errorf("keep what is fetched: %w", err)
	}
	if have > ref.SealedSize {
		return f.Truncate(ref.SealedSize) // and let the hash say
	}
	tell(have)
	if have == ref.SealedSize {
		return nil
	}
	r, length, done, err := k.fetch(n, ref.Hash, have)
	if err != nil {
		return err
	}
	defer done()
	if length >= 0 && length != ref.SealedSize-have {
		return bus.Errorf(bus.CodeBlobMismatch, "node %s has %d bytes of it where %d are missing", n.base, length, ref.SealedSize-have)
	}
	buf := make([]byte, blobBuffer)
	for have < ref.SealedSize {
		m, err := r.Read(buf[:min(int64(len(buf)), ref.SealedSize-have)])
		if _, writeErr := f.Write(buf[:m]); writeErr != nil {
			return fmt.Errorf("keep what is fetched: %w", writeErr)
		}
		if m > 0 {
			have += int64(m)
			n.moved()
			tell(have)
		}
		if err != nil && have < ref.SealedSize {
			return &networkError{err}
		}
	}
	return nil
}
