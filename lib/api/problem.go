package api

import (
	"encoding/json"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/enmanuel/unibus/lib/bus"
)

// Media types of bodies.
const (
	MediaJSON    = "application/json"
	MediaProblem = "application/problem+json"
)

// MaxReply bounds a reply that [ReadReply] reads, in bytes.
const MaxReply = 8 << 20

// problemType is what the code is appended to.
const problemType = "urn:unibus:"

// Problem is the body of every error (RFC 9457).
type Problem struct {
	Type         string   `json:"type"` // "urn:unibus:<code>"
	Title        string   `json:"title"`
	Status       int      `json:"status"`
	Detail       string   `json:"detail,omitempty"`
	Code         bus.Code `json:"code"`
	RequestID    string   `json:"request_id,omitempty"`
	RetryAfterMS int64    `json:"retry_after_ms,omitempty"`
	Head         *Head    `json:"head,omitempty"` // with [bus.CodeConflict] on a room: its current head
}

// NewProblem describes err to a client. What failed inside the server (status
// 500 and above) stays there: the detail is left out, the request id leads to
// the log.
func NewProblem(err error, requestID string) Problem {
	code := bus.CodeOf(err)
	p := Problem{
		Type:      problemType + string(code),
		Title:     code.Title(),
		Status:    StatusOf(code),
		Code:      code,
		RequestID: requestID,
	}
	if p.Status < http.StatusInternalServerError {
		p.Detail = printable(err.Error())
	}
	return p
}

// WriteProblem sends p as the reply. The error is that of writing to the client.
func WriteProblem(w http.ResponseWriter, p Problem) error {
	body, err := Encode(p)
	if err != nil {
		return err
	}
	h := w.Header()
	h.Set("Content-Type", MediaProblem)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	if p.RetryAfterMS > 0 {
		h.Set("Retry-After", strconv.FormatInt((p.RetryAfterMS+999)/1000, 10))
	}
	w.WriteHeader(p.Status)
	_, err = w.Write(body)
	return err
}

// Error is a problem a server answered with. errors.Is matches the sentinel of
// its code, [bus.CodeOf] returns the code.
type Error struct {
	Problem Problem // as the server sent it, with the code that was understood
	err     *bus.Error
}

// Error returns the server's words, made safe to print.
func (e *Error) Error() string { return e.err.Error() }

// Unwrap returns the error with the code.
func (e *Error) Unwrap() error { return e.err }

// RequestID returns the id by which the server's log has the request, "" if it
// did not say.
func (e *Error) RequestID() string { return e.Problem.RequestID }

// RetryAfter returns how long the server asks to wait, 0 if it does not say.
func (e *Error) RetryAfter() time.Duration {
	return time.Duration(e.Problem.RetryAfterMS) * time.Millisecond
}

// plainToTLS is the body of the reply of net/http to a request without TLS on a
// port with TLS.
const plainToTLS = "Client sent an HTTP request to an HTTPS server.\n"

// ReadProblem reads the problem document of a reply that is not a success. A
// body that is none, as from a proxy, gives the code its status stands for.
// It reads a bounded part of the body and does not close it.
func ReadProblem(resp *http.Response) *Error {
	var p Problem
	media, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")) // an unreadable type is none of ours
	if media == MediaProblem {
		body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
		if err != nil || json.Unmarshal(body, &p) != nil {
			p = Problem{}
		}
	}
	if resp.StatusCode == http.StatusBadRequest && media == "" && resp.TLS == nil {
		// What net/http answers where it expected a TLS handshake.
		body, err := io.ReadAll(io.LimitReader(resp.Body, int64(len(plainToTLS))+1))
		if err == nil && strings.TrimSpace(string(body)) == strings.TrimSpace(plainToTLS) {
			p.Detail = "it takes TLS only and was asked without; use https:// in --url and tls:// in --server, or a context that has them"
		}
	}
	p.Status = resp.StatusCode
	if !p.Code.Known() {
		p.Code = codeOfStatus(resp.StatusCode)
	}
	p.Type, p.Title = problemType+string(p.Code), p.Code.Title()
	p.Detail, p.RequestID = printable(p.Detail), printable(p.RequestID)
	// More than a day is no answer to "when may I try again".
	p.RetryAfterMS = min(max(p.RetryAfterMS, 0), (24 * time.Hour).Milliseconds())
	text := p.Detail
	if text == "" {
		text = p.Title
	}
	if p.RequestID != "" && p.Status >= http.StatusInternalServerError {
		text += " (request " + p.RequestID + ")"
	}
	return &Error{Problem: p, err: bus.Errorf(p.Code, "server answered %d: %s", p.Status, text)}
}

