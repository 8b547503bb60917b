package usermgr

import (
	"context"
	"errors"
	"net/http"
	"path/filepath"
	"time"

	"github.com/enmanuel/unibus/lib/api"
	"github.com/enmanuel/unibus/lib/audit"
	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/cli"
	"github.com/enmanuel/unibus/lib/directory"
	"github.com/enmanuel/unibus/lib/identity"
	"github.com/enmanuel/unibus/lib/store/sqlite"
)

// storeDoor goes into the store of a node that is stopped, by the same rules
// as a running one.
type storeDoor struct {
	store *sqlite.Store
	dir   *directory.Directory
	now   func() time.Time
	data  string     // the data directory of the node
	audit *audit.Log // of the node; nil until something is to change
}

func openStore(c *cli.Call, url string) (door, error) {
	path, err := sqlite.ParseURL(url)
	if err != nil {
		return nil, cli.BadArg("--"+flagStore, err)
	}
	ctx, cancel := context.WithTimeout(c.Context, c.Duration("timeout"))
	defer cancel()
	s, err := sqlite.Open(ctx, path, sqlite.Options{MustExist: true, Now: c.Env.Now})
	if errors.Is(err, bus.ErrUnavailable) {
		err = cli.WithHint(err, "stop the node, or ask it while it runs: --%s PATH", flagSocket)
	}
	if err != nil {
		return nil, err
	}
	// Accounts are kept the same way on every bus, so which one this is matters
	// only for what the root has signed.
	cfg, err := c.Config()
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return &storeDoor{store: s, dir: directory.New(s, cfg.BusID, c.Env.Now), now: c.Env.Now, data: filepath.Dir(path)}, nil
}

// needBus refuses what a root has signed where nobody said whose store it is.
func (s *storeDoor) needBus() error {
	if s.dir.BusID().IsZero() {
		return cli.WithHint(cli.Usagef("which bus is the store of?"), "--bus-id ID, or --context NAME")
	}
	return nil
}

func (s *storeDoor) PutEntry(ctx context.Context, h bus.Handle, raw []byte) error {
	if err := s.needBus(); err != nil {
		return err
	}
	return s.change(ctx, http.MethodPut, api.HandlePath(h), string(h), func() error { return s.dir.PutEntry(ctx, h, raw) })
}

func (s *storeDoor) PutRevocation(ctx context.Context, r identity.Revocation) error {
	if !r.BySelf() {
		if err := s.needBus(); err != nil {
			return err
		}
	}
	return s.change(ctx, http.MethodPut, api.RevocationPath(r.ID()), r.SignPub.String(), func() error {
		_, err := s.dir.PutRevocation(ctx, r)
		return err
	})
}

func (s *storeDoor) Close() error {
	var err error
	if s.audit != nil {
		err = s.audit.Close()
	}
	return errors.Join(err, s.store.Close())
}

// change does what a node does with a request: it writes to the node's audit log
// before and after. The store is locked, so no node has that log open.
func (s *storeDoor) change(ctx context.Context, method, path, subject string, f func() error) error {
	if s.audit == nil {
		l, err := audit.Open(ctx, audit.Dir(s.data), audit.Options{Now: s.now})
		if err != nil {
			return err
		}
		s.audit = l
	}
	c := audit.Local(audit.ViaOffline, method, path, subject)
	return s.audit.Do(c, func() uint64 { return uint64(s.dir.Wrote()) }, f)
}

func (s *storeDoor) Add(ctx context.Context, u api.AddUser) (api.User, error) {
	var added directory.User
	err := s.change(ctx, http.MethodPost, api.UsersPath(), string(u.Handle)+" "+u.SignPub.String(), func() (err error) {
		added, err = s.dir.AddUser(ctx, u.SignPub, u.Handle, u.Role)
		return err
	})
	return userOf(added), err
}

func (s *storeDoor) Users(ctx context.Context) ([]api.User, error) {
	users, err := s.dir.Users(ctx)
	if err != nil {
		return nil, err
	}
	proofs, err := s.dir.Proofs(ctx)
	if err != nil {
		return nil, err
	}
	all := make([]api.User, len(users))
	for i, u := range users {
		all[i] = userOf(u)
		all[i].Entry, all[i].Revocation = proofs.Entries[u.Handle], proofs.Revocations[u.SignPub]
	}
	return all, nil
}

func (s *storeDoor) Revoke(ctx context.Context, key bus.SignPub) (api.User, error) {
	var u directory.User
	err := s.change(ctx, http.MethodPost, api.RevokePath(key), key.String(), func() (err error) {
		u, err = s.dir.RevokeUser(ctx, key)
		return err
	})
	return userOf(u), err
}

func (s *storeDoor) Reach(context.Context) (reach, error) {
	return reach{Store: sqlite.Scheme, Offline: true, Replicas: 1}, nil
}

func userOf(u directory.User) api.User {
	out := api.User{SignPub: u.SignPub, ID: u.ID, Handle: u.Handle, Role: u.Role, Status: u.Status, CreatedAt: u.CreatedAt}
	if !u.RevokedAt.IsZero() {
		out.RevokedAt = &u.RevokedAt
	}
	return out
}
