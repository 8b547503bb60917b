package client_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"

	"github.com/enmanuel/unibus/daemon/blobs"
	"github.com/enmanuel/unibus/lib/blob"
	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/client"
)

func randomContent(n int) []byte {
	b := make([]byte, n)
	rand.Read(b) // never fails: crypto/rand ends the process first
	return b
}

func (w *world) putBlob(r *client.Room, content []byte, opts client.PutOptions) client.BlobRef {
	w.t.Helper()
	ref, _, err := r.PutBlob(w.ctx(), bytes.NewReader(content), opts)
	if err != nil {
		w.t.Fatal(err)
	}
	return ref
}

// wantLeft fails unless a directory of a state's blobs holds n files.
func wantLeft(t *testing.T, stateDir, name string, n int) {
	t.Helper()
	left, err := filepath.Glob(filepath.Join(stateDir, "*", "*", "blobs", name, "*"))
	if err != nil || len(left) != n {
		t.Errorf("%q is left in %s, %v, want %d files", left, name, err, n)
	}
}

func TestABlobGoesThroughARoom(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	aliceState, bobState := t.TempDir(), t.TempDir()
	alice := w.dial(w.addUser("alice"), func(c *client.Config) { c.StateDir = aliceState })
	bob := w.dial(w.addUser("bob"), func(c *client.Config) { c.StateDir = bobState })
	r, rooms := w.room(alice, "files", bob)
	in := w.read(rooms[0], client.Now)
	for _, size := range []int{0, 1, 5 << 20} {
		content := randomContent(size)
		var last, total int64
		ref, receipt, err := r.PutBlob(w.ctx(), bytes.NewReader(content), client.PutOptions{
			Name: "report.pdf", Media: "application/pdf", Body: []byte("have a look"), Headers: []client.Header{{Key: "zz", Value: "z"}},
			Progress: func(done, all int64) { last, total = done, all },
		})
		if err != nil || receipt.StreamSeq == 0 {
			t.Fatalf("put %d bytes: %+v, %v", size, receipt, err)
		}
		if ref.Size != int64(size) || ref.Digest != sha256.Sum256(content) || last != ref.SealedSize || total != ref.SealedSize {
			t.Errorf("put %s, progress %d of %d", ref, last, total)
		}
		in.wait("message", func() bool { return len(in.msgs) > 0 })
		m := in.msgs[len(in.msgs)-1]
		in.msgs = nil
		got, ok, err := m.Blob()
		if err != nil || !ok || got != ref || string(m.Body) != "have a look" || m.Header("zz") != "z" {
			t.Fatalf("message brings %s, %t, %v", got, ok, err)
		}
		var out bytes.Buffer
		if err := bob.GetBlob(w.ctx(), got, &out, client.GetOptions{}); err != nil || !bytes.Equal(out.Bytes(), content) {
			t.Errorf("got %d of %d bytes, %v", out.Len(), size, err)
		}
		status, err := bob.StatBlob(w.ctx(), ref.Hash)
		if want := (client.BlobStatus{Offset: ref.SealedSize, Size: ref.SealedSize, Complete: true}); err != nil || status != want {
			t.Errorf("status %+v, %v", status, err)
		}
	}
	wantLeft(t, aliceState, "out", 0)
	wantLeft(t, bobState, "in", 0)
}

func TestBlobsInPaddedRoomsHideTheirSize(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	policy := bus.DefaultPolicy()
	policy.Flags |= bus.FlagPad
	r, err := w.admin.CreateRoom(w.ctx(), "padded", client.RoomOptions{Policy: &policy})
	if err != nil {
		t.Fatal(err)
	}
	a, b := w.putBlob(r, randomContent(100_401), client.PutOptions{}), w.putBlob(r, randomContent(102_300), client.PutOptions{})
	if a.SealedSize != b.SealedSize || a.SealedSize == blob.SealedSize(a.Size) {
		t.Errorf("sealed sizes %d and %d", a.SealedSize, b.SealedSize)
	}
}

