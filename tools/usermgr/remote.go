package usermgr

import (
	"context"
	"crypto/tls"
	"errors"
	"net/http"
	"strings"

	"github.com/enmanuel/unibus/lib/api"
	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/cli"
	"github.com/enmanuel/unibus/lib/cli/connect"
	"github.com/enmanuel/unibus/lib/client"
	"github.com/enmanuel/unibus/lib/httpsig"
	"github.com/enmanuel/unibus/lib/identity"
)

// openRemote returns the door through the control plane, signed by the identity
// of the context. Where only the control plane is known, one node of it is
// asked; otherwise the client of package client, which tries them all.
func openRemote(c *cli.Call) (door, error) {
	cfg, err := c.Config(cli.NeedURLs, cli.NeedBusID, cli.NeedIdentity)
	if err != nil {
		return nil, err
	}
	plain, err := unsigned(cfg)
	if err != nil {
		return nil, err
	}
	if len(cfg.Servers) == 0 {
		return openSigned(c, cfg, plain)
	}
	cl, err := connect.Dial(c.Context, c)
	if err != nil {
		return nil, err
	}
	return &remoteDoor{client: cl, urls: cfg.URLs, http: plain}, nil
}

// unsigned returns what reaches nodes without signing anything.
func unsigned(cfg cli.Config) (*http.Client, error) {
	roots, err := connect.Authorities(cfg)
	if err != nil {
		return nil, err
	}
	return &http.Client{
		Timeout:   cfg.Timeout,
		Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS13}},
		// A signature is for one address; whoever redirects is not a node.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, nil
}

// openUnsigned is open for what proves itself: where it goes through the control
// plane, no identity is asked for.
func openUnsigned(c *cli.Call) (door, error) {
	return openBy(c, func(c *cli.Call) (door, error) {
		cfg, err := c.Config(cli.NeedURLs)
		if err != nil {
			return nil, err
		}
		plain, err := unsigned(cfg)
		if err != nil {
			return nil, err
		}
		base, _, err := firstAlive(c.Context, plain, cfg.URLs)
		if err != nil {
			return nil, err
		}
		return &httpDoor{base: base, name: base, http: plain}, nil
	})
}

// openSigned returns the door through the first node that answers.
func openSigned(c *cli.Call, cfg cli.Config, plain *http.Client) (door, error) {
	base, _, err := firstAlive(c.Context, plain, cfg.URLs)
	if err != nil {
		return nil, err
	}
	id, err := connect.Identity(c, cfg)
	if err != nil {
		return nil, err
	}
	signer := id.Transport(cfg.BusID)
	return &httpDoor{base: base, name: base, http: plain, sign: func(req *http.Request, body []byte) error {
		return httpsig.Sign(req, body, signer, c.Env.Now(), c.Env.Rand)
	}}, nil
}

// firstAlive returns the first of several nodes that answers, and what it says.
func firstAlive(ctx context.Context, plain *http.Client, urls []string) (base string, said reach, err error) {
	var errs []error
	for _, u := range urls {
		base := strings.TrimSuffix(u, "/")
		said, err := measure(ctx, plain, base)
		if err == nil {
			return base, said, nil
		}
		errs = append(errs, err)
	}
	return "", reach{}, errors.Join(errs...)
}

// remoteDoor goes through a connected client.
type remoteDoor struct {
	client *client.Client
	urls   []string
	http   *http.Client // for what is not signed
}

func (r *remoteDoor) Close() error {
	r.http.CloseIdleConnections()
	return connect.Close(r.client)
}

func (r *remoteDoor) Add(ctx context.Context, u api.AddUser) (api.User, error) {
	return r.client.AddUser(ctx, u.SignPub, u.Handle, u.Role)
}

func (r *remoteDoor) Users(ctx context.Context) ([]api.User, error) { return r.client.Users(ctx) }

func (r *remoteDoor) Revoke(ctx context.Context, key bus.SignPub) (api.User, error) {
	return r.client.RevokeUser(ctx, key)
}

func (r *remoteDoor) PutEntry(ctx context.Context, h bus.Handle, raw []byte) error {
	return r.client.PutEntry(ctx, h, raw)
}

// PutRevocation goes unsigned, like every other, to the first node that answers.
func (r *remoteDoor) PutRevocation(ctx context.Context, v identity.Revocation) error {
	base, _, err := firstAlive(ctx, r.http, r.urls)
	if err != nil {
		return err
	}
	return (&httpDoor{base: base, name: base, http: r.http}).PutRevocation(ctx, v)
}

// Reach asks the first node that answers.
func (r *remoteDoor) Reach(ctx context.Context) (reach, error) {
	_, said, err := firstAlive(ctx, r.http, r.urls)
	return said, err
}
