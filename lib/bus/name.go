package bus

import (
	"regexp"
	"strings"
)

// Handle is the short name of a user, such as "alice". Within a bus it belongs
// to one user.
type Handle string

var handlePattern = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]*$`)

// ParseHandle checks a handle: lower-case letters, digits, '.', '_' and '-',
// a letter or digit first, at most [MaxHandleLen] bytes.
func ParseHandle(s string) (Handle, error) {
	if len(s) > MaxHandleLen || !handlePattern.MatchString(s) {
		return "", Errorf(CodeMalformed, "parse handle %.80q: want 1 to %d of a-z, 0-9, '.', '_' and '-', a letter or digit first", s, MaxHandleLen)
	}
	return Handle(s), nil
}

// RoomName is the name members give a room, such as "agent.scout.in". Servers
// never see the names of encrypted rooms.
type RoomName string

var nameTokenPattern = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)

// ParseRoomName checks a name: tokens of letters, digits, '_' and '-' joined
// by single dots, as in NATS subjects, at most [MaxRoomName] bytes.
func ParseRoomName(s string) (RoomName, error) {
	if len(s) <= MaxRoomName {
		ok := true
		for token := range strings.SplitSeq(s, ".") {
			ok = ok && nameTokenPattern.MatchString(token)
		}
		if ok {
			return RoomName(s), nil
		}
	}
	return "", Errorf(CodeMalformed, "parse room name %.80q: want tokens of letters, digits, '_' and '-' joined by dots, at most %d bytes", s, MaxRoomName)
}
