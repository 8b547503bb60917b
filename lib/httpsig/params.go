package httpsig

import (
	"encoding/base64"
	"fmt"
	"slices"
	"time"

	"github.com/dunglas/httpsfv"

	"github.com/enmanuel/unibus/lib/bus"
)

// The header fields of a signed request.
const (
	HeaderDigest    = "Content-Digest"  // RFC 9530
	HeaderInput     = "Signature-Input" // RFC 9421
	HeaderSignature = "Signature"       // RFC 9421
)

// What the profile fixes.
const (
	Algorithm = "ed25519"
	Tag       = "unibus-ctl-1"
	label     = "sig1" // what we call our signatures; any other single label is accepted
)

// Longest field values that are looked at. What the profile writes has about
// 270, 100 and 60 bytes.
const (
	maxInput     = 1 << 10
	maxSignature = 256
	maxDigest    = 128
)

// covered is what every signature covers, in this order.
var covered = []string{"@method", "@authority", "@path", "@query", "content-digest"}

// Params is what the Signature-Input of a request says besides what the profile
// fixes. Nothing of it is proven until [Verify] returns.
type Params struct {
	Label            string // the name of the signature in its two header fields
	Created, Expires time.Time
	Nonce            [16]byte
	Key              bus.TransportPub
}

// ParseParams reads the value of a Signature-Input field and checks that it is
// of the profile. Errors have [bus.CodeMalformed] where the field or one of its
// values does not parse, and [bus.CodeUnauthenticated] where it parses and is
// of another profile.
func ParseParams(input string) (Params, error) {
	p, _, err := parseInput(input)
	return p, err
}

// parseInput is [ParseParams] that also returns the inner list, which the
// signature base repeats in the order of its parameters.
func parseInput(input string) (Params, httpsfv.InnerList, error) {
	name, member, err := parseSingle(HeaderInput, input, maxInput)
	if err != nil {
		return Params{}, httpsfv.InnerList{}, err
	}
	list, ok := member.(httpsfv.InnerList)
	if !ok {
		return Params{}, httpsfv.InnerList{}, bus.Errorf(bus.CodeMalformed, "parse %s: %.40q is no list of components", HeaderInput, name)
	}
	if err := checkCovered(list.Items); err != nil {
		return Params{}, httpsfv.InnerList{}, err
	}
	p, err := parseParams(list.Params)
	if err != nil {
		return Params{}, httpsfv.InnerList{}, err
	}
	p.Label = name
	return p, list, nil
}

// checkCovered asks for exactly the components of the profile.
func checkCovered(items []httpsfv.Item) error {
	names := make([]string, 0, len(covered))
	for _, item := range items {
		name, ok := item.Value.(string)
		if !ok {
			return bus.Errorf(bus.CodeMalformed, "parse %s: a component is no string", HeaderInput)
		}
		if len(item.Params.Names()) > 0 {
			return bus.Errorf(bus.CodeUnauthenticated, "check %s: component %.40q has parameters", HeaderInput, name)
		}
		names = append(names, name)
	}
	if !slices.Equal(names, covered) {
		return bus.Errorf(bus.CodeUnauthenticated, "check %s: covers %.200q, want %q", HeaderInput, names, covered)
	}
	return nil
}

// parseParams reads the parameters of the profile, each of which must be there
// and no other. They may come in any order: the signature covers the order.
func parseParams(sf *httpsfv.Params) (Params, error) {
	var p Params
	readers := map[string]func(any) error{
		"created": func(v any) error { return readTime(&p.Created, v) },
		"expires": func(v any) error { return readTime(&p.Expires, v) },
		"nonce":   func(v any) error { return readNonce(&p.Nonce, v) },
		"keyid":   func(v any) error { return readKey(&p.Key, v) },
		"alg":     func(v any) error { return wantString(Algorithm, v) },
		"tag":     func(v any) error { return wantString(Tag, v) },
	}
	for _, name := range sf.Names() {
		read, ok := readers[name]
		if !ok {
			return Params{}, bus.Errorf(bus.CodeUnauthenticated, "check %s: parameter %.40q is not of the profile", HeaderInput, name)
		}
		delete(readers, name)
		value, _ := sf.Get(name)
		if err := read(value); err != nil {
			return Params{}, fmt.Errorf("read parameter %q of %s: %w", name, HeaderInput, err)
		}
	}
	if len(readers) > 0 {
		missing := make([]string, 0, len(readers))
		for name := range readers {
			missing = append(missing, name)
		}
		slices.Sort(missing)
		return Params{}, bus.Errorf(bus.CodeUnauthenticated, "check %s: parameters %q are missing", HeaderInput, missing)
	}
	return p, nil
}

func readTime(dst *time.Time, v any) error {
	seconds, ok := v.(int64)
	if !ok {
		return bus.Errorf(bus.CodeMalformed, "want whole seconds, have %T", v)
	}
	*dst = time.Unix(seconds, 0).UTC()
	return nil
}

func readNonce(dst *[16]byte, v any) error {
	text, ok := v.(string)
	if want := base64.RawURLEncoding.EncodedLen(len(dst)); !ok || len(text) != want {
		return bus.Errorf(bus.CodeMalformed, "want a string of %d base64url characters", want)
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil {
		return bus.Errorf(bus.CodeMalformed, "decode base64url: %w", err)
	}
	copy(dst[:], raw) // all of it: a structured string has no line breaks that the decoder would skip
	return nil
}

func readKey(dst *bus.TransportPub, v any) error {
	text, ok := v.(string)
	if !ok {
		return bus.Errorf(bus.CodeMalformed, "want a string, have %T", v)
	}
	key, err := bus.ParseTransportPub(text)
	if err != nil {
		return err
	}
	*dst = key
	return nil
}

func wantString(want string, v any) error {
	text, ok := v.(string)
	if !ok {
		return bus.Errorf(bus.CodeMalformed, "want a string, have %T", v)
	}
	if text != want {
		return bus.Errorf(bus.CodeUnauthenticated, "want %q, have %.40q", want, text)
	}
	return nil
}

// innerList is the value of the signature in Signature-Input, as [Sign] writes it.
func (p Params) innerList() httpsfv.InnerList {
	list := httpsfv.InnerList{Params: httpsfv.NewParams()}
	for _, name := range covered {
		list.Items = append(list.Items, httpsfv.NewItem(name))
	}
	list.Params.Add("created", p.Created.Unix())
	list.Params.Add("expires", p.Expires.Unix())
	list.Params.Add("nonce", base64.RawURLEncoding.EncodeToString(p.Nonce[:]))
	list.Params.Add("keyid", p.Key.String())
	list.Params.Add("alg", Algorithm)
	list.Params.Add("tag", Tag)
	return list
}
