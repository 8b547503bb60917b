// Package js_test has a client in JavaScript open what a room on a real node
// carried. decoder.mjs was written from docs/protocol.md alone, with nothing but
// the standard library of Node.js: that a second person, in another language,
// can read the page and then the wire is what makes it a specification.
//
// The recording is made anew by every run: the answers of the control plane and
// the frames of the data plane as a proxy saw them, and the identity file of a
// member. Nothing in it is decrypted.
package js_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"iter"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/enmanuel/unibus/daemon/node"
	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/client"
	"github.com/enmanuel/unibus/lib/identity"
	"github.com/enmanuel/unibus/lib/internal/hostile"
)

// recording is what decoder.mjs reads. Binary is base64url without padding.
type recording struct {
	BusID    string   `json:"bus_id"`
	Identity string   `json:"identity"` // the file of a member, without passphrase
	Answers  []answer `json:"answers"`  // of the control plane, in order
	Frames   []aFrame `json:"frames"`   // in the order they came
	Now      int64    `json:"now"`      // Unix seconds
}

type answer struct {
	Method string          `json:"method"`
	Path   string          `json:"path"` // with query
	Status int             `json:"status"`
	Body   json.RawMessage `json:"body,omitempty"`
}

type aFrame struct {
	Subject string `json:"subject"`
	Data    []byte `json:"data"` // standard base64, as encoding/json writes it
}

// message is a line that decoder.mjs writes for every record of a frame.
type message struct {
	Room    string            `json:"room"` // name
	Epoch   uint64            `json:"epoch"`
	Sender  string            `json:"sender"` // id
	Seq     uint64            `json:"seq"`
	Headers map[string]string `json:"headers"`
	Body    []byte            `json:"body"` // standard base64
}

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestJavaScriptReadsWhatTheRoomCarried(t *testing.T) {
	program, err := exec.LookPath("node")
	if err != nil {
		t.Skip("node (Node.js 20 or later) is not installed")
	}
	rec, want := record(t)
	text, err := json.Marshal(rec)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "recording.json")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	got, stderr := decode(t, program, path)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("messages (-sent +decoded):\n%s%s", diff, stderr)
	}

	// A bit that was changed anywhere in a frame is noticed there too.
	for i, f := range rec.Frames {
		changed := rec
		changed.Frames = slices.Clone(rec.Frames)
		changed.Frames[i].Data = bytes.Clone(f.Data)
		changed.Frames[i].Data[(i*97+40)%len(f.Data)] ^= 4
		if text, err = json.Marshal(changed); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		got, _ := decode(t, program, path)
		if len(got) >= len(want) {
			t.Errorf("frame %d was changed and the decoder did not notice", i)
		}
	}
}

// decode runs the decoder. A frame that it refuses it names on standard error,
// goes on, and exits with 1.
func decode(t *testing.T, program, path string) (list []message, stderr string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program, "decoder.mjs", path)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		errs.WriteString(err.Error())
	}
	for lines := json.NewDecoder(&out); lines.More(); {
		var m message
		if err := lines.Decode(&m); err != nil {
			t.Fatalf("%v\n%s", err, errs.String())
		}
		list = append(list, m)
	}
	return list, errs.String()
}

