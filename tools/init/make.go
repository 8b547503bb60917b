package initcmd

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/cli"
	"github.com/enmanuel/unibus/lib/identity"
)

// undo takes back what was done, the last first.
type undo []func() error

func (u *undo) add(f func() error) { *u = append(*u, f) }

func (u undo) run() error {
	var errs []error
	for _, f := range slices.Backward(u) {
		errs = append(errs, f())
	}
	return errors.Join(errs...)
}

// makeBus makes everything, or nothing.
func makeBus(c *cli.Call, o options) (made *result, err error) {
	var back undo
	defer func() {
		if err != nil {
			err = errors.Join(err, back.run())
		}
	}()
	root, err := identity.GenerateRoot(c.Env.Rand)
	if err != nil {
		return nil, err
	}
	admin, err := identity.Generate(c.Env.Rand)
	if err != nil {
		return nil, err
	}
	entry, err := signEntry(root, o.handle, admin.ID(), c.Env.Now())
	if err != nil {
		return nil, err
	}
	made = &result{
		Dir:      o.dir,
		BusID:    root.BusID(),
		Root:     filepath.Join(o.dir, "bus.root"),
		Settings: filepath.Join(o.dir, "unibusd.env"),
		Handle:   o.handle,
		SignPub:  admin.SignPub(),
		Identity: filepath.Join(o.dir, string(o.handle)+".id"),
		Context:  o.name,
	}
	made.Next = []string{
		fmt.Sprintf("(set -a; . %s; exec unibusd)", quote(made.Settings)),
		"unibus context validate",
		"unibus room create hello",
	}
	if err := makeDirectory(o.dir, &back); err != nil {
		return nil, err
	}
	// The context before the files with keys: its name may be taken, and they are
	// the slow part when there is a passphrase.
	if err := saveContext(c, o, made, &back); err != nil {
		return nil, err
	}
	if err := root.Create(made.Root, o.passphrase); err != nil {
		return nil, err
	}
	back.add(func() error { return os.Remove(made.Root) })
	if err := admin.Create(made.Identity, o.passphrase); err != nil {
		return nil, err
	}
	back.add(func() error { return os.Remove(made.Identity) })
	if err := createFile(made.Settings, settingsFile(settingsOf(o, made, entry))); err != nil {
		return nil, err
	}
	back.add(func() error { return os.Remove(made.Settings) })
	contexts, err := c.Env.Contexts()
	if err != nil {
		return nil, err
	}
	return made, contexts.Select(o.name)
}

// entryLife is how long the root vouches for the first admin's handle.
const entryLife = 365 * 24 * time.Hour

// signEntry has the root say whose the first admin's handle is, which it can do
// while it is here.
func signEntry(root *identity.Root, handle bus.Handle, id bus.ID, now time.Time) ([]byte, error) {
	now = now.UTC().Truncate(time.Second)
	return root.SignEntry(identity.Entry{BusID: root.BusID(), Handle: handle, ID: id, Seq: uint64(now.Unix()), NotAfter: now.Add(entryLife)})
}

// settingsOf is the node of this machine.
func settingsOf(o options, made *result, entry []byte) []setting {
	return []setting{
		{"UNIBUSD_BUS_ID", made.BusID.String()},
		{"UNIBUSD_DATA", filepath.Join(o.dir, "data")},
		{"UNIBUSD_CONTROL_LISTEN", listenAddress(o.controlPort)},
		{"UNIBUSD_NATS_LISTEN", listenAddress(o.natsPort)},
		{"UNIBUSD_BOOTSTRAP_ADMIN", string(o.handle) + ":" + made.SignPub.String()},
		{"UNIBUSD_BOOTSTRAP_ENTRY", base64.RawURLEncoding.EncodeToString(entry)},
	}
}

// saveContext makes the context of the new bus.
func saveContext(c *cli.Call, o options, made *result, back *undo) error {
	contexts, err := c.Env.Contexts()
	if err != nil {
		return err
	}
	err = contexts.Create(o.name, cli.SavedContext{
		Servers:  []string{"nats://" + listenAddress(o.natsPort)},
		URLs:     []string{"http://" + listenAddress(o.controlPort)},
		BusID:    made.BusID,
		Identity: made.Identity,
	})
	if errors.Is(err, bus.ErrFileExists) {
		return cli.WithHint(err, "choose another name for the context: --%s NAME", flagName)
	}
	if err == nil {
		back.add(func() error { return contexts.Remove(o.name) })
	}
	return err
}

// makeDirectory makes dir and what is missing above it, or accepts an empty one.
func makeDirectory(dir string, back *undo) error {
	entries, err := os.ReadDir(dir)
	switch {
	case err == nil && len(entries) > 0:
		return cli.WithHint(bus.Errorf(bus.CodeFileExists, "the directory is not empty"), "choose another directory")
	case err == nil:
		return nil
	case !errors.Is(err, fs.ErrNotExist):
		if info, statErr := os.Stat(dir); statErr == nil && !info.IsDir() {
			return cli.WithHint(bus.Errorf(bus.CodeFileExists, "there is a file of that name"), "choose another directory")
		}
		return err
	}
	if err := makeParent(dir, back); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	back.add(func() error { return os.Remove(dir) })
	return syncDir(filepath.Dir(dir))
}

// makeParent makes the directory above dir unless it is there.
func makeParent(dir string, back *undo) error {
	parent := filepath.Dir(dir)
	if _, err := os.Stat(parent); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return makeDirectory(parent, back)
}

// createFile makes a new private file and brings it to the disk, or leaves none.
func createFile(path string, data []byte) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = syncDir(filepath.Dir(path))
	}
	if err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return nil
}

// syncDir brings the names in a directory to the disk.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
