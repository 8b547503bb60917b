package hostile_test

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"log/slog"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/enmanuel/unibus/daemon/node"
	"github.com/enmanuel/unibus/lib/client"
	"github.com/enmanuel/unibus/lib/identity"
	"github.com/enmanuel/unibus/lib/internal/hostile"
)

// patience bounds whatever a row waits for.
const patience = 20 * time.Second

// theatre is a real node, which the rows share.
type theatre struct {
	root  *identity.Root
	node  *node.Node
	admin *client.Client
}

func logger(t *testing.T) *slog.Logger {
	if os.Getenv("UNIBUS_TEST_LOG") == "" {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(t.Output(), nil))
}

func newTheatre(t *testing.T) *theatre {
	t.Helper()
	root, err := identity.GenerateRoot(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	admin := newIdentity(t)
	n, err := node.Start(t.Context(), node.Config{
		BusID: root.BusID(), DataDir: t.TempDir(), Name: "n1", ControlListen: "127.0.0.1:0", NATSListen: "127.0.0.1:0",
		BootstrapAdmin: &node.Admin{Handle: "admin", SignPub: admin.SignPub()}, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := n.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	c, err := client.Dial(t.Context(), client.Config{Servers: []string{n.ServerURL()}, URLs: []string{n.URL()}, BusID: root.BusID(), Identity: admin})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return &theatre{root: root, node: n, admin: c}
}

func newIdentity(t *testing.T) *identity.Identity {
	t.Helper()
	id, err := identity.Generate(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// stage is where one lie is told.
type stage struct {
	*testing.T
	*theatre
	name    string // of rooms made here
	actors  []*actor
	secrets []hostile.Secret

	mu     sync.Mutex
	lies   []string       // what no handler may be given
	late   map[string]int // what no later inbox than so many may be given
	inboxs []*inbox
	told   bool
}

func newStage(t *testing.T, th *theatre) *stage {
	s := &stage{T: t, theatre: th, late: map[string]int{}}
	s.name = s.secret("room name")
	return s
}

// ctx bounds one step.
func (s *stage) ctx() context.Context {
	ctx, cancel := context.WithTimeout(s.Context(), patience)
	s.Cleanup(cancel)
	return ctx
}

// must fails the row for a step that is no part of the lie.
func (s *stage) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

func randomText() string {
	var b [12]byte
	if _, err := rand.Read(b[:]); err != nil {
		panic(err)
	}
	return hex.EncodeToString(b[:])
}

// secret returns a text that no server may see.
func (s *stage) secret(what string) string {
	text := "secret-" + randomText()
	s.secrets = append(s.secrets, hostile.Secret{Name: what, Value: []byte(text)})
	return text
}

// lieText returns what no handler may be given.
func (s *stage) lieText() string {
	text := "lie-" + randomText()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lies = append(s.lies, text)
	return text
}
