// Package blobtest is the conformance suite of [blobs.Store]: whatever a node
// can keep blobs in behaves as its tests say. A driver's own tests call [Run],
// and test besides what only that driver does.
package blobtest

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"io"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/enmanuel/unibus/daemon/blobs"
	"github.com/enmanuel/unibus/lib/bus"
)

// Config is what a store under test is opened with.
type Config struct {
	Limits  blobs.Limits
	KeepFor time.Duration
	Now     func() time.Time
}

// Opener opens the store of a test; calling it again, after Close, opens the
// same one anew.
type Opener func(t *testing.T, c Config) blobs.Store

// Run runs the suite. newStore returns an opener of a store that is empty.
func Run(t *testing.T, newStore func(t *testing.T) Opener) {
	for _, tt := range []struct {
		name string
		run  func(w *world)
	}{
		{"parts add up to a blob", partsAddUp},
		{"a part that fails leaves the upload as it was", failedPart},
		{"a part elsewhere is a conflict", conflicts},
		{"other bytes than those of the hash are refused", otherBytes},
		{"an upload goes on after a restart", restart},
		{"reading begins anywhere", offsets},
		{"two users put the same blob at once", twoUsers},
		{"parts of one upload wait for each other", oneUpload},
		{"limits are kept", limits},
		{"parallel uploads do not add up to more than a user may", parallelQuota},
		{"blobs are removed by who put them", remove},
		{"what is abandoned is swept", sweep},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := &world{T: t, open: newStore(t), now: time.Date(2031, 2, 3, 4, 5, 6, 0, time.UTC)}
			w.cfg.Now = func() time.Time { return w.now }
			tt.run(w)
		})
	}
}

var (
	alice = bus.ID{1}
	bob   = bus.ID{2}
)

type world struct {
	*testing.T
	open  Opener
	cfg   Config
	store blobs.Store
	now   time.Time
}

func (w *world) start() {
	w.Helper()
	w.store = w.open(w.T, w.cfg)
}

func (w *world) restart() {
	w.Helper()
	if err := w.store.Close(); err != nil {
		w.Fatal(err)
	}
	w.start()
}

func content(n int) ([]byte, bus.BlobHash) {
	b := make([]byte, n)
	rand.Read(b) // never fails: crypto/rand ends the process first
	return b, sha256.Sum256(b)
}

// put adds the bytes from..to of a blob.
func (w *world) put(user bus.ID, hash bus.BlobHash, whole []byte, from, to int) (blobs.Status, error) {
	return w.store.Put(w.Context(), blobs.Part{User: user, Hash: hash, Size: int64(len(whole)), Offset: int64(from)}, bytes.NewReader(whole[from:to]))
}

func (w *world) mustPut(user bus.ID, hash bus.BlobHash, whole []byte, from, to int) {
	w.Helper()
	status, err := w.put(user, hash, whole, from, to)
	want := blobs.Status{Offset: int64(to), Size: int64(len(whole)), Complete: to == len(whole)}
	if err != nil || status != want {
		w.Fatalf("put %d to %d: %+v, %v, want %+v", from, to, status, err, want)
	}
}

func (w *world) wantStat(user bus.ID, hash bus.BlobHash, want blobs.Status) {
	w.Helper()
	if have, err := w.store.Stat(w.Context(), user, hash); err != nil || have != want {
		w.Errorf("status %+v, %v, want %+v", have, err, want)
	}
}

func (w *world) wantCode(what string, err error, code bus.Code) {
	w.Helper()
	if bus.CodeOf(err) != code {
		w.Errorf("%s: %v, want code %q", what, err, code)
	}
}

func (w *world) wantGone(user bus.ID, hash bus.BlobHash) {
	w.Helper()
	_, err := w.store.Stat(w.Context(), user, hash)
	w.wantCode("status", err, bus.CodeNotFound)
	_, _, err = w.store.Open(w.Context(), hash, 0)
	w.wantCode("open", err, bus.CodeNotFound)
}

