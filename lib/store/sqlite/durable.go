package sqlite

import (
	"context"

	"github.com/ncruces/go-sqlite3"
)

// Durable asks the connection that writes whether a commit is on the disk
// before it returns: it has a write-ahead log, and flushes it for each.
func (s *Store) Durable(ctx context.Context) (bool, error) {
	c, err := s.take(ctx, s.writer)
	if err != nil {
		return false, wrap(ctx, "ask for durability", err)
	}
	defer func() { s.writer.idle <- c }()
	var mode string
	var synchronous int64
	err = c.run("PRAGMA journal_mode", func(row *sqlite3.Stmt) bool { mode = row.ColumnText(0); return false })
	if err == nil {
		err = c.run("PRAGMA synchronous", func(row *sqlite3.Stmt) bool { synchronous = row.ColumnInt64(0); return false })
	}
	const full = 2
	return mode == "wal" && synchronous >= full, wrap(ctx, "ask for durability", s.judge(err))
}
