package control

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/enmanuel/unibus/daemon/blobs"
	"github.com/enmanuel/unibus/daemon/blobs/blobdir"
	"github.com/enmanuel/unibus/lib/api"
	"github.com/enmanuel/unibus/lib/audit"
	"github.com/enmanuel/unibus/lib/bus"
)

// blobWorld is a world whose node keeps blobs.
type blobWorld struct {
	*world
	root string
	dir  *blobdir.Dir
}

func newBlobWorld(t *testing.T, limits blobs.Limits) *blobWorld {
	t.Helper()
	b := &blobWorld{root: filepath.Join(t.TempDir(), "blobs")}
	var err error
	if b.dir, err = blobdir.Open(b.root, blobdir.Options{Limits: limits, Logger: slog.New(slog.DiscardHandler)}); err != nil {
		t.Fatal(err)
	}
	b.world = newWorld(t, func(c *Config) { c.Blobs = b.dir })
	return b
}

func randomBlob(n int) ([]byte, bus.BlobHash) {
	content := make([]byte, n)
	rand.Read(content) // never fails: crypto/rand ends the process first
	return content, sha256.Sum256(content)
}

func (w *blobWorld) put(p person, hash bus.BlobHash, content []byte, from, to int) (api.BlobStatus, int, error) {
	w.Helper()
	var reply api.BlobStatus
	status, err := w.call(p, http.MethodPut, api.BlobPartPath(hash, int64(from), int64(len(content))), content[from:to], &reply)
	return reply, status, err
}

func (w *blobWorld) mustPut(p person, content []byte) bus.BlobHash {
	w.Helper()
	hash := bus.BlobHash(sha256.Sum256(content))
	reply, status, err := w.put(p, hash, content, 0, len(content))
	if err != nil || status != 201 || !reply.Complete {
		w.Fatalf("put: %+v, %d, %v", reply, status, err)
	}
	return hash
}

func (w *blobWorld) stat(p person, hash bus.BlobHash) (api.BlobStatus, int) {
	w.Helper()
	r, raw := w.request(http.MethodHead, api.BlobPath(hash), nil)
	w.sign(r, raw, p, w.now)
	resp, err := w.client.Do(r)
	w.must(err)
	resp.Body.Close()
	if resp.StatusCode != 200 {
		return api.BlobStatus{}, resp.StatusCode
	}
	status, err := api.ReadBlobStatus(resp.Header)
	w.must(err)
	return status, 200
}

