package api_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/enmanuel/unibus/lib/api"
	"github.com/enmanuel/unibus/lib/bus"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// filled returns 32 bytes of b: identifiers that are easy to spot in a file.
func filled(b byte) (x [32]byte) {
	for i := range x {
		x[i] = b
	}
	return x
}

func samples() map[string]any {
	var (
		created = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
		revoked = created.Add(time.Hour)
		room    = bus.RoomID(filled(8)) // shard 0
		head    = api.Head{Room: room, Epoch: 7, Hash: bus.RecordHash(filled(9))}
		days    = 41
		card    = bus.CardHash(filled(7))
		skew    = int64(-3)
		user    = api.User{
			SignPub: bus.SignPub(filled(1)), ID: bus.ID(filled(2)), Handle: "alice",
			Role: bus.UserMember, Status: bus.UserRevoked, CreatedAt: created, RevokedAt: &revoked,
			Entry: api.Bytes("entry"), Revocation: api.Bytes("revocation"),
		}
	)
	return map[string]any{
		"user":            user,
		"add_user":        api.AddUser{SignPub: bus.SignPub(filled(1)), Handle: "alice", Role: bus.UserAdmin},
		"user_list":       api.UserList{V: 1, Users: []api.User{user}, More: true},
		"handle_info":     api.HandleInfo{Handle: "alice", SignPub: bus.SignPub(filled(1)), ID: bus.ID(filled(2)), Status: bus.UserActive, Entry: api.Bytes("entry"), Card: api.Bytes("card"), Revocation: api.Bytes("revocation")},
		"standing":        api.Standing{ID: bus.ID(filled(2)), Status: bus.UserRevoked, RevokedAt: &revoked, Revocation: api.Bytes("revocation")},
		"revoked_members": api.RevokedMembers{Revoked: []api.Standing{{ID: bus.ID(filled(2)), Status: bus.UserRevoked, RevokedAt: &revoked}}},
		"revocation":      api.Revocation{Revocation: api.Bytes("revocation")},
		"entry":           api.Entry{Entry: api.Bytes("entry")},
		"card":            api.Card{Card: api.Bytes{0xfb, 0xff, 0xfe}},
		"sealed_key":      api.SealedKey{ID: bus.ID(filled(2)), Blob: api.Bytes("sealed")},
		"sealed_again":    api.SealedKey{ID: bus.ID(filled(2)), Blob: api.Bytes("sealed"), Card: &card},
		"resealed":        api.Resealed{Card: card, Blob: api.Bytes("sealed")},
		"upload":          api.RecordUpload{Record: api.Bytes("record"), Members: api.Bytes("members"), Sealed: []api.SealedKey{{ID: bus.ID(filled(2)), Blob: api.Bytes("sealed")}}},
		"head":            head,
		"blob_status":     api.BlobStatus{Offset: 4194304, Size: 67127099},
		"room_list":       api.RoomList{Rooms: []api.RoomHead{{Head: head, Role: bus.RoleWriter, Persisted: true, Revoked: 2}}},
		"record_list":     api.RecordList{Records: []api.RecordItem{{Record: api.Bytes("record"), Members: api.Bytes("members")}}, Head: 7, Hash: bus.RecordHash{2}, More: true},
		"notice":          api.Notice{V: 1, Kind: api.NoticeRoom, Room: &room, Epoch: 7},
		"cursors":         api.CursorRequest{Session: bus.SessionID{1}, Tail: []api.TailShard{{Shard: 0, From: 12, Rooms: []bus.RoomID{room}, Keep: true}}, CatchUp: []api.CatchUp{{Slot: 3, Room: room, From: 1}}},
		"report":          api.Report{V: 1, Counts: map[bus.Code]uint32{bus.CodeDecrypt: 3, bus.CodeGap: 1}},
		"cursor_reply":    api.CursorReply{Tail: []api.TailConsumer{{Shard: 0, Stream: "S", Consumer: "c-t", Last: 20, Kept: true}}, CatchUp: []api.CatchUpConsumer{{Slot: 3, Room: room, Stream: "S", Consumer: "c-h3", Last: 19}}},
		"health": api.Health{Status: "ok", Version: "v1.2.3", Node: "n1", UptimeS: 5, Auth: "enforce", TLS: true, RouteTLS: true, ACL: true, AtRest: true, Sync: "always", Store: "jetstream", Replicas: 3, Quorum: true, Leader: "n2",
			FollowersCurrent: 2, Routes: 2, CertDaysLeft: &days, ClockSkewMS: &skew, Rooms: 10, Users: 20},
		"ready":   api.Ready{Reasons: []string{"no quorum"}},
		"problem": api.Problem{Type: "urn:unibus:conflict", Title: "somebody else was first; read the head again", Status: 409, Detail: "append record: lost", Code: bus.CodeConflict, RequestID: "r1", RetryAfterMS: 250, Head: &head},
	}
}

// The JSON of every type is part of the protocol: a change of these files
// breaks clients that are already out.
func TestJSONIsTheGoldenOne(t *testing.T) {
	want := map[string]bool{}
	for name, v := range samples() {
		want[name+".json"] = true
		t.Run(name, func(t *testing.T) {
			got, err := json.MarshalIndent(v, "", "\t")
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, '\n')
			path := filepath.Join("testdata", name+".json")
			if *update {
				if err := os.WriteFile(path, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			golden, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(golden), string(got)); diff != "" {
				t.Errorf("-golden +got (rewrite with -update):\n%s", diff)
			}
			back := reflect.New(reflect.TypeOf(v))
			dec := json.NewDecoder(bytes.NewReader(golden))
			dec.DisallowUnknownFields()
			if err := dec.Decode(back.Interface()); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(v, back.Elem().Interface()); diff != "" {
				t.Errorf("read back: -sent +got:\n%s", diff)
			}
		})
	}
	files, err := os.ReadDir("testdata")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if !f.IsDir() && !want[f.Name()] {
			t.Errorf("testdata/%s belongs to no type", f.Name())
		}
	}
}
