package tooltest

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/enmanuel/unibus/daemon/node"
	"github.com/enmanuel/unibus/lib/cli"
	"github.com/enmanuel/unibus/lib/identity"
)

// stopTimeout bounds the stop of a node.
const stopTimeout = 10 * time.Second

// world is the bus of one script: a node in this process, on ports of its own.
type world struct {
	cfg  node.Config
	node *node.Node
	log  *syncBuffer
}

// worlds are those of the scripts that run, by their work directories.
var worlds sync.Map

// cmdBus makes a bus and its administrator, and starts its node:
//
//	bus
//
// Afterwards bus.root is its root, admin.id is selected by the context "local", $SOCKET, $URL, $SERVER
// and $BUS_ID are set, and the log of the node is in node.log when the script ends.
func cmdBus(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: bus")
	}
	root, err := identity.GenerateRoot(rand.Reader)
	ts.Check(err)
	admin, err := identity.Generate(rand.Reader)
	ts.Check(err)
	ts.Check(admin.Create(ts.MkAbs("admin.id"), ""))
	ts.Check(root.Create(ts.MkAbs("bus.root"), ""))
	log := &syncBuffer{}
	w := &world{log: log, cfg: node.Config{
		BusID:          root.BusID(),
		DataDir:        ts.MkAbs("data"),
		Name:           "n1",
		ControlListen:  "127.0.0.1:0",
		NATSListen:     "127.0.0.1:0",
		BootstrapAdmin: &node.Admin{Handle: "admin", SignPub: admin.SignPub()},
		Logger:         slog.New(slog.NewTextHandler(log, nil)),
	}}
	worlds.Store(ts.Getenv("WORK"), w)
	w.start(ts)
	ts.Defer(func() {
		w.stop(ts)
		worlds.Delete(ts.Getenv("WORK"))
		if err := os.WriteFile(ts.MkAbs("node.log"), log.Bytes(), 0o600); err != nil {
			ts.Logf("keep log: %v", err)
		}
	})
	env := &cli.Env{Environ: []string{"HOME=" + ts.Getenv("HOME")}}
	contexts, err := env.Contexts()
	ts.Check(err)
	ts.Check(contexts.Create("local", cli.SavedContext{
		Servers: []string{w.node.ServerURL()}, URLs: []string{w.node.URL()}, BusID: w.cfg.BusID, Identity: ts.MkAbs("admin.id"),
	}))
	ts.Check(contexts.Select("local"))
}

// cmdNode stops and starts the node of the script's bus, on the same ports:
//
//	node stop
//	node start
func cmdNode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: node start|stop")
	}
	w := worldOf(ts)
	switch args[0] {
	case "start":
		w.start(ts)
	case "stop":
		w.stop(ts)
	default:
		ts.Fatalf("usage: node start|stop")
	}
}

func worldOf(ts *testscript.TestScript) *world {
	w, ok := worlds.Load(ts.Getenv("WORK"))
	if !ok {
		ts.Fatalf("there is no bus; begin with: bus")
	}
	return w.(*world)
}

func (w *world) start(ts *testscript.TestScript) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	n, err := node.Start(ctx, w.cfg)
	if err != nil {
		ts.Fatalf("start node: %v\n%s", err, w.log.Bytes())
	}
	w.node = n
	w.cfg.ControlListen = strings.TrimPrefix(n.URL(), "http://")
	w.cfg.NATSListen = strings.TrimPrefix(n.ServerURL(), "nats://")
	ts.Setenv("SOCKET", n.SocketPath())
	ts.Setenv("URL", n.URL())
	ts.Setenv("SERVER", n.ServerURL())
	ts.Setenv("BUS_ID", w.cfg.BusID.String())
}

func (w *world) stop(ts *testscript.TestScript) {
	if w.node == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	err := w.node.Stop(ctx)
	w.node = nil
	if err != nil {
		ts.Logf("stop node: %v", err)
	}
}

// cmdUser makes identities and, unless told otherwise, their accounts:
//
//	user alice bob
//	user -key carol
//
// The files are alice.id and so on, and $alice is the signing key of alice.
func cmdUser(ts *testscript.TestScript, neg bool, args []string) {
	onlyKey := len(args) > 0 && args[0] == "-key"
	if onlyKey {
		args = args[1:]
	}
	if neg || len(args) == 0 {
		ts.Fatalf("usage: user [-key] NAME...")
	}
	for _, name := range args {
		id, err := identity.Generate(rand.Reader)
		ts.Check(err)
		ts.Check(id.Create(ts.MkAbs(name+".id"), ""))
		ts.Setenv(name, id.SignPub().String())
		ts.Setenv(name+"_id", id.ID().String())
		if !onlyKey {
			ts.Check(ts.Exec("unibus-usermgr", "--quiet", "--socket", worldOf(ts).node.SocketPath(), "add", name, id.SignPub().String()))
		}
	}
}

// cmdCapture keeps a line of the last output in a variable:
//
//	capture ROOM stdout
func cmdCapture(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: capture VARIABLE stdout|stderr|FILE")
	}
	ts.Setenv(args[0], strings.TrimSpace(ts.ReadFile(args[1])))
}

// cmdWait waits until a file has a line that contains a text:
//
//	waitfor FILE TEXT
func cmdWaitFor(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: waitfor FILE TEXT")
	}
	poll := time.NewTicker(20 * time.Millisecond)
	defer poll.Stop()
	giveUp := time.After(20 * time.Second)
	for {
		content, err := os.ReadFile(ts.MkAbs(args[0]))
		if err == nil && bytes.Contains(content, []byte(args[1])) {
			return
		}
		select {
		case <-poll.C:
		case <-giveUp:
			ts.Fatalf("%s does not come to contain %q; it has:\n%s", args[0], args[1], content)
		}
	}
}

// cmdMake writes large or odd inputs:
//
//	make FILE NAME
func cmdMake(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: make FILE NAME")
	}
	content, ok := contents[args[1]]
	if !ok {
		ts.Fatalf("there is no content %q", args[1])
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), content(), 0o600))
}

// contents are the inputs that cmdMake writes.
var contents = map[string]func() []byte{
	// What a terminal, a shell or a line reader might spoil.
	"odd": func() []byte {
		var b bytes.Buffer
		b.WriteString("\n\r\n a\r\n\x00\n\x00\xff\xfe\n\n\n\xc3\x28 not utf-8\n\x1b[31mred\x1b[0m\n")
		b.Write(bytes.Repeat([]byte("long"), 70<<10)) // 280 KiB in one line
		b.WriteString("\n")
		b.Write(bytes.Repeat([]byte("x"), 240<<10))
		b.WriteString("\nno newline at the end")
		return b.Bytes()
	},
	"many": func() []byte {
		var b bytes.Buffer
		for i := range 20_000 {
			fmt.Fprintf(&b, "line %d\n", i)
		}
		return b.Bytes()
	},
	"longline": func() []byte { return append(bytes.Repeat([]byte("y"), 10<<20), '\n') }, // 10 MiB
	"open":     func() []byte { return []byte("open") },
	"big":      func() []byte { return bytes.Repeat([]byte("b"), 300<<10) },
}

// syncBuffer is a buffer that several goroutines write to.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) Bytes() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return bytes.Clone(s.b.Bytes())
}

// storeURL is how the offline door names the store of a node.
func storeURL(dataDir string) string { return "sqlite://" + filepath.Join(dataDir, "unibus.db") }
