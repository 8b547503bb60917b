package cli

import "testing"

func TestHintsActWhereTheCallActed(t *testing.T) {
	root, usermgr, revoke := &Command{Name: "unibus"}, &Command{Name: "usermgr"}, &Command{Name: "revoke"}
	inv := &invocation{path: []*Command{root, usermgr, revoke}, given: []setting{
		{root, flagContext, "b", "flag"},
		{root, flagIdentity, "/home/al ice/it's.id", "flag"},
		{root, flagTimeout, "9s", "flag"},
		{root, flagURL, "https://env:1", "env UNIBUS_URL"},
		{usermgr, "socket", "/run/c.sock", "flag"},
	}}
	const where = `unibus --context b --identity '/home/al ice/it'\''s.id'`
	for text, want := range map[string]string{
		"unibus room ls":        where + " room ls",
		"unibus usermgr list":   where + " usermgr --socket /run/c.sock list",
		"unibus usermgr":        where + " usermgr --socket /run/c.sock",
		"unibus explain fork":   "unibus explain fork",
		"unibus context ls":     "unibus context ls",
		"unibus room --help":    "unibus room --help",
		"unibus --context a ls": "unibus --context a ls",
		"ask somebody to run: unibus room invite ROOM HANDLE": "ask somebody to run: unibus room invite ROOM HANDLE",
		"chmod 600 FILE": "chmod 600 FILE",
		"unibus":         "unibus",
	} {
		if got := inv.carry(text); got != want {
			t.Errorf("%q became %q, want %q", text, got, want)
		}
	}

	alone := &Command{Name: "unibus-usermgr"}
	inv = &invocation{path: []*Command{alone, revoke}, given: []setting{
		{alone, "socket", "/run/c.sock", "flag"}, {alone, flagContext, "b", "flag"},
	}}
	if got, want := inv.carry("unibus usermgr list"), "unibus --context b usermgr --socket /run/c.sock list"; got != want {
		t.Errorf("a tool of its own: %q, want %q", got, want)
	}
}
