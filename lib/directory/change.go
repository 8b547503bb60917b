package directory

import (
	"slices"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/room"
)

// ChangeKind says what a [Change] is about.
type ChangeKind uint8

// The kinds of changes.
const (
	ChangeUser ChangeKind = iota + 1 // a user was added or changed
	ChangeCard                       // an identity has another latest card
	ChangeRoom                       // a room was made or has another head
)

// Change is one step of a [View]. Before is nil for what was not there, After
// for what no longer is; only the two of its kind are set. What they point to
// must not be changed.
type Change struct {
	Kind ChangeKind
	ID   bus.ID     // users and cards: whose
	Room bus.RoomID // rooms: which

	UserBefore, UserAfter *User
	CardBefore, CardAfter *CardRef
	RoomBefore, RoomAfter *room.Record
}

// OnChange calls f for every change from now on, in the order of the store,
// each after the view has moved; f can therefore see later changes in the view
// already, never earlier ones missing. Calls do not overlap. While f runs the
// view stands still, so f hands long work to somebody else; it must not call
// [View.CatchUp] or [View.Close]. stop ends the calls but does not wait for one
// under way.
func (v *View) OnChange(f func(Change)) (stop func()) {
	h := &handler{f}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.handlers = append(slices.Clip(v.handlers), h)
	return func() {
		v.mu.Lock()
		defer v.mu.Unlock()
		v.handlers = slices.DeleteFunc(slices.Clone(v.handlers), func(x *handler) bool { return x == h })
	}
}

// handler gives a function an identity.
type handler struct{ call func(Change) }

// tell delivers a change. The caller does not hold v.mu.
func (v *View) tell(c Change) {
	v.mu.RLock()
	handlers := v.handlers
	v.mu.RUnlock()
	for _, h := range handlers {
		h.call(c)
	}
}
