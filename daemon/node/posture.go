package node

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/enmanuel/unibus/daemon/broker"
	"github.com/enmanuel/unibus/lib/api"
)

// probeEvery is how often a node looks at itself from outside. Nobody can make it
// do so more often.
const (
	probeEvery   = time.Minute
	probeTimeout = 10 * time.Second
)

// measured is what probes found. It starts as nothing, which promises nothing.
type measured struct {
	tls      bool // on both planes
	denies   bool // on both planes, who shows no identity
	enforces bool // on the control plane, the same
	synced   bool // by the store and by the streams
	opaque   bool // what lies on the disk
}

// keepPosture measures until ctx ends. What cannot be measured now stays as it
// was last seen, and the log says so when that begins.
func (n *Node) keepPosture(ctx context.Context) {
	tick := time.NewTicker(probeEvery)
	defer tick.Stop()
	failing := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		err := n.measure(ctx)
		if ctx.Err() != nil {
			return
		}
		if failed := err != nil; failed != failing {
			if failing = failed; failed {
				n.log.Warn("posture not measured", "error", err)
			}
		}
	}
}

// measure looks at everything once.
func (n *Node) measure(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	now := measured{}
	messages, err := n.broker.Probe(ctx)
	if err != nil {
		return err
	}
	overTLS, status, err := n.probeControl(ctx)
	if err != nil {
		return fmt.Errorf("look at own control plane: %w", err)
	}
	durable, err := n.durable(ctx)
	if err != nil {
		return err
	}
	now.tls = messages.TLS && overTLS
	now.enforces = status == http.StatusUnauthorized
	now.denies = messages.Denied && now.enforces
	now.synced = durable && n.broker.Posture().SyncAlways
	if now.opaque, err = opaque(n.cfg.DataDir); err != nil {
		return fmt.Errorf("read own files back: %w", err)
	}
	n.seen.Store(&now)
	return nil
}

// probeControl asks for rooms as a stranger, over TLS if there is TLS.
func (n *Node) probeControl(ctx context.Context) (overTLS bool, status int, err error) {
	addr := broker.DialAddress(n.public.Addr())
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return false, 0, err
	}
	defer conn.Close()
	defer n.control.Probing(conn.LocalAddr().String())()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	scheme := "http"
	if n.cfg.TLS != nil {
		// What is looked at is whether it is there, not whom it names.
		secured := tls.Client(conn, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13, NextProtos: []string{"http/1.1"}})
		if err := secured.HandshakeContext(ctx); err != nil {
			return false, 0, err
		}
		conn, scheme, overTLS = secured, "https", true
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+"://"+addr+api.RoomsPath(), nil)
	if err != nil {
		return overTLS, 0, err
	}
	req.Close = true
	if err := req.Write(conn); err != nil {
		return overTLS, 0, err
	}
	replies := bufio.NewReader(conn)
	resp, err := http.ReadResponse(replies, req)
	if err != nil {
		return overTLS, 0, err
	}
	if err := resp.Body.Close(); err != nil {
		return overTLS, 0, err
	}
	// The server hangs up, and only then the connection counts no more.
	_, err = io.Copy(io.Discard, replies)
	return overTLS, resp.StatusCode, err
}

// What files that are not encrypted begin with or contain.
var (
	sqliteMagic = []byte("SQLite format 3\x00")
	frameMark   = []byte("ub.d.")
)

// readBack bounds how much of a file of messages is looked at, and maxFiles how
// many files.
const (
	readBack = 64 << 10
	maxFiles = 64
)

// opaque reads what the node keeps in its files, as a thief of the disk would,
// and reports whether none of it can be read. Where there is nothing to read,
// nothing is promised.
func opaque(dataDir string) (bool, error) {
	head, err := readHead(filepath.Join(dataDir, "unibus.db"), len(sqliteMagic))
	if err != nil || len(head) < len(sqliteMagic) || bytes.Equal(head, sqliteMagic) {
		return false, err
	}
	files := 0
	errRead := errors.New("a frame can be read")
	err = filepath.WalkDir(filepath.Join(dataDir, "jetstream"), func(path string, d fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist): // deleted meanwhile
			return nil
		case err != nil || !d.Type().IsRegular() || filepath.Ext(path) != ".blk":
			return err
		}
		if files++; files > maxFiles {
			return fs.SkipAll
		}
		head, err := readHead(path, readBack)
		if err == nil && bytes.Contains(head, frameMark) {
			return errRead
		}
		return err
	})
	if errors.Is(err, errRead) {
		return false, nil
	}
	return err == nil, err
}

func readHead(path string, n int) ([]byte, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, int64(n)))
}