func TestAFileAppearsWholeOrNotAtAll(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r, _ := w.room(w.admin, "files")
	content := randomContent(200_000)
	ref := w.putBlob(r, content, client.PutOptions{})
	dir := t.TempDir()
	path := filepath.Join(dir, "out")
	get := func(opts client.GetOptions) error { return w.admin.GetBlobFile(w.ctx(), ref, path, opts) }
	if err := os.WriteFile(path, []byte("kept"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := get(client.GetOptions{}); !errors.Is(err, bus.ErrFileExists) {
		t.Errorf("over a file: %v", err)
	}
	if have, err := os.ReadFile(path); err != nil || string(have) != "kept" {
		t.Errorf("the file has %q, %v", have, err)
	}
	for range 2 {
		if err := get(client.GetOptions{Force: true}); err != nil {
			t.Fatal(err)
		}
		if have, err := os.ReadFile(path); err != nil || !bytes.Equal(have, content) {
			t.Errorf("the file has %d bytes, %v", len(have), err)
		}
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("%v is in the directory, %v", entries, err)
	}
	// A reference that its sender made wrongly: the bytes are those of the hash.
	wrong := ref
	wrong.Digest[0] ^= 1
	path = filepath.Join(dir, "wrong")
	if err := w.admin.GetBlobFile(w.ctx(), wrong, path, client.GetOptions{}); !errors.Is(err, bus.ErrBlobMismatch) {
		t.Errorf("a wrong digest: %v", err)
	}
	var out bytes.Buffer
	if err := w.admin.GetBlob(w.ctx(), wrong, &out, client.GetOptions{}); !errors.Is(err, bus.ErrBlobMismatch) || out.Len() > 0 {
		t.Errorf("a wrong digest: %d bytes, %v", out.Len(), err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("%v is in the directory, %v", entries, err)
	}
}

func TestWhatCannotBePutIsRefusedAtOnce(t *testing.T) {
	w := newWorldWith(t, func(w *world) { w.cfg.Blobs = blobs.Limits{Blob: 100_000, User: 150_000} })
	alice, bob := w.user("alice"), w.user("bob")
	r, _ := w.room(alice, "files")
	if err := r.Invite(w.ctx(), bob.ID().String(), bus.RoleReader); err != nil {
		t.Fatal(err)
	}
	theirs, err := bob.AcceptRoom(w.ctx(), r.ID())
	if err != nil {
		t.Fatal(err)
	}
	broken := errors.New("broken")
	small := bytes.NewReader([]byte("x"))
	for _, tt := range []struct {
		name string
		room *client.Room
		src  io.Reader
		opts client.PutOptions
		want error
	}{
		{"by a reader", theirs, small, client.PutOptions{}, bus.ErrNotMember},
		{"a name that is a path", r, small, client.PutOptions{Name: "a/b"}, bus.ErrMalformed},
		{"a body that no message carries", r, small, client.PutOptions{Body: make([]byte, bus.MaxRecordSize)}, bus.ErrTooLarge},
		{"a source that fails", r, iotest.ErrReader(broken), client.PutOptions{}, broken},
		{"beyond the caller's limit", r, bytes.NewReader(make([]byte, 11)), client.PutOptions{Limit: 10}, bus.ErrTooLarge},
		{"beyond the node's limit", r, bytes.NewReader(make([]byte, 100_000)), client.PutOptions{}, bus.ErrTooLarge},
	} {
		if _, _, err := tt.room.PutBlob(w.ctx(), tt.src, tt.opts); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
	}
	ref := w.putBlob(r, make([]byte, 90_000), client.PutOptions{})
	if _, _, err := r.PutBlob(w.ctx(), bytes.NewReader(make([]byte, 80_000)), client.PutOptions{}); !errors.Is(err, bus.ErrQuota) {
		t.Errorf("beyond the quota: %v", err)
	}
	if err := bob.RemoveBlob(w.ctx(), ref.Hash); !errors.Is(err, bus.ErrForbidden) {
		t.Errorf("removed by another: %v", err)
	}
	if err := alice.RemoveBlob(w.ctx(), ref.Hash); err != nil {
		t.Error(err)
	}
	if err := bob.GetBlob(w.ctx(), ref, io.Discard, client.GetOptions{}); !errors.Is(err, bus.ErrNotFound) {
		t.Errorf("get what is removed: %v", err)
	}
	if _, err := bob.StatBlob(w.ctx(), ref.Hash); !errors.Is(err, bus.ErrNotFound) {
		t.Errorf("stat what is removed: %v", err)
	}
	w.putBlob(r, make([]byte, 80_000), client.PutOptions{})
}

// cutter is a TCP proxy that ends every connection after so many bytes in
// either direction.
type cutter struct {
	net.Listener
	to    string
	cut   func() int64 // bytes that the next connection lives for
	cuts  atomic.Int64
	conns sync.WaitGroup
}

func newCutter(t *testing.T, target string, cut func() int64) *cutter {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &cutter{Listener: l, to: strings.TrimPrefix(target, "http://"), cut: cut}
	c.conns.Go(c.serve)
	t.Cleanup(func() { l.Close(); c.conns.Wait() })
	return c
}

func (c *cutter) url() string { return "http://" + c.Addr().String() }

func (c *cutter) serve() {
	for {
		in, err := c.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial("tcp", c.to)
		if err != nil {
			in.Close()
			continue
		}
		var left atomic.Int64
		left.Store(c.cut())
		once := sync.OnceFunc(func() { in.Close(); out.Close() })
		for _, pair := range [][2]net.Conn{{in, out}, {out, in}} {
			c.conns.Go(func() {
				defer once()
				buf := make([]byte, 16<<10)
				for {
					n, err := pair[0].Read(buf)
					if left.Add(-int64(n)) < 0 {
						c.cuts.Add(1)
						return
					}
					if _, writeErr := pair[1].Write(buf[:n]); err != nil || writeErr != nil {
						return
					}
				}
			})
		}
	}
}

// TestABlobGoesOnWhereItsConnectionBroke cuts connections at random, at least ten
// times each way, within one call.
func TestABlobGoesOnWhereItsConnectionBroke(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	seed := mathrand.Uint64()
	t.Logf("seed %d", seed)
	random := mathrand.New(mathrand.NewPCG(seed, 0))
	var mu sync.Mutex
	c := newCutter(t, w.node.URL(), func() int64 {
		mu.Lock()
		defer mu.Unlock()
		return 300_000 + random.Int64N(1_000_000)
	})
	alice := w.dial(w.addUser("alice"), func(cfg *client.Config) { cfg.URLs = []string{c.url()} })
	r, _ := w.room(alice, "files")
	content := randomContent(12 << 20)
	before := c.cuts.Load()
	ref := w.putBlob(r, content, client.PutOptions{})
	up := c.cuts.Load() - before
	var out bytes.Buffer
	if err := alice.GetBlob(w.ctx(), ref, &out, client.GetOptions{}); err != nil {
		t.Fatal(err)
	}
	if down := c.cuts.Load() - before - up; up < 10 || down < 10 {
		t.Errorf("only %d and %d connections were cut", up, down)
	}
	if !bytes.Equal(out.Bytes(), content) {
		t.Errorf("got %d other bytes", out.Len())
	}
}

// tap counts the bytes of blobs that go either way through a proxy, and lets a
// test change answers.
type tap struct {
	url      string
	up, down atomic.Int64
	requests atomic.Int64
	change   atomic.Pointer[func(*http.Response) error]
}

func newTap(t *testing.T, to string) *tap {
	t.Helper()
	tp := &tap{}
	base, err := url.Parse(to)
	if err != nil {
		t.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(base)
			r.Out.Host = r.In.Host // it is signed
			if strings.HasPrefix(r.In.URL.Path, "/blobs/") {
				tp.requests.Add(1)
				if r.In.Method == http.MethodPut {
					r.Out.Body = &countedBody{r.In.Body, &tp.up}
				}
			}
		},
		ModifyResponse: func(resp *http.Response) error {
			if resp.Request.Method != http.MethodGet || !strings.HasPrefix(resp.Request.URL.Path, "/blobs/") {
				return nil
			}
			if change := tp.change.Load(); change != nil {
				if err := (*change)(resp); err != nil {
					return err
				}
			}
			resp.Body = &countedBody{resp.Body, &tp.down}
			return nil
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { panic(http.ErrAbortHandler) },
	}
	srv := http.Server{Handler: proxy}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	tp.url = "http://" + l.Addr().String()
	go func() { _ = srv.Serve(l) }() // ends with Close
	t.Cleanup(func() { srv.Close() })
	return tp
}

type countedBody struct {
	io.ReadCloser
	n *atomic.Int64
}

func (c *countedBody) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	c.n.Add(int64(n))
	return n, err
}

// TestALaterCallGoesOn ends calls in the middle and makes them again with a new
// client on the same state, as after the end of a process: nothing that the
// other side has is sent again.
func TestALaterCallGoesOn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	tp := newTap(t, w.node.URL())
	state, id := t.TempDir(), w.addUser("alice")
	dial := func() *client.Client {
		return w.dial(id, func(c *client.Config) { c.StateDir, c.URLs = state, []string{tp.url} })
	}
	content := randomContent(14 << 20)
	alice := dial()
	w.room(alice, "files")
	put := func(c *client.Client, stop int64) (client.BlobRef, error) {
		r, err := c.Room(w.ctx(), "files")
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(w.ctx())
		defer cancel()
		ref, _, err := r.PutBlob(ctx, bytes.NewReader(content), client.PutOptions{Progress: func(done, _ int64) {
			if done > stop {
				cancel()
			}
		}})
		return ref, err
	}
	for _, stop := range []int64{0, 5 << 20} {
		c := dial()
		if _, err := put(c, stop); !errors.Is(err, context.Canceled) {
			t.Fatalf("stopped after %d: %v", stop, err)
		}
		wantLeft(t, state, "out", 2) // what is sealed, and its reference
		w.close(c)
	}
	ref, err := put(dial(), 1<<40)
	if err != nil {
		t.Fatal(err)
	}
	wantLeft(t, state, "out", 0)
	// Parts that were cut are sent again, whole parts are not.
	if sent := tp.up.Load(); sent > ref.SealedSize+2*bus.MaxBlobPart {
		t.Errorf("sent %d bytes of %d", sent, ref.SealedSize)
	}

	get := func(c *client.Client, stop int64) ([]byte, error) {
		ctx, cancel := context.WithCancel(w.ctx())
		defer cancel()
		var out bytes.Buffer
		err := c.GetBlob(ctx, ref, &out, client.GetOptions{Progress: func(done, total int64) {
			if done > stop && done < total {
				cancel()
			}
		}})
		return out.Bytes(), err
	}
	for i := range 10 {
		c := dial()
		if have, err := get(c, int64(i)<<20); !errors.Is(err, context.Canceled) || len(have) > 0 {
			t.Fatalf("stopped: %d bytes, %v", len(have), err)
		}
		wantLeft(t, state, "in", 1)
		w.close(c)
	}
	have, err := get(dial(), 1<<40)
	if err != nil || !bytes.Equal(have, content) {
		t.Errorf("got %d bytes, %v", len(have), err)
	}
	wantLeft(t, state, "in", 0)
	// What was on the line when a call ended may come again.
	if got := tp.down.Load(); got > ref.SealedSize+10*(4<<20) {
		t.Errorf("received %d bytes of %d", got, ref.SealedSize)
	}
}

// TestLiesAboutBlobsHaveNames has a server that gives something else than what
// was put. Nothing is released, and there is no file.
func TestLiesAboutBlobsHaveNames(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r, _ := w.room(w.admin, "files")
	content, other := randomContent(300_000), randomContent(300_000)
	ref, otherRef := w.putBlob(r, content, client.PutOptions{}), w.putBlob(r, other, client.PutOptions{})
	tp := newTap(t, w.node.URL())
	bob := w.dial(w.addUser("bob"), func(c *client.Config) { c.URLs = []string{tp.url} })
	body := func(edit func([]byte) []byte) func(*http.Response) error {
		return func(resp *http.Response) error {
			if resp.StatusCode != http.StatusOK {
				return nil
			}
			raw, err := io.ReadAll(resp.Body)
			if err != nil {
				return err
			}
			raw = edit(raw)
			resp.Body = io.NopCloser(bytes.NewReader(raw))
			resp.ContentLength = int64(len(raw))
			resp.Header.Set("Content-Length", fmt.Sprint(len(raw)))
			return nil
		}
	}
	var swapped bytes.Buffer
	if err := w.admin.GetBlob(w.ctx(), otherRef, io.Discard, client.GetOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := blob.Seal(&swapped, bytes.NewReader(other), false, bus.MaxBlobSize); err != nil {
		t.Fatal(err)
	}
	for _, lie := range []struct {
		name   string
		change func(*http.Response) error
		want   error
	}{
		{"a bit is changed at the beginning", body(func(b []byte) []byte { b[100] ^= 1; return b }), bus.ErrBlobMismatch},
		{"a bit is changed at the end", body(func(b []byte) []byte { b[len(b)-1] ^= 1; return b }), bus.ErrBlobMismatch},
		{"it is cut short", body(func(b []byte) []byte { return b[:len(b)-1] }), bus.ErrBlobMismatch},
		{"it is empty", body(func([]byte) []byte { return nil }), bus.ErrBlobMismatch},
		{"it is longer", body(func(b []byte) []byte { return append(b, 0) }), bus.ErrBlobMismatch},
		{"another blob of the same size", body(func([]byte) []byte { return swapped.Bytes() }), bus.ErrBlobMismatch},
		{"it is withheld", func(resp *http.Response) error {
			resp.StatusCode = http.StatusNotFound
			return nil
		}, bus.ErrNotFound},
		{"something else than it", func(resp *http.Response) error {
			resp.StatusCode = http.StatusNoContent
			resp.ContentLength = 0
			resp.Body = http.NoBody
			return nil
		}, bus.ErrMalformed},
	} {
		t.Run(lie.name, func(t *testing.T) {
			tp.change.Store(&lie.change)
			dir := t.TempDir()
			err := bob.GetBlobFile(w.ctx(), ref, filepath.Join(dir, "out"), client.GetOptions{})
			if !errors.Is(err, lie.want) {
				t.Errorf("error is %v, want %v", err, lie.want)
			}
			if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
				t.Errorf("%v is in the directory, %v", entries, err)
			}
			var out bytes.Buffer
			if err := bob.GetBlob(w.ctx(), ref, &out, client.GetOptions{}); !errors.Is(err, lie.want) || out.Len() > 0 {
				t.Errorf("%d bytes were released, %v", out.Len(), err)
			}
		})
	}
	tp.change.Store(nil)
	var out bytes.Buffer
	if err := bob.GetBlob(w.ctx(), ref, &out, client.GetOptions{}); err != nil || !bytes.Equal(out.Bytes(), content) {
		t.Errorf("the truth: %d bytes, %v", out.Len(), err)
	}
}

// TestAnotherNodeIsAskedForWhatOneLiesAbout has two nodes of which one lies.
func TestAnotherNodeIsAskedForWhatOneLiesAbout(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r, _ := w.room(w.admin, "files")
	content := randomContent(100_000)
	ref := w.putBlob(r, content, client.PutOptions{})
	tp := newTap(t, w.node.URL())
	bob := w.dial(w.addUser("bob"), func(c *client.Config) { c.URLs = []string{tp.url, w.node.URL()} })
	lie := func(resp *http.Response) error { resp.StatusCode = http.StatusNotFound; return nil }
	tp.change.Store(&lie)
	var out bytes.Buffer
	if err := bob.GetBlob(w.ctx(), ref, &out, client.GetOptions{}); err != nil || !bytes.Equal(out.Bytes(), content) {
		t.Errorf("got %d bytes, %v", out.Len(), err)
	}
	if tp.requests.Load() == 0 {
		t.Error("the liar was not asked")
	}
}

// TestASealedFileThatTheDiskChangedIsSealedAnew damages what is spooled.
func TestASealedFileThatTheDiskChangedIsSealedAnew(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	state := t.TempDir()
	alice := w.dial(w.addUser("alice"), func(c *client.Config) { c.StateDir = state })
	r, _ := w.room(alice, "files")
	content := randomContent(100_000)
	ctx, cancel := context.WithCancel(w.ctx())
	_, _, err := r.PutBlob(ctx, bytes.NewReader(content), client.PutOptions{Progress: func(int64, int64) { cancel() }})
	if !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	sealed, err := filepath.Glob(filepath.Join(state, "*", "*", "blobs", "out", "*.age"))
	if err != nil || len(sealed) != 1 {
		t.Fatalf("%q, %v", sealed, err)
	}
	raw, err := os.ReadFile(sealed[0])
	if err != nil {
		t.Fatal(err)
	}
	raw[50_000] ^= 1
	if err := os.WriteFile(sealed[0], raw, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := r.PutBlob(w.ctx(), bytes.NewReader(content), client.PutOptions{}); !errors.Is(err, bus.ErrBlobMismatch) {
		t.Errorf("a damaged spool: %v", err)
	}
	ref := w.putBlob(r, content, client.PutOptions{})
	var out bytes.Buffer
	if err := alice.GetBlob(w.ctx(), ref, &out, client.GetOptions{}); err != nil || !bytes.Equal(out.Bytes(), content) {
		t.Errorf("got %d bytes, %v", out.Len(), err)
	}
	wantLeft(t, state, "out", 0)
}

// TestNoMoreThanAPieceOfABlobIsHeld counts what is asked of a source and given to
// a destination at once, however large the blob.
func TestNoMoreThanAPieceOfABlobIsHeld(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r, _ := w.room(w.admin, "files")
	src := &largestRead{r: bytes.NewReader(make([]byte, 9<<20))}
	ref, _, err := r.PutBlob(w.ctx(), src, client.PutOptions{})
	if err != nil {
		t.Fatal(err)
	}
	dst := &largestWrite{}
	if err := w.admin.GetBlob(w.ctx(), ref, dst, client.GetOptions{}); err != nil || dst.n != 9<<20 {
		t.Errorf("got %d bytes, %v", dst.n, err)
	}
	if src.most > 64<<10 || dst.most > 64<<10 {
		t.Errorf("%d bytes were asked for and %d given at once", src.most, dst.most)
	}
}

type largestRead struct {
	r    io.Reader
	most int
}

func (l *largestRead) Read(p []byte) (int, error) {
	l.most = max(l.most, len(p))
	return l.r.Read(p)
}

type largestWrite struct{ n, most int }

func (l *largestWrite) Write(p []byte) (int, error) {
	l.n, l.most = l.n+len(p), max(l.most, len(p))
	return len(p), nil
}

func TestMessagesWithoutABlobSaySo(t *testing.T) {
	if _, ok, err := (&client.Message{}).Blob(); ok || err != nil {
		t.Errorf("no header: %t, %v", ok, err)
	}
	m := &client.Message{Headers: []client.Header{{Key: bus.HeaderBlob, Value: "x"}}}
	if _, ok, err := m.Blob(); ok || !errors.Is(err, bus.ErrMalformed) {
		t.Errorf("a broken reference: %t, %v", ok, err)
	}
}
