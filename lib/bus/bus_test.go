package bus_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/enmanuel/unibus/lib/bus"
)

func fill(b byte) (id bus.ID) {
	for i := range id {
		id[i] = b + byte(i)
	}
	return id
}

func TestIDTextForms(t *testing.T) {
	id := fill(0xf0)
	const text = "8PHy8_T19vf4-fr7_P3-_wABAgMEBQYHCAkKCwwNDg8"
	if got := id.String(); got != text {
		t.Errorf("text %q, want %q", got, text)
	}
	if got := id.Fingerprint(); got != "f0f1-f2f3-f4f5-f6f7" {
		t.Errorf("fingerprint %q", got)
	}
	if got := id.Token(); got != "6dy7f47u6x3pp6hz7l57z7p674" {
		t.Errorf("token %q", got)
	}
	back, err := bus.ParseID(text)
	if err != nil || back != id {
		t.Errorf("parsed %v, %v", back, err)
	}
	encoded, err := json.Marshal(map[string]any{"id": id, "key": bus.SignPub(id)})
	if err != nil {
		t.Fatal(err)
	}
	want := `{"id":"` + text + `","key":"f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff000102030405060708090a0b0c0d0e0f"}`
	if string(encoded) != want {
		t.Errorf("JSON %s, want %s", encoded, want)
	}
}

func TestParsersRefuse(t *testing.T) {
	good := fill(1).String()
	for _, s := range []string{"", good[:42], good + "A", good[:42] + "=", good[:42] + "\n", strings.Repeat("!", 43), good[:42] + "B"} {
		if _, err := bus.ParseRoomID(s); !errors.Is(err, bus.ErrMalformed) {
			t.Errorf("room id %q: %v", s, err)
		}
	}
	for _, s := range []string{"", strings.Repeat("a", 63), strings.Repeat("g", 64), strings.Repeat("a", 66)} {
		if _, err := bus.ParseSignPub(s); !errors.Is(err, bus.ErrMalformed) {
			t.Errorf("signing key %q: %v", s, err)
		}
	}
	for _, s := range []string{"", "Alice", "-a", "a b", "a/b", strings.Repeat("a", 65), "é"} {
		if _, err := bus.ParseHandle(s); !errors.Is(err, bus.ErrMalformed) {
			t.Errorf("handle %q: %v", s, err)
		}
	}
	for _, s := range []string{"", ".", "a.", ".a", "a..b", "a.*", "a.>", "a b", strings.Repeat("a", 201)} {
		if _, err := bus.ParseRoomName(s); !errors.Is(err, bus.ErrMalformed) {
			t.Errorf("room name %q: %v", s, err)
		}
	}
	for _, s := range []string{"", "Reader", "role(1)"} {
		if _, err := bus.ParseRole(s); !errors.Is(err, bus.ErrMalformed) {
			t.Errorf("role %q: %v", s, err)
		}
	}
}

func FuzzParseTexts(f *testing.F) {
	f.Add(fill(9).String())
	f.Add("agent.scout.in")
	f.Add("reader")
	f.Add(bus.SignPub(fill(3)).String())
	f.Fuzz(func(t *testing.T, s string) {
		if id, err := bus.ParseID(s); err == nil && id.String() != s {
			t.Errorf("id %q re-encodes as %q", s, id)
		}
		if id, err := bus.ParseSessionID(s); err == nil && id.String() != s {
			t.Errorf("session %q re-encodes as %q", s, id)
		}
		if p, err := bus.ParseSignPub(s); err == nil && p.String() != strings.ToLower(s) {
			t.Errorf("signing key %q re-encodes as %q", s, p)
		}
		if n, err := bus.ParseRoomName(s); err == nil && strings.ContainsAny(string(n), " *>\t\r\n") {
			t.Errorf("room name %q", n)
		}
		if h, err := bus.ParseHandle(s); err == nil && strings.ContainsAny(string(h), "/ \n") {
			t.Errorf("handle %q", h)
		}
		if r, err := bus.ParseRole(s); err == nil && r.String() != s {
			t.Errorf("role %q re-encodes as %q", s, r)
		}
		if r, err := bus.ParseUserRole(s); err == nil && string(r) != s {
			t.Errorf("user role %q re-encodes as %q", s, r)
		}
		if room, sender, _, ok := bus.ParseDataSubject(s); ok && (strings.Contains(room, ".") || strings.Contains(sender, ".")) {
			t.Errorf("subject %q", s)
		}
	})
}

