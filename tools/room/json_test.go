package room

import (
	"bytes"
	"context"
	"crypto/rand"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/cli"
	"github.com/enmanuel/unibus/lib/identity"
	"github.com/enmanuel/unibus/lib/room"
)

// printed returns how a value is printed with --json.
func printed(t *testing.T, v any) string {
	t.Helper()
	var stdout, stderr bytes.Buffer
	env := &cli.Env{Args: []string{"unibus-room", "--json"}, Stdin: strings.NewReader(""), Stdout: &stdout, Stderr: &stderr, Now: time.Now}
	cmd := &cli.Command{Name: "room", Usage: "test", Action: cli.Action(func(c *cli.Call) error { return c.JSON(v) })}
	if status := cli.Run(context.Background(), env, cmd); status != 0 || stderr.Len() > 0 {
		t.Fatalf("status %d: %s", status, &stderr)
	}
	return stdout.String()
}

// TestJSONShapes is a contract: see cli.JSONVersion before changing what is wanted.
func TestJSONShapes(t *testing.T) {
	const (
		id1 = "AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
		id2 = "AgAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
	)
	at := time.Date(2031, 2, 3, 4, 5, 6, 0, time.UTC)
	h := head{Room: bus.RoomID{1}, Name: "hello", Epoch: 7}
	for _, tt := range []struct {
		name string
		v    any
		want string
	}{
		{"what commands that change a room print", h, `{"v":1,"room":"` + id1 + `","name":"hello","epoch":7}`},
		{"a listed room", listed{Room: bus.RoomID{1}, Name: "hello", Role: "owner", Epoch: 7, Persisted: true, Accepted: true},
			`{"v":1,"room":"` + id1 + `","name":"hello","role":"owner","epoch":7,"persisted":true,"accepted":true}`},
		{"a listed room that fails", listed{Room: bus.RoomID{1}, Role: "reader", Error: "read room: forged", Code: bus.CodeBadSignature},
			`{"v":1,"room":"` + id1 + `","name":"","role":"reader","epoch":0,"persisted":false,"accepted":false,"error":"read room: forged","code":"bad_signature"}`},
		{"a room", shown{head: h, Hash: bus.RecordHash{2}, Role: "admin", Policy: policyOf(bus.DefaultPolicy()), Created: at, NotAfter: at.Add(time.Hour),
			Members: []member{{ID: bus.ID{1}, Handle: "alice", Fingerprint: "0100", Role: "owner"}, {ID: bus.ID{2}, Fingerprint: "0200", Role: "admin"}}},
			`{"v":1,"room":"` + id1 + `","name":"hello","epoch":7,"hash":"` + id2 + `","role":"admin",` +
				`"policy":{"suite":"xaes-256-gcm","encrypt":true,"persisted":true,"history":true,"pad":false,"rotate_s":604800,"max_age_s":0,"grace_s":30},` +
				`"created":"2031-02-03T04:05:06Z","not_after":"2031-02-03T05:05:06Z",` +
				`"members":[{"id":"` + id1 + `","handle":"alice","fingerprint":"0100","role":"owner"},{"id":"` + id2 + `","fingerprint":"0200","role":"admin"}]}`},
		{"a record of the history", entry{Epoch: 7, Hash: bus.RecordHash{2}, Prev: bus.RecordHash{1}, Created: at, NotAfter: at, SignerID: bus.ID{1}, SignerHandle: "alice",
			Changes: []change{
				{Kind: changeAdded, ID: &bus.ID{2}, Handle: "bob", To: "writer"},
				{Kind: changeRole, ID: &bus.ID{2}, From: "writer", To: "admin"},
				{Kind: changeResolve, Record: &bus.RecordHash{1}},
				{Kind: changeRenewed},
			}},
			`{"v":1,"epoch":7,"hash":"` + id2 + `","prev":"` + id1 + `","created":"2031-02-03T04:05:06Z","not_after":"2031-02-03T04:05:06Z",` +
				`"signer":"` + strings.Repeat("0", 64) + `","signer_id":"` + id1 + `","signer_handle":"alice","changes":[` +
				`{"kind":"added","id":"` + id2 + `","handle":"bob","to":"writer"},{"kind":"role","id":"` + id2 + `","from":"writer","to":"admin"},` +
				`{"kind":"resolved","record":"` + id1 + `"},{"kind":"renewed"}]}`},
		{"a room under another name", listed{Room: bus.RoomID{1}, Name: "hello", Role: "writer", As: "east", InvitedBy: &bus.ID{2}, InvitedByHandle: "bob"},
			`{"v":1,"room":"` + id1 + `","name":"hello","role":"writer","epoch":0,"persisted":false,"accepted":false,"as":"east","invited_by":"` + id2 + `","invited_by_handle":"bob"}`},
		{"a fork", fork{Room: bus.RoomID{1}, Epoch: 7, Before: bus.RecordHash{1}, Kind: forkRace, Seen: at, File: "f",
			Accepted: branch{Record: bus.RecordHash{2}, Created: at, Members: 3, SignerID: bus.ID{1}, SignerHandle: "alice"},
			Other:    branch{Record: bus.RecordHash{1}, Created: at, Members: 2, SignerID: bus.ID{2}}, GivenUp: &bus.RecordHash{2}, ResolvedBy: new(bus.Epoch)},
			`{"v":1,"room":"` + id1 + `","epoch":7,"before":"` + id1 + `","kind":"race",` +
				`"accepted":{"record":"` + id2 + `","created":"2031-02-03T04:05:06Z","members":3,"signer":"` + strings.Repeat("0", 64) + `","signer_id":"` + id1 + `","signer_handle":"alice"},` +
				`"other":{"record":"` + id1 + `","created":"2031-02-03T04:05:06Z","members":2,"signer":"` + strings.Repeat("0", 64) + `","signer_id":"` + id2 + `"},` +
				`"seen":"2031-02-03T04:05:06Z","file":"f","given_up":"` + id2 + `","resolved_by":0}`},
		{"equivocation", equivocation{Room: bus.RoomID{1}, Sender: bus.ID{2}, Handle: "bob", Session: bus.SessionID{}, Seq: 3, Epoch: 7, File: "f", Frames: [2]bus.FrameHash{{1}, {2}}},
			`{"v":1,"room":"` + id1 + `","sender":"` + id2 + `","sender_handle":"bob","signer":"` + strings.Repeat("0", 64) + `","session":"AAAAAAAAAAAAAAAAAAAAAA","seq":3,"epoch":7,"frames":["` + id1 + `","` + id2 + `"],"file":"f"}`},
		{"a review", review{head: h, Hash: bus.RecordHash{2}, Lost: []side{{First: bus.RecordHash{1}, At: 5, Last: 6, Behind: true, Changes: []change{}}}},
			`{"v":1,"room":"` + id1 + `","name":"hello","epoch":7,"hash":"` + id2 + `","lost":[{"first":"` + id1 + `","at":5,"last":6,"behind":true,"changes":[]}],"resolved":false}`},
		{"what maintain did", tended{head: h, Did: deedRemoved, Removed: []goneForGood{{ID: bus.ID{2}, Handle: "bob", Proven: true}}},
			`{"v":1,"room":"` + id1 + `","name":"hello","epoch":7,"did":"removed","removed":[{"id":"` + id2 + `","handle":"bob","proven":true}]}`},
		{"who is asked to take somebody out", leaving{head: h, Ask: []member{{ID: bus.ID{2}, Fingerprint: "0200", Role: "owner"}}},
			`{"v":1,"room":"` + id1 + `","name":"hello","epoch":7,"left":false,"ask":[{"id":"` + id2 + `","fingerprint":"0200","role":"owner"}]}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want+"\n", printed(t, tt.v)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// author is somebody with a card.
type author struct {
	*identity.Identity
	card *identity.Card
}

func newAuthor(t *testing.T, now time.Time) author {
	t.Helper()
	id, err := identity.Generate(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return author{id, newCard(t, id, now)}
}

func newCard(t *testing.T, id *identity.Identity, now time.Time) *identity.Card {
	t.Helper()
	card, err := identity.NewCard(id, bus.BusID{1}, now, now.Add(bus.MaxCardLife))
	if err != nil {
		t.Fatal(err)
	}
	return card
}

func TestHistoryTellsRecordsApart(t *testing.T) {
	now := time.Unix(1_900_000_000, 0)
	alice, bob, carol := newAuthor(t, now), newAuthor(t, now), newAuthor(t, now)
	handles := map[bus.ID]bus.Handle{alice.ID(): "alice", bob.ID(): "bob"}
	owner := room.MemberSpec{Card: alice.card, Role: bus.RoleOwner}
	first, err := room.Create(alice.Identity, room.Draft{Policy: bus.DefaultPolicy(), Name: "hello", Members: []room.MemberSpec{owner}, Life: time.Hour}, now, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	records := []*room.Record{first.Record}
	last := first
	next := func(policy bus.Policy, members ...room.MemberSpec) {
		t.Helper()
		now = now.Add(time.Minute)
		signed, err := room.Next(alice.Identity, last.Record, last.Key, room.Draft{Policy: policy, Name: "hello", Members: members, Life: time.Hour}, now, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		records, last = append(records, signed.Record), signed
	}
	p := bus.DefaultPolicy()
	spec := func(a author, r bus.Role) room.MemberSpec { return room.MemberSpec{Card: a.card, Role: r} }
	next(p, owner, spec(bob, bus.RoleWriter), spec(carol, bus.RoleReader))
	next(p, owner, spec(bob, bus.RoleAdmin), spec(carol, bus.RoleReader))
	next(p, owner, spec(bob, bus.RoleAdmin))
	if _, err := bob.AddKEM(rand.Reader); err != nil {
		t.Fatal(err)
	}
	bob.card = newCard(t, bob.Identity, now)
	next(p, owner, spec(bob, bus.RoleAdmin))
	next(p, owner, spec(bob, bus.RoleAdmin))
	p.Flags |= bus.FlagPad
	next(p, owner, spec(bob, bus.RoleAdmin))

	stranger := carol.ID().Fingerprint()
	added := []string{"added bob as writer", "added " + stranger + " as reader"}
	if bytes.Compare(idBytes(carol), idBytes(bob)) < 0 {
		added[0], added[1] = added[1], added[0]
	}
	want := [][]string{
		{"created the room: " + describePolicy(bus.DefaultPolicy()), "added alice as owner"},
		added,
		{"made bob admin instead of writer"},
		{"removed " + stranger},
		{"took over the new card of bob"},
		{"new key and time"},
		{"changed the policy to: " + describePolicy(p)},
	}
	var have [][]string
	for _, e := range entriesOf(records, handles) {
		var words []string
		for _, c := range e.Changes {
			words = append(words, c.String())
		}
		have = append(have, words)
		if e.SignerHandle != "alice" || e.SignerID != alice.ID() {
			t.Errorf("record %d is said to be signed by %s", e.Epoch, e.SignerID)
		}
	}
	if diff := cmp.Diff(want, have); diff != "" {
		t.Error(diff)
	}
}

func idBytes(a author) []byte {
	id := a.ID()
	return id[:]
}
