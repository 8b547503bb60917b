package access

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/enmanuel/unibus/daemon/broker"
	"github.com/enmanuel/unibus/lib/api"
	"github.com/enmanuel/unibus/lib/bus"
)

// Cursors makes the consumers that a session asks for over rooms its identity
// may read, and brings existing ones to the rooms it names; a shard without
// rooms loses its consumer. Either every room is allowed or nothing is done. If
// it fails halfway, the same request can be made again.
//
// Its errors have [bus.CodeMalformed], [bus.CodeNotMember] for a room that the
// identity may not read or that does not exist, [bus.CodePolicy] for one that
// is not persisted, [bus.CodeQuota] and [bus.CodeUnavailable].
func (a *Access) Cursors(ctx context.Context, id bus.ID, req api.CursorRequest) (api.CursorReply, error) {
	reply, err := a.cursors(ctx, id, req)
	if err != nil {
		return api.CursorReply{}, fmt.Errorf("make consumers: %w", err)
	}
	return reply, nil
}

func (a *Access) cursors(ctx context.Context, id bus.ID, req api.CursorRequest) (reply api.CursorReply, err error) {
	if err := a.ready(); err != nil {
		return reply, err
	}
	if err := checkRequest(req); err != nil {
		return reply, err
	}
	r := a.lockReader(id)
	defer a.unlockReader(id, r)
	if err := a.checkRooms(id, req); err != nil {
		return reply, err
	}
	s, err := a.session(ctx, id, r, req.Session)
	if err != nil {
		return reply, err
	}
	defer func() {
		if len(s.consumers) == 0 {
			delete(r.sessions, req.Session)
		}
	}()
	for _, t := range req.Tail {
		made, err := a.tail(ctx, s, bus.TailConsumer(id, req.Session), t)
		if err != nil {
			return reply, err
		}
		reply.Tail = append(reply.Tail, made)
	}
	for _, u := range req.CatchUp {
		made, err := a.catchUp(ctx, s, bus.CatchUpConsumer(id, req.Session, u.Slot), u)
		if err != nil {
			return reply, err
		}
		reply.CatchUp = append(reply.CatchUp, made)
	}
	return reply, nil
}

// checkRequest checks the form. Shards without rooms, which are an order to
// delete, are left out of what [api.CursorRequest.Validate] looks at.
func checkRequest(req api.CursorRequest) error {
	whole := req
	whole.Tail = nil
	var empty [bus.Shards]bool
	for _, t := range req.Tail {
		if len(t.Rooms) > 0 {
			whole.Tail = append(whole.Tail, t)
			continue
		}
		if t.Shard < 0 || t.Shard >= bus.Shards || empty[t.Shard] {
			return bus.Errorf(bus.CodeMalformed, "check cursors: shard %d is out of range or there twice", t.Shard)
		}
		empty[t.Shard] = true
	}
	for _, t := range whole.Tail {
		if t.Shard >= 0 && t.Shard < bus.Shards && empty[t.Shard] {
			return bus.Errorf(bus.CodeMalformed, "check cursors: shard %d is there twice", t.Shard)
		}
	}
	if req.Session != (bus.SessionID{}) && len(req.Tail) > 0 && len(whole.Tail) == 0 && len(whole.CatchUp) == 0 {
		return nil
	}
	return whole.Validate()
}

// checkRooms refuses a request with a room that the identity may not read.
func (a *Access) checkRooms(id bus.ID, req api.CursorRequest) error {
	readable := a.readable(id)
	check := func(r bus.RoomID) error {
		if readable[r] {
			return nil
		}
		if rec, ok := a.view.Room(r); ok && rec.Role(id).Valid() && !rec.Policy.Persisted() {
			return bus.Errorf(bus.CodePolicy, "check cursors: room %s is not persisted", r)
		}
		return bus.Errorf(bus.CodeNotMember, "check cursors: room %s is not one of the member's", r)
	}
	for _, t := range req.Tail {
		for _, r := range t.Rooms {
			if err := check(r); err != nil {
				return err
			}
		}
	}
	for _, u := range req.CatchUp {
		if err := check(u.Room); err != nil {
			return err
		}
	}
	return nil
}

