package bus

import (
	"crypto/sha256"
	"strconv"
	"strings"
)

// Shard returns which of the [Shards] streams holds the room's frames.
func Shard(room RoomID) int { return int(room[0] & (Shards - 1)) }

// Stream returns the name of the stream of a shard.
func Stream(shard int) string { return "UNIBUS_ROOMS_" + strconv.Itoa(shard) }

// StreamSubjects returns the subject filter of a shard's stream.
func StreamSubjects(shard int) string { return "ub.d." + strconv.Itoa(shard) + ".>" }

// DataSubject returns the subject on which sender publishes to a room. Frames
// of persisted rooms go under "ub.d.", those of live rooms under "ub.l.".
func DataSubject(room RoomID, sender ID, persisted bool) string {
	return roomPrefix(room, persisted) + sender.Token()
}

// RoomSubject returns the filter that matches the frames of every sender of a room.
func RoomSubject(room RoomID, persisted bool) string { return roomPrefix(room, persisted) + "*" }

func roomPrefix(room RoomID, persisted bool) string {
	kind := "l"
	if persisted {
		kind = "d"
	}
	return "ub." + kind + "." + strconv.Itoa(Shard(room)) + "." + room.Token() + "."
}

// ParseDataSubject splits a subject made by [DataSubject] into the tokens of
// its room and sender. ok is false for any other subject.
func ParseDataSubject(subject string) (room, sender string, persisted, ok bool) {
	parts := strings.Split(subject, ".")
	if len(parts) != 5 || parts[0] != "ub" || (parts[1] != "d" && parts[1] != "l") {
		return "", "", false, false
	}
	return parts[3], parts[4], parts[1] == "d", true
}

// NoticeSubject returns the subject on which an identity hears that something
// about it changed.
func NoticeSubject(id ID) string { return "ub.c." + id.Token() }

// ConsumerPrefix returns how the names of a session's consumers begin. It
// depends on the identity too, so that nobody gains another's consumers by
// claiming its session, which every member of a room can see.
func ConsumerPrefix(id ID, session SessionID) string {
	h := sha256.New()
	h.Write([]byte("unibus/1 consumer"))
	h.Write(id[:])
	h.Write(session[:])
	return tokenEncoding.EncodeToString(h.Sum(nil)[:16])
}

// TailConsumer returns the name of the consumer that follows a session's rooms.
func TailConsumer(id ID, session SessionID) string { return ConsumerPrefix(id, session) + "-t" }

// CatchUpConsumer returns the name of the consumer that reads one room from
// the past, for a slot from 0 to [CatchUpSlots]-1.
func CatchUpConsumer(id ID, session SessionID, slot int) string {
	return ConsumerPrefix(id, session) + "-h" + strconv.Itoa(slot)
}

// APIPrefix is where members reach the two JetStream calls they may make.
const APIPrefix = "ub.js"

// ConsumerInfoSubject returns where a member asks about one of its consumers.
// stream may be "*" in permissions.
func ConsumerInfoSubject(stream, consumer string) string {
	return APIPrefix + ".CONSUMER.INFO." + stream + "." + consumer
}

// ConsumerNextSubject returns where a member fetches from one of its consumers.
// stream may be "*" in permissions.
func ConsumerNextSubject(stream, consumer string) string {
	return APIPrefix + ".CONSUMER.MSG.NEXT." + stream + "." + consumer
}

// InboxPrefix returns the prefix of a connection's reply subjects, from the
// text form of its nkey.
func InboxPrefix(nkey string) string { return "_INBOX." + nkey }
