package bus

import (
	"maps"
	"slices"
)

// Code is the stable name of a kind of failure: in errors, in problem documents
// (RFC 9457, as "urn:unibus:<code>") and in `--json` output. A code is never
// renamed and never given another meaning.
type Code string

// The codes.
const (
	CodeMalformed       Code = "malformed"
	CodePolicy          Code = "policy"
	CodeMisrouted       Code = "misrouted"
	CodeEpochUnknown    Code = "epoch_unknown"
	CodeFork            Code = "fork"
	CodeGap             Code = "gap"
	CodeRollback        Code = "rollback"
	CodeNotMember       Code = "not_member"
	CodeEpochClosed     Code = "epoch_closed"
	CodeReplay          Code = "replay"
	CodeDecrypt         Code = "decrypt"
	CodeBadSignature    Code = "bad_signature"
	CodeEquivocation    Code = "equivocation"
	CodeStale           Code = "stale"
	CodeExpired         Code = "expired"
	CodeNotAuthority    Code = "not_authority"
	CodeTransition      Code = "transition"
	CodeMembersMismatch Code = "members_mismatch"
	CodeSealedMismatch  Code = "sealed_mismatch"
	CodeKeyMismatch     Code = "key_mismatch"
	CodeCardMismatch    Code = "card_mismatch"
	CodeCardFork        Code = "card_fork"
	CodeWeakKey         Code = "weak_key"
	CodeWrongBus        Code = "wrong_bus"
	CodeDedupPoisoned   Code = "dedup_poisoned"
	CodeNonceRefused    Code = "nonce_refused"
	CodeUnauthenticated Code = "unauthenticated"
	CodeClockSkew       Code = "clock_skew"
	CodeNonceSpent      Code = "nonce_spent"
	CodeForbidden       Code = "forbidden"
	CodeRevoked         Code = "revoked"
	CodeNotFound        Code = "not_found"
	CodeExists          Code = "exists"
	CodeConflict        Code = "conflict"
	CodeTooLarge        Code = "too_large"
	CodeRateLimited     Code = "rate_limited"
	CodeQuota           Code = "quota"
	CodeUnavailable     Code = "unavailable"
	CodeTimeout         Code = "timeout"
	CodeInternal        Code = "internal"
	CodeUnknownOutcome  Code = "unknown_outcome"
	CodeRefused         Code = "refused"
	CodeClosed          Code = "closed"
	CodeUsage           Code = "usage"
	CodePinChanged      Code = "pin_changed"
	CodeAmbiguous       Code = "ambiguous"
	CodeFileExists      Code = "file_exists"
	CodeFileMode        Code = "file_mode"
	CodePassphrase      Code = "passphrase"
	CodeNoContext       Code = "no_context"
	CodeBlobMismatch    Code = "blob_mismatch"
	CodeAuditBroken     Code = "audit_broken"
	CodeNoReply         Code = "no_reply"
	CodeRequestFailed   Code = "request_failed"
)

// Sentinels for errors.Is; each matches every [Error] with its code.
var (
	ErrMalformed       = &Error{Code: CodeMalformed}
	ErrPolicy          = &Error{Code: CodePolicy}
	ErrMisrouted       = &Error{Code: CodeMisrouted}
	ErrEpochUnknown    = &Error{Code: CodeEpochUnknown}
	ErrFork            = &Error{Code: CodeFork}
	ErrGap             = &Error{Code: CodeGap}
	ErrRollback        = &Error{Code: CodeRollback}
	ErrNotMember       = &Error{Code: CodeNotMember}
	ErrEpochClosed     = &Error{Code: CodeEpochClosed}
	ErrReplay          = &Error{Code: CodeReplay}
	ErrDecrypt         = &Error{Code: CodeDecrypt}
	ErrBadSignature    = &Error{Code: CodeBadSignature}
	ErrEquivocation    = &Error{Code: CodeEquivocation}
	ErrStale           = &Error{Code: CodeStale}
	ErrExpired         = &Error{Code: CodeExpired}
	ErrNotAuthority    = &Error{Code: CodeNotAuthority}
	ErrTransition      = &Error{Code: CodeTransition}
	ErrMembersMismatch = &Error{Code: CodeMembersMismatch}
	ErrSealedMismatch  = &Error{Code: CodeSealedMismatch}
	ErrKeyMismatch     = &Error{Code: CodeKeyMismatch}
	ErrCardMismatch    = &Error{Code: CodeCardMismatch}
	ErrCardFork        = &Error{Code: CodeCardFork}
	ErrWeakKey         = &Error{Code: CodeWeakKey}
	ErrWrongBus        = &Error{Code: CodeWrongBus}
	ErrDedupPoisoned   = &Error{Code: CodeDedupPoisoned}
	ErrNonceRefused    = &Error{Code: CodeNonceRefused}
	ErrUnauthenticated = &Error{Code: CodeUnauthenticated}
	ErrClockSkew       = &Error{Code: CodeClockSkew}
	ErrNonceSpent      = &Error{Code: CodeNonceSpent}
	ErrForbidden       = &Error{Code: CodeForbidden}
	ErrRevoked         = &Error{Code: CodeRevoked}
	ErrNotFound        = &Error{Code: CodeNotFound}
	ErrExists          = &Error{Code: CodeExists}
	ErrConflict        = &Error{Code: CodeConflict}
	ErrTooLarge        = &Error{Code: CodeTooLarge}
	ErrRateLimited     = &Error{Code: CodeRateLimited}
	ErrQuota           = &Error{Code: CodeQuota}
	ErrUnavailable     = &Error{Code: CodeUnavailable}
	ErrTimeout         = &Error{Code: CodeTimeout}
	ErrInternal        = &Error{Code: CodeInternal}
	ErrUnknownOutcome  = &Error{Code: CodeUnknownOutcome}
	ErrRefused         = &Error{Code: CodeRefused}
	ErrClosed          = &Error{Code: CodeClosed}
	ErrUsage           = &Error{Code: CodeUsage}
	ErrPinChanged      = &Error{Code: CodePinChanged}
	ErrAmbiguous       = &Error{Code: CodeAmbiguous}
	ErrFileExists      = &Error{Code: CodeFileExists}
	ErrFileMode        = &Error{Code: CodeFileMode}
	ErrPassphrase      = &Error{Code: CodePassphrase}
	ErrNoContext       = &Error{Code: CodeNoContext}
	ErrBlobMismatch    = &Error{Code: CodeBlobMismatch}
	ErrAuditBroken     = &Error{Code: CodeAuditBroken}
	ErrNoReply         = &Error{Code: CodeNoReply}
	ErrRequestFailed   = &Error{Code: CodeRequestFailed}
)

