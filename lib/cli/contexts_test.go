package cli

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/enmanuel/unibus/lib/bus"
)

func newContexts(t *testing.T) (*Contexts, string) {
	t.Helper()
	dir := t.TempDir()
	env := &Env{Environ: []string{"XDG_CONFIG_HOME=/nowhere", "XDG_CONFIG_HOME=" + dir}}
	c, err := env.Contexts()
	if err != nil {
		t.Fatal(err)
	}
	return c, filepath.Join(dir, "unibus")
}

var office = SavedContext{V: 1, Servers: []string{"tls://a:4222"}, URLs: []string{"https://a:8443"}, CA: "/ca.pem", BusID: bus.BusID{1, 2, 3}, Identity: "/me.id"}

func TestContextsAreKeptPrivateAndWhole(t *testing.T) {
	c, dir := newContexts(t)
	if err := c.Create("office", office); err != nil {
		t.Fatal(err)
	}
	have, err := c.Load("office")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(office, have); diff != "" {
		t.Error(diff)
	}
	for path, mode := range map[string]os.FileMode{"context": 0o700 | os.ModeDir, "context/office.json": 0o600} {
		info, err := os.Stat(filepath.Join(dir, path))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode() != mode {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
	}
	if err := c.Create("office", office); !errors.Is(err, bus.ErrFileExists) {
		t.Errorf("created twice: %v", err)
	}
	if err := c.Create("bare", SavedContext{Servers: office.Servers}); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(filepath.Join(dir, "context", "bare.json"))
	if err != nil {
		t.Fatal(err)
	}
	want := "{\n  \"v\": 1,\n  \"servers\": [\n    \"tls://a:4222\"\n  ],\n  \"urls\": []\n}\n"
	if diff := cmp.Diff(want, string(raw)); diff != "" {
		t.Error(diff)
	}
}

func TestContextsAreListedSelectedAndRemoved(t *testing.T) {
	c, dir := newContexts(t)
	if names, err := c.Names(); err != nil || len(names) > 0 {
		t.Errorf("names at the start: %q, %v", names, err)
	}
	if name, err := c.Selected(); err != nil || name != "" {
		t.Errorf("selected at the start: %q, %v", name, err)
	}
	for _, name := range []string{"b", "a", "c.d_e-F"} {
		if err := c.Create(name, office); err != nil {
			t.Fatal(err)
		}
	}
	for _, stray := range []string{".hidden.json", "note.txt", ".a.json.tmp"} {
		if err := os.WriteFile(filepath.Join(dir, "context", stray), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	names, err := c.Names()
	if diff := cmp.Diff([]string{"a", "b", "c.d_e-F"}, names); diff != "" || err != nil {
		t.Error(diff, err)
	}
	if err := c.Select("nobody"); !errors.Is(err, bus.ErrNotFound) {
		t.Errorf("selected one that is not there: %v", err)
	}
	for _, name := range []string{"a", "b"} {
		if err := c.Select(name); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Remove("a"); err != nil {
		t.Fatal(err)
	}
	if name, err := c.Selected(); err != nil || name != "b" {
		t.Errorf("selected %q, %v", name, err)
	}
	if err := c.Remove("b"); err != nil {
		t.Fatal(err)
	}
	if name, err := c.Selected(); err != nil || name != "" {
		t.Errorf("still selected: %q, %v", name, err)
	}
	if err := c.Remove("b"); !errors.Is(err, bus.ErrNotFound) {
		t.Errorf("removed twice: %v", err)
	}
}

func TestContextNamesAreNoPaths(t *testing.T) {
	c, _ := newContexts(t)
	for _, name := range []string{"", ".", "..", "../x", "a/b", "/etc/x", "-x", ".x", "a b", "ä", strings.Repeat("x", 65)} {
		if _, err := c.Path(name); !errors.Is(err, bus.ErrUsage) {
			t.Errorf("%q passes", name)
		}
	}
}

func TestContextFilesAreReadStrictly(t *testing.T) {
	for _, tt := range []struct{ name, raw, want string }{
		{"good", `{"v":1,"servers":["nats://a:1"],"urls":[]}`, ""},
		{"no json", `servers: a`, "line 1: invalid character 's'"},
		{"broken in line 3", "{\n\"v\":1,\n\"servers\":[,]}", "line 3: invalid character ','"},
		{"wrong type", `{"v":"1"}`, "line 1: cannot unmarshal string"},
		{"unknown field", `{"v":1,"server":[]}`, `unknown field "server"`},
		{"two objects", `{"v":1,"servers":["nats://a:1"]}{}`, "something follows"},
		{"no version", `{"servers":["nats://a:1"]}`, "version 0, want 1"},
		{"later version", `{"v":2,"servers":["nats://a:1"]}`, "version 2, want 1"},
		{"no address", `{"v":1}`, "neither servers nor urls"},
		{"wrong scheme", `{"v":1,"servers":["https://a:1"]}`, "want nats:// or tls://"},
		{"no host", `{"v":1,"urls":["https://:1"]}`, "want https://HOST:PORT"},
		{"path", `{"v":1,"urls":["https://a/b"]}`, "and nothing else"},
		{"relative path", `{"v":1,"urls":["https://a"],"ca":"ca.pem"}`, `path "ca.pem" is not absolute`},
		{"bus id", `{"v":1,"urls":["https://a"],"bus_id":"abc"}`, "want 43 base64url characters"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := ParseContext([]byte(tt.raw))
			if tt.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if !errors.Is(err, bus.ErrMalformed) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("have %v, want %s", err, tt.want)
			}
		})
	}
}

func FuzzParseContext(f *testing.F) {
	f.Add([]byte(`{"v":1,"servers":["nats://a:1"],"urls":["https://b"],"ca":"/c","bus_id":"AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA","identity":"/i"}`))
	f.Add([]byte(`{"v":1,"servers":null}`))
	f.Add([]byte(`{"v":1,"urls":["http://[::1]:80/"]} `))
	f.Fuzz(func(t *testing.T, raw []byte) {
		s, err := ParseContext(raw)
		if err != nil {
			if !errors.Is(err, bus.ErrMalformed) {
				t.Errorf("no code: %v", err)
			}
			return
		}
		if err := s.Validate(); err != nil {
			t.Errorf("accepted what does not validate: %v", err)
		}
	})
}
