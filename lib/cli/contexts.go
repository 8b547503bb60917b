package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/internal/durable"
)

// SavedContext is what a context file says of a bus: where it is, which one it
// is, and who the user is there. It holds no secret.
type SavedContext struct {
	V        int       `json:"v"`                  // 1
	Servers  []string  `json:"servers"`            // NATS: tls://, or nats:// on this machine
	URLs     []string  `json:"urls"`               // control plane: https://, or http:// on this machine
	CA       string    `json:"ca,omitempty"`       // absolute path of a PEM file; "" is the system's certificates
	BusID    bus.BusID `json:"bus_id,omitzero"`    // zero if not known
	Identity string    `json:"identity,omitempty"` // absolute path of the identity file
	// ReportFailures lets clients tell the servers how often they refused
	// something, by error code and with nothing else.
	ReportFailures bool `json:"report_failures,omitempty"`
}

const savedContextVersion = 1

// maxContextSize bounds a context file, in bytes.
const maxContextSize = 64 << 10

// Validate checks version, addresses and paths. Its errors have
// [bus.CodeMalformed].
func (s SavedContext) Validate() error {
	if s.V != savedContextVersion {
		return bus.Errorf(bus.CodeMalformed, "check context: version %d, want %d", s.V, savedContextVersion)
	}
	if len(s.Servers) == 0 && len(s.URLs) == 0 {
		return bus.Errorf(bus.CodeMalformed, "check context: neither servers nor urls")
	}
	for _, server := range s.Servers {
		if err := checkURL(server, serverSchemes...); err != nil {
			return bus.Errorf(bus.CodeMalformed, "check context: server: %w", err)
		}
	}
	for _, u := range s.URLs {
		if err := checkURL(u, urlSchemes...); err != nil {
			return bus.Errorf(bus.CodeMalformed, "check context: url: %w", err)
		}
	}
	for _, path := range []string{s.CA, s.Identity} {
		if path != "" && !filepath.IsAbs(path) {
			return bus.Errorf(bus.CodeMalformed, "check context: path %q is not absolute", path)
		}
	}
	return nil
}

var (
	serverSchemes = []string{"nats", "tls"}
	urlSchemes    = []string{"https", "http"}
)

// checkURL accepts scheme://host[:port] and nothing behind it. A URL with a
// password is refused without being repeated.
func checkURL(s string, schemes ...string) error {
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return fmt.Errorf("%q is no URL", s)
	case u.User != nil:
		return errors.New("a URL with a user or password; identities are files")
	case !slices.Contains(schemes, u.Scheme):
		return fmt.Errorf("%q: want %s://HOST:PORT", s, strings.Join(schemes, ":// or "))
	case u.Hostname() == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" || len(s) > bus.MaxURL:
		return fmt.Errorf("%q: want %s://HOST:PORT and nothing else", s, u.Scheme)
	}
	return nil
}

// ParseContext reads a context file strictly: one JSON object, no field it does
// not know, nothing behind it. Its errors have [bus.CodeMalformed].
func ParseContext(raw []byte) (SavedContext, error) {
	var s SavedContext
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&s); err != nil {
		return SavedContext{}, bus.Errorf(bus.CodeMalformed, "parse context: %w", jsonError(err, raw))
	}
	if _, err := dec.Token(); err != io.EOF {
		return SavedContext{}, bus.Errorf(bus.CodeMalformed, "parse context: something follows the object")
	}
	return s, s.Validate()
}

// jsonError adds the line to errors that know where they happened.
func jsonError(err error, raw []byte) error {
	offset := int64(-1)
	if e, ok := errors.AsType[*json.SyntaxError](err); ok {
		offset = e.Offset
	}
	if e, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		offset = e.Offset
	}
	message := strings.TrimPrefix(err.Error(), "json: ")
	if offset < 0 || offset > int64(len(raw)) {
		return errors.New(message)
	}
	return fmt.Errorf("line %d: %s", 1+bytes.Count(raw[:offset], []byte("\n")), message)
}

// Contexts are the saved contexts of a user: the files NAME.json in a
// directory, and the name of the selected one in a file beside it. It is safe
// for concurrent use, by several processes too.
type Contexts struct {
	dir      string
	selected string
}

