package store

import (
	"slices"
	"strings"
	"time"

	"github.com/enmanuel/unibus/lib/bus"
)

const (
	// MaxKeyLen is the greatest length of a key or prefix, in bytes.
	MaxKeyLen = 512
	// MaxValueSize is the greatest size of a value, in bytes.
	MaxValueSize = 1 << 20
)

// CheckBucket refuses, with [bus.CodeMalformed], what is none of [Buckets].
func CheckBucket(b Bucket) error {
	if !slices.Contains(Buckets(), b) {
		return bus.Errorf(bus.CodeMalformed, "check bucket %.40q: want one of %q", string(b), Buckets())
	}
	return nil
}

// CheckKey refuses, with [bus.CodeMalformed], what is no key: 1 to [MaxKeyLen]
// letters, digits and '_', '=', '.', '-', in segments separated by '/', none of
// them empty.
func CheckKey(key string) error {
	if key == "" || strings.HasSuffix(key, "/") || !prefixOfKey(key) {
		return bus.Errorf(bus.CodeMalformed, "check key %.80q: want 1 to %d letters, digits, '_', '=', '.' and '-' in segments joined by '/'", key, MaxKeyLen)
	}
	return nil
}

// CheckPrefix refuses, with [bus.CodeMalformed], what no key can begin with. The
// empty prefix is how every key begins.
func CheckPrefix(prefix string) error {
	if prefix != "" && !prefixOfKey(prefix) {
		return bus.Errorf(bus.CodeMalformed, "check prefix %.80q: no key can begin with it", prefix)
	}
	return nil
}

func prefixOfKey(s string) bool {
	if len(s) > MaxKeyLen || strings.HasPrefix(s, "/") || strings.Contains(s, "//") {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("_=./-", c) >= 0) {
			return false
		}
	}
	return true
}

// CheckValue refuses, with [bus.CodeTooLarge], a value over [MaxValueSize].
func CheckValue(value []byte) error {
	if len(value) > MaxValueSize {
		return bus.Errorf(bus.CodeTooLarge, "check value: %d bytes, want at most %d", len(value), MaxValueSize)
	}
	return nil
}

// CheckTTL refuses, with [bus.CodeMalformed], a time to live below zero.
func CheckTTL(ttl time.Duration) error {
	if ttl < 0 {
		return bus.Errorf(bus.CodeMalformed, "check time to live: %s is below zero", ttl)
	}
	return nil
}
