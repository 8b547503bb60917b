package pub

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/client"
	"github.com/enmanuel/unibus/lib/frame"
)

func TestParseHeaders(t *testing.T) {
	eol := client.Header{Key: "unibus-eol", Value: "none"}
	for _, tt := range []struct {
		name  string
		words []string
		line  []client.Header
		open  []client.Header
		code  bus.Code
	}{
		{name: "none", open: []client.Header{eol}},
		{name: "sorted, values with = and commas whole", words: []string{"z=a=b,c", "a="},
			line: []client.Header{{Key: "a"}, {Key: "z", Value: "a=b,c"}},
			open: []client.Header{{Key: "a"}, eol, {Key: "z", Value: "a=b,c"}}},
		{name: "no =", words: []string{"a"}, code: bus.CodeUsage},
		{name: "no key", words: []string{"=a"}, code: bus.CodeUsage},
		{name: "twice", words: []string{"a=1", "b=1", "a=2"}, code: bus.CodeUsage},
		{name: "reserved", words: []string{"unibus-x=1"}, code: bus.CodeUsage},
		{name: "too long a key", words: []string{strings.Repeat("k", bus.MaxHeaderKey+1) + "=1"}, code: bus.CodeUsage},
		{name: "too much together", words: []string{"a=" + strings.Repeat("v", bus.MaxHeadersSize)}, code: bus.CodeUsage},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h, err := parseHeaders(tt.words)
			if have := bus.CodeOf(err); have != tt.code {
				t.Fatalf("error is %v, want code %q", err, tt.code)
			}
			if err != nil {
				return
			}
			if diff := cmp.Diff(tt.line, h.line); diff != "" {
				t.Error("line: ", diff)
			}
			if diff := cmp.Diff(tt.open, h.open); diff != "" {
				t.Error("open: ", diff)
			}
		})
	}
}

func TestTheLongestBodyFitsWithItsHeaders(t *testing.T) {
	for _, value := range []int{0, 1, 1000, bus.MaxHeadersSize - 100} {
		h, err := parseHeaders([]string{"a=" + strings.Repeat("v", value)})
		if err != nil {
			t.Fatal(err)
		}
		body := make([]byte, h.room())
		if err := frame.CheckRecord(frame.Record{Headers: h.open, Body: body}); err != nil {
			t.Errorf("headers of %d bytes: %v", value, err)
		}
		if err := frame.CheckRecord(frame.Record{Headers: h.open, Body: append(body, 0)}); err == nil {
			t.Errorf("headers of %d bytes: a byte more fits too", value)
		}
	}
}
