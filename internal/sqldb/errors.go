package sqldb

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"io"
	"net"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5/pgconn"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/promptgate/promptgate/internal/fault"
)

// PostgreSQL's codes that are read here, by their names in its manual (appendix A).
const (
	pgUniqueViolation      = "23505"
	pgExclusionViolation   = "23P01"
	pgForeignKeyViolation  = "23503"
	pgSerializationFailure = "40001"
	pgDeadlockDetected     = "40P01"
	pgDiskFull             = "53100"
	pgLockNotAvailable     = "55P03"
	pgReadOnly             = "25006" // what a standby says after a failover moved the primary
)

// IsUnique reports whether err says that a unique key is taken.
func IsUnique(err error) bool {
	if code, ok := pgCode(err); ok {
		return code == pgUniqueViolation || code == pgExclusionViolation
	}
	code, ok := sqliteCode(err)
	return ok && (code == sqlite3.SQLITE_CONSTRAINT_UNIQUE || code == sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY ||
		code == sqlite3.SQLITE_CONSTRAINT_ROWID)
}

// IsForeignKey reports whether err says that a row refers to one that is not there, or is still referred to.
func IsForeignKey(err error) bool {
	if code, ok := pgCode(err); ok {
		return code == pgForeignKeyViolation
	}
	code, ok := sqliteCode(err)
	return ok && code == sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY
}

// IsRetryable reports whether the whole transaction may succeed if it is run again: PostgreSQL broke a deadlock or a
// serialization conflict.
func IsRetryable(err error) bool {
	code, ok := pgCode(err)
	return ok && (code == pgSerializationFailure || code == pgDeadlockDetected)
}

// IsFull reports whether the storage below the database is full.
func IsFull(err error) bool {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return true
	}
	if code, ok := pgCode(err); ok {
		return code == pgDiskFull
	}
	code, ok := sqliteCode(err)
	return ok && (code&0xff == sqlite3.SQLITE_FULL || code == sqlite3.SQLITE_IOERR_SHMSIZE)
}

// IsDamaged reports whether SQLite found that its file is no database, or no sound one. Trying again does not help.
func IsDamaged(err error) bool {
	code, ok := sqliteCode(err)
	return ok && (code&0xff == sqlite3.SQLITE_CORRUPT || code&0xff == sqlite3.SQLITE_NOTADB)
}

// IsUnavailable reports whether err says that the database cannot be reached or cannot work now: refused, reset, timed out,
// shutting down, locked by another process, closed. A deadline of the context counts; its cancellation does not.
func IsUnavailable(err error) bool {
	switch {
	case err == nil, errors.Is(err, context.Canceled):
		return false
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, driver.ErrBadConn), errors.Is(err, sql.ErrConnDone),
		errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed):
		return true
	}
	if code, ok := pgCode(err); ok {
		return pgUnavailable(code)
	}
	if code, ok := sqliteCode(err); ok {
		return sqliteUnavailable(code)
	}
	var netErr net.Error
	var connErr *pgconn.ConnectError
	var errno syscall.Errno
	if errors.As(err, &netErr) || errors.As(err, &connErr) || errors.As(err, &errno) {
		return true
	}
	// These have no value to compare with.
	s := err.Error()
	return strings.Contains(s, "sql: database is closed") || strings.Contains(s, "conn closed") ||
		strings.Contains(s, "conn busy")
}

func pgUnavailable(code string) bool {
	if len(code) != 5 {
		return false
	}
	switch code[:2] {
	case "08", "53", "57", "58", "28", "3D": // connection, resources, operator, system, wrong login, no such database
		return code != pgDiskFull
	}
	return code == pgLockNotAvailable || code == pgReadOnly
}

func busy(code int) bool {
	return code&0xff == sqlite3.SQLITE_BUSY || code&0xff == sqlite3.SQLITE_LOCKED
}

func sqliteUnavailable(code int) bool {
	switch code & 0xff {
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_INTERRUPT,
		sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM,
		sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
		return code != sqlite3.SQLITE_IOERR_SHMSIZE
	}
	return false
}

// Classify turns a driver's error into the fault that callers act on: Conflict, RegistryUnavailable, StorageFull or
// ClientClosed. A fault that is in the chain already, sql.ErrNoRows and everything unknown come back as they are.
func Classify(err error) error {
	var f *fault.Error
	switch {
	case err == nil, errors.As(err, &f), errors.Is(err, sql.ErrNoRows):
		return err
	case IsFull(err):
		return fault.Wrap(err, fault.StorageFull, "The storage is full: nothing was changed. Free space, then try again.")
	case IsUnique(err):
		return fault.Wrap(err, fault.Conflict, "Something with this name or key exists already.")
	case IsForeignKey(err):
		return fault.Wrap(err, fault.Conflict, "It refers to something that is gone, or something still refers to it.")
	case IsRetryable(err):
		return fault.Wrap(err, fault.Conflict, "It was changed at the same moment: try again.")
	case errors.Is(err, context.Canceled):
		return fault.Wrap(err, fault.ClientClosed, "The request was cancelled.")
	case IsUnavailable(err):
		return fault.Wrap(err, fault.RegistryUnavailable, "The database cannot be reached now: try again shortly.")
	}
	return err
}

func pgCode(err error) (string, bool) {
	var e *pgconn.PgError
	if errors.As(err, &e) {
		return e.Code, true
	}
	return "", false
}

func sqliteCode(err error) (int, bool) {
	var e *sqlite.Error
	if errors.As(err, &e) {
		return e.Code(), true
	}
	return 0, false
}
