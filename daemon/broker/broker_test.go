package broker

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"
	"go.uber.org/goleak"

	"github.com/enmanuel/unibus/lib/bus"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// admit lets every member in, with every right in account BUS.
type admit struct{ b *Broker }

func (a admit) Check(c server.ClientAuthentication) bool {
	c.RegisterUser(&server.User{Account: a.b.Members()})
	return true
}

func testConfig(t *testing.T) Config {
	return Config{
		Name:          "n1",
		StoreDir:      filepath.Join(t.TempDir(), "messages"),
		Listen:        "127.0.0.1:0",
		CheckInterval: 20 * time.Millisecond,
		Logger:        slog.New(slog.NewTextHandler(testLog{t}, &slog.HandlerOptions{Level: slog.LevelWarn})),
	}
}

// testLog shows the log only where the test fails.
type testLog struct{ t *testing.T }

func (l testLog) Write(p []byte) (int, error) {
	if l.t.Context().Err() == nil { // a test must not log after its end
		l.t.Logf("%s", bytes.TrimSpace(p))
	}
	return len(p), nil
}

func start(t *testing.T, cfg Config) *Broker {
	t.Helper()
	b, err := Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { shutdown(t, b) })
	return b
}

func open(t *testing.T, cfg Config) *Broker {
	t.Helper()
	b := start(t, cfg)
	if err := b.Open(admit{b}); err != nil {
		t.Fatal(err)
	}
	return b
}

func shutdown(t *testing.T, b *Broker) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := b.Shutdown(ctx); err != nil {
		t.Error(err)
	}
}