func (w *blobWorld) get(p person, path string) (*http.Response, []byte, error) {
	w.Helper()
	r, raw := w.request(http.MethodGet, path, nil)
	w.sign(r, raw, p, w.now)
	resp, err := w.client.Do(r)
	w.must(err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp, body, err
}

func TestBlobsGoUpInPartsAndDownFromAnyOffset(t *testing.T) {
	w := newBlobWorld(t, blobs.Limits{})
	content, hash := randomBlob(300_000)
	if _, status := w.stat(w.reader, hash); status != 404 {
		t.Errorf("status of nothing: %d", status)
	}
	reply, status, err := w.put(w.reader, hash, content, 0, 100_000)
	if want := (api.BlobStatus{Offset: 100_000, Size: 300_000}); err != nil || status != 200 || reply != want {
		t.Errorf("first part: %d, %+v, %v", status, reply, err)
	}
	if have, _ := w.stat(w.reader, hash); have != reply {
		t.Errorf("status %+v, want %+v", have, reply)
	}
	_, status, err = w.put(w.reader, hash, content, 50_000, 60_000)
	w.want("a part in the wrong place", status, err, 409, bus.CodeConflict)
	reply, status, err = w.put(w.reader, hash, content, 100_000, 300_000)
	if err != nil || status != 201 || !reply.Complete {
		t.Errorf("last part: %d, %+v, %v", status, reply, err)
	}
	for _, from := range []int{0, 1, 299_999, 300_000} {
		resp, body, err := w.get(w.outsider, api.BlobFromPath(hash, int64(from)))
		if err != nil || resp.StatusCode != 200 || !bytes.Equal(body, content[from:]) || resp.Header.Get("Content-Type") != api.MediaBlob {
			t.Errorf("from %d: %d, %d bytes, %v", from, resp.StatusCode, len(body), err)
		}
	}
	if have, status := w.stat(w.outsider, hash); status != 200 || !have.Complete {
		t.Errorf("status for another user: %d, %+v", status, have)
	}
}

func TestWhoMayDoWhatWithBlobs(t *testing.T) {
	w := newBlobWorld(t, blobs.Limits{})
	content, _ := randomBlob(1000)
	hash := w.mustPut(w.reader, content)
	for who, p := range w.people() {
		code := map[string]bus.Code{"stranger": bus.CodeUnauthenticated, "cardless": bus.CodeUnauthenticated, "revoked": bus.CodeRevoked}[who]
		for _, rt := range []struct {
			method, path string
			body         []byte
			ok           int
		}{
			{http.MethodGet, api.BlobPath(hash), nil, 200},
			{http.MethodHead, api.BlobPath(hash), nil, 200},
			{http.MethodPut, api.BlobPartPath(hash, 0, 1000), content, 201}, // complete already
		} {
			r, raw := w.request(rt.method, rt.path, rt.body)
			w.sign(r, raw, p, w.now)
			resp, err := w.client.Do(r)
			w.must(err)
			want := rt.ok
			if code != "" {
				want = api.StatusOf(code)
			}
			if resp.StatusCode != want {
				t.Errorf("%s by %s: %d, want %d", rt.method, who, resp.StatusCode, want)
			}
			resp.Body.Close()
		}
		if who != "reader" && who != "admin" {
			status, err := w.call(p, http.MethodDelete, api.BlobPath(hash), nil, nil)
			if code == "" {
				code = bus.CodeForbidden
			}
			w.want("delete by "+who, status, err, api.StatusOf(code), code)
		}
	}
	for who, p := range map[string]person{"who put it": w.reader, "an admin": w.admin} {
		w.mustPut(w.reader, content)
		status, err := w.call(p, http.MethodDelete, api.BlobPath(hash), nil, nil)
		w.want("delete by "+who, status, err, 204, "")
		if _, status := w.stat(w.reader, hash); status != 404 {
			t.Errorf("status of what is deleted: %d", status)
		}
		status, err = w.call(p, http.MethodDelete, api.BlobPath(hash), nil, nil)
		w.want("delete again by "+who, status, err, 404, bus.CodeNotFound)
	}
}

// TestOnlySignedBytesCount has parts that are not what was signed: they leave
// no trace.
func TestOnlySignedBytesCount(t *testing.T) {
	w := newBlobWorld(t, blobs.Limits{})
	content, hash := randomBlob(200_000)
	if _, _, err := w.put(w.reader, hash, content, 0, 50_000); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		path   string // that is sent, "" for the one that is signed
		change func([]byte) []byte
		status int
		code   bus.Code
	}{
		"other bytes":            {"", func(b []byte) []byte { b[len(b)-1] ^= 1; return b }, 401, bus.CodeUnauthenticated},
		"fewer bytes":            {"", func(b []byte) []byte { return b[1:] }, 401, bus.CodeUnauthenticated},
		"another offset":         {api.BlobPartPath(hash, 50_001, 200_000), func(b []byte) []byte { return b }, 401, bus.CodeUnauthenticated},
		"another size":           {api.BlobPartPath(hash, 50_000, 100_000), func(b []byte) []byte { return b }, 401, bus.CodeUnauthenticated},
		"another blob":           {api.BlobPartPath(bus.BlobHash{1}, 50_000, 200_000), func(b []byte) []byte { return b }, 401, bus.CodeUnauthenticated},
		"nothing at all, signed": {"", nil, 400, bus.CodeMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			signed := bytes.Clone(content[50_000:100_000])
			if tt.change == nil {
				signed = nil
			}
			r, raw := w.request(http.MethodPut, api.BlobPartPath(hash, 50_000, 200_000), signed)
			w.sign(r, raw, w.reader, w.now)
			if tt.change != nil {
				setBody(r, tt.change(bytes.Clone(raw)))
			}
			if tt.path != "" {
				r.URL.Path, r.URL.RawQuery, _ = strings.Cut(tt.path, "?")
			}
			status, err := w.do(r, nil)
			w.want("put", status, err, tt.status, tt.code)
			if have, _ := w.stat(w.reader, hash); have.Offset != 50_000 {
				t.Errorf("status %+v", have)
			}
		})
	}
	for what, query := range map[string]string{"no part": "", "half a part": "?part=5", "another parameter": "?part=0-5&from=0", "letters": "?part=a-b"} {
		status, err := w.call(w.reader, http.MethodPut, api.BlobPath(hash)+query, content[:5], nil)
		w.want(what, status, err, 400, bus.CodeMalformed)
	}
	status, err := w.call(w.reader, http.MethodPut, api.BlobPartPath(hash, 50_000, 10<<20), make([]byte, bus.MaxBlobPart+1), nil)
	w.want("a part that is too large", status, err, 413, bus.CodeTooLarge)
	status, err = w.call(w.reader, http.MethodGet, api.BlobPath(bus.BlobHash{})+"x", nil, nil)
	w.want("no hash", status, err, 400, bus.CodeMalformed)
}

func TestPartsAreNotReplayed(t *testing.T) {
	w := newBlobWorld(t, blobs.Limits{})
	content, hash := randomBlob(1000)
	r, raw := w.request(http.MethodPut, api.BlobPartPath(hash, 0, 1000), content[:500])
	w.sign(r, raw, w.reader, w.now)
	again := r.Clone(w.ctx)
	setBody(again, raw)
	status, err := w.do(r, nil)
	w.want("first", status, err, 200, "")
	status, err = w.do(again, nil)
	w.want("replayed", status, err, 401, bus.CodeNonceSpent)
}

