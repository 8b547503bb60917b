package frame

import (
	"encoding/binary"
	"strings"
	"time"

	"golang.org/x/crypto/cryptobyte"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/wire"
)

// maxSent is the last microsecond of the year 9999, beyond which a time has no
// text form (RFC 3339).
const maxSent = 253402300799_999_999

// paddedLen returns how long the inner part of a frame with content of n bytes
// is. Where Padmé goes beyond what a frame can carry, the limit is the length.
func paddedLen(n int, flags bus.RoomFlags) int {
	if !flags.Has(bus.FlagPad) {
		return n
	}
	return min(int(wire.Padmé(int64(n))), MaxInner)
}

// appendInner writes time, records and padding. The records have passed
// [CheckRecord] and contentLen is their [InnerOverhead] and sizes.
func appendInner(dst []byte, sent time.Time, recs []Record, contentLen, innerLen int) []byte {
	dst = binary.BigEndian.AppendUint64(dst, uint64(sent.UnixMicro()))
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(recs)))
	for i := range recs {
		r := &recs[i]
		dst = binary.BigEndian.AppendUint16(dst, uint16(r.headersLen()))
		for _, h := range r.Headers {
			dst = append(dst, byte(len(h.Key)))
			dst = append(dst, h.Key...)
			dst = binary.BigEndian.AppendUint16(dst, uint16(len(h.Value)))
			dst = append(dst, h.Value...)
		}
		dst = binary.BigEndian.AppendUint32(dst, uint32(len(r.Body)))
		dst = append(dst, r.Body...)
	}
	return append(dst, zeros[:innerLen-contentLen]...)
}

// zeros is as long as the most padding a frame can have: what Padmé adds to
// lengths from 128 to 256 KiB is below 4 KiB.
var zeros [4 << 10]byte

// parseInner reads what appendInner writes and nothing else. Bodies alias
// inner; all headers of the frame share one string.
func parseInner(inner []byte, flags bus.RoomFlags) (time.Time, []Record, error) {
	if len(inner) > MaxInner {
		return time.Time{}, nil, malformedInner("%d bytes, more than %d", len(inner), MaxInner)
	}
	s := cryptobyte.String(inner)
	var micros uint64
	var n uint16
	if !s.ReadUint64(&micros) || !s.ReadUint16(&n) {
		return time.Time{}, nil, malformedInner("%d bytes are too few", len(inner))
	}
	if micros > maxSent {
		return time.Time{}, nil, malformedInner("time of sending is beyond the year 9999")
	}
	if n == 0 || n > bus.MaxRecords {
		return time.Time{}, nil, malformedInner("%d records, want 1 to %d", n, bus.MaxRecords)
	}
	recs, rest, err := parseRecords(s, int(n))
	if err != nil {
		return time.Time{}, nil, err
	}
	content := len(inner) - len(rest)
	if want := paddedLen(content, flags); len(inner) != want {
		return time.Time{}, nil, malformedInner("%d bytes of content are padded to %d, want %d", content, len(inner), want)
	}
	for _, b := range inner[content:] {
		if b != 0 {
			return time.Time{}, nil, malformedInner("padding is not zero")
		}
	}
	return time.UnixMicro(int64(micros)).UTC(), recs, nil
}

// parseRecords reads n records and returns what follows them.
func parseRecords(s cryptobyte.String, n int) (recs []Record, rest cryptobyte.String, err error) {
	if len(s) < n*RecordOverhead {
		return nil, nil, malformedInner("%d records in %d bytes", n, len(s))
	}
	recs = make([]Record, n)
	rest = s
	fields, headersLen := 0, 0
	for i := range recs {
		var headers, body cryptobyte.String
		if !rest.ReadUint16LengthPrefixed(&headers) || !readUint32LengthPrefixed(&rest, &body) {
			return nil, nil, malformedInner("record %d of %d is cut short", i, n)
		}
		recs[i].Body = body[:len(body):len(body)]
		if headers.Empty() {
			continue
		}
		count, err := checkHeaders(headers)
		if err != nil {
			return nil, nil, err
		}
		fields += count
		headersLen += len(headers)
	}
	if fields > 0 {
		fillHeaders(recs, s, fields, headersLen)
	}
	return recs, rest, nil
}

// checkHeaders returns how many headers a record has.
func checkHeaders(s cryptobyte.String) (count int, err error) {
	if len(s) > bus.MaxHeadersSize {
		return 0, malformedInner("%d bytes of headers, more than %d", len(s), bus.MaxHeadersSize)
	}
	var last cryptobyte.String
	for ; !s.Empty(); count++ {
		var key, value cryptobyte.String
		if !s.ReadUint8LengthPrefixed(&key) || !s.ReadUint16LengthPrefixed(&value) {
			return 0, malformedInner("header %d is cut short", count)
		}
		if string(key) <= string(last) { // an empty key does not follow anything either
			return 0, malformedInner("header key %d is empty or does not ascend", count)
		}
		last = key
	}
	return count, nil
}

// fillHeaders reads s, which parseRecords has accepted, once more for the
// headers, whose number and length are known by now: all of a frame take one
// slice and one string.
func fillHeaders(recs []Record, s cryptobyte.String, count, length int) {
	fields := make([]HeaderField, 0, count)
	var text strings.Builder
	text.Grow(length)
	for i := range recs {
		var headers, body cryptobyte.String
		s.ReadUint16LengthPrefixed(&headers)
		readUint32LengthPrefixed(&s, &body)
		if headers.Empty() {
			continue
		}
		start, from := text.Len(), len(fields)
		text.Write(headers)
		for block := text.String()[start:]; block != ""; {
			keyEnd := 1 + int(block[0])
			valueEnd := keyEnd + 2 + int(block[keyEnd])<<8 + int(block[keyEnd+1])
			fields = append(fields, HeaderField{Key: block[1:keyEnd], Value: block[keyEnd+2 : valueEnd]})
			block = block[valueEnd:]
		}
		recs[i].Headers = fields[from:len(fields):len(fields)]
	}
}

// readUint32LengthPrefixed is the one length that cryptobyte has no reader for.
func readUint32LengthPrefixed(s, out *cryptobyte.String) bool {
	var n uint32
	return s.ReadUint32(&n) && uint64(n) <= uint64(len(*s)) && s.ReadBytes((*[]byte)(out), int(n))
}

func malformedInner(format string, args ...any) error {
	return bus.Errorf(bus.CodeMalformed, "parse content of frame: "+format, args...)
}
