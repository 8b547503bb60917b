package store

import (
	"errors"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/enmanuel/unibus/lib/bus"
)

var keyCases = []struct {
	key             string
	isKey, isPrefix bool // a key; how a key can begin
}{
	{"a", true, true},
	{"users/0f1e", true, true},
	{"records/AZaz09_-/x=.y..", true, true},
	{".", true, true},
	{"..", true, true},
	{strings.Repeat("k", MaxKeyLen), true, true},
	{"", false, true},
	{"users/", false, true},
	{strings.Repeat("k", MaxKeyLen-1) + "/", false, true},
	{strings.Repeat("k", MaxKeyLen+1), false, false},
	{"/", false, false},
	{"/users", false, false},
	{"users//a", false, false},
	{"users//", false, false},
	{"a b", false, false},
	{"a\n", false, false},
	{"a\x00", false, false},
	{"é", false, false},
	{"a*", false, false},
	{"a>", false, false},
	{"a%", false, false},
	{`a\b`, false, false},
	{"a\x7f", false, false},
}

func TestCheckKeyAndPrefix(t *testing.T) {
	for _, tt := range keyCases {
		check := func(what string, err error, ok bool) {
			t.Helper()
			if ok && err != nil {
				t.Errorf("%s %.20q: %v", what, tt.key, err)
			}
			if !ok && !errors.Is(err, bus.ErrMalformed) {
				t.Errorf("%s %.20q: error is %v, want %s", what, tt.key, err, bus.CodeMalformed)
			}
		}
		check("key", CheckKey(tt.key), tt.isKey)
		check("prefix", CheckPrefix(tt.key), tt.isPrefix)
	}
}

func TestCheckBucket(t *testing.T) {
	for _, b := range Buckets() {
		if err := CheckBucket(b); err != nil {
			t.Error(err)
		}
	}
	for _, b := range []Bucket{"", "Control", "control ", "users"} {
		if err := CheckBucket(b); !errors.Is(err, bus.ErrMalformed) {
			t.Errorf("bucket %q: %v", b, err)
		}
	}
}

func TestCheckValueAndTTL(t *testing.T) {
	for _, value := range [][]byte{nil, {}, {0}, make([]byte, MaxValueSize)} {
		if err := CheckValue(value); err != nil {
			t.Error(err)
		}
	}
	if err := CheckValue(make([]byte, MaxValueSize+1)); !errors.Is(err, bus.ErrTooLarge) {
		t.Errorf("value of %d bytes: %v", MaxValueSize+1, err)
	}
	for _, ttl := range []time.Duration{0, 1, time.Hour} {
		if err := CheckTTL(ttl); err != nil {
			t.Error(err)
		}
	}
	if err := CheckTTL(-1); !errors.Is(err, bus.ErrMalformed) {
		t.Errorf("ttl of -1: %v", err)
	}
}

func FuzzCheckKey(f *testing.F) {
	for _, tt := range keyCases {
		f.Add(tt.key)
	}
	grammar := regexp.MustCompile(`^[A-Za-z0-9_=.-]+(/[A-Za-z0-9_=.-]+)*$`)
	f.Fuzz(func(t *testing.T, key string) {
		want := grammar.MatchString(key) && len(key) <= MaxKeyLen && !strings.HasSuffix(key, "\n")
		if have := CheckKey(key) == nil; have != want {
			t.Fatalf("key %q accepted: %t, want %t", key, have, want)
		}
		if !want {
			return
		}
		for i := range key {
			if err := CheckPrefix(key[:i]); err != nil {
				t.Fatal(err)
			}
		}
	})
}