func TestRolesOrderTheirRights(t *testing.T) {
	for r, want := range map[bus.Role]struct{ valid, write, authority bool }{
		0:              {false, false, false},
		bus.RoleReader: {true, false, false},
		bus.RoleWriter: {true, true, false},
		bus.RoleAdmin:  {true, true, true},
		bus.RoleOwner:  {true, true, true},
		5:              {false, false, false},
	} {
		if r.Valid() != want.valid || r.CanWrite() != want.write || r.IsAuthority() != want.authority {
			t.Errorf("%s: valid %t, write %t, authority %t", r, r.Valid(), r.CanWrite(), r.IsAuthority())
		}
		if back, err := bus.ParseRole(r.String()); want.valid && (err != nil || back != r) {
			t.Errorf("%s parses as %s, %v", r, back, err)
		}
	}
}

func TestPolicyContradictionsAreRefused(t *testing.T) {
	if err := bus.DefaultPolicy().Validate(); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*bus.Policy){
		"unknown suite":            func(p *bus.Policy) { p.Suite = 9 },
		"unknown flag":             func(p *bus.Policy) { p.Flags |= 1 << 7 },
		"encryption without suite": func(p *bus.Policy) { p.Suite = bus.SuitePlain },
		"suite without encryption": func(p *bus.Policy) { p.Flags = bus.FlagPersist },
		"history in a plain room":  func(p *bus.Policy) { p.Suite = bus.SuitePlain; p.Flags = bus.FlagHistory },
		"grace beyond the limit":   func(p *bus.Policy) { p.Grace = time.Minute },
		"a fraction of a second":   func(p *bus.Policy) { p.Rotate = time.Millisecond },
		"a negative age":           func(p *bus.Policy) { p.MaxAge = -time.Second },
		"seconds beyond 32 bits":   func(p *bus.Policy) { p.MaxAge = 1 << 32 * time.Second },
	} {
		p := bus.DefaultPolicy()
		change(&p)
		if err := p.Validate(); !errors.Is(err, bus.ErrPolicy) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSubjects(t *testing.T) {
	room, sender := bus.RoomID(fill(0x0b)), fill(0x40)
	subject := bus.DataSubject(room, sender, true)
	if want := "ub.d.3." + room.Token() + "." + sender.Token(); subject != want {
		t.Errorf("subject %q, want %q", subject, want)
	}
	if got := bus.RoomSubject(room, false); got != "ub.l.3."+room.Token()+".*" {
		t.Errorf("live filter %q", got)
	}
	r, s, persisted, ok := bus.ParseDataSubject(subject)
	if !ok || !persisted || r != room.Token() || s != sender.Token() {
		t.Errorf("parsed %q %q %t %t", r, s, persisted, ok)
	}
	if _, _, _, ok := bus.ParseDataSubject("ub.c." + sender.Token()); ok {
		t.Error("a notice parses as data")
	}
	mine, theirs := bus.TailConsumer(sender, bus.SessionID{1}), bus.TailConsumer(fill(0x41), bus.SessionID{1})
	if mine == theirs {
		t.Error("two identities that claim one session share a consumer")
	}
}

func TestErrorsAreToldApartByCode(t *testing.T) {
	err := fmt.Errorf("outer: %w", bus.Errorf(bus.CodeDecrypt, "open frame: %w", io.ErrUnexpectedEOF))
	if !errors.Is(err, bus.ErrDecrypt) || errors.Is(err, bus.ErrReplay) {
		t.Error("matches the wrong sentinel")
	}
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Error("the cause is lost")
	}
	if got := bus.CodeOf(err); got != bus.CodeDecrypt {
		t.Errorf("code %q", got)
	}
	if got := bus.CodeOf(io.EOF); got != bus.CodeInternal {
		t.Errorf("code of a foreign error %q", got)
	}
	if got := bus.CodeOf(nil); got != "" {
		t.Errorf("code of nil %q", got)
	}
	if errors.Is(bus.Errorf(bus.CodeDecrypt, "one"), bus.Errorf(bus.CodeDecrypt, "another")) {
		t.Error("two errors of one code count as the same error")
	}
	for _, c := range bus.Codes() {
		if !c.Known() || c.Title() == string(c) {
			t.Errorf("code %q has no title", c)
		}
	}
}