func connect(t *testing.T, url string, options ...nats.Option) *nats.Conn {
	t.Helper()
	nc, err := nats.Connect(url, options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

// member connects like a member, with a key and an inbox of its own.
func member(t *testing.T, b *Broker, options ...nats.Option) *nats.Conn {
	t.Helper()
	key, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	public, err := key.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	return connect(t, b.ClientURL(), append(options, nats.Nkey(public, key.Sign), nats.CustomInboxPrefix(bus.InboxPrefix(public)))...)
}

// store returns the daemon's own way to the streams.
func store(t *testing.T, b *Broker) jetstream.JetStream {
	t.Helper()
	nc, err := b.Conn(AccountStore)
	if err != nil {
		t.Fatal(err)
	}
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

func TestStreamsTrustNoHeader(t *testing.T) {
	cfg := testConfig(t)
	cfg.MaxShardBytes = 1 << 20
	js := store(t, start(t, cfg))
	for shard := range bus.Shards {
		stream, err := js.Stream(t.Context(), bus.Stream(shard))
		if err != nil {
			t.Fatal(err)
		}
		c := stream.CachedInfo().Config
		if c.Storage != jetstream.FileStorage || c.Replicas != 1 || c.Retention != jetstream.LimitsPolicy ||
			c.Discard != jetstream.DiscardNew || c.MaxBytes != 1<<20 || c.Duplicates != bus.DedupWindow ||
			!c.DenyDelete || c.DenyPurge || c.MaxAge != 0 || c.MaxMsgSize != MaxPayload ||
			c.AllowRollup || c.AllowMsgTTL || c.AllowDirect || c.AllowMsgSchedules || c.AllowMsgCounter ||
			c.AllowAtomicPublish || c.AllowBatchPublish || c.PersistMode != jetstream.DefaultPersistMode {
			t.Errorf("stream %d: %+v", shard, c)
		}
	}
}

func TestStreamsRefuseWhatHeadersAskFor(t *testing.T) {
	js := store(t, start(t, testConfig(t)))
	subject := "ub.d.0.room.sender"
	if _, err := js.Publish(t.Context(), subject, []byte("first")); err != nil {
		t.Fatal(err)
	}
	for header, value := range map[string]string{
		"Nats-Rollup":         "all",
		"Nats-TTL":            "1s",
		"Nats-Incr":           "+1",
		"Nats-Schedule":       "@at 2030-01-01T00:00:00Z",
		"Nats-Batch-Id":       "b",
		"Nats-Batch-Sequence": "1",
	} {
		msg := &nats.Msg{Subject: subject, Data: []byte("x"), Header: nats.Header{header: {value}}}
		_, err := js.PublishMsg(t.Context(), msg)
		if header == "Nats-Batch-Sequence" { // means nothing without a batch
			if err != nil {
				t.Errorf("%s: %v", header, err)
			}
			continue
		}
		if _, ok := errors.AsType[*jetstream.APIError](err); !ok {
			t.Errorf("%s was not refused: %v", header, err)
		}
	}
	stream, err := js.Stream(t.Context(), bus.Stream(0))
	if err != nil {
		t.Fatal(err)
	}
	if state := stream.CachedInfo().State; state.FirstSeq != 1 || state.LastSeq != 2 || state.Msgs != 2 {
		t.Errorf("stream state %+v", state)
	}
}

func TestMessagesAreDeletedByPurgeOnly(t *testing.T) {
	js := store(t, start(t, testConfig(t)))
	for _, room := range []string{"old", "new"} {
		if _, err := js.Publish(t.Context(), "ub.d.3."+room+".sender", []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	stream, err := js.Stream(t.Context(), bus.Stream(3))
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.DeleteMsg(t.Context(), 1); err == nil {
		t.Error("a single message was deleted")
	}
	if err := stream.Purge(t.Context(), jetstream.WithPurgeSubject("ub.d.3.old.*")); err != nil {
		t.Fatal(err)
	}
	info, err := stream.Info(t.Context())
	if err != nil || info.State.Msgs != 1 || info.State.FirstSeq != 2 {
		t.Errorf("after the purge: %+v, %v", info.State, err)
	}
}

func TestQuotaRefusesNewMessagesAndKeepsOldOnes(t *testing.T) {
	cfg := testConfig(t)
	cfg.MaxShardBytes = 100 << 10
	js := store(t, start(t, cfg))
	stored := 0
	var err error
	for err == nil && stored < 100 {
		if _, err = js.Publish(t.Context(), "ub.d.1.room.sender", make([]byte, 10<<10)); err == nil {
			stored++
		}
	}
	refused, ok := errors.AsType[*jetstream.APIError](err)
	if !ok || refused.ErrorCode != 10077 || stored < 5 || stored > 10 {
		t.Fatalf("after %d messages: %v", stored, err)
	}
	stream, err := js.Stream(t.Context(), bus.Stream(1))
	if err != nil {
		t.Fatal(err)
	}
	if state := stream.CachedInfo().State; state.FirstSeq != 1 || state.Msgs != uint64(stored) {
		t.Errorf("stream state %+v", state)
	}
	if _, err := js.Publish(t.Context(), "ub.d.2.room.sender", make([]byte, 10<<10)); err != nil {
		t.Errorf("the next shard is full too: %v", err)
	}
}

func TestMessagesSurviveARestartAndQuotasFollowTheConfiguration(t *testing.T) {
	cfg := testConfig(t)
	b := start(t, cfg)
	if _, err := store(t, b).Publish(t.Context(), "ub.d.0.room.sender", []byte("x"), jetstream.WithMsgID("m")); err != nil {
		t.Fatal(err)
	}
	shutdown(t, b)

	cfg.MaxShardBytes = 1 << 20
	js := store(t, start(t, cfg))
	stream, err := js.Stream(t.Context(), bus.Stream(0))
	if err != nil {
		t.Fatal(err)
	}
	info := stream.CachedInfo()
	if info.State.Msgs != 1 || info.Config.MaxBytes != 1<<20 {
		t.Errorf("after the restart: %+v", info)
	}
	ack, err := js.Publish(t.Context(), "ub.d.0.room.sender", []byte("x"), jetstream.WithMsgID("m"))
	if err != nil || !ack.Duplicate {
		t.Errorf("a retry across the restart: %+v, %v", ack, err)
	}
}

func TestStoreIsForTheDaemonAlone(t *testing.T) {
	cfg := testConfig(t)
	if err := os.MkdirAll(cfg.StoreDir, 0o755); err != nil {
		t.Fatal(err)
	}
	js := store(t, start(t, cfg))
	if _, err := js.Publish(t.Context(), "ub.d.0.room.sender", []byte("x")); err != nil {
		t.Fatal(err)
	}
	err := filepath.WalkDir(cfg.StoreDir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil && path == cfg.StoreDir && info.Mode().Perm() != 0o700 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestPostureIsWhatRuns(t *testing.T) {
	b := open(t, testConfig(t))
	connect(t, b.ClientURL())
	if _, err := b.Conn(AccountBus); err != nil { // is no member
		t.Fatal(err)
	}
	if got, want := b.Posture(), (Posture{JetStream: true, SyncAlways: true, Auth: true, Members: 1}); got != want {
		t.Errorf("posture %+v, want %+v", got, want)
	}
	if err := b.srv.ShutdownJetStream(); err != nil {
		t.Fatal(err)
	}
	if b.Posture().JetStream {
		t.Error("the posture shows a jetstream that is off")
	}
}

func TestFailedTellsThatJetStreamTurnedItselfOff(t *testing.T) {
	b := start(t, testConfig(t))
	select {
	case err := <-b.Failed():
		t.Fatal(err)
	default:
	}
	if err := b.srv.ShutdownJetStream(); err != nil {
		t.Fatal(err)
	}
	waitFailed(t, b)
}

func TestFailedTellsThatAStreamCannotBeWritten(t *testing.T) {
	b := start(t, testConfig(t))
	js := store(t, b)
	if _, err := js.Publish(t.Context(), "ub.d.0.room.sender", make([]byte, 1<<10)); err != nil {
		t.Fatal(err)
	}
	limitFileSize(t, 4<<20) // as good as a full disk
	for i := range 100 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		_, err := js.Publish(ctx, "ub.d.0.room.sender", make([]byte, 128<<10))
		cancel()
		if err != nil {
			break
		}
		if i == 99 {
			t.Fatal("every message was stored")
		}
	}
	waitFailed(t, b)
}

// limitFileSize makes writes beyond n bytes of a file fail for this process. The
// testing package writes files too; they are smaller.
func limitFileSize(t *testing.T, n uint64) {
	t.Helper()
	var before syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &before); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: n, Max: before.Max}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &before); err != nil {
			t.Error(err)
		}
	})
}

func waitFailed(t *testing.T, b *Broker) {
	t.Helper()
	select {
	case err := <-b.Failed():
		t.Log("reported:", err)
	case <-time.After(10 * time.Second):
		t.Fatal("nothing was reported")
	}
}

func TestStartFails(t *testing.T) {
	for name, spoil := range map[string]func(*Config){
		"without a name":            func(c *Config) { c.Name = "" },
		"without a directory":       func(c *Config) { c.StoreDir = "" },
		"with a file for a store":   func(c *Config) { c.StoreDir = os.Args[0] },
		"with a quota out of reach": func(c *Config) { c.MaxShardBytes = maxStoreBytes },
	} {
		t.Run(name, func(t *testing.T) {
			cfg := testConfig(t)
			spoil(&cfg)
			if b, err := Start(t.Context(), cfg); err == nil {
				shutdown(t, b)
				t.Error("it started")
			}
		})
	}
}

func TestOpenFailsWhereThePortIsTaken(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	cfg := testConfig(t)
	cfg.Listen = l.Addr().String()
	b := start(t, cfg)
	if err := b.Open(admit{b}); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("error %v", err)
	}
}

