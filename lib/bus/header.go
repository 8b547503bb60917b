package bus

// Keys of message headers to which unibus gives a meaning; docs/protocol.md,
// section 5, has the rules. Programs choose theirs freely among those that do
// not begin with [HeaderPrefix]. Headers are encrypted with the body.
const (
	// HeaderPrefix is how the keys begin that are kept for unibus itself.
	HeaderPrefix = "unibus-"

	// HeaderEOL says with the value [EOLNone] that the body is not a whole line:
	// whoever writes bodies out as lines adds no newline.
	HeaderEOL = HeaderPrefix + "eol"
	// HeaderRequest asks for replies. Its value names the request: any 1 to
	// [MaxRequestID] bytes that nobody can guess.
	HeaderRequest = HeaderPrefix + "request"
	// HeaderReply makes a message a reply; its value is that of the request's
	// [HeaderRequest].
	HeaderReply = HeaderPrefix + "reply"
	// HeaderError says in a reply that the request failed where it was handled,
	// and why, in UTF-8 for people.
	HeaderError = HeaderPrefix + "error"
	// HeaderBlob brings a blob: its value is the reference, in the encoding of
	// docs/protocol.md, section 10.
	HeaderBlob = HeaderPrefix + "blob"
	// HeaderExit is the exit status of the command that made the body, in
	// decimal digits.
	HeaderExit = HeaderPrefix + "exit"
)

// EOLNone is the value of [HeaderEOL].
const EOLNone = "none"

// MaxRequestID bounds the value of [HeaderRequest], in bytes.
const MaxRequestID = 64
