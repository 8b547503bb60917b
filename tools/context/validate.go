package context

import (
	stdcontext "context"
	"fmt"
	"sync"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/cli"
	"github.com/enmanuel/unibus/lib/cli/connect"
	"github.com/enmanuel/unibus/lib/client"
)

func validateCommand() *cli.Command {
	return &cli.Command{
		Name:      "validate",
		Usage:     "try a context: its files, and every address of it",
		ArgsUsage: "[CONTEXT]",
		Description: "Reads the certificates and the identity and signs in. If that works, it signs in\n" +
			"through each control-plane URL and each server on its own, all at once, each for\n" +
			"at most --timeout. With some addresses out of order the exit status is 3.",
		UsageText: "unibus context validate\nunibus context validate work --timeout 3s --json",
		Action:    cli.Action(validate),
	}
}

// checked is the outcome of one check.
type checked struct {
	Check  string   `json:"check"` // "identity FILE", "url URL", …
	OK     bool     `json:"ok"`
	Code   bus.Code `json:"code,omitempty"`
	Detail string   `json:"detail,omitempty"`

	err error
}

func outcome(check, detail string, err error) checked {
	if err != nil {
		return checked{Check: check, Code: bus.CodeOf(err), Detail: err.Error(), err: err}
	}
	return checked{Check: check, OK: true, Detail: detail}
}

func validate(c *cli.Call) error {
	cfg, err := configOf(c, cli.NeedServers, cli.NeedURLs, cli.NeedBusID, cli.NeedIdentity)
	if err != nil {
		return err
	}
	checks, base := files(c, cfg)
	if first(checks) == nil {
		checks = append(checks, outcome("bus "+cfg.BusID.String(), signedIn, signInAsUsual(c)))
	}
	working := first(checks) == nil
	if working {
		checks = append(checks, addresses(c, cfg, base)...)
	}
	if err := report(c, cfg, checks); err != nil {
		return err
	}
	err = first(checks)
	if err == nil {
		return nil
	}
	err = fmt.Errorf("validate context: %w", err)
	if code := bus.CodeOf(err); code == bus.CodeUnavailable || code == bus.CodeTimeout {
		err = cli.WithHint(err, "start the node, or check the addresses: --url and --server")
	}
	if working {
		return cli.WithExit(err, cli.ExitPartial)
	}
	return err
}

const signedIn = "signed in"

// first returns the first error.
func first(checks []checked) error {
	for _, ch := range checks {
		if ch.err != nil {
			return ch.err
		}
	}
	return nil
}

// files checks what lies on this machine and makes the client configuration
// that all addresses share.
func files(c *cli.Call, cfg cli.Config) ([]checked, client.Config) {
	var checks []checked
	roots, err := connect.Authorities(cfg)
	if cfg.CA != "" {
		checks = append(checks, outcome("ca "+cfg.CA, "", err))
	}
	id, err := connect.Identity(c, cfg)
	detail := ""
	if err == nil {
		detail = "sign_pub " + id.SignPub().String()
	}
	checks = append(checks, outcome("identity "+cfg.Identity, detail, err))
	return checks, client.Config{
		CA: roots, BusID: cfg.BusID, Identity: id, Now: c.Env.Now, Logger: c.Logger(),
		// Short of the whole time, so that one dead address does not stand for another.
		RequestTimeout: cfg.Timeout / 4, ControlTimeout: cfg.Timeout,
	}
}

// signInAsUsual does what every other command does, with all addresses. It
// leaves the identity with a card on the servers, so that what follows makes
// none and needs no state.
func signInAsUsual(c *cli.Call) error {
	cl, err := connect.Dial(c.Context, c)
	if err != nil {
		return err
	}
	return connect.Close(cl)
}

// addresses signs in through every address, all at once. The outcomes come in
// the order of the configuration.
func addresses(c *cli.Call, cfg cli.Config, base client.Config) []checked {
	checks := make([]checked, len(cfg.URLs)+len(cfg.Servers))
	progress := c.Progress("signing in", int64(len(checks)))
	defer progress.Close()
	var running sync.WaitGroup
	try := func(slot int, check string, urls, servers []string) {
		one := base
		one.URLs, one.Servers = urls, servers
		running.Go(func() {
			checks[slot] = outcome(check, signedIn, signIn(c, cfg, one))
			progress.Add(1)
		})
	}
	for i, u := range cfg.URLs {
		try(i, "url "+u, []string{u}, cfg.Servers)
	}
	for i, server := range cfg.Servers {
		try(len(cfg.URLs)+i, "server "+server, cfg.URLs, []string{server})
	}
	running.Wait()
	return checks
}

// signIn connects and closes again.
func signIn(c *cli.Call, cfg cli.Config, one client.Config) error {
	ctx, cancel := stdcontext.WithTimeout(c.Context, cfg.Timeout)
	defer cancel()
	cl, err := client.Dial(ctx, one)
	if err != nil {
		return err
	}
	return connect.Close(cl)
}

// report prints the outcomes.
func report(c *cli.Call, cfg cli.Config, checks []checked) error {
	if c.WantsJSON() {
		return c.JSON(struct {
			Context string    `json:"context"`
			OK      bool      `json:"ok"`
			Checks  []checked `json:"checks"`
		}{cfg.Context, first(checks) == nil, checks})
	}
	var rows [][]string
	for _, ch := range checks {
		result := "ok"
		if !ch.OK {
			result = "failed"
		}
		rows = append(rows, []string{result, ch.Check, ch.Detail})
	}
	c.Table([]string{"result", "check", "detail"}, rows)
	return nil
}
