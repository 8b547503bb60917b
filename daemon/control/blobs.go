package control

import (
	"errors"
	"io"
	"net/http"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/enmanuel/unibus/daemon/blobs"
	"github.com/enmanuel/unibus/lib/api"
	"github.com/enmanuel/unibus/lib/bus"
)

// Deadlines of requests whose content streams. Each piece of it has to come, or
// to be taken, within streamPause: slow lines have the time they need, and what
// stands still ends.
const (
	streamTimeout = 15 * time.Minute
	streamPause   = 20 * time.Second
	streamBuffer  = 64 << 10
)

// streams reports whether the content of the route is too large to be held.
func (rt route) streams() bool { return rt.pattern == api.PatternBlob }

// timeout bounds the handler of a route.
func (rt route) timeout() time.Duration {
	if rt.streams() {
		return streamTimeout
	}
	return requestTimeout
}

// responder is a reply that is more than JSON.
type responder interface {
	// respond writes status and content. An error means that nothing was written.
	respond(s *Server, w http.ResponseWriter, req *request, status int) error
}

// line is the connection of a request whose content streams: it has a deadline
// that moves on with the content, and can be cut from elsewhere.
type line struct {
	mu       sync.Mutex
	ctl      *http.ResponseController
	until    time.Time // for all of it
	readable bool      // false once it was cut, or the request has ended
	taken    bool      // it was cut
}

func newLine(w http.ResponseWriter) *line {
	return &line{ctl: http.NewResponseController(w), until: time.Now().Add(streamTimeout), readable: true}
}

// deadline is when the next piece must be through.
func (l *line) deadline() time.Time {
	next := time.Now().Add(streamPause)
	if next.After(l.until) {
		return l.until
	}
	return next
}

// reader returns content whose deadline moves on with every read.
func (l *line) reader(r io.ReadCloser) io.ReadCloser { return &lineReader{l, r} }

type lineReader struct {
	line *line
	io.ReadCloser
}

// Read implements [io.Reader].
func (r *lineReader) Read(p []byte) (int, error) {
	if err := r.line.extend(); err != nil {
		return 0, err
	}
	return r.ReadCloser.Read(p)
}

func (l *line) extend() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.readable {
		return os.ErrDeadlineExceeded
	}
	return l.ctl.SetReadDeadline(l.deadline())
}

// cut ends what is being read, now.
func (l *line) cut() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.readable {
		return nil
	}
	l.readable, l.taken = false, true
	return l.ctl.SetReadDeadline(time.Now())
}

// wasCut reports whether cut ended the request.
func (l *line) wasCut() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.taken
}

// end makes cut have no effect: the connection goes on with other requests.
func (l *line) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.readable = false
}

// uploadKey names the upload that a request is a part of.
type uploadKey struct {
	user bus.ID
	hash bus.BlobHash
}

// uploading are the requests that write parts, one for each upload.
type uploading struct {
	mu    sync.Mutex
	lines map[uploadKey]*line
}

// enter takes the place of the request that is writing the same upload, if there
// is one: it is the remains of a connection that its client has given up, and
// would be waited for until its deadline otherwise.
func (u *uploading) enter(key uploadKey, l *line) (leave func(), err error) {
	u.mu.Lock()
	before := u.lines[key]
	u.lines[key] = l
	u.mu.Unlock()
	if before != nil {
		err = before.cut()
	}
	return func() {
		l.end()
		u.mu.Lock()
		defer u.mu.Unlock()
		if u.lines[key] == l {
			delete(u.lines, key)
		}
	}, err
}

// blobRequest reads what all routes of blobs have in common.
func (s *Server) blobRequest(req *request) (bus.BlobHash, error) {
	if s.cfg.Blobs == nil {
		return bus.BlobHash{}, bus.Errorf(bus.CodeNotFound, "find blob: this node keeps none")
	}
	return bus.ParseBlobHash(req.PathValue(api.ValueHash))
}

func (s *Server) statBlob(req *request) (int, any, error) {
	hash, err := s.blobRequest(req)
	if err != nil {
		return 0, nil, err
	}
	status, err := s.cfg.Blobs.Stat(req.ctx, req.signer.ID, hash)
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, blobStatus(status), nil
}

// blobStatus is the answer to HEAD.
type blobStatus blobs.Status

func (b blobStatus) respond(_ *Server, w http.ResponseWriter, req *request, status int) error {
	api.BlobStatus(b).SetHeaders(w.Header())
	setHeaders(w, req.id)
	w.WriteHeader(status)
	return nil
}

