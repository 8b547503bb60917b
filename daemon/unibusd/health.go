package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/enmanuel/unibus/daemon/node"
	"github.com/enmanuel/unibus/lib/api"
	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/cli"
)

// healthTimeout bounds both questions together. Who runs the check kills it
// after a time of their own.
const healthTimeout = 5 * time.Second

const (
	flagURL = "url"
	flagCA  = "ca"
)

func healthCommand() *cli.Command {
	return &cli.Command{
		Name:  "health",
		Usage: "ask a running node whether it may serve",
		Description: "Ends with 0 if it is ready and with 1 if not, and says why. It asks through the local\n" +
			"door, so with the settings of the node itself; --url is for a node elsewhere.",
		UsageText: "unibusd health --data /var/lib/unibus\nunibusd health --url https://bus.example.org:4280",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: flagURL, Usage: "ask at `URL` instead of through the local door"},
			&cli.PathFlag{Name: flagCA, Usage: "trust the certificates in `FILE` instead of the system's"},
		},
		Action: cli.Action(health),
	}
}

func health(c *cli.Call) error {
	ctx, cancel := context.WithTimeout(c.Context, healthTimeout)
	defer cancel()
	base, client, err := asker(c)
	if err != nil {
		return err
	}
	defer client.CloseIdleConnections()
	var ready api.Ready
	if err := ask(ctx, client, base+api.ReadyPath(), &ready); err != nil {
		_, untrusted := errors.AsType[*tls.CertificateVerificationError](err)
		err = cli.WithExit(fmt.Errorf("ask node: %w", err), cli.ExitFailed)
		if untrusted || errors.Is(err, http.ErrSchemeMismatch) {
			return err // which has a hint of its own
		}
		return cli.WithHint(err, "systemctl status unibusd, or the log of the node")
	}
	var posture api.Health
	if err := ask(ctx, client, base+api.HealthPath(), &posture); err != nil {
		return cli.WithExit(fmt.Errorf("ask node: %w", err), cli.ExitFailed)
	}
	if c.WantsJSON() {
		if err := c.JSON(struct {
			Ready   bool       `json:"ready"`
			Reasons []string   `json:"reasons"`
			Health  api.Health `json:"health"`
		}{ready.Ready, append([]string{}, ready.Reasons...), posture}); err != nil {
			return err
		}
		if !ready.Ready {
			return cli.Status(cli.ExitFailed)
		}
		return nil
	}
	if !ready.Ready {
		err := bus.Errorf(bus.CodeUnavailable, "node %s is not ready: %s", posture.Node, strings.Join(ready.Reasons, "; "))
		return cli.WithHint(cli.WithExit(err, cli.ExitFailed), "df -h, and the log of the node")
	}
	c.Printf("ready: node %s, version %s, up %s, %d rooms, %d users\n", posture.Node, posture.Version,
		time.Duration(posture.UptimeS)*time.Second, posture.Rooms, posture.Users)
	return nil
}

// asker returns where to ask, and with what.
func asker(c *cli.Call) (base string, _ *http.Client, err error) {
	if base = strings.TrimSuffix(c.String(flagURL), "/"); base != "" {
		if u, err := url.Parse(base); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			return "", nil, cli.Usagef("--%s: %.200q: want http:// or https://HOST:PORT", flagURL, base)
		}
		config := &tls.Config{MinVersion: tls.VersionTLS13}
		if path := c.Path(flagCA); path != "" {
			pem, err := os.ReadFile(path)
			if err != nil {
				return "", nil, cli.BadArg("--"+flagCA, err)
			}
			config.RootCAs = x509.NewCertPool()
			if !config.RootCAs.AppendCertsFromPEM(pem) {
				return "", nil, cli.Usagef("--%s: there is no certificate in %s", flagCA, path)
			}
		}
		return base, &http.Client{Transport: &http.Transport{TLSClientConfig: config}}, nil
	}
	socket := c.Path(flagSocket)
	if socket == "" {
		socket = node.DefaultSocket(c.Path(flagData))
	}
	return "http://local", &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
	}}, nil
}

// ask reads the answer of a route that anybody may ask. One that is not ready
// is an answer too.
func ask(ctx context.Context, client *http.Client, at string, answer any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return cli.BadArg("--"+flagURL, err)
	}
	resp, err := client.Do(req)
	if err != nil {
		return bus.Errorf(bus.CodeUnavailable, "%w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusServiceUnavailable && resp.Header.Get("Content-Type") == api.MediaJSON {
		resp.StatusCode = http.StatusOK
	}
	return api.ReadReply(resp, answer)
}
