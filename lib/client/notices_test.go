package client

import (
	"testing"
	"time"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/room"
)

func TestDue(t *testing.T) {
	now := time.Unix(1_900_000_000, 0)
	for _, tt := range []struct {
		name         string
		life, rotate time.Duration
		age          time.Duration
		want         bool
	}{
		{"young", 10 * time.Hour, 0, 5 * time.Hour, false},
		{"past half of its life", 10 * time.Hour, 0, 5*time.Hour + time.Second, true},
		{"its key is young", 10 * time.Hour, time.Hour, time.Hour, false},
		{"its key is past its time", 10 * time.Hour, time.Hour, time.Hour + time.Second, true},
		{"made by a clock that is ahead", 10 * time.Hour, time.Hour, -time.Minute, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			rec := &room.Record{Created: now.Add(-tt.age), NotAfter: now.Add(-tt.age + tt.life), Policy: bus.Policy{Rotate: tt.rotate}}
			if have := due(rec, now); have != tt.want {
				t.Errorf("due is %t", have)
			}
		})
	}
}
