package api

import (
	"bytes"
	"encoding/json"
	"io"

	"github.com/enmanuel/unibus/lib/bus"
)

// Request is a body that [Decode] reads.
type Request interface {
	// Validate checks what the JSON types do not. Its errors have
	// [bus.CodeMalformed] or [bus.CodeTooLarge].
	Validate() error
}

// Decode reads the JSON of a request: one object, no unknown fields, nothing
// after it, and valid by [Request.Validate]. Errors have [bus.CodeMalformed]
// or what Validate gives; the request is then of no use.
func Decode[R Request](data []byte) (R, error) {
	var req R
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&req); err != nil {
		return req, bus.Errorf(bus.CodeMalformed, "decode request: %w", err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return req, bus.Errorf(bus.CodeMalformed, "decode request: something follows the object")
	}
	return req, req.Validate()
}

// Encode writes a request or reply as JSON without a line break.
func Encode(v any) ([]byte, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return nil, bus.Errorf(bus.CodeInternal, "encode %T: %w", v, err)
	}
	return data, nil
}
