package hostile_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/enmanuel/unibus/lib/api"
	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/client"
	"github.com/enmanuel/unibus/lib/internal/hostile"
	"github.com/enmanuel/unibus/lib/room"
)

// room makes an encrypted room of a with these writers.
func (s *stage) room(a *actor, persisted bool, members ...*actor) (*client.Room, []*client.Room) {
	s.Helper()
	policy := bus.DefaultPolicy()
	if !persisted {
		policy.Flags &^= bus.FlagPersist
	}
	r, err := a.CreateRoom(s.ctx(), bus.RoomName(s.name), client.RoomOptions{Policy: &policy})
	s.must(err)
	var rooms []*client.Room
	for _, m := range members {
		s.must(r.Invite(s.ctx(), m.ID().String(), bus.RoleWriter))
		theirs, err := m.AcceptRoom(s.ctx(), r.ID())
		s.must(err)
		rooms = append(rooms, theirs)
	}
	return r, rooms
}

// duo is a room of alice, its owner, in which bob writes.
type duo struct {
	*stage
	alice, bob *actor
	hers, his  *client.Room
}

func (s *stage) duo(persisted bool, change ...func(*client.Config)) *duo {
	s.Helper()
	d := &duo{stage: s, alice: s.actor("alice"), bob: s.actor("bob", change...)}
	r, rooms := s.room(d.alice, persisted, d.bob)
	d.hers, d.his = r, rooms[0]
	return d
}

// log returns the records of the room as alice has them.
func (d *duo) log() []*room.Record {
	d.Helper()
	recs, err := d.hers.Log(d.ctx())
	d.must(err)
	return recs
}

// head returns the newest record and its key.
func (d *duo) head() (*room.Record, room.Key) {
	d.Helper()
	recs := d.log()
	rec := recs[len(recs)-1]
	return rec, d.key(rec)
}

// key opens the key of a record that went through the hands of a server here.
func (s *stage) key(rec *room.Record) room.Key {
	s.Helper()
	for _, a := range s.actors {
		if blob := s.sealedFor(rec, a.id.ID()); blob != nil {
			key, err := rec.OpenKey(a.id, blob)
			s.must(err)
			s.keepKey(key)
			return key
		}
	}
	s.Fatalf("no key of epoch %d", rec.Epoch)
	return room.Key{}
}

// sealedFor returns somebody's copy of the key of a record that went through the
// hands of a server here, nil where there is none.
func (s *stage) sealedFor(rec *room.Record, id bus.ID) []byte {
	for _, a := range s.actors {
		for _, x := range a.control.Requests() {
			if x.Method != http.MethodPost || !strings.HasPrefix(x.URL.Path, "/rooms") {
				continue
			}
			var u api.RecordUpload
			if json.Unmarshal(x.Body, &u) != nil || !bytes.Equal(u.Record, rec.Bytes()) {
				continue
			}
			for _, k := range u.Sealed {
				if k.ID == id {
					return k.Blob
				}
			}
		}
	}
	return nil
}

func (s *stage) keepKey(key room.Key) {
	s.secrets = append(s.secrets, hostile.Secret{Name: "room key", Value: slices.Clone(key[:])})
}

// next returns a record that honestly follows the newest, with alice as owner
// and bob as a writer, for the row to change.
func (d *duo) next() *hostile.Record {
	d.Helper()
	rec, key := d.head()
	r := hostile.NewRecord(rec, key, bus.RoomName(d.name), hostile.Line{Card: d.alice.card(), Role: bus.RoleOwner}, hostile.Line{Card: d.bob.card(), Role: bus.RoleWriter})
	d.keepKey(r.Key)
	return r
}

// parse reads a record that was signed here.
func (s *stage) parse(signed *hostile.Signed) *room.Record {
	s.Helper()
	rec, err := room.ParseRecord(signed.Record, signed.Members)
	s.must(err)
	return rec
}

// shows has the client's server show these records of a room, the first ones
// honest, and no others.
func (a *actor) shows(id bus.RoomID, honest []*room.Record, then ...*hostile.Signed) {
	list := api.RecordList{Records: []api.RecordItem{}}
	sealed := map[string][]byte{}
	for _, rec := range honest {
		list.Records = append(list.Records, api.RecordItem{Record: rec.Bytes(), Members: rec.MembersBytes()})
	}
	for _, rec := range then {
		list.Records = append(list.Records, api.RecordItem{Record: rec.Record, Members: rec.Members})
		sealed[api.KeyPath(id, rec.Epoch)] = rec.Sealed[a.id.ID()]
	}
	list.Head = bus.Epoch(len(list.Records) - 1)
	a.control.Instead(func(x *hostile.Exchange) bool {
		blob, known := sealed[x.URL.Path]
		switch {
		case x.Method != http.MethodGet:
			return false
		case x.URL.Path == api.RecordsPath(id):
			from, err := strconv.Atoi(x.URL.Query().Get("from"))
			if err != nil {
				a.stage.Error(err)
			}
			part := list
			part.Records = list.Records[min(from, len(list.Records)):]
			a.tell()
			x.Reply(http.StatusOK, part)
		case known && blob == nil:
			x.Fail(bus.CodeNotFound)
		case known:
			x.Reply(http.StatusOK, api.SealedKey{ID: a.id.ID(), Blob: blob})
		default:
			return false
		}
		return true
	})
}

// refusesToSend publishes a secret and returns why that failed.
func (s *stage) refusesToSend(r *client.Room) error {
	s.Helper()
	if _, err := r.Publish(s.ctx(), []byte(s.secret("message after the lie"))); err == nil {
		return errors.New("it was sent")
	} else {
		return err
	}
}

// publish sends a message and waits until it is stored, or sent.
func (s *stage) publish(r *client.Room, body string) {
	s.Helper()
	_, err := r.Publish(s.ctx(), []byte(body))
	s.must(err)
}
