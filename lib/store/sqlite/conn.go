package sqlite

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/ncruces/go-sqlite3"

	"github.com/enmanuel/unibus/lib/store"
)

// conn is one connection with its prepared statements, for one goroutine at a
// time.
type conn struct {
	db    *sqlite3.Conn
	stmts map[string]*sqlite3.Stmt
}

// openConn opens the file, which must exist. Nothing has been read of it yet.
func openConn(ctx context.Context, path string, opts Options) (*conn, error) {
	name := opts.fs.name
	if opts.Key != nil {
		name = opts.fs.encrypted()
	}
	// SQLite's other files take mode and owner of the one that modeof names.
	uri := (&url.URL{Scheme: "file", Path: path, RawQuery: "vfs=" + escape(name) + "&modeof=" + escape(path)}).String()
	db, err := sqlite3.OpenFlags(uri, sqlite3.OPEN_READWRITE|sqlite3.OPEN_URI|sqlite3.OPEN_NOFOLLOW)
	if err != nil {
		return nil, err
	}
	c := &conn{db: db, stmts: map[string]*sqlite3.Stmt{}}
	db.SetInterrupt(ctx)
	defer db.SetInterrupt(context.Background())
	if opts.Key != nil {
		// The key comes first, or nothing can be read, and as a statement, since
		// the parameters of the URI can be read back.
		err = db.Exec("PRAGMA hexkey='" + hex.EncodeToString(opts.Key[:]) + "'")
		if err != nil {
			err = errors.New("set the key of the file") // without the statement, which holds it
		}
	}
	if err == nil {
		err = db.BusyTimeout(opts.BusyTimeout)
	}
	if err != nil {
		return nil, errors.Join(err, c.close())
	}
	return c, nil
}

// escape writes a value of a URI the way SQLite reads it: '+' is no space.
func escape(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") }

func (c *conn) close() error {
	var errs []error
	for _, stmt := range c.stmts {
		errs = append(errs, stmt.Close())
	}
	return errors.Join(append(errs, c.db.Close())...)
}

// run executes one statement with its arguments (int64, string, []byte or
// nil), which stays prepared, and calls each for its rows until that returns
// false. each may be nil.
func (c *conn) run(sql string, each func(row *sqlite3.Stmt) (more bool), args ...any) (err error) {
	stmt := c.stmts[sql]
	if stmt == nil {
		if stmt, _, err = c.db.PrepareFlags(sql, sqlite3.PREPARE_PERSISTENT); err != nil {
			return err
		}
		c.stmts[sql] = stmt
	}
	defer func() {
		// Reset repeats the error of Step, which is in err already.
		if reset := errors.Join(stmt.Reset(), stmt.ClearBindings()); err == nil {
			err = reset
		}
	}()
	for i, arg := range args {
		switch v := arg.(type) {
		case int64:
			err = stmt.BindInt64(i+1, v)
		case string:
			err = stmt.BindText(i+1, v)
		case []byte:
			err = stmt.BindBlob(i+1, v)
		case nil:
			err = stmt.BindNull(i + 1)
		default:
			err = fmt.Errorf("bind a %T", arg)
		}
		if err != nil {
			return err
		}
	}
	for stmt.Step() {
		if each != nil && !each(stmt) {
			return nil
		}
	}
	return stmt.Err()
}

// number runs a statement that answers with one number; 0 if it has no row.
func (c *conn) number(sql string, args ...any) (n int64, err error) {
	err = c.run(sql, func(row *sqlite3.Stmt) bool {
		n = row.ColumnInt64(0)
		return false
	}, args...)
	return n, err
}

// row is one row of a bucket's table, read in the order of its columns.
type row struct {
	store.Entry
	dead bool  // a tombstone
	ends int64 // as in the table; 0 is never
}

func readRow(s *sqlite3.Stmt) row {
	r := row{ends: s.ColumnInt64(3)}
	r.Revision = store.Revision(s.ColumnInt64(0))
	r.Key = s.ColumnText(1)
	if r.dead = s.ColumnType(2) == sqlite3.NULL; !r.dead {
		r.Value = s.ColumnBlob(2, []byte{})
	}
	return r
}

// lives reports whether the row is an entry at a time.
func (r row) lives(now time.Time) bool {
	return !r.dead && (r.ends == 0 || r.ends > now.UnixNano())
}

// pool holds the connections of one kind that nobody uses just now. Whoever
// takes one puts it back.
type pool struct {
	idle chan *conn
	size int // how many there are, in use or not
}

func newPool(capacity int) *pool { return &pool{idle: make(chan *conn, capacity)} }

// add gives the pool a new connection, before anybody uses the pool.
func (p *pool) add(c *conn) {
	p.size++
	p.idle <- c
}

// close waits for every connection to be put back and closes it.
func (p *pool) close() error {
	var errs []error
	for range p.size {
		errs = append(errs, (<-p.idle).close())
	}
	return errors.Join(errs...)
}
