package main

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/enmanuel/unibus/daemon/node"
	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/cli"
)

// files is how many open files the processes ask for.
const files = 64 << 10

// nodeSetup is what the node's process is told.
type nodeSetup struct {
	Dir   string
	BusID bus.BusID
	Admin bus.SignPub
}

// nodeReady is what it answers.
type nodeReady struct {
	Control, NATS string // "host:port"
	Files         uint64 // that it may open
	PID           int
}

// nodeStats is how the node is doing.
type nodeStats struct {
	MemoryMB   int `json:"memory_mb"`
	Goroutines int `json:"goroutines"`
	Files      int `json:"files"`
}

func beNode(c *cli.Call) error {
	var s nodeSetup
	if err := setupOf(c, &s); err != nil {
		return err
	}
	allowed := raiseFiles(files)
	log, err := os.OpenFile(filepath.Join(s.Dir, "node.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	n, err := node.Start(c.Context, node.Config{
		BusID: s.BusID, DataDir: filepath.Join(s.Dir, "data"), Name: "flooded",
		// Beyond loopback, so that addresses are told apart as on a real node.
		ControlListen: "0.0.0.0:0", NATSListen: "0.0.0.0:0",
		CertFile: filepath.Join(s.Dir, "cert.pem"), KeyFile: filepath.Join(s.Dir, "key.pem"),
		BootstrapAdmin: &node.Admin{Handle: "admin", SignPub: s.Admin},
		Logger:         slog.New(slog.NewTextHandler(log, nil)),
	})
	if err != nil {
		return err
	}
	local := func(url string) string {
		_, port, _ := net.SplitHostPort(url[strings.Index(url, "://")+3:])
		return net.JoinHostPort("127.0.0.1", port)
	}
	err = tell(c, nodeReady{local(n.URL()), local(n.ServerURL()), allowed, os.Getpid()})
	for in := bufio.NewScanner(c.Env.Stdin); err == nil && in.Scan(); {
		err = tell(c, measureSelf())
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.Context), patience)
	defer cancel()
	if stopErr := n.Stop(ctx); err == nil {
		err = stopErr
	}
	return err
}

func measureSelf() nodeStats {
	s := nodeStats{Goroutines: runtime.NumGoroutine()}
	if open, err := os.ReadDir("/proc/self/fd"); err == nil {
		s.Files = len(open)
	}
	if text, err := os.ReadFile("/proc/self/statm"); err == nil {
		if fields := strings.Fields(string(text)); len(fields) > 1 {
			pages, _ := strconv.Atoi(fields[1]) // the kernel's own number
			s.MemoryMB = pages * os.Getpagesize() >> 20
		}
	}
	return s
}

// makeCertificate writes a certificate for loopback below dir and returns a pool
// that trusts it.
func makeCertificate(dir string) (*x509.CertPool, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(30 * 24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	for name, content := range map[string][]byte{"cert.pem": cert, "key.pem": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			return nil, err
		}
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(cert) {
		return nil, fmt.Errorf("trust own certificate")
	}
	return pool, nil
}