func TestOpenHappensOnce(t *testing.T) {
	b := open(t, testConfig(t))
	if err := b.Open(admit{b}); bus.CodeOf(err) != bus.CodeUsage {
		t.Errorf("error %v", err)
	}
}

func TestNobodyComesInPastTheGate(t *testing.T) {
	b := open(t, testConfig(t))
	for name, connect := range map[string]string{
		"without anything":            `{}`,
		"with a guessed token":        `{"user":"STORE","pass":"guess"}`,
		"with a guessed mark":         `{"user":"192.0.2.1:9","pass":"guess"}`,
		"with an empty token":         `{"user":"STORE","pass":""}`,
		"with a token as NATS has it": `{"auth_token":"` + b.door.token + `"}`,
		"into another account":        `{"user":"$SYS","pass":"` + b.door.token + `"}`,
	} {
		t.Run(name, func(t *testing.T) {
			inside, err := b.srv.InProcessConn()
			if err != nil {
				t.Fatal(err)
			}
			if said := talk(t, inside, "CONNECT "+connect+"\r\nPING\r\n"); !strings.Contains(said, "Authorization Violation") {
				t.Errorf("the server said %q", said)
			}
		})
	}
	t.Run("with the daemon's token, through the gate", func(t *testing.T) {
		// It is replaced there, and what is left is a member.
		nc := member(t, b, nats.UserInfo(string(AccountStore), b.door.token))
		if msg, err := nc.Request("$JS.API.INFO", nil, time.Second); err != nil || !strings.Contains(string(msg.Data), "not enabled for account") {
			t.Errorf("jetstream answered: %s, %v", msg.Data, err)
		}
	})
}

