package api

import (
	"net/url"
	"strconv"

	"github.com/enmanuel/unibus/lib/bus"
)

// Patterns of the routes, in the syntax of [net/http.ServeMux] without a
// method. The builders below fill them in.
const (
	PatternHealth         = "/healthz"
	PatternReady          = "/readyz"
	PatternCard           = "/cards/{id}"
	PatternHandle         = "/handles/{handle}"
	PatternUsers          = "/users"
	PatternRevoke         = "/users/{signpub}/revoke"
	PatternRevocation     = "/revocations/{id}"
	PatternRooms          = "/rooms"
	PatternRecords        = "/rooms/{id}/records"
	PatternRevokedMembers = "/rooms/{id}/revoked"
	PatternKey            = "/rooms/{id}/keys/{epoch}"
	PatternCursors        = "/cursors"
	PatternAudit          = "/audit"
	PatternReports        = "/reports"
	PatternBlob           = "/blobs/{hash}"
)

// The names of the path values in the patterns and of the query parameters.
const (
	ValueID      = "id"
	ValueHandle  = "handle"
	ValueSignPub = "signpub"
	ValueEpoch   = "epoch"
	ValueHash    = "hash"

	QueryHash  = "hash"
	QueryFrom  = "from"
	QueryAfter = "after"
	QueryCard  = "card"
	QueryPart  = "part"
)

// HealthPath is GET → [Health], for anyone.
func HealthPath() string { return PatternHealth }

// ReadyPath is GET → [Ready], for anyone: 200 if the node can serve, else 503
// with the same type of body.
func ReadyPath() string { return PatternReady }

// CardPath is PUT [Card] → 204 for the identity itself, and GET → [Card], the
// latest card of an identity.
func CardPath(id bus.ID) string { return "/cards/" + id.String() }

// CardByHashPath is GET → [Card], the card of an identity that has this hash.
func CardByHashPath(id bus.ID, hash bus.CardHash) string {
	return CardPath(id) + "?" + QueryHash + "=" + hash.String()
}

// HandlePath is GET → [HandleInfo] for members, and PUT [Entry] → 204 for
// admins of the bus.
func HandlePath(h bus.Handle) string { return "/handles/" + url.PathEscape(string(h)) }

// UsersPath is GET → [UserList] and POST [AddUser] → 201 [User], for admins of
// the bus.
func UsersPath() string { return PatternUsers }

// UsersAfterPath is GET → [UserList] with the users whose signing keys sort
// after the given one, the last of the page before.
func UsersAfterPath(after bus.SignPub) string {
	return PatternUsers + "?" + QueryAfter + "=" + after.String()
}

// RevokePath is POST without a body → [User], for admins of the bus.
func RevokePath(s bus.SignPub) string { return "/users/" + s.String() + "/revoke" }

// RevocationPath is PUT [Revocation] → 204 for whoever has one, unsigned, and
// GET → [Standing] for members.
func RevocationPath(id bus.ID) string { return "/revocations/" + id.String() }

// RoomsPath is GET → [RoomList], the signer's rooms, and POST [RecordUpload] →
// 201 [Head] with the first record of a new room.
func RoomsPath() string { return PatternRooms }

// RecordsPath is POST [RecordUpload] → 201 [Head] for an authority of the
// room.
func RecordsPath(room bus.RoomID) string { return "/rooms/" + room.String() + "/records" }

// RecordsFromPath is GET → [RecordList] for members of the room.
func RecordsFromPath(room bus.RoomID, from bus.Epoch) string {
	return RecordsPath(room) + "?" + QueryFrom + "=" + strconv.FormatUint(uint64(from), 10)
}

// RevokedMembersPath is GET → [RevokedMembers] for members of the room's head.
func RevokedMembersPath(room bus.RoomID) string { return "/rooms/" + room.String() + "/revoked" }

// KeyPath is GET → [SealedKey], the signer's own copy of an epoch's key, the
// newest if it has sealed it again, which is PUT [Resealed] → 204.
func KeyPath(room bus.RoomID, epoch bus.Epoch) string {
	return "/rooms/" + room.String() + "/keys/" + strconv.FormatUint(uint64(epoch), 10)
}

// KeyByCardPath is GET → [SealedKey], the copy that is sealed to this card.
func KeyByCardPath(room bus.RoomID, epoch bus.Epoch, card bus.CardHash) string {
	return KeyPath(room, epoch) + "?" + QueryCard + "=" + card.String()
}

// CursorsPath is POST [CursorRequest] → [CursorReply] for members.
func CursorsPath() string { return PatternCursors }

// AuditPath is GET → [AuditPage] on the local socket: entries of the node's audit
// log from a number on.
func AuditPath(from uint64) string {
	return PatternAudit + "?" + QueryFrom + "=" + strconv.FormatUint(from, 10)
}

// ReportsPath is POST [Report] for members.
func ReportsPath() string { return PatternReports }

// ParseEpoch reads an epoch from a path or query: decimal digits without sign
// or leading zeros.
func ParseEpoch(s string) (bus.Epoch, error) {
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil || strconv.FormatUint(n, 10) != s {
		return 0, bus.Errorf(bus.CodeMalformed, "parse epoch %.40q: want decimal digits", s)
	}
	return bus.Epoch(n), nil
}
