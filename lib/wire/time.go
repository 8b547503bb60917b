package wire

import (
	"errors"
	"time"

	"golang.org/x/crypto/cryptobyte"
)

// maxTime is 9999-12-31T23:59:59Z, the last second that a text form with four
// digits of year can name.
const maxTime = 253402300799

var errTime = errors.New("time outside 1970 to 9999")

// AddTime writes a time as whole Unix seconds, 8 bytes; what is finer is cut
// off. A time before 1970 or after 9999 is an error of the builder.
func AddTime(b *cryptobyte.Builder, t time.Time) {
	if t.Unix() < 0 || t.Unix() > maxTime {
		b.SetError(errTime)
		return
	}
	b.AddUint64(uint64(t.Unix()))
}

// ReadTime reads what [AddTime] writes, in UTC, and reports whether it was there.
func ReadTime(s *cryptobyte.String, t *time.Time) bool {
	var seconds uint64
	if !s.ReadUint64(&seconds) || seconds > maxTime {
		return false
	}
	*t = time.Unix(int64(seconds), 0).UTC()
	return true
}