// ReadReply reads a reply. A success is decoded into v, which may be nil for a
// reply without a body; anything else is returned as an [*Error]. It does not
// close the body.
func ReadReply(resp *http.Response, v any) error {
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return ReadProblem(resp)
	}
	if v == nil {
		return nil
	}
	if media, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type")); err != nil || media != MediaJSON {
		return bus.Errorf(bus.CodeMalformed, "read reply: content type %.80q is not %s", resp.Header.Get("Content-Type"), MediaJSON)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, MaxReply+1))
	switch {
	case err != nil:
		return bus.Errorf(bus.CodeUnavailable, "read reply: %w", err)
	case len(body) > MaxReply:
		return bus.Errorf(bus.CodeTooLarge, "read reply: more than %d bytes", MaxReply)
	}
	if err := json.Unmarshal(body, v); err != nil {
		return bus.Errorf(bus.CodeMalformed, "read reply: %w", err)
	}
	return nil
}

// statuses maps codes to HTTP statuses. Codes that no server answers with are
// left out.
var statuses = map[bus.Code]int{
	bus.CodeMalformed:       http.StatusBadRequest,
	bus.CodeMisrouted:       http.StatusBadRequest,
	bus.CodeBadSignature:    http.StatusBadRequest, // of a card or record; a request's own is unauthenticated
	bus.CodeExpired:         http.StatusBadRequest,
	bus.CodeMembersMismatch: http.StatusBadRequest,
	bus.CodeSealedMismatch:  http.StatusBadRequest,
	bus.CodeKeyMismatch:     http.StatusBadRequest,
	bus.CodeCardMismatch:    http.StatusBadRequest,
	bus.CodeWeakKey:         http.StatusBadRequest,
	bus.CodeBlobMismatch:    http.StatusBadRequest, // of what was put
	bus.CodeWrongBus:        http.StatusBadRequest,
	bus.CodeUsage:           http.StatusBadRequest,

	bus.CodeUnauthenticated: http.StatusUnauthorized,
	bus.CodeClockSkew:       http.StatusUnauthorized,
	bus.CodeNonceSpent:      http.StatusUnauthorized,

	bus.CodeForbidden:    http.StatusForbidden,
	bus.CodeRevoked:      http.StatusForbidden,
	bus.CodePolicy:       http.StatusForbidden,
	bus.CodeNotMember:    http.StatusForbidden,
	bus.CodeNotAuthority: http.StatusForbidden,
	bus.CodeTransition:   http.StatusForbidden,
	bus.CodeQuota:        http.StatusForbidden,

	bus.CodeNotFound:     http.StatusNotFound,
	bus.CodeEpochUnknown: http.StatusNotFound,

	bus.CodeExists:       http.StatusConflict,
	bus.CodeConflict:     http.StatusConflict,
	bus.CodeFork:         http.StatusConflict,
	bus.CodeGap:          http.StatusConflict,
	bus.CodeRollback:     http.StatusConflict,
	bus.CodeCardFork:     http.StatusConflict,
	bus.CodeEquivocation: http.StatusConflict,
	bus.CodeAuditBroken:  http.StatusConflict,

	bus.CodeTooLarge:    http.StatusRequestEntityTooLarge,
	bus.CodeRateLimited: http.StatusTooManyRequests,

	bus.CodeUnavailable:    http.StatusServiceUnavailable,
	bus.CodeUnknownOutcome: http.StatusServiceUnavailable,
	bus.CodeClosed:         http.StatusServiceUnavailable,
	bus.CodeTimeout:        http.StatusGatewayTimeout,
}

// StatusOf returns the HTTP status of a code: 500 for one no server should
// answer with.
func StatusOf(c bus.Code) int {
	if s, ok := statuses[c]; ok {
		return s
	}
	return http.StatusInternalServerError
}

// codeOfStatus is for replies without a code that is known.
func codeOfStatus(status int) bus.Code {
	switch status {
	case http.StatusUnauthorized:
		return bus.CodeUnauthenticated
	case http.StatusForbidden:
		return bus.CodeForbidden
	case http.StatusNotFound:
		return bus.CodeNotFound
	case http.StatusConflict:
		return bus.CodeConflict
	case http.StatusRequestEntityTooLarge:
		return bus.CodeTooLarge
	case http.StatusTooManyRequests:
		return bus.CodeRateLimited
	case http.StatusBadGateway, http.StatusServiceUnavailable:
		return bus.CodeUnavailable
	case http.StatusGatewayTimeout:
		return bus.CodeTimeout
	}
	if status < 500 { // also one that sends the client elsewhere, where it must not go
		return bus.CodeMalformed
	}
	return bus.CodeInternal
}

// printable cuts s to [bus.MaxDetailLen] and replaces what a terminal would
// act on: the text comes from another machine, or quotes one.
func printable(s string) string {
	if len(s) > bus.MaxDetailLen {
		end := bus.MaxDetailLen
		for end > 0 && !utf8.RuneStart(s[end]) {
			end--
		}
		s = s[:end]
	}
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return unicode.ReplacementChar
		}
		return r
	}, s)
}
