package node_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/enmanuel/unibus/daemon/node"
	"github.com/enmanuel/unibus/lib/api"
	busclient "github.com/enmanuel/unibus/lib/client"
	"github.com/enmanuel/unibus/lib/identity"
)

// certificate makes one for the loopback address, and a pool that trusts it.
func certificate(t *testing.T) (tls.Certificate, *x509.CertPool) { return certificateOf(t, 1) }

// certificateOf makes one with a serial number that is good for ten times as many
// days.
func certificateOf(t *testing.T, serial int64) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Duration(serial)*10*24*time.Hour + time.Minute),
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, pool
}

func TestWithACertificateBothPlanesSpeakTLSOnly(t *testing.T) {
	admin, err := identity.Generate(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert, pool := certificate(t)
	cfg := config(t)
	cfg.TLS = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS13}
	cfg.BootstrapAdmin = &node.Admin{Handle: "admin", SignPub: admin.SignPub()}
	n := start(t, cfg)
	if !strings.HasPrefix(n.URL(), "https://") || !strings.HasPrefix(n.ServerURL(), "tls://") {
		t.Errorf("addresses %s and %s", n.URL(), n.ServerURL())
	}

	c, err := busclient.Dial(t.Context(), busclient.Config{
		Servers: []string{n.ServerURL()}, URLs: []string{n.URL()}, CA: pool,
		BusID: cfg.BusID, Identity: admin, StateDir: t.TempDir(),
	})
	if err != nil {
		t.Fatal(err)
	}
	room, err := c.CreateRoom(t.Context(), "secured", busclient.RoomOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := room.Publish(t.Context(), []byte("hello")); err != nil {
		t.Error(err)
	}
	if err := c.Close(t.Context()); err != nil {
		t.Error(err)
	}

	tr := &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: pool}}
	t.Cleanup(tr.CloseIdleConnections)
	trusting := &http.Client{Transport: tr, Timeout: 10 * time.Second}
	var h api.Health
	get(t, trusting, n.URL()+api.HealthPath(), &h)
	if !h.TLS || h.CertDaysLeft == nil || *h.CertDaysLeft != 10 {
		t.Errorf("health %+v", h)
	}
	if resp, err := client(t).Get(n.URL() + api.HealthPath()); err == nil {
		resp.Body.Close()
		t.Error("a client that does not trust the certificate was served")
	}
	plain := "http://" + strings.TrimPrefix(n.URL(), "https://") + api.HealthPath()
	if resp, err := client(t).Get(plain); err == nil {
		resp.Body.Close()
		if resp.StatusCode == http.StatusOK {
			t.Error("plain HTTP was served")
		}
	}
	_, err = busclient.Dial(t.Context(), busclient.Config{
		Servers: []string{strings.Replace(n.ServerURL(), "tls", "nats", 1)}, URLs: []string{n.URL()},
		BusID: cfg.BusID, Identity: admin, ControlTimeout: 2 * time.Second,
	})
	if err == nil {
		t.Error("a client without the authority connected")
	}
}

// served returns the serial number of the certificate that a plane presents, and
// leaves the connection open until the test ends.
func served(t *testing.T, addr string, nats bool) int64 {
	t.Helper()
	conn, err := net.DialTimeout("tcp", addr, 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if nats { // the server speaks first, in the clear
		for b := make([]byte, 1); b[0] != '\n'; {
			if _, err := conn.Read(b); err != nil {
				t.Fatal(err)
			}
		}
	}
	secured := tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
	if err := secured.HandshakeContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	state := secured.ConnectionState()
	if state.Version != tls.VersionTLS13 {
		t.Errorf("TLS version %#x", state.Version)
	}
	return state.PeerCertificates[0].SerialNumber.Int64()
}

func TestNewCertificateIsPresentedWithoutCuttingAnybody(t *testing.T) {
	admin, err := identity.Generate(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cfg := config(t)
	dir := t.TempDir()
	cfg.CertFile, cfg.KeyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	pool := x509.NewCertPool()
	put := func(serial int64) {
		t.Helper()
		cert, _ := certificateOf(t, serial)
		pool.AddCert(cert.Leaf)
		key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
		if err != nil {
			t.Fatal(err)
		}
		for name, block := range map[string]*pem.Block{
			cfg.KeyFile:  {Type: "PRIVATE KEY", Bytes: key},
			cfg.CertFile: {Type: "CERTIFICATE", Bytes: cert.Certificate[0]},
		} {
			if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	put(1)
	cfg.BootstrapAdmin = &node.Admin{Handle: "admin", SignPub: admin.SignPub()}
	n := start(t, cfg)
	control, nats := strings.TrimPrefix(n.URL(), "https://"), strings.TrimPrefix(n.ServerURL(), "tls://")
	if a, b := served(t, control, false), served(t, nats, true); a != 1 || b != 1 {
		t.Fatalf("certificates %d and %d", a, b)
	}
	c, err := busclient.Dial(t.Context(), busclient.Config{
		Servers: []string{n.ServerURL()}, URLs: []string{n.URL()}, CA: pool.Clone(),
		BusID: cfg.BusID, Identity: admin, StateDir: t.TempDir(),
	})
	if err != nil {
		t.Fatal(err)
	}
	room, err := c.CreateRoom(t.Context(), "secured", busclient.RoomOptions{})
	if err != nil {
		t.Fatal(err)
	}
	put(2)
	n.ReloadCertificate()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for served(t, control, false) != 2 {
		<-tick.C
	}
	if have := served(t, nats, true); have != 2 {
		t.Errorf("the data plane presents certificate %d", have)
	}
	// The client trusts the first certificate only: had either of its
	// connections been cut, it could not come back.
	if _, err := room.Publish(t.Context(), []byte("still here")); err != nil {
		t.Error(err)
	}
	if _, err := c.CreateRoom(t.Context(), "secured.too", busclient.RoomOptions{}); err != nil {
		t.Error(err)
	}
	if err := c.Close(t.Context()); err != nil {
		t.Error(err)
	}
	tr := &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: pool}}
	t.Cleanup(tr.CloseIdleConnections)
	var h api.Health
	get(t, &http.Client{Transport: tr, Timeout: 10 * time.Second}, n.URL()+api.HealthPath(), &h)
	if h.CertDaysLeft == nil || *h.CertDaysLeft != 20 {
		t.Errorf("health %+v", h)
	}
}
