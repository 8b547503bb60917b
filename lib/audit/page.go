package audit

import (
	"errors"
	"fmt"

	"github.com/enmanuel/unibus/lib/bus"
)

// Page is consecutive lines of a log, for another place to check.
type Page struct {
	First uint64        // number of the first entry
	Prev  bus.AuditHash // what it stands on
	Lines []string      // without newlines
	More  bool          // there are entries after these
}

// errFull ends the reading of a page.
var errFull = errors.New("page is full")

// Page returns the entries from number from on, or from the oldest that is
// there, up to some number of bytes but at least one, as far as they have reached
// the disk.
func (l *Log) Page(from uint64, size int) (Page, error) {
	p, err := l.page(from, size)
	if err != nil && !errors.Is(err, errFull) {
		return Page{}, fmt.Errorf("read audit log: %w", err)
	}
	return p, nil
}

func (l *Log) page(from uint64, size int) (Page, error) {
	last, _ := l.Head()
	firsts, err := list(l.dir)
	if err != nil {
		return Page{}, err
	}
	at := len(firsts) - 1
	for at > 0 && firsts[at] > from {
		at--
	}
	chain, err := startOf(l.dir, firsts[at])
	if err != nil {
		return Page{}, err
	}
	p, have := Page{First: chain.Next(), Prev: chain.Head()}, 0
	for _, first := range firsts[at:] {
		_, err := readFile(l.dir, first, chain, func(e Entry, line []byte) error {
			switch {
			case e.Seq > last:
				return errFull
			case e.Seq < from:
				p.First, p.Prev = e.Seq+1, e.Hash
				return nil
			case len(p.Lines) > 0 && have+len(line) > size:
				p.More = true
				return errFull
			}
			p.Lines, have = append(p.Lines, string(line)), have+len(line)
			return nil
		})
		if err != nil {
			return p, err
		}
	}
	return p, nil
}
