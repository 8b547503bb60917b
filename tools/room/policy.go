package room

import (
	"strings"
	"time"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/cli"
)

var suiteNames = map[bus.Suite]string{
	bus.SuitePlain:     "none",
	bus.SuiteXAESGCM:   "xaes-256-gcm",
	bus.SuiteXChaCha20: "xchacha20-poly1305",
}

// readPolicy makes a policy of the flags of create.
func readPolicy(c *cli.Call) (bus.Policy, error) {
	p := bus.DefaultPolicy()
	p.Rotate, p.MaxAge, p.Grace = c.Duration(flagRotate), c.Duration(flagMaxAge), c.Duration(flagGrace)
	switch name := c.String(flagSuite); name {
	case suiteNames[bus.SuiteXAESGCM]:
		p.Suite = bus.SuiteXAESGCM
	case suiteNames[bus.SuiteXChaCha20]:
		p.Suite = bus.SuiteXChaCha20
	default:
		return p, cli.Usagef("--%s %q: want %s or %s", flagSuite, name, suiteNames[bus.SuiteXAESGCM], suiteNames[bus.SuiteXChaCha20])
	}
	if c.Bool(flagPlain) {
		if c.Source(flagSuite) != "default" {
			return p, cli.Usagef("--%s and --%s contradict each other", flagPlain, flagSuite)
		}
		p.Suite = bus.SuitePlain
		p.Flags &^= bus.FlagEncrypt | bus.FlagHistory
	}
	if c.Bool(flagLive) {
		p.Flags &^= bus.FlagPersist
	}
	if c.Bool(flagNoHistory) {
		p.Flags &^= bus.FlagHistory
	}
	if c.Bool(flagPad) {
		p.Flags |= bus.FlagPad
	}
	if err := p.Validate(); err != nil {
		return p, cli.BadArg("policy", err)
	}
	return p, nil
}

// policyJSON is a policy as --json prints it.
type policyJSON struct {
	Suite     string `json:"suite"` // "none" without encryption
	Encrypt   bool   `json:"encrypt"`
	Persisted bool   `json:"persisted"`
	History   bool   `json:"history"`
	Pad       bool   `json:"pad"`
	RotateS   int64  `json:"rotate_s"`
	MaxAgeS   int64  `json:"max_age_s"`
	GraceS    int64  `json:"grace_s"`
}

func policyOf(p bus.Policy) policyJSON {
	return policyJSON{
		Suite:     suiteNames[p.Suite],
		Encrypt:   p.Flags.Has(bus.FlagEncrypt),
		Persisted: p.Flags.Has(bus.FlagPersist),
		History:   p.Flags.Has(bus.FlagHistory),
		Pad:       p.Flags.Has(bus.FlagPad),
		RotateS:   int64(p.Rotate / time.Second),
		MaxAgeS:   int64(p.MaxAge / time.Second),
		GraceS:    int64(p.Grace / time.Second),
	}
}

// describePolicy says a policy in a line.
func describePolicy(p bus.Policy) string {
	words := []string{"stored"}
	if !p.Persisted() {
		words[0] = "live"
	}
	if p.Encrypted() {
		words = append(words, "encrypted ("+suiteNames[p.Suite]+")")
	} else {
		words = append(words, "not encrypted")
	}
	if p.Flags.Has(bus.FlagHistory) {
		words = append(words, "newcomers read history")
	}
	if p.Flags.Has(bus.FlagPad) {
		words = append(words, "padded")
	}
	if p.Rotate > 0 {
		words = append(words, "rotates every "+p.Rotate.String())
	}
	if p.MaxAge > 0 {
		words = append(words, "messages last "+p.MaxAge.String())
	}
	return strings.Join(words, ", ")
}
