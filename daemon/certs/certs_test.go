package certs

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/enmanuel/unibus/lib/bus"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const day = 24 * time.Hour

// files are those of a certificate.
type files struct {
	*testing.T
	cert, key string
	log       bytes.Buffer
	now       time.Time
}

func newFiles(t *testing.T) *files {
	dir := t.TempDir()
	return &files{T: t, cert: filepath.Join(dir, "cert.pem"), key: filepath.Join(dir, "key.pem"), now: time.Now().Truncate(time.Second)}
}

// pair makes a certificate with a serial number that is good for some time.
func (f *files) pair(serial int64, life time.Duration) (cert, key []byte) {
	f.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	f.must(err)
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), NotBefore: f.now.Add(-100 * day), NotAfter: f.now.Add(life)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	f.must(err)
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	f.must(err)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})
}

func (f *files) must(err error) {
	f.Helper()
	if err != nil {
		f.Fatal(err)
	}
}

// put replaces the files, as certbot does, by renaming new ones.
func (f *files) put(cert, key []byte) {
	f.Helper()
	for name, content := range map[string][]byte{f.cert: cert, f.key: key} {
		f.must(os.WriteFile(name+".new", content, 0o600))
		f.must(os.Rename(name+".new", name))
	}
}

func (f *files) open() (*Keeper, error) {
	return Open(f.cert, f.key, func() time.Time { return f.now }, slog.New(slog.NewTextHandler(&f.log, nil)))
}

func serial(c *tls.Config) int64 { return Leaf(c).SerialNumber.Int64() }

func TestNewPairIsTakenAndABrokenOneIsNot(t *testing.T) {
	f := newFiles(t)
	cert, key := f.pair(1, 90*day)
	f.put(cert, key)
	k, err := f.open()
	f.must(err)
	config := k.Config()
	if serial(config) != 1 || config.MinVersion != tls.VersionTLS13 || k.Reload(false) || k.Reload(true) {
		t.Fatalf("serial %d", serial(config))
	}
	_, otherKey := f.pair(9, 90*day)
	expired, expiredKey := f.pair(8, -day)
	for _, tt := range []struct {
		name      string
		cert, key []byte
		why       string
	}{
		{"half written", cert[:len(cert)/2], key, "failed to find"},
		{"of two keys", cert, otherKey, "does not match"},
		{"empty", nil, nil, "failed to find"},
		{"past its time", expired, expiredKey, "it ended on"},
	} {
		f.log.Reset()
		f.put(tt.cert, tt.key)
		if k.Reload(false) || serial(config) != 1 {
			t.Errorf("%s: taken", tt.name)
		}
		if have := f.log.String(); !strings.Contains(have, "level=WARN") || !strings.Contains(have, tt.why) || !strings.Contains(have, "days_left=90") {
			t.Errorf("%s: logged %s", tt.name, have)
		}
		f.log.Reset()
		if k.Reload(false) || f.log.Len() > 0 {
			t.Errorf("%s: said again: %s", tt.name, &f.log)
		}
	}
	f.must(os.Remove(f.cert))
	if k.Reload(false) || serial(config) != 1 {
		t.Error("a file that has gone")
	}
	f.put(f.pair(2, 60*day))
	if !k.Reload(false) || serial(config) != 2 {
		t.Errorf("serial %d after the replacement", serial(config))
	}
}

func TestPairThatCannotBeReadIsWrongUsage(t *testing.T) {
	f := newFiles(t)
	if _, err := f.open(); !errors.Is(err, bus.ErrUsage) {
		t.Errorf("no files: %v", err)
	}
}

func TestEndOfTheCertificateIsWarnedOfOnceADay(t *testing.T) {
	f := newFiles(t)
	f.put(f.pair(1, 15*day))
	k, err := f.open()
	f.must(err)
	warned := func() int { return strings.Count(f.log.String(), "ends soon") }
	if warned() != 0 {
		t.Error("warned too early")
	}
	for range 48 {
		f.now = f.now.Add(time.Hour)
		k.warnOfEnd()
	}
	if warned() != 1 { // from the 25th hour on
		t.Errorf("warned %d times in two days", warned())
	}
	if left := DaysLeft(k.current.Load().Leaf, f.now); left != 13 {
		t.Errorf("%d days left", left)
	}
	if left := DaysLeft(k.current.Load().Leaf, f.now.Add(13*day+time.Hour)); left != -1 {
		t.Errorf("%d days left after the end", left)
	}
}

func TestFilesAreWatched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFiles(t)
		f.put(f.pair(1, 90*day))
		k, err := f.open()
		f.must(err)
		config := k.Config()
		ctx, cancel := context.WithCancel(t.Context())
		again, done := make(chan struct{}, 1), make(chan struct{})
		go func() { k.Watch(ctx, again); close(done) }()
		f.put(f.pair(2, 90*day))
		<-time.After(PollInterval)
		synctest.Wait()
		if serial(config) != 2 {
			t.Error("not taken after a turn")
		}
		f.put(f.pair(3, 90*day))
		again <- struct{}{}
		synctest.Wait()
		if serial(config) != 3 {
			t.Error("not taken when asked")
		}
		cancel()
		<-done
	})
}
