package directory

import (
	"encoding/base64"
	"strconv"
	"strings"

	"github.com/enmanuel/unibus/lib/bus"
)

const (
	usersPrefix       = "users/"
	handlesPrefix     = "handles/"
	entriesPrefix     = "entries/"
	revocationsPrefix = "revocations/"
	cardsPrefix       = "cards/"
	headsPrefix       = "heads/"
	nodesPrefix       = "nodes/"
	bootstrapKey      = "bootstrap"
	latestCard        = "latest" // no card hash: those have 43 characters
)

func userKey(s bus.SignPub) string       { return usersPrefix + s.String() }
func handleKey(h bus.Handle) string      { return handlesPrefix + string(h) }
func entryKey(h bus.Handle) string       { return entriesPrefix + string(h) }
func revocationKey(s bus.SignPub) string { return revocationsPrefix + s.String() }
func latestCardKey(id bus.ID) string     { return cardsPrefix + id.String() + "/" + latestCard }
func headKey(room bus.RoomID) string     { return headsPrefix + room.String() }
func nodeKey(node string) string         { return nodesPrefix + node }
func cardKey(id bus.ID, h bus.CardHash) string {
	return cardsPrefix + id.String() + "/" + h.String()
}

func recordKey(room bus.RoomID, h bus.RecordHash) string {
	return room.String() + "/" + h.String()
}

func sealedKey(room bus.RoomID, h bus.RecordHash, chunk int) string {
	return recordKey(room, h) + "/" + strconv.Itoa(chunk)
}

// resealedKey has a member's id where others have a chunk, which is shorter.
func resealedKey(room bus.RoomID, h bus.RecordHash, member bus.ID) string {
	return recordKey(room, h) + "/" + member.String()
}

func nonceKey(key bus.TransportPub, nonce [16]byte) string {
	return key.String() + "-" + base64.RawURLEncoding.EncodeToString(nonce[:])
}

func parseRecordKey(key string) (bus.RoomID, bus.RecordHash, error) {
	room, hash, _ := strings.Cut(key, "/")
	r, err := bus.ParseRoomID(room)
	if err != nil {
		return bus.RoomID{}, bus.RecordHash{}, err
	}
	h, err := bus.ParseRecordHash(hash)
	return r, h, err
}
