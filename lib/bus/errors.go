package bus

import (
	"errors"
	"fmt"
)

// Error is a failure with a stable [Code] that programs tell apart and a
// message for people. Match the code with errors.Is against one of the
// sentinels (errors.Is(err, bus.ErrDecrypt)), or read it with [CodeOf].
type Error struct {
	Code Code
	msg  string
	err  error
}

// Errorf returns an error with a code and a message in the manner of
// [fmt.Errorf]: "verb noun: cause", %w wraps.
func Errorf(code Code, format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	return &Error{Code: code, msg: err.Error(), err: errors.Unwrap(err)}
}

// Error returns the message and, in front of it, nothing: the code is for programs.
func (e *Error) Error() string {
	if e.msg == "" {
		return e.Code.Title()
	}
	return e.msg
}

// Unwrap returns the error that Errorf's %w named, or nil.
func (e *Error) Unwrap() error { return e.err }

// Is reports whether target is a sentinel with the same code. A target with a
// message of its own matches only itself.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.msg == "" && t.err == nil && t.Code == e.Code
}

// CodeOf returns the code of the first [Error] in err's chain: "" for nil and
// [CodeInternal] for an error without one.
func CodeOf(err error) Code {
	if err == nil {
		return ""
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	return CodeInternal
}
