package client_test

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/enmanuel/unibus/daemon/node"
	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/client"
	"github.com/enmanuel/unibus/lib/identity"
)

// childNode is the environment variable that makes the test binary a node.
const childNode = "UNIBUS_TEST_CHILD_NODE"

// childConfig is what of a node's configuration a child process is told.
type childConfig struct {
	BusID               bus.BusID
	DataDir             string
	Control, NATS       string
	Admin               bus.SignPub
	ControlURL, NATSURL string `json:",omitempty"`
}

// runNode is a process that is a node until it is killed.
func runNode(config string) {
	var c childConfig
	if err := json.Unmarshal([]byte(config), &c); err != nil {
		panic(err)
	}
	n, err := node.Start(context.Background(), node.Config{
		BusID: c.BusID, DataDir: c.DataDir, Name: "n1", ControlListen: c.Control, NATSListen: c.NATS,
		BootstrapAdmin: &node.Admin{Handle: "admin", SignPub: c.Admin},
		Logger:         slog.New(slog.DiscardHandler),
	})
	if err != nil {
		panic(err)
	}
	c.ControlURL, c.NATSURL = n.URL(), n.ServerURL()
	out, err := json.Marshal(c)
	if err != nil {
		panic(err)
	}
	fmt.Println(string(out))
	select {}
}

// startChild starts a node in a process of its own and waits until it is ready.
func startChild(t *testing.T, c childConfig) (*exec.Cmd, childConfig) {
	t.Helper()
	raw, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childNode+"="+string(raw))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(line), &c); err != nil {
		t.Fatal(err)
	}
	c.Control, c.NATS = strings.TrimPrefix(c.ControlURL, "http://"), strings.TrimPrefix(c.NATSURL, "nats://")
	return cmd, c
}

func kill(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // it says that it was killed
}

// The node's process is killed in the middle of a stream, and starts again on
// the same directory: what was acknowledged is there, once and in order.
func TestNodeIsKilledMidStream(t *testing.T) {
	root, err := identity.GenerateRoot(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	id, err := identity.Generate(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cmd, c := startChild(t, childConfig{
		BusID: root.BusID(), DataDir: t.TempDir(), Control: "127.0.0.1:0", NATS: "127.0.0.1:0", Admin: id.SignPub(),
	})
	t.Cleanup(func() { kill(t, cmd) })
	w := &world{t: t, root: root}
	dial := func() *client.Client {
		cl, err := client.Dial(w.ctx(), client.Config{
			Servers: []string{c.NATSURL}, URLs: []string{c.ControlURL}, BusID: root.BusID(), Identity: id, Logger: testLogger(t),
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { w.close(cl) })
		return cl
	}
	writer, reader := dial(), dial()
	r, _ := w.room(writer, "stream")
	theirs, err := reader.AcceptRoom(w.ctx(), r.ID())
	if err != nil {
		t.Fatal(err)
	}
	in := w.read(theirs, client.Now)

	const n = 2000
	var want []string
	ack := make(chan error, n)
	go func() {
		for i := range n {
			p, err := r.PublishAsync(context.Background(), fmt.Appendf(nil, "message %d", i))
			if err == nil && i%10 == 0 {
				_, err = p.Wait(context.Background())
			}
			ack <- err
		}
	}()
	for i := range n {
		want = append(want, fmt.Sprintf("message %d", i))
		select {
		case err := <-ack:
			if err != nil {
				t.Fatalf("message %d: %v", i, err)
			}
		case <-time.After(2 * time.Minute):
			t.Fatalf("message %d has no outcome", i)
		}
		if i%(n/4) == n/8 {
			kill(t, cmd)
			cmd, _ = startChild(t, c)
		}
	}
	if err := r.Flush(w.ctx()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, in.bodies(n)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(want, w.read(theirs, client.Start).bodies(n)); diff != "" {
		t.Errorf("from the start: %s", diff)
	}
}