// putBlob adds a part. What the signature covers is the digest of this part, so
// that the store counts it only once it is all there and right.
func (s *Server) putBlob(req *request) (int, any, error) {
	hash, err := s.blobRequest(req)
	if err != nil {
		return 0, nil, err
	}
	offset, size, err := api.ParsePart(req.query)
	if err != nil {
		return 0, nil, err
	}
	// An upload is in the log with its first part and its last, which one of
	// unknown length may be.
	if offset == 0 || req.ContentLength < 0 || offset+req.ContentLength >= size {
		if err := s.begin(req, hash.String()); err != nil {
			return 0, nil, err
		}
	}
	leave, err := s.uploading.enter(uploadKey{req.signer.ID, hash}, req.line)
	defer leave()
	if err != nil {
		s.log.Debug("earlier request not cut", "request", req.id, "error", err)
	}
	part := blobs.Part{User: req.signer.ID, Hash: hash, Offset: offset, Size: size}
	status, err := s.cfg.Blobs.Put(req.ctx, part, req.content)
	if err != nil && req.line.wasCut() {
		err = bus.Errorf(bus.CodeConflict, "put blob: a later request took the place of this one")
	}
	if err != nil {
		return 0, nil, err
	}
	reply := api.BlobStatus(status)
	if !status.Complete {
		return http.StatusOK, reply, nil
	}
	s.log.Info("blob put", "request", req.id, "by", req.signer.Handle, "hash", hash, "bytes", size)
	return http.StatusCreated, reply, nil
}

func (s *Server) removeBlob(req *request) (int, any, error) {
	hash, err := s.blobRequest(req)
	if err != nil {
		return 0, nil, err
	}
	if err := s.begin(req, hash.String()); err != nil {
		return 0, nil, err
	}
	err = s.cfg.Blobs.Remove(req.ctx, req.signer.ID, hash, false)
	if errors.Is(err, bus.ErrForbidden) && s.checkAdmin(req) == nil {
		err = s.cfg.Blobs.Remove(req.ctx, req.signer.ID, hash, true)
	}
	if err != nil {
		return 0, nil, err
	}
	s.log.Info("blob removed", "request", req.id, "by", req.signer.Handle, "hash", hash)
	return http.StatusNoContent, nil, nil
}

func (s *Server) getBlob(req *request) (int, any, error) {
	hash, err := s.blobRequest(req)
	if err != nil {
		return 0, nil, err
	}
	var offset int64
	if req.query != "" {
		if offset, err = api.ParseOffset(req.query); err != nil {
			return 0, nil, err
		}
	}
	r, size, err := s.cfg.Blobs.Open(req.ctx, hash, offset)
	if err != nil {
		return 0, nil, damaged(err)
	}
	return http.StatusOK, &blobReply{r, size - offset}, nil
}

// damaged is what a client hears of a blob that this node has lost: for it there
// is none, and whoever has the bytes may put them again.
func damaged(err error) error {
	if errors.Is(err, bus.ErrBlobMismatch) {
		return bus.Errorf(bus.CodeNotFound, "find blob: it was damaged on the disk of this node; who sent it can put it again")
	}
	return err
}

// blobReply is the bytes of a blob.
type blobReply struct {
	r io.ReadCloser
	n int64
}

func (b *blobReply) respond(s *Server, w http.ResponseWriter, req *request, status int) error {
	defer b.r.Close() // it was only read
	buf := make([]byte, streamBuffer)
	// What is damaged at its beginning can still be answered properly.
	n, err := io.ReadFull(b.r, buf)
	if err != nil && err != io.EOF && !errors.Is(err, io.ErrUnexpectedEOF) {
		return damaged(err)
	}
	w.Header().Set("Content-Type", api.MediaBlob)
	w.Header().Set("Content-Length", strconv.FormatInt(b.n, 10))
	setHeaders(w, req.id)
	w.WriteHeader(status)
	for {
		if err := req.line.write(w, buf[:n]); err != nil {
			s.log.Debug("reply not delivered", "request", req.id, "error", err)
			panic(http.ErrAbortHandler)
		}
		n, err = b.r.Read(buf)
		if n == 0 && err == io.EOF {
			return nil
		}
		if err != nil && err != io.EOF {
			// The client must not take what it has for the whole.
			s.log.Warn("reply cut short", "request", req.id, "path", req.URL.Path, "error", err)
			panic(http.ErrAbortHandler)
		}
	}
}

func (l *line) write(w io.Writer, p []byte) error {
	if err := l.ctl.SetWriteDeadline(l.deadline()); err != nil {
		return err
	}
	_, err := w.Write(p)
	return err
}
