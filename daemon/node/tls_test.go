package node_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/enmanuel/unibus/daemon/node"
	"github.com/enmanuel/unibus/lib/api"
	busclient "github.com/enmanuel/unibus/lib/client"
	"github.com/enmanuel/unibus/lib/identity"
)

// certificate makes one for the loopback address, and a pool that trusts it.
func certificate(t *testing.T) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(10*24*time.Hour + time.Minute),
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