func (w *world) read(hash bus.BlobHash, offset int) ([]byte, int64, error) {
	w.Helper()
	r, size, err := w.store.Open(w.Context(), hash, int64(offset))
	if err != nil {
		return nil, 0, err
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	return b, size, err
}

func (w *world) wantContent(hash bus.BlobHash, whole []byte) {
	w.Helper()
	if have, size, err := w.read(hash, 0); err != nil || size != int64(len(whole)) || !bytes.Equal(have, whole) {
		w.Errorf("read %d of %d bytes, %v", len(have), size, err)
	}
}

func (w *world) wantBytes(user bus.ID, want int) {
	w.Helper()
	if have, err := w.store.UserBytes(w.Context(), user); err != nil || have != int64(want) {
		w.Errorf("user has %d bytes, %v, want %d", have, err, want)
	}
}

func partsAddUp(w *world) {
	w.start()
	whole, hash := content(200_000)
	w.wantGone(alice, hash)
	w.mustPut(alice, hash, whole, 0, 1)
	w.mustPut(alice, hash, whole, 1, 130_000)
	w.wantStat(alice, hash, blobs.Status{Offset: 130_000, Size: 200_000})
	_, err := w.store.Stat(w.Context(), bob, hash)
	w.wantCode("what somebody else has begun", err, bus.CodeNotFound)
	_, _, err = w.store.Open(w.Context(), hash, 0)
	w.wantCode("open what is not complete", err, bus.CodeNotFound)
	w.wantBytes(alice, 130_000)
	w.mustPut(alice, hash, whole, 130_000, 200_000)
	done := blobs.Status{Offset: 200_000, Size: 200_000, Complete: true}
	w.wantStat(alice, hash, done)
	w.wantStat(bob, hash, done)
	w.wantContent(hash, whole)
	w.wantBytes(alice, 200_000)
	w.wantBytes(bob, 0)
	if u := w.store.Usage(); u.Blobs != 1 || u.Bytes != 200_000 || u.Uploads != 0 || u.UploadBytes != 0 || u.BytesReceived != 200_000 || u.BytesServed != 200_000 {
		w.Errorf("usage %+v", u)
	}
	status, err := w.store.Put(w.Context(), blobs.Part{User: alice, Hash: hash, Size: 200_000, Offset: 199_999}, iotest.ErrReader(errors.New("must not be read")))
	if err != nil || status != done {
		w.Errorf("a part that comes again: %+v, %v", status, err)
	}
}

func failedPart(w *world) {
	w.start()
	whole, hash := content(100_000)
	part := blobs.Part{User: alice, Hash: hash, Size: int64(len(whole))}
	broken := errors.New("broken")
	for _, from := range []int{0, 40_000} {
		if from > 0 {
			w.mustPut(alice, hash, whole, 0, from)
		}
		part.Offset = int64(from)
		_, err := w.store.Put(w.Context(), part, io.MultiReader(bytes.NewReader(whole[from:from+10_000]), iotest.ErrReader(broken)))
		if !errors.Is(err, broken) {
			w.Errorf("after %d bytes: %v", from, err)
		}
		_, err = w.store.Put(w.Context(), part, bytes.NewReader(nil))
		w.wantCode("an empty part", err, bus.CodeMalformed)
		_, err = w.store.Put(w.Context(), part, bytes.NewReader(append(bytes.Clone(whole[from:]), 0)))
		w.wantCode("a part that is too long", err, bus.CodeMalformed)
		w.wantBytes(alice, from)
		if from == 0 {
			w.wantGone(alice, hash)
		} else {
			w.wantStat(alice, hash, blobs.Status{Offset: int64(from), Size: int64(len(whole))})
		}
	}
	w.mustPut(alice, hash, whole, 40_000, len(whole))
	w.wantContent(hash, whole)
}

func conflicts(w *world) {
	w.start()
	whole, hash := content(1000)
	_, err := w.put(alice, hash, whole, 500, 600)
	w.wantCode("a first part not at the beginning", err, bus.CodeConflict)
	w.wantGone(alice, hash)
	w.mustPut(alice, hash, whole, 0, 500)
	for _, at := range []int{0, 499, 501} {
		_, err := w.put(alice, hash, whole, at, at+10)
		w.wantCode("a part at another place", err, bus.CodeConflict)
	}
	_, err = w.put(alice, hash, whole[:900], 500, 600)
	w.wantCode("a part of another size", err, bus.CodeConflict)
	for _, p := range []blobs.Part{{Size: 0}, {Size: 10, Offset: 10}, {Size: 10, Offset: -1}, {Size: -1}} {
		p.User, p.Hash = bob, hash
		_, err := w.store.Put(w.Context(), p, bytes.NewReader([]byte("x")))
		w.wantCode("a part that cannot be", err, bus.CodeMalformed)
	}
	w.mustPut(alice, hash, whole, 500, 1000)
	w.wantContent(hash, whole)
}

func otherBytes(w *world) {
	w.start()
	whole, _ := content(1000)
	_, hash := content(1)
	w.mustPut(alice, hash, whole, 0, 999)
	_, err := w.put(alice, hash, whole, 999, 1000)
	w.wantCode("the last part", err, bus.CodeBlobMismatch)
	w.wantGone(alice, hash)
	_, err = w.put(alice, hash, whole, 0, 1000)
	w.wantCode("all in one", err, bus.CodeBlobMismatch)
	w.wantGone(alice, hash)
	w.wantBytes(alice, 0)
	w.restart()
	w.wantGone(alice, hash)
}

func restart(w *world) {
	w.start()
	whole, hash := content(300_000)
	w.mustPut(alice, hash, whole, 0, 100_000)
	w.restart()
	w.wantStat(alice, hash, blobs.Status{Offset: 100_000, Size: 300_000})
	w.wantBytes(alice, 100_000)
	w.mustPut(alice, hash, whole, 100_000, 200_000)
	w.mustPut(alice, hash, whole, 200_000, 300_000)
	w.restart()
	w.wantContent(hash, whole)
	w.wantBytes(alice, 300_000)
	w.wantCode("remove after a restart", w.store.Remove(w.Context(), bob, hash, false), bus.CodeForbidden)
}

func offsets(w *world) {
	w.start()
	whole, hash := content(150_000)
	w.mustPut(alice, hash, whole, 0, len(whole))
	for _, at := range []int{0, 1, 65_535, 65_536, 65_537, 149_999, 150_000} {
		if have, size, err := w.read(hash, at); err != nil || size != 150_000 || !bytes.Equal(have, whole[at:]) {
			w.Errorf("from %d: %d of %d bytes, %v", at, len(have), size, err)
		}
	}
	for _, at := range []int64{-1, 150_001} {
		_, _, err := w.store.Open(w.Context(), hash, at)
		w.wantCode("beyond the ends", err, bus.CodeMalformed)
	}
	// Who went away has nothing hashed, and the blob is none the worse.
	gone, cancel := context.WithCancel(w.Context())
	cancel()
	_, _, err := w.store.Open(gone, hash, 149_999)
	w.wantCode("after the request ended", err, bus.CodeTimeout)
	w.wantContent(hash, whole)
}

func twoUsers(w *world) {
	w.start()
	whole, hash := content(50_000)
	w.mustPut(alice, hash, whole, 0, 10_000)
	w.mustPut(bob, hash, whole, 0, 20_000)
	w.wantStat(alice, hash, blobs.Status{Offset: 10_000, Size: 50_000})
	w.wantStat(bob, hash, blobs.Status{Offset: 20_000, Size: 50_000})
	w.mustPut(bob, hash, whole, 20_000, 50_000)
	w.mustPut(alice, hash, whole, 10_000, 50_000)
	w.wantContent(hash, whole)
	w.wantBytes(bob, 50_000)
	w.wantCode("remove what bob put", w.store.Remove(w.Context(), alice, hash, false), bus.CodeForbidden)

	whole, hash = content(50_000)
	var both sync.WaitGroup
	for _, user := range []bus.ID{alice, bob} {
		both.Go(func() {
			for at := 0; at < len(whole); at += 5000 {
				status, err := w.put(user, hash, whole, at, at+5000)
				if err != nil {
					w.Error(err)
				}
				if status.Complete {
					return
				}
			}
		})
	}
	both.Wait()
	w.wantContent(hash, whole)
	if u := w.store.Usage(); u.Blobs != 2 || u.Bytes != 100_000 {
		w.Errorf("usage %+v", u)
	}
}

// oneUpload has a second part come while the first is on its way.
func oneUpload(w *world) {
	w.start()
	whole, hash := content(1000)
	body, feed := io.Pipe()
	first := make(chan error, 1)
	go func() {
		_, err := w.store.Put(w.Context(), blobs.Part{User: alice, Hash: hash, Size: 1000}, body)
		first <- err
	}()
	if _, err := feed.Write(whole[:10]); err != nil { // it has begun
		w.Fatal(err)
	}
	impatient, cancel := context.WithCancel(w.Context())
	cancel()
	_, err := w.store.Put(impatient, blobs.Part{User: alice, Hash: hash, Size: 1000}, bytes.NewReader(whole))
	w.wantCode("a second part that cannot wait", err, bus.CodeUnavailable)
	second := make(chan error, 1)
	go func() {
		_, err := w.put(alice, hash, whole, 0, 1000)
		second <- err
	}()
	feed.CloseWithError(errors.New("cut"))
	if err := <-first; err == nil {
		w.Error("a part that was cut counts")
	}
	if err := <-second; err != nil {
		w.Errorf("the second part: %v", err)
	}
	w.wantContent(hash, whole)
}

func limits(w *world) {
	w.cfg.Limits = blobs.Limits{Blob: 1000, User: 1500, Total: 2000}
	w.start()
	a, hashA := content(1000)
	b, hashB := content(501)
	c, hashC := content(500)
	d, hashD := content(501)
	big, hashBig := content(1001)
	_, err := w.put(alice, hashBig, big, 0, 1)
	w.wantCode("too large", err, bus.CodeTooLarge)
	w.mustPut(alice, hashA, a, 0, 1000)
	_, err = w.put(alice, hashB, b, 0, 1)
	w.wantCode("beyond what a user may", err, bus.CodeQuota)
	w.mustPut(alice, hashC, c, 0, 500)
	_, err = w.put(bob, hashD, d, 0, 1)
	w.wantCode("beyond what the node keeps", err, bus.CodeQuota)
	if err := w.store.Remove(w.Context(), alice, hashC, false); err != nil {
		w.Fatal(err)
	}
	w.mustPut(bob, hashD, d, 0, 501)

	w.cfg.Limits = blobs.Limits{}
	w.restart()
	for range blobs.MaxUploads {
		whole, hash := content(10)
		w.mustPut(alice, hash, whole, 0, 1)
	}
	_, err = w.put(alice, hashB, b, 0, 1)
	w.wantCode("too many begun", err, bus.CodeQuota)
}

func parallelQuota(w *world) {
	const size, quota = 10_000, 35_000
	w.cfg.Limits = blobs.Limits{User: quota}
	w.start()
	var all sync.WaitGroup
	for range 8 {
		whole, hash := content(size)
		all.Go(func() {
			for at := 0; at < size; at += 1000 {
				if _, err := w.put(alice, hash, whole, at, at+1000); err != nil {
					w.wantCode("a part", err, bus.CodeQuota)
					return
				}
			}
		})
	}
	all.Wait()
	if n, err := w.store.UserBytes(w.Context(), alice); err != nil || n > quota {
		w.Errorf("user has %d bytes, %v", n, err)
	}
}

func remove(w *world) {
	w.start()
	whole, hash := content(1000)
	w.wantCode("nothing", w.store.Remove(w.Context(), alice, hash, false), bus.CodeNotFound)
	w.mustPut(alice, hash, whole, 0, 10)
	w.wantCode("what another has begun", w.store.Remove(w.Context(), bob, hash, true), bus.CodeNotFound)
	w.wantCode("what was begun", w.store.Remove(w.Context(), alice, hash, false), "")
	w.wantGone(alice, hash)
	for _, by := range []struct {
		user     bus.ID
		anybodys bool
	}{{alice, false}, {bob, true}} {
		w.mustPut(alice, hash, whole, 0, 1000)
		r, _, err := w.store.Open(w.Context(), hash, 0)
		if err != nil {
			w.Fatal(err)
		}
		w.wantCode("another's", w.store.Remove(w.Context(), bob, hash, false), bus.CodeForbidden)
		w.wantCode("remove", w.store.Remove(w.Context(), by.user, hash, by.anybodys), "")
		w.wantGone(alice, hash)
		w.wantBytes(alice, 0)
		if have, err := io.ReadAll(r); err != nil || !bytes.Equal(have, whole) {
			w.Errorf("what was being read: %d bytes, %v", len(have), err)
		}
		r.Close()
	}
	w.restart()
	w.wantGone(alice, hash)
}

func sweep(w *world) {
	w.cfg.KeepFor = 10 * 24 * time.Hour
	w.start()
	whole, hash := content(1000)
	kept, keptHash := content(1000)
	stored, storedHash := content(1000)
	wantSwept := func(want int) {
		w.Helper()
		if n, err := w.store.Sweep(w.Context()); n != want || err != nil {
			w.Errorf("swept %d, %v, want %d", n, err, want)
		}
	}
	w.mustPut(alice, hash, whole, 0, 500)
	w.mustPut(alice, keptHash, kept, 0, 500)
	w.mustPut(alice, storedHash, stored, 0, 1000)
	w.now = w.now.Add(blobs.UploadLife)
	w.mustPut(alice, keptHash, kept, 500, 600)
	wantSwept(0)
	w.now = w.now.Add(time.Second)
	wantSwept(1)
	w.wantGone(alice, hash)
	w.wantStat(alice, keptHash, blobs.Status{Offset: 600, Size: 1000})
	w.wantContent(storedHash, stored)
	w.mustPut(alice, hash, whole, 0, 1000)
	w.now = w.now.Add(w.cfg.KeepFor - blobs.UploadLife)
	wantSwept(2) // storedHash, and the upload
	w.wantGone(alice, storedHash)
	w.wantContent(hash, whole)
}
