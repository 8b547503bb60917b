package api

import "github.com/enmanuel/unibus/lib/bus"

// CursorRequest asks for the consumers of one session over its persisted
// rooms. What is not mentioned stays as it is.
type CursorRequest struct {
	Session bus.SessionID `json:"session"`
	Tail    []TailShard   `json:"tail,omitempty"`     // at most one a shard
	CatchUp []CatchUp     `json:"catch_up,omitempty"` // at most one a slot
}

// TailShard asks for the consumer that follows rooms of one shard.
type TailShard struct {
	Shard int          `json:"shard"` // 0 to [bus.Shards]-1
	From  uint64       `json:"from"`  // stream sequence to start at; 0 is after the last stored
	Rooms []bus.RoomID `json:"rooms"` // all of this shard, none twice; none at all deletes the consumer
	Keep  bool         `json:"keep"`  // keep an existing consumer where it is and change only its rooms
}

// CatchUp asks for a consumer that reads one room from the past.
type CatchUp struct {
	Slot int        `json:"slot"` // 0 to [bus.CatchUpSlots]-1
	Room bus.RoomID `json:"room"`
	From uint64     `json:"from"` // stream sequence to start at; 1 is everything
}

// CursorReply describes the consumers that were asked for, in the same order.
type CursorReply struct {
	Tail    []TailConsumer    `json:"tail,omitempty"`
	CatchUp []CatchUpConsumer `json:"catch_up,omitempty"`
}

// TailConsumer is the consumer of one shard.
type TailConsumer struct {
	Shard    int    `json:"shard"`
	Stream   string `json:"stream"`
	Consumer string `json:"consumer"`
	// Last is the last stream sequence when the rooms took effect: every later
	// frame of these rooms comes by this consumer.
	Last uint64 `json:"last"`
	Kept bool   `json:"kept"` // the consumer existed and was kept
}

// CatchUpConsumer is the consumer of one room's past.
type CatchUpConsumer struct {
	Slot     int        `json:"slot"`
	Room     bus.RoomID `json:"room"`
	Stream   string     `json:"stream"`
	Consumer string     `json:"consumer"`
	Last     uint64     `json:"last"` // last stream sequence of the room when it was made; 0 is an empty room
}

// Validate checks counts, ranges and that each room lies in its shard.
func (c CursorRequest) Validate() error {
	if c.Session == (bus.SessionID{}) {
		return bus.Errorf(bus.CodeMalformed, "check cursors: session is missing")
	}
	if len(c.Tail) == 0 && len(c.CatchUp) == 0 {
		return bus.Errorf(bus.CodeMalformed, "check cursors: nothing is asked for")
	}
	var shards [bus.Shards]bool
	for _, t := range c.Tail {
		if t.Shard < 0 || t.Shard >= bus.Shards || shards[t.Shard] {
			return bus.Errorf(bus.CodeMalformed, "check cursors: shard %d is out of range or there twice", t.Shard)
		}
		shards[t.Shard] = true
		if err := t.validateRooms(); err != nil {
			return err
		}
	}
	var slots [bus.CatchUpSlots]bool
	for _, u := range c.CatchUp {
		if u.Slot < 0 || u.Slot >= bus.CatchUpSlots || slots[u.Slot] {
			return bus.Errorf(bus.CodeMalformed, "check cursors: slot %d is out of range or there twice", u.Slot)
		}
		slots[u.Slot] = true
		if u.Room.IsZero() || u.From == 0 {
			return bus.Errorf(bus.CodeMalformed, "check cursors: slot %d needs a room and a start from 1", u.Slot)
		}
	}
	return nil
}

func (t TailShard) validateRooms() error {
	seen := make(map[bus.RoomID]bool, len(t.Rooms))
	for _, r := range t.Rooms {
		if bus.Shard(r) != t.Shard || r.IsZero() || seen[r] {
			return bus.Errorf(bus.CodeMalformed, "check cursors: room %s is not of shard %d or there twice", r, t.Shard)
		}
		seen[r] = true
	}
	return nil
}