// Contexts returns the saved contexts; there need not be any yet.
func (e *Env) Contexts() (*Contexts, error) {
	config, err := e.ConfigDir()
	if err != nil {
		return nil, err
	}
	return &Contexts{dir: filepath.Join(config, "context"), selected: filepath.Join(config, "context.txt")}, nil
}

var contextName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// Path returns the file of a context, existing or not. A name that could not
// be one has [bus.CodeUsage].
func (c *Contexts) Path(name string) (string, error) {
	if !contextName.MatchString(name) {
		return "", Usagef("context name %.80q: want at most 64 letters, digits, '.', '_' and '-', a letter or digit first", name)
	}
	return filepath.Join(c.dir, name+".json"), nil
}

// Names returns the names of all contexts, sorted.
func (c *Contexts) Names() ([]string, error) {
	entries, err := os.ReadDir(c.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list contexts: %w", err)
	}
	var names []string
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), ".json")
		if ok && !e.IsDir() && contextName.MatchString(name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, nil
}

// Load reads a context. Errors have [bus.CodeNotFound] or [bus.CodeMalformed].
func (c *Contexts) Load(name string) (SavedContext, error) {
	path, err := c.Path(name)
	if err != nil {
		return SavedContext{}, err
	}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return SavedContext{}, WithHint(bus.Errorf(bus.CodeNotFound, "load context %q: there is none", name), "unibus context ls")
	}
	if err != nil {
		return SavedContext{}, fmt.Errorf("load context %q: %w", name, err)
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxContextSize+1))
	switch {
	case err != nil:
		return SavedContext{}, fmt.Errorf("load context %q: %w", name, err)
	case len(raw) > maxContextSize:
		return SavedContext{}, bus.Errorf(bus.CodeMalformed, "load context %q: %s is larger than %d bytes", name, path, maxContextSize)
	}
	s, err := ParseContext(raw)
	if err != nil {
		return SavedContext{}, WithHint(bus.Errorf(bus.CodeMalformed, "load context %q: %w", name, err), "edit %s", path)
	}
	return s, nil
}

// Create saves a new context; V is set. One of that name must not exist:
// [bus.CodeFileExists].
func (c *Contexts) Create(name string, s SavedContext) error {
	path, err := c.Path(name)
	if err != nil {
		return err
	}
	s.V = savedContextVersion
	if err := s.Validate(); err != nil {
		return err
	}
	s.Servers, s.URLs = append([]string{}, s.Servers...), append([]string{}, s.URLs...) // [], never null
	raw, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return fmt.Errorf("save context %q: %w", name, err)
	}
	if err := durable.MkdirAll(c.dir); err != nil {
		return fmt.Errorf("save context %q: %w", name, err)
	}
	if err := durable.CreateFile(path, append(raw, '\n'), 0o600); err != nil {
		err = bus.Errorf(bus.CodeOf(err), "save context %q: %w", name, err)
		if errors.Is(err, bus.ErrFileExists) {
			return WithHint(err, "unibus context rm %s, or choose another name", name)
		}
		return err
	}
	return nil
}

// Remove deletes a context, and unselects it if it was selected.
func (c *Contexts) Remove(name string) error {
	path, err := c.Path(name)
	if err != nil {
		return err
	}
	if err := os.Remove(path); errors.Is(err, fs.ErrNotExist) {
		return WithHint(bus.Errorf(bus.CodeNotFound, "remove context %q: there is none", name), "unibus context ls")
	} else if err != nil {
		return fmt.Errorf("remove context %q: %w", name, err)
	}
	selected, err := c.Selected()
	if err != nil || selected != name {
		return err
	}
	if err := os.Remove(c.selected); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("unselect context %q: %w", name, err)
	}
	return nil
}

// Selected returns the name of the selected context, "" if none is.
func (c *Contexts) Selected() (string, error) {
	raw, err := os.ReadFile(c.selected)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read selected context: %w", err)
	}
	name := strings.TrimSpace(string(raw))
	if name != "" && !contextName.MatchString(name) {
		return "", WithHint(bus.Errorf(bus.CodeMalformed, "read selected context: %s does not hold a name", c.selected), "unibus context select NAME")
	}
	return name, nil
}

// Select makes an existing context the one commands use by default.
func (c *Contexts) Select(name string) error {
	if _, err := c.Load(name); err != nil {
		return err
	}
	if err := durable.WriteFile(c.selected, []byte(name+"\n"), 0o600); err != nil {
		return fmt.Errorf("select context %q: %w", name, err)
	}
	return nil
}
