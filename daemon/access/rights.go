package access

import (
	"slices"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/directory"
	"github.com/enmanuel/unibus/lib/identity"
)

// rights are the subjects a connection may publish to, subscribe to and read
// through consumers, each ascending.
type rights struct {
	publish   []string
	subscribe []string
	read      []string // not the server's business: consumers are made by access
}

// rightsOf returns what a member may do:
//
//   - publish on its own subject in rooms where it may write;
//   - ask about the consumers of its identity and session, and fetch from them;
//   - subscribe to its live rooms. Persisted rooms are read through consumers
//     only: who could listen to what is on its way to the stream would know
//     message ids before they are stored, and could have them dropped as
//     duplicates;
//   - subscribe to its own inbox and its own notices.
func rightsOf(id bus.ID, session bus.SessionID, transport bus.TransportPub, rooms []directory.Membership) rights {
	r := rights{subscribe: []string{
		bus.InboxPrefix(identity.EncodeNKey(transport)) + ".>",
		bus.NoticeSubject(id),
	}}
	for _, m := range rooms {
		if m.Role.CanWrite() {
			r.publish = append(r.publish, bus.DataSubject(m.Room, id, m.Persisted))
		}
		switch subject := bus.RoomSubject(m.Room, m.Persisted); {
		case !m.Role.Valid():
		case m.Persisted:
			r.read = append(r.read, subject)
		default:
			r.subscribe = append(r.subscribe, subject)
		}
	}
	for _, consumer := range consumerNames(id, session) {
		r.publish = append(r.publish, bus.ConsumerInfoSubject("*", consumer), bus.ConsumerNextSubject("*", consumer))
	}
	slices.Sort(r.publish)
	slices.Sort(r.subscribe)
	slices.Sort(r.read)
	return r
}

// consumerNames returns the names that the consumers of a session can have.
func consumerNames(id bus.ID, session bus.SessionID) []string {
	names := []string{bus.TailConsumer(id, session)}
	for slot := range bus.CatchUpSlots {
		names = append(names, bus.CatchUpConsumer(id, session, slot))
	}
	return names
}

// equal reports whether nothing changed from r to next.
func (r rights) equal(next rights) bool {
	return slices.Equal(r.publish, next.publish) && slices.Equal(r.subscribe, next.subscribe) && slices.Equal(r.read, next.read)
}

// without returns what r allows and next does not.
func (r rights) without(next rights) rights {
	return rights{
		publish:   missing(r.publish, next.publish),
		subscribe: missing(r.subscribe, next.subscribe),
		read:      missing(r.read, next.read),
	}
}

// missing returns the elements of a that are not in b; both ascend.
func missing(a, b []string) []string {
	var out []string
	for _, x := range a {
		i, found := slices.BinarySearch(b, x)
		if !found {
			out = append(out, x)
		}
		b = b[i:]
	}
	return out
}

// permissions translates the rights for the server.
func (r rights) permissions() *server.Permissions {
	return &server.Permissions{Publish: allow(r.publish), Subscribe: allow(r.subscribe)}
}

// allow returns a permission for exactly these subjects. The server takes an
// empty list for no restriction.
func allow(subjects []string) *server.SubjectPermission {
	if len(subjects) == 0 {
		return &server.SubjectPermission{Deny: []string{">"}}
	}
	return &server.SubjectPermission{Allow: subjects}
}