var codeTitles = map[Code]string{
	CodeMalformed:       "does not parse, or goes beyond a limit",
	CodePolicy:          "contradicts the policy of the room or the node",
	CodeMisrouted:       "belongs to another room or sender than its subject",
	CodeEpochUnknown:    "names an epoch whose record is not known",
	CodeFork:            "belongs to another branch of the room's history",
	CodeGap:             "does not follow the last known one; something between is missing",
	CodeRollback:        "is older than what was already accepted",
	CodeNotMember:       "comes from somebody who is not a member with that right",
	CodeEpochClosed:     "belongs to an epoch that its sender may no longer use",
	CodeReplay:          "was seen before, or is too old to tell",
	CodeDecrypt:         "does not decrypt under the key of its epoch",
	CodeBadSignature:    "is not signed by the key it names",
	CodeEquivocation:    "contradicts another statement by the same signer",
	CodeStale:           "is older than a live room accepts",
	CodeExpired:         "is past its time",
	CodeNotAuthority:    "is signed by somebody without authority in the head record",
	CodeTransition:      "changes what its signer may not change",
	CodeMembersMismatch: "the member list is not the one the record was signed with",
	CodeSealedMismatch:  "the sealed key is not the one the record was signed with",
	CodeKeyMismatch:     "the sealed key opens to another key than the record commits to",
	CodeCardMismatch:    "the card is not the one that was asked for",
	CodeCardFork:        "two cards of one identity carry the same number",
	CodeWeakKey:         "the public key is not canonical or of small order",
	CodeWrongBus:        "belongs to another bus",
	CodeDedupPoisoned:   "the server claims to have the frame before it was first sent",
	CodeNonceRefused:    "the server asked for a signature over something that is no nonce",
	CodeUnauthenticated: "the request is not signed by an active user",
	CodeClockSkew:       "the clocks of the two sides differ too much",
	CodeNonceSpent:      "the request was already used",
	CodeForbidden:       "the signer may not do this",
	CodeRevoked:         "the user was revoked",
	CodeNotFound:        "does not exist, or not for this signer",
	CodeExists:          "exists already; nothing was changed",
	CodeConflict:        "somebody else was first; read the head again",
	CodeTooLarge:        "is larger than accepted",
	CodeRateLimited:     "too many requests; slow down",
	CodeQuota:           "the quota is used up",
	CodeUnavailable:     "the node or its quorum cannot serve now",
	CodeTimeout:         "took longer than its deadline",
	CodeInternal:        "failed inside; the log has the request id",
	CodeUnknownOutcome:  "was sent, but whether it was stored is not known",
	CodeRefused:         "the server refused it; it was not stored",
	CodeClosed:          "the connection or room was closed",
	CodeUsage:           "was called with the wrong arguments",
	CodePinChanged:      "the handle now names another identity than the one pinned",
	CodeAmbiguous:       "names more than one; use the id",
	CodeFileExists:      "the file exists and is never overwritten",
	CodeFileMode:        "the file is open to others",
	CodePassphrase:      "the passphrase is missing or wrong",
	CodeNoContext:       "no context names the bus to use",
	CodeBlobMismatch:    "the bytes of the blob are not those that were sent",
	CodeAuditBroken:     "the audit log is not as it was written",
	CodeNoReply:         "was sent, and nobody replied in time",
	CodeRequestFailed:   "the member that was asked could not do it",
}

// Title says in a few words what the code means, or repeats a code it does not know.
func (c Code) Title() string {
	if t, ok := codeTitles[c]; ok {
		return t
	}
	return string(c)
}

// Known reports whether the code is one of this package's.
func (c Code) Known() bool {
	_, ok := codeTitles[c]
	return ok
}

// Codes returns every code, sorted.
func Codes() []Code { return slices.Sorted(maps.Keys(codeTitles)) }