// record has people talk in a persisted room and in a live one, across changes of the
// key, and returns what a reader's machine received, and what was said.
func record(t *testing.T) (recording, []message) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	root, err := identity.GenerateRoot(rand.Reader)
	must(t, err)
	alice, bob := newIdentity(t), newIdentity(t)
	n, err := node.Start(ctx, node.Config{
		BusID: root.BusID(), DataDir: t.TempDir(), Name: "n1", ControlListen: "127.0.0.1:0", NATSListen: "127.0.0.1:0",
		BootstrapAdmin: &node.Admin{Handle: "alice", SignPub: alice.SignPub()}, Logger: slog.New(slog.DiscardHandler),
	})
	must(t, err)
	t.Cleanup(func() { must(t, n.Stop(context.Background())) })

	control, data := hostile.NewControl(t, n.URL()), hostile.NewData(t, n.ServerURL())
	rec := recording{BusID: root.BusID().String(), Identity: string(bob.Marshal())}
	var mu sync.Mutex
	data.Down(func(d hostile.Delivery) []hostile.Delivery {
		if _, _, _, ok := bus.ParseDataSubject(d.Subject); ok {
			mu.Lock()
			defer mu.Unlock()
			// What is read from the past and comes anew as well is one frame.
			if !slices.ContainsFunc(rec.Frames, func(f aFrame) bool { return bytes.Equal(f.Data, d.Payload) }) {
				rec.Frames = append(rec.Frames, aFrame{d.Subject, bytes.Clone(d.Payload)})
			}
		}
		return []hostile.Delivery{d}
	})
	dial := func(id *identity.Identity, url, server string) *client.Client {
		c, err := client.Dial(ctx, client.Config{Servers: []string{server}, URLs: []string{url}, BusID: root.BusID(), Identity: id})
		must(t, err)
		t.Cleanup(func() { must(t, c.Close(context.Background())) })
		return c
	}
	writer := dial(alice, n.URL(), n.ServerURL())
	_, err = writer.AddUser(ctx, bob.SignPub(), "bob", bus.UserMember)
	must(t, err)
	reader := dial(bob, control.URL, data.URL)

	var want []message
	say := func(r *client.Room, body []byte, headers ...client.Header) {
		receipt, err := r.Publish(ctx, body, headers...)
		must(t, err)
		m := message{Room: string(r.Name()), Epoch: uint64(receipt.Epoch), Sender: writer.ID().String(), Seq: uint64(receipt.Seq),
			Headers: map[string]string{}, Body: body}
		for _, h := range headers {
			m.Headers[h.Key] = h.Value
		}
		want = append(want, m)
	}
	stored, err := writer.CreateRoom(ctx, "agent.scout.in", client.RoomOptions{})
	must(t, err)
	say(stored, []byte("before bob was there"))
	must(t, stored.Invite(ctx, "bob", bus.RoleWriter))
	say(stored, []byte("after that"), client.Header{Key: "kind", Value: "greeting"}, client.Header{Key: "to", Value: "böb"})
	must(t, stored.Rotate(ctx))
	say(stored, []byte{})
	say(stored, bytes.Repeat([]byte{0, 0xff, '\n'}, 50_000))

	policy := bus.DefaultPolicy()
	policy.Flags = bus.FlagEncrypt | bus.FlagPad
	policy.Suite = bus.SuiteXChaCha20
	live, err := writer.CreateRoom(ctx, "agent.scout.live", client.RoomOptions{Policy: &policy})
	must(t, err)
	must(t, live.Invite(ctx, "bob", bus.RoleReader))

	theirs, err := reader.AcceptRoom(ctx, stored.ID())
	must(t, err)
	take(t, theirs.Messages(ctx, client.Start), len(want))
	theirLive, err := reader.AcceptRoom(ctx, live.ID())
	must(t, err)
	next := theirLive.Messages(ctx, client.Now)
	said := len(want)
	say(live, []byte("now or never"), client.Header{Key: "a", Value: "b"})
	say(live, []byte("and once more"))
	take(t, next, len(want)-said)

	for _, x := range control.Requests() {
		if x.Method == http.MethodGet && x.Status == http.StatusOK && !strings.HasPrefix(x.URL.Path, "/handles") {
			rec.Answers = append(rec.Answers, answer{x.Method, x.URL.RequestURI(), x.Status, x.Answer})
		}
	}
	mu.Lock()
	defer mu.Unlock()
	rec.Now = time.Now().Unix()
	return rec, want
}

// take reads n messages.
func take(t *testing.T, messages iter.Seq2[*client.Message, error], n int) {
	t.Helper()
	for _, err := range messages {
		must(t, err)
		if n--; n == 0 {
			return
		}
	}
	t.Fatalf("%d messages did not come", n)
}

func newIdentity(t *testing.T) *identity.Identity {
	t.Helper()
	id, err := identity.Generate(rand.Reader)
	must(t, err)
	return id
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
