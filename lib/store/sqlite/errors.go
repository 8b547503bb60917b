package sqlite

import (
	"context"
	"errors"
	"syscall"

	"github.com/ncruces/go-sqlite3"

	"github.com/enmanuel/unibus/lib/bus"
)

// diskFull reports that there is no room for a write. SQLite takes the write
// back, so it did not happen, and one that needs less may still succeed.
func diskFull(err error) bool {
	return errors.Is(err, sqlite3.FULL) || errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// broken reports that the file or the disk under it can no longer be trusted.
func broken(err error) bool {
	if diskFull(err) {
		return false
	}
	for _, code := range []sqlite3.ErrorCode{sqlite3.IOERR, sqlite3.CORRUPT, sqlite3.NOTADB, sqlite3.CANTOPEN, sqlite3.READONLY} {
		if errors.Is(err, code) {
			return true
		}
	}
	return false
}

// wrap gives an error of a call its code and says what was being done. ended
// is what the store says of itself when it is no longer serving.
func wrap(ctx context.Context, what string, err error) error {
	if err == nil {
		return nil
	}
	if coded, ok := errors.AsType[*bus.Error](err); ok {
		return bus.Errorf(coded.Code, "%s: %w", what, err)
	}
	switch {
	case ctx.Err() != nil && (errors.Is(err, sqlite3.INTERRUPT) || errors.Is(err, ctx.Err())):
		return bus.Errorf(bus.CodeTimeout, "%s: %w", what, ctx.Err())
	case errors.Is(err, sqlite3.BUSY) || errors.Is(err, sqlite3.LOCKED):
		return bus.Errorf(bus.CodeUnavailable, "%s: another process holds the file: %w", what, err)
	case diskFull(err) || broken(err):
		return bus.Errorf(bus.CodeUnavailable, "%s: %w", what, err)
	}
	return bus.Errorf(bus.CodeInternal, "%s: %w", what, err)
}