func TestMembersAreDeniedBeforeOpen(t *testing.T) {
	b := start(t, testConfig(t))
	if url := b.ClientURL(); url != "" {
		t.Errorf("members may connect to %s", url)
	}
	inside, err := b.srv.InProcessConn()
	if err != nil {
		t.Fatal(err)
	}
	if said := talk(t, inside, `CONNECT {"user":"192.0.2.1:9","pass":"`+b.door.mark+"\"}\r\nPING\r\n"); !strings.Contains(said, "Authorization Violation") {
		t.Errorf("the server said %q", said)
	}
}

type deny struct{}

func (deny) Check(server.ClientAuthentication) bool { return false }

func TestDeniedMembersAreTold(t *testing.T) {
	b := start(t, testConfig(t))
	if err := b.Open(deny{}); err != nil {
		t.Fatal(err)
	}
	// What they go on to say must not cut the answer short.
	text := "CONNECT {}\r\n" + strings.Repeat("PING\r\n", 2000)
	var talking sync.WaitGroup
	for range 50 {
		talking.Go(func() {
			conn, err := net.Dial("tcp", b.gate.listener.Addr().String())
			if err != nil {
				t.Error(err)
				return
			}
			if said := talk(t, conn, text); !strings.Contains(said, "Authorization Violation") {
				t.Errorf("the server said %q", said)
			}
		})
	}
	talking.Wait()
}

// talk says something over a connection and returns all the server says until
// it ends the connection.
func talk(t *testing.T, conn net.Conn, text string) string {
	t.Helper()
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Error(err)
	}
	var speaking sync.WaitGroup
	speaking.Go(func() { io.WriteString(conn, text) }) // the server may hang up first
	said, err := io.ReadAll(conn)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the connection stays open after %q", said)
	}
	speaking.Wait()
	return string(said)
}

func TestMembersReachTheStreamsThroughTheirAccount(t *testing.T) {
	b := open(t, testConfig(t))
	nc := member(t, b)
	js, err := jetstream.NewWithAPIPrefix(nc, bus.APIPrefix)
	if err != nil {
		t.Fatal(err)
	}
	const frames = 300
	for i := range frames {
		ack, err := js.Publish(t.Context(), "ub.d.5.room.sender", fmt.Appendf(nil, "%d", i))
		if err != nil || ack.Stream != bus.Stream(5) || ack.Sequence != uint64(i+1) {
			t.Fatalf("publish %d: %+v, %v", i, ack, err)
		}
	}
	if _, err := store(t, b).CreateConsumer(t.Context(), bus.Stream(5), jetstream.ConsumerConfig{
		Name: "c", AckPolicy: jetstream.AckNonePolicy, MemoryStorage: true, FilterSubjects: []string{"ub.d.5.room.*"},
	}); err != nil {
		t.Fatal(err)
	}
	consumer, err := js.Consumer(t.Context(), bus.Stream(5), "c")
	if err != nil {
		t.Fatal(err)
	}
	messages, err := consumer.Messages(jetstream.PullMaxMessages(64))
	if err != nil {
		t.Fatal(err)
	}
	defer messages.Stop()
	for i := range frames {
		msg, err := messages.Next(jetstream.NextContext(t.Context()))
		if err != nil {
			t.Fatal(err)
		}
		if string(msg.Data()) != fmt.Sprint(i) || msg.Headers().Get("Nats-Request-Info") != "" {
			t.Fatalf("message %d is %q with %v", i, msg.Data(), msg.Headers())
		}
	}
}