// TestTheLastPartOfAnUploadIsAudited sends it without saying how long it is.
func TestTheLastPartOfAnUploadIsAudited(t *testing.T) {
	w := newBlobWorld(t, blobs.Limits{})
	content, hash := randomBlob(1000)
	_, status, err := w.put(w.reader, hash, content, 0, 500)
	w.want("first", status, err, 200, "")
	r, raw := w.request(http.MethodPut, api.BlobPartPath(hash, 500, 1000), content[500:])
	w.sign(r, raw, w.reader, w.now)
	r.ContentLength = -1
	status, err = w.do(r, nil)
	w.want("last", status, err, 201, "")
	if entries := w.audited(3); len(entries) != 2 || entries[0].Kind != audit.KindBegin || entries[1].Code != audit.OK {
		t.Errorf("%+v", entries)
	}
}

func TestLimitsOfBlobsAreTold(t *testing.T) {
	w := newBlobWorld(t, blobs.Limits{Blob: 1000, User: 1500})
	content, hash := randomBlob(1001)
	_, status, err := w.put(w.reader, hash, content, 0, 10)
	w.want("too large", status, err, 413, bus.CodeTooLarge)
	w.mustPut(w.reader, content[:1000])
	_, status, err = w.put(w.reader, sha256.Sum256(content[1:]), content[1:], 0, 10)
	w.want("beyond the quota", status, err, 403, bus.CodeQuota)
	w.mustPut(w.owner, content[1:])
}

// TestACutConnectionLeavesWhatWasThere ends a request in the middle of a part,
// and goes on while the node may still be waiting for the rest of it.
func TestACutConnectionLeavesWhatWasThere(t *testing.T) {
	w := newBlobWorld(t, blobs.Limits{})
	content, hash := randomBlob(300_000)
	if _, _, err := w.put(w.reader, hash, content, 0, 100_000); err != nil {
		t.Fatal(err)
	}
	r, _ := w.request(http.MethodPut, api.BlobPartPath(hash, 100_000, 300_000), content[100_000:])
	w.sign(r, content[100_000:], w.reader, w.now)
	body, feed := io.Pipe() // which gives a part of it and then nothing, and no end
	r.Body, r.GetBody, r.ContentLength = body, nil, 200_000
	hung := make(chan error, 1)
	go func() {
		resp, err := w.client.Do(r)
		if err == nil {
			err = errors.New(resp.Status)
			resp.Body.Close()
		}
		hung <- err
	}()
	if _, err := feed.Write(content[100_000:150_000]); err != nil {
		t.Fatal(err)
	}
	for poll := time.NewTicker(time.Millisecond); w.dir.Usage().BytesReceived == 100_000; <-poll.C {
	}
	reply, status, err := w.put(w.reader, hash, content, 100_000, 300_000)
	if err != nil || status != 201 || !reply.Complete {
		t.Errorf("the same part again: %d, %+v, %v", status, reply, err)
	}
	feed.CloseWithError(io.ErrUnexpectedEOF)
	if err := <-hung; err == nil {
		t.Error("a part that was cut succeeded")
	}
	if _, have, err := w.get(w.owner, api.BlobPath(hash)); err != nil || !bytes.Equal(have, content) {
		t.Errorf("read %d bytes, %v", len(have), err)
	}
}

func TestDamagedBlobsAreNeverServedAsWhole(t *testing.T) {
	w := newBlobWorld(t, blobs.Limits{})
	for name, size := range map[string]int{"of a piece": 1000, "of many": 500_000} {
		t.Run(name, func(t *testing.T) {
			content, _ := randomBlob(size)
			hash := w.mustPut(w.reader, content)
			w.damage(hash)
			resp, have, err := w.get(w.owner, api.BlobPath(hash))
			if size < streamBuffer {
				if resp.StatusCode != 404 || !strings.Contains(string(have), "damaged") {
					t.Errorf("%d: %s", resp.StatusCode, have)
				}
			} else if err == nil || len(have) >= size {
				t.Errorf("%d: %d bytes of %d, %v", resp.StatusCode, len(have), size, err)
			}
			if _, status := w.stat(w.owner, hash); status != 404 {
				t.Errorf("status of what is damaged: %d", status)
			}
			w.mustPut(w.reader, content)
		})
	}
}

// damage changes the last byte of the only blob of a hash.
func (w *blobWorld) damage(hash bus.BlobHash) {
	w.Helper()
	changed := 0
	w.must(filepath.WalkDir(w.root, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() || filepath.Base(filepath.Dir(path)) == "damaged" {
			return err
		}
		raw, err := os.ReadFile(path)
		if err != nil || sha256.Sum256(raw) != hash {
			return err
		}
		raw[len(raw)-1] ^= 1
		changed++
		return os.WriteFile(path, raw, 0o600)
	}))
	if changed != 1 {
		w.Fatalf("changed %d files", changed)
	}
}

func TestANodeWithoutBlobsSaysSo(t *testing.T) {
	w := newWorld(t)
	for _, method := range []string{http.MethodGet, http.MethodDelete} {
		status, err := w.call(w.reader, method, api.BlobPath(bus.BlobHash{1}), nil, nil)
		w.want(method, status, err, 404, bus.CodeNotFound)
	}
}
