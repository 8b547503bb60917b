package main

import (
	"errors"
	"testing"
	"time"
)

func TestSummariesBeginAnew(t *testing.T) {
	var l latencies
	for i := range 100 {
		l.add(time.Duration(100-i)*time.Millisecond, nil)
	}
	l.add(time.Hour, errors.New("first"))
	l.add(time.Hour, errors.New("second"))
	want := summary{OK: 100, Failed: 2, P50: 51, P99: 100, Max: 100, Error: "first"}
	if have := l.take(); have != want {
		t.Errorf("have %+v, want %+v", have, want)
	}
	if have := l.take(); have != (summary{}) {
		t.Errorf("have %+v after it was taken", have)
	}
}
