package show

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/cli"
	"github.com/enmanuel/unibus/lib/client"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// output runs f as a command and returns what it wrote to standard output.
func output(t *testing.T, args []string, f func(c *cli.Call) error) string {
	t.Helper()
	var stdout, stderr bytes.Buffer
	env := &cli.Env{Args: append([]string{"unibus-show"}, args...), Stdin: strings.NewReader(""), Stdout: &stdout, Stderr: &stderr, Now: time.Now}
	if status := cli.Run(context.Background(), env, &cli.Command{Name: "show", Usage: "test", Action: cli.Action(f)}); status != 0 || stderr.Len() > 0 {
		t.Fatalf("status %d: %s", status, &stderr)
	}
	return stdout.String()
}

// TestJSONShape is a contract: see cli.JSONVersion before changing the file.
func TestJSONShape(t *testing.T) {
	text := &client.Message{
		Room: bus.RoomID{1}, Sender: bus.ID{2}, Handle: "alice", Epoch: 3, Session: bus.SessionID{4}, Seq: 5, Index: 6, Last: true,
		Sent:    time.Date(2031, 2, 3, 4, 5, 6, 7000, time.FixedZone("east", 3600)),
		Headers: []client.Header{{Key: "k", Value: "v, <&>"}, {Key: "raw", Value: "\xff\x00"}},
		Body:    []byte("hello\tworld <&> ✓"), StreamSeq: 9,
	}
	binary := &client.Message{Sent: time.Unix(0, 0), Late: true, Body: []byte("\x00\xfe\xff")}
	empty := &client.Message{Sent: time.Unix(0, 0)}
	have := output(t, []string{"--json"}, func(c *cli.Call) error {
		out := New(c, false)
		for _, m := range []*client.Message{text, binary, empty} {
			if err := out.Write(m); err != nil {
				return err
			}
		}
		return out.Flush()
	})
	path := filepath.Join("testdata", "message.json")
	if *update {
		if err := os.WriteFile(path, []byte(have), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), have); diff != "" {
		t.Errorf("%s: %s", path, diff)
	}
}

func TestBytes(t *testing.T) {
	messages := []*client.Message{
		{Body: []byte("a line")},
		{Body: []byte("\x1b[31m\x00\xff\r")},
		{Body: []byte("a part "), Headers: []client.Header{{Key: bus.HeaderEOL, Value: bus.EOLNone}}},
		{Body: []byte("and its end"), Headers: []client.Header{{Key: "other", Value: bus.EOLNone}}},
		{},
	}
	have := output(t, nil, func(c *cli.Call) error {
		out := New(c, false)
		for _, m := range messages {
			if err := out.Write(m); err != nil {
				return err
			}
		}
		return out.Flush()
	})
	if want := "a line\n\x1b[31m\x00\xff\r\na part and its end\n\n"; have != want {
		t.Errorf("have %q, want %q", have, want)
	}
}

func TestATerminalIsNotDriven(t *testing.T) {
	var b bytes.Buffer
	out := &byteOutput{w: bufio.NewWriter(&b), terminal: true}
	if err := out.Write(&client.Message{Body: []byte("a\x1b[2J\tb\n\nc\r")}); err != nil {
		t.Fatal(err)
	}
	if err := out.Flush(); err != nil {
		t.Fatal(err)
	}
	if have, want := b.String(), "a\\x1b[2J\tb\n\nc\\r\n"; have != want {
		t.Errorf("have %q, want %q", have, want)
	}
}

func TestSendersAreNamed(t *testing.T) {
	have := output(t, nil, func(c *cli.Call) error {
		out := New(c, true)
		for _, m := range []*client.Message{
			{Handle: "alice", Body: []byte("hello")},
			{Sender: bus.ID{0xab}, Body: []byte("a part"), Headers: []client.Header{{Key: bus.HeaderEOL, Value: bus.EOLNone}}},
		} {
			if err := out.Write(m); err != nil {
				return err
			}
		}
		return out.Flush()
	})
	if want := "alice: hello\nab00-0000-0000-0000: a part\n"; have != want {
		t.Errorf("have %q, want %q", have, want)
	}
}

func TestBodiesAreBounded(t *testing.T) {
	if body, err := ReadBody(strings.NewReader(strings.Repeat("x", MaxBody))); err != nil || len(body) != MaxBody {
		t.Errorf("%d bytes, %v", len(body), err)
	}
	if _, err := ReadBody(strings.NewReader(strings.Repeat("x", MaxBody+1))); !errors.Is(err, bus.ErrTooLarge) {
		t.Errorf("a byte more: %v", err)
	}
}
