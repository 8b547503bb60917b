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
)

// remoteDoor goes through the control plane, signed by the identity of the
// context.
type remoteDoor struct {
	client *client.Client
	urls   []string
	http   *http.Client // for what is not signed
}

func openRemote(c *cli.Call) (door, error) {
	cfg, err := c.Config(cli.NeedURLs)
	if err != nil {
		return nil, err
	}
	roots, err := connect.Authorities(cfg)
	if err != nil {
		return nil, err
	}
	cl, err := connect.Dial(c.Context, c)
	if err != nil {
		return nil, err
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS13}}
	return &remoteDoor{client: cl, urls: cfg.URLs, http: &http.Client{Transport: transport}}, nil
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

// Reach asks the nodes in order until one answers.
func (r *remoteDoor) Reach(ctx context.Context) (reach, error) {
	var errs []error
	for _, u := range r.urls {
		reached, err := measure(ctx, r.http, strings.TrimSuffix(u, "/"))
		if err == nil {
			return reached, nil
		}
		errs = append(errs, err)
	}
	return reach{}, errors.Join(errs...)
}
