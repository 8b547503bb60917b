package sqlite

import (
	"errors"
	"fmt"
	"strings"

	"github.com/ncruces/go-sqlite3"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/store"
)

const (
	applicationID = 0x75627573 // "ubus", in the header of every file of ours
	schemaVersion = 1
)

// table makes a bucket's table. AUTOINCREMENT keeps revisions from being used
// twice, even when the newest row was trimmed. A row without a value is a
// tombstone. ends, in nanoseconds since 1970, is when an entry's time is over
// and when a tombstone may be trimmed whoever has not seen it.
const table = `
CREATE TABLE %[1]s (
	revision INTEGER PRIMARY KEY AUTOINCREMENT,
	key      TEXT NOT NULL UNIQUE,
	value    BLOB,
	ends     INTEGER
) STRICT;
CREATE INDEX %[1]s_ends ON %[1]s (ends) WHERE ends IS NOT NULL;
CREATE INDEX %[1]s_dead ON %[1]s (revision) WHERE value IS NULL;
`

// queries are the statements of one bucket.
type queries struct {
	head, get, list, since, put, ended, due, stale, trim string
}

var queriesOf = func() map[store.Bucket]queries {
	all := map[store.Bucket]queries{}
	for _, b := range store.Buckets() {
		in := func(sql string) string { return strings.ReplaceAll(sql, "$T", string(b)) }
		all[b] = queries{
			head: in(`SELECT seq FROM sqlite_sequence WHERE name = '$T'`),
			get:  in(`SELECT revision, key, value, ends FROM $T WHERE key = ?1`),
			list: in(`SELECT revision, key, value, ends FROM $T WHERE key >= ?1 AND key < ?2 ORDER BY key`),
			// The '+' keeps SQLite on the order of revisions, where it reads only what is new.
			since: in(`SELECT revision, key, value, ends FROM $T WHERE revision > ?1 AND +key >= ?2 AND +key < ?3 ORDER BY revision`),
			put:   in(`INSERT OR REPLACE INTO $T (key, value, ends) VALUES (?1, ?2, ?3)`),
			ended: in(`SELECT key FROM $T WHERE ends <= ?1 AND value IS NOT NULL ORDER BY ends LIMIT ?2`),
			// Whether ended or trim would find anything.
			due:   in(`SELECT EXISTS (SELECT 1 FROM $T WHERE ends <= ?1) OR EXISTS (SELECT 1 FROM $T WHERE value IS NULL AND revision <= ?2)`),
			stale: in(`SELECT max(revision) FROM $T WHERE value IS NULL AND ends <= ?1`),
			trim:  in(`DELETE FROM $T WHERE value IS NULL AND revision <= ?1`),
		}
	}
	return all
}()

// prepareFile makes an empty file a store of ours, or checks that it is one,
// before anything in it is changed.
func (c *conn) prepareFile(encrypted bool) error {
	var have [3]int64
	for i, sql := range []string{"PRAGMA application_id", "PRAGMA user_version", "SELECT count(*) FROM sqlite_schema"} {
		n, err := c.number(sql)
		if errors.Is(err, sqlite3.NOTADB) {
			if encrypted {
				return bus.Errorf(bus.CodeMalformed, "the file is no SQLite database under this key: the key is another one, or the file is not encrypted")
			}
			return bus.Errorf(bus.CodeMalformed, "the file is no SQLite database, or it is encrypted and needs its key")
		}
		if err != nil {
			return fmt.Errorf("read the file's header: %w", err)
		}
		have[i] = n
	}
	app, version, objects := have[0], have[1], have[2]
	fresh := app == 0 && version == 0 && objects == 0
	switch {
	case !fresh && app != applicationID:
		return bus.Errorf(bus.CodeMalformed, "the file is the SQLite database of another program (application_id %#x, want %#x)", uint32(app), applicationID)
	case !fresh && version > schemaVersion:
		return bus.Errorf(bus.CodeMalformed, "the file was written by a newer unibus (schema %d; this one knows %d): use that one", version, schemaVersion)
	case !fresh && version < schemaVersion:
		return bus.Errorf(bus.CodeMalformed, "the file has schema %d, which never was (this unibus knows %d)", version, schemaVersion)
	}
	if err := c.setJournal(); err != nil {
		return err
	}
	if !fresh {
		return nil
	}
	var sql strings.Builder
	sql.WriteString("BEGIN IMMEDIATE;")
	for _, b := range store.Buckets() {
		fmt.Fprintf(&sql, table, string(b))
	}
	fmt.Fprintf(&sql, "PRAGMA application_id = %d; PRAGMA user_version = %d; COMMIT", applicationID, schemaVersion)
	if err := c.db.Exec(sql.String()); err != nil {
		return fmt.Errorf("make the tables: %w", err)
	}
	return nil
}

// setJournal makes commits durable. It is needed on every connection that
// writes; the log itself is a property of the file.
func (c *conn) setJournal() error {
	var mode string
	err := c.run("PRAGMA journal_mode = WAL", func(row *sqlite3.Stmt) bool {
		mode = row.ColumnText(0)
		return false
	})
	if err == nil && mode != "wal" {
		err = fmt.Errorf("journal mode stays %q", mode)
	}
	if err == nil {
		err = c.db.Exec("PRAGMA synchronous = FULL; PRAGMA temp_store = MEMORY; PRAGMA journal_size_limit = 16777216; PRAGMA trusted_schema = OFF")
	}
	if err != nil {
		return fmt.Errorf("set the journal: %w", err)
	}
	return nil
}
