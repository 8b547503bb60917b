package cli

import (
	"io"
	"strconv"
	"strings"
	"sync"
	"unicode"
)

// stream is standard output or error. It is safe for concurrent use, remembers
// the first failure, and after that takes nothing more.
type stream struct {
	failed func(error) // told of the first failure

	mu  sync.Mutex
	w   io.Writer
	err error
}

// Write implements [io.Writer].
func (s *stream) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return 0, s.err
	}
	n, err := s.w.Write(p)
	if err != nil {
		s.err = err
		s.failed(err)
	}
	return n, err
}

// failure returns the first error.
func (s *stream) failure() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// redirect sends what is written from now on to w and returns where it went before.
func (s *stream) redirect(w io.Writer) (before io.Writer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before, s.w = s.w, w
	return before
}

// Printable returns s with every character that could drive a terminal, such
// as escape and newline, written as in a Go string (\x1b). What comes from a
// peer or a server goes through it before people see it.
func Printable(s string) string {
	if strings.IndexFunc(s, notPrintable) < 0 {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if !notPrintable(r) {
			b.WriteRune(r)
			continue
		}
		quoted := strconv.QuoteRuneToASCII(r)
		b.WriteString(quoted[1 : len(quoted)-1])
	}
	return b.String()
}

// notPrintable also finds the characters that change the direction of text,
// with which one name can be made to look like another.
func notPrintable(r rune) bool {
	return r == unicode.ReplacementChar || !unicode.IsGraphic(r) || unicode.Is(unicode.Bidi_Control, r)
}