// tail makes, updates or deletes the consumer that follows a shard's rooms.
func (a *Access) tail(ctx context.Context, s *cursors, name string, t api.TailShard) (api.TailConsumer, error) {
	reply := api.TailConsumer{Shard: t.Shard, Stream: bus.Stream(t.Shard), Consumer: name}
	c := consumer{t.Shard, name}
	if len(t.Rooms) == 0 {
		return reply, a.drop(ctx, s, c)
	}
	var err error
	if t.Keep {
		if reply.Kept, err = a.refilter(ctx, s, c, t.Rooms); err != nil {
			return reply, err
		}
	}
	if !reply.Kept {
		if err := a.make(ctx, s, c, t.Rooms, t.From); err != nil {
			return reply, err
		}
	}
	stream, err := a.streams.Stream(ctx, reply.Stream)
	if err != nil {
		return reply, storeError("read end of stream", err)
	}
	reply.Last = stream.CachedInfo().State.LastSeq
	return reply, nil
}

// catchUp makes the consumer that reads one room from the past.
func (a *Access) catchUp(ctx context.Context, s *cursors, name string, u api.CatchUp) (api.CatchUpConsumer, error) {
	shard := bus.Shard(u.Room)
	reply := api.CatchUpConsumer{Slot: u.Slot, Room: u.Room, Stream: bus.Stream(shard), Consumer: name}
	// The slot may have read a room of another shard before.
	for c := range s.consumers {
		if c.name == name && c.shard != shard {
			if err := a.drop(ctx, s, c); err != nil {
				return reply, err
			}
		}
	}
	if err := a.make(ctx, s, consumer{shard, name}, []bus.RoomID{u.Room}, u.From); err != nil {
		return reply, err
	}
	stream, err := a.streams.Stream(ctx, reply.Stream)
	if err != nil {
		return reply, storeError("read end of room", err)
	}
	last, err := stream.GetLastMsgForSubject(ctx, bus.RoomSubject(u.Room, true))
	switch {
	case errors.Is(err, jetstream.ErrMsgNotFound): // an empty room
	case err != nil:
		return reply, storeError("read end of room", err)
	default:
		reply.Last = last.Sequence
	}
	return reply, nil
}

// make makes a consumer anew, from a stream sequence or, for 0, after the last
// message stored.
func (a *Access) make(ctx context.Context, s *cursors, c consumer, rooms []bus.RoomID, from uint64) error {
	if err := a.drop(ctx, s, c); err != nil {
		return err
	}
	config := jetstream.ConsumerConfig{
		Name:              c.name,
		DeliverPolicy:     jetstream.DeliverNewPolicy,
		AckPolicy:         jetstream.AckNonePolicy,
		MaxRequestExpires: broker.MaxFetch,
		MaxWaiting:        maxWaiting,
		InactiveThreshold: consumerIdle,
		MemoryStorage:     true,
		Replicas:          1,
		FilterSubjects:    filters(rooms),
	}
	if from > 0 {
		config.DeliverPolicy, config.OptStartSeq = jetstream.DeliverByStartSequencePolicy, from
	}
	// Noted first: a request without an answer may have been carried out.
	s.consumers[c] = slices.Clone(rooms)
	if _, err := a.streams.CreateConsumer(ctx, bus.Stream(c.shard), config); err != nil {
		return storeError("create consumer", err)
	}
	return nil
}

// maxWaiting is how many fetches may wait at one consumer. A client has one or
// two, and those it left behind when its connection broke.
const maxWaiting = 32

// refilter changes the rooms of a consumer and nothing else. It reports whether
// there was one.
func (a *Access) refilter(ctx context.Context, s *cursors, c consumer, rooms []bus.RoomID) (kept bool, err error) {
	stream := bus.Stream(c.shard)
	existing, err := a.streams.Consumer(ctx, stream, c.name)
	if errors.Is(err, jetstream.ErrConsumerNotFound) {
		return false, nil
	}
	if err != nil {
		return false, storeError("read consumer", err)
	}
	config := existing.CachedInfo().Config
	config.FilterSubject, config.FilterSubjects = "", filters(rooms)
	s.consumers[c] = append(slices.Clone(rooms), s.consumers[c]...) // either set may be in force
	_, err = a.streams.UpdateConsumer(ctx, stream, config)
	switch {
	case errors.Is(err, jetstream.ErrConsumerDoesNotExist), errors.Is(err, jetstream.ErrConsumerNotFound):
		return false, nil
	case err != nil:
		return false, storeError("update consumer", err)
	}
	s.consumers[c] = slices.Clone(rooms)
	return true, nil
}

// filters returns the subjects of rooms, ascending.
func filters(rooms []bus.RoomID) []string {
	subjects := make([]string, 0, len(rooms))
	for _, r := range rooms {
		subjects = append(subjects, bus.RoomSubject(r, true))
	}
	slices.Sort(subjects)
	return subjects
}
