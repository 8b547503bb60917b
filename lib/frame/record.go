package frame

import (
	"github.com/enmanuel/unibus/lib/bus"
)

// RecordOverhead is what a record adds to its encoded headers and its body in a
// frame: the lengths of the two, in bytes.
const RecordOverhead = 6

// Record is one message of an application. A frame carries 1 to
// [bus.MaxRecords] of them.
type Record struct {
	Headers []HeaderField // strictly ascending by key, [bus.MaxHeadersSize] bytes encoded
	Body    []byte
}

// HeaderField is one header of a record.
type HeaderField struct {
	Key   string // 1 to [bus.MaxHeaderKey] bytes, compared as bytes
	Value string // any bytes; the receiver must not trust them to be text
}

// headersLen returns the encoded length of the headers, without its own length.
func (r *Record) headersLen() int {
	n := 0
	for i := range r.Headers {
		n += 1 + len(r.Headers[i].Key) + 2 + len(r.Headers[i].Value)
	}
	return n
}

// RecordSize returns how many bytes the record takes in a frame, its lengths
// included. It does not check the record.
func RecordSize(r Record) int { return RecordOverhead + r.headersLen() + len(r.Body) }

// CheckRecord refuses a record that no frame can carry: with
// [bus.CodeTooLarge] when headers or the whole are beyond [bus.MaxHeadersSize]
// or [bus.MaxRecordSize], and with [bus.CodeMalformed] when a header has no
// key or keys do not ascend.
func CheckRecord(r Record) error {
	for i := range r.Headers {
		key := r.Headers[i].Key
		switch {
		case len(key) == 0:
			return bus.Errorf(bus.CodeMalformed, "check record: header %d has no key", i)
		case len(key) > bus.MaxHeaderKey:
			return bus.Errorf(bus.CodeTooLarge, "check record: header key of %d bytes, more than %d", len(key), bus.MaxHeaderKey)
		case i > 0 && key <= r.Headers[i-1].Key:
			return bus.Errorf(bus.CodeMalformed, "check record: header key %.80q does not follow %.80q", key, r.Headers[i-1].Key)
		}
	}
	headers := r.headersLen()
	if headers > bus.MaxHeadersSize {
		return bus.Errorf(bus.CodeTooLarge, "check record: %d bytes of headers, more than %d", headers, bus.MaxHeadersSize)
	}
	if size := headers + len(r.Body); size > bus.MaxRecordSize {
		return bus.Errorf(bus.CodeTooLarge, "check record: %d bytes with its headers, more than %d", size, bus.MaxRecordSize)
	}
	return nil
}

// Budget counts what one frame still has room for, so that whoever batches
// records fills frames and never overfills one. Its zero value is an empty
// frame. A record that passes [CheckRecord] always fits an empty frame.
type Budget struct {
	records int
	bytes   int
}

// Take reports whether the record fits beside those already taken, and takes it
// if so.
func (b *Budget) Take(r Record) bool {
	size := RecordSize(r)
	if b.records >= bus.MaxRecords || size > MaxInner-InnerOverhead-b.bytes {
		return false
	}
	b.records++
	b.bytes += size
	return true
}

// Records returns how many records were taken.
func (b *Budget) Records() int { return b.records }

// FrameSize returns how long the frame of the records taken is, in bytes, in an
// encrypted room without padding.
func (b *Budget) FrameSize() int { return Overhead + b.bytes }

// Reset empties the budget.
func (b *Budget) Reset() { *b = Budget{} }
