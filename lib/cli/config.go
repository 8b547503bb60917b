package cli

import (
	"fmt"
	"path/filepath"
	"time"

	"github.com/enmanuel/unibus/lib/bus"
)

// Config is the bus a command is to talk to and the identity it is to use:
// flags before UNIBUS_* variables before the context before the default.
type Config struct {
	Context  string        // name of the saved context, "" if none is used
	Servers  []string      // NATS URLs
	URLs     []string      // control-plane URLs
	CA       string        // PEM file, "" for the system's certificates
	BusID    bus.BusID     // zero if not known
	Identity string        // identity file
	Timeout  time.Duration // for each answer of the bus
	// ReportFailures is what the context says; there is no flag for it.
	ReportFailures bool

	// Sources says for "servers", "urls", "ca", "bus_id", "identity" and
	// "timeout" where the value comes from: "flag", "env NAME", "context NAME"
	// or "default".
	Sources map[string]string
}

// Need is a part of the configuration that a command cannot do without.
type Need string

// The needs.
const (
	NeedServers  Need = "servers"
	NeedURLs     Need = "urls"
	NeedBusID    Need = "bus_id"
	NeedIdentity Need = "identity"
)

// needFlags are the flags that fill a need, for hints.
var needFlags = map[Need]string{
	NeedServers:  "--server tls://HOST:4222",
	NeedURLs:     "--url https://HOST:8443",
	NeedBusID:    "--bus-id ID",
	NeedIdentity: "--identity FILE",
}

// configFields are the keys of [Config.Sources], in the order a context has them.
var configFields = []string{"servers", "urls", "ca", "bus_id", "identity", "timeout"}

// flagOf is the flag of each of configFields.
var flagOf = map[string]string{
	"servers": flagServer, "urls": flagURL, "ca": flagCA, "bus_id": flagBusID, "identity": flagIdentity, "timeout": flagTimeout,
}

// Config returns the effective configuration. An error has
// [bus.CodeNoContext] if something in needs is missing, and otherwise says
// which value does not do.
func (c *Call) Config(needs ...Need) (Config, error) {
	cfg, err := c.Given()
	if err != nil {
		return Config{}, err
	}
	if err := cfg.addContext(c); err != nil {
		return Config{}, err
	}
	for _, need := range needs {
		if cfg.has(need) {
			continue
		}
		if cfg.Context != "" {
			return Config{}, WithHint(bus.Errorf(bus.CodeNoContext, "find %s of the bus: context %q does not say", need, cfg.Context),
				"add %s", needFlags[need])
		}
		return Config{}, bus.Errorf(bus.CodeNoContext, "find %s of the bus: no context is selected, and no flag or variable says", need)
	}
	return cfg, nil
}

// Given returns the configuration that flags and variables give, without any
// context.
func (c *Call) Given() (Config, error) {
	cfg := Config{
		Servers:  c.StringSlice(flagServer),
		URLs:     c.StringSlice(flagURL),
		CA:       c.Path(flagCA),
		Identity: c.Path(flagIdentity),
		Timeout:  c.Duration(flagTimeout),
		Sources:  map[string]string{},
	}
	for _, field := range configFields {
		cfg.Sources[field] = c.Source(flagOf[field])
	}
	if cfg.Timeout <= 0 {
		return Config{}, Usagef("--timeout %s: want more than 0", cfg.Timeout)
	}
	for _, server := range cfg.Servers {
		if err := checkURL(server, serverSchemes...); err != nil {
			return Config{}, BadArg("--server", err)
		}
	}
	for _, u := range cfg.URLs {
		if err := checkURL(u, urlSchemes...); err != nil {
			return Config{}, BadArg("--url", err)
		}
	}
	if s := c.String(flagBusID); s != "" {
		id, err := bus.ParseBusID(s)
		if err != nil {
			return Config{}, BadArg("--bus-id", err)
		}
		cfg.BusID = id
	}
	for _, path := range []*string{&cfg.CA, &cfg.Identity} {
		if *path == "" {
			continue
		}
		abs, err := filepath.Abs(*path)
		if err != nil {
			return Config{}, fmt.Errorf("find file %q: %w", *path, err)
		}
		*path = abs
	}
	return cfg, nil
}

// addContext fills what is empty from the context that was named or selected.
func (cfg *Config) addContext(c *Call) error {
	contexts, err := c.Env.Contexts()
	name := c.String(flagContext)
	if err != nil {
		if name == "" {
			return nil // who has no home has no contexts, and may not need one
		}
		return err
	}
	if name == "" {
		if name, err = contexts.Selected(); err != nil || name == "" {
			return err
		}
	}
	saved, err := contexts.Load(name)
	if err != nil {
		return err
	}
	cfg.Context = name
	cfg.ReportFailures = saved.ReportFailures
	from := "context " + name
	if len(cfg.Servers) == 0 && len(saved.Servers) > 0 {
		cfg.Servers, cfg.Sources["servers"] = saved.Servers, from
	}
	if len(cfg.URLs) == 0 && len(saved.URLs) > 0 {
		cfg.URLs, cfg.Sources["urls"] = saved.URLs, from
	}
	if cfg.CA == "" && saved.CA != "" {
		cfg.CA, cfg.Sources["ca"] = saved.CA, from
	}
	if cfg.BusID.IsZero() && !saved.BusID.IsZero() {
		cfg.BusID, cfg.Sources["bus_id"] = saved.BusID, from
	}
	if cfg.Identity == "" && saved.Identity != "" {
		cfg.Identity, cfg.Sources["identity"] = saved.Identity, from
	}
	return nil
}

func (cfg *Config) has(need Need) bool {
	switch need {
	case NeedServers:
		return len(cfg.Servers) > 0
	case NeedURLs:
		return len(cfg.URLs) > 0
	case NeedBusID:
		return !cfg.BusID.IsZero()
	case NeedIdentity:
		return cfg.Identity != ""
	}
	return false
}