func TestPayloadOfMembersIsBoundToFrames(t *testing.T) {
	b := open(t, testConfig(t))
	nc := member(t, b)
	sub, err := nc.SubscribeSync("a")
	if err != nil {
		t.Fatal(err)
	}
	if err := nc.Publish("a", make([]byte, MaxPayload)); err != nil {
		t.Fatal(err)
	}
	if msg, err := sub.NextMsg(10 * time.Second); err != nil || len(msg.Data) != MaxPayload {
		t.Fatalf("the largest frame did not arrive: %v", err)
	}
	if err := nc.Publish("a", make([]byte, MaxPayload+1)); !errors.Is(err, nats.ErrMaxPayload) {
		t.Errorf("the client was not told the limit: %v", err)
	}
	conn, err := net.Dial("tcp", b.gate.listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	said := talk(t, conn, fmt.Sprintf("CONNECT {}\r\nPUB a %d\r\n%s\r\nPING\r\n", MaxPayload+1, make([]byte, MaxPayload+1)))
	if !strings.Contains(said, "Maximum Payload Violation") {
		t.Errorf("the server said %q", said)
	}
}

func TestMembersAreToldOfNoOtherAddress(t *testing.T) {
	b := open(t, testConfig(t))
	if other := connect(t, b.ClientURL()).DiscoveredServers(); len(other) != 0 {
		t.Errorf("the server advertises %v", other)
	}
}

func TestKickCutsTheConnection(t *testing.T) {
	b := open(t, testConfig(t))
	closed := make(chan struct{})
	nc := connect(t, b.ClientURL(), nats.NoReconnect(), nats.ClosedHandler(func(*nats.Conn) { close(closed) }))
	id, err := nc.GetClientID()
	if err != nil {
		t.Fatal(err)
	}
	b.Kick(id)
	b.Kick(id) // no harm in a second time
	select {
	case <-closed:
	case <-time.After(10 * time.Second):
		t.Error("the connection lives on")
	}
}

func TestTLSIsRequiredWhereItIsOn(t *testing.T) {
	cert, roots := selfSigned(t)
	cfg := testConfig(t)
	cfg.TLS = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS13}
	b := open(t, cfg)
	if !b.Posture().TLS {
		t.Error("the posture says there is no TLS")
	}
	nc := connect(t, b.ClientURL(), nats.Secure(&tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS13}))
	if state, err := nc.TLSConnectionState(); err != nil || state.Version != tls.VersionTLS13 {
		t.Errorf("TLS %+v, %v", state, err)
	}
	sub, err := nc.SubscribeSync("a")
	if err != nil {
		t.Fatal(err)
	}
	payload := bytes.Repeat([]byte("0123456789abcdef"), bus.MaxFrameSize/16)
	if err := nc.Publish("a", payload); err != nil {
		t.Fatal(err)
	}
	if msg, err := sub.NextMsg(10 * time.Second); err != nil || !bytes.Equal(msg.Data, payload) {
		t.Errorf("message came back changed, or not: %v", err)
	}

	plain, err := net.Dial("tcp", b.gate.listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if said := talk(t, plain, "CONNECT {\"verbose\":true}\r\nPING\r\n"); strings.Contains(said, "PONG") {
		t.Errorf("the server spoke in the clear: %q", said)
	}
}

func TestShutdownEndsConnectionsAndCanBeRepeated(t *testing.T) {
	b := open(t, testConfig(t))
	own, err := b.Conn(AccountBus)
	if err != nil {
		t.Fatal(err)
	}
	closed := make(chan struct{})
	connect(t, b.ClientURL(), nats.NoReconnect(), nats.ClosedHandler(func(*nats.Conn) { close(closed) }))
	shutdown(t, b)
	shutdown(t, b)
	select {
	case <-closed:
	case <-time.After(10 * time.Second):
		t.Error("a member's connection lives on")
	}
	if !own.IsClosed() {
		t.Error("the daemon's own connection lives on")
	}
	if _, err := b.Conn(AccountStore); bus.CodeOf(err) != bus.CodeClosed {
		t.Errorf("a new connection: %v", err)
	}
}

func selfSigned(t *testing.T) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		NotAfter:     time.Now().Add(time.Hour),
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(parsed)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, roots
}
