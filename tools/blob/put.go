package blob

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"os"
	"path/filepath"

	"github.com/enmanuel/unibus/lib/blob"
	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/cli"
	"github.com/enmanuel/unibus/lib/client"
)

// source is a file to send.
type source struct {
	label string // for people
	name  string // for those who get it
	media string
	io.ReadCloser
}

func put(c *cli.Call) error {
	sources, err := openSources(c)
	defer func() {
		for _, s := range sources {
			s.Close() // it was only read
		}
	}()
	if err != nil {
		return err
	}
	return with(c, func(_ *client.Client, r *client.Room) error {
		for i, s := range sources {
			if err := send(c, r, s); err != nil {
				if i > 0 && !errors.Is(err, context.Canceled) {
					err = cli.WithExit(fmt.Errorf("%d of %d files were sent: %w", i, len(sources), err), cli.ExitPartial)
				}
				return err
			}
		}
		return nil
	})
}

func send(c *cli.Call, r *client.Room, s source) error {
	t := newTransfer(c, "sending "+s.label)
	ref, receipt, err := r.PutBlob(c.Context, s, client.PutOptions{
		Name: s.name, Media: s.media, Body: []byte(c.String(flagMessage)), Progress: t.move,
	})
	if err = t.end(c, err); err != nil {
		if errors.Is(err, bus.ErrTooLarge) {
			err = cli.WithHint(err, "put it in parts (split -b 60M), or ask the operator to raise --max-blob-bytes")
		}
		if !errors.Is(err, context.Canceled) {
			err = fmt.Errorf("send %s: %w", s.label, err)
		}
		return err
	}
	c.Note("sent %s, %s", s.label, size(ref.Size))
	if c.WantsJSON() {
		return c.JSON(sentFile{r.ID(), describe(ref), receipt.Session, receipt.Seq})
	}
	c.Printf("%s\n", ref.Hash)
	return nil
}

// openSources opens everything before anything is sent.
func openSources(c *cli.Call) ([]source, error) {
	names := c.Args().Slice()[1:]
	if len(names) > 1 && c.String(flagName) != "" {
		return nil, cli.Usagef("--%s is for one file, and there are %d", flagName, len(names))
	}
	var all []source
	stdin := false
	for _, path := range names {
		s := source{label: path, name: filepath.Base(path)}
		if path == "-" {
			if stdin {
				return all, cli.Usagef("FILE: standard input is named twice")
			}
			stdin = true
			s.label, s.name, s.ReadCloser = "standard input", "", io.NopCloser(c.Env.Stdin)
		} else {
			f, err := os.Open(path)
			if err != nil {
				return all, fmt.Errorf("open file: %w", err)
			}
			s.ReadCloser = f
			if info, err := f.Stat(); err != nil {
				return append(all, s), fmt.Errorf("open file: %w", err)
			} else if info.IsDir() {
				return append(all, s), cli.WithHint(cli.Usagef("FILE: %q is a directory", path), "tar cz %s | %s ROOM - --name %s.tar.gz", path, c.CommandLine(), s.name)
			}
		}
		all = append(all, s)
		if err := nameSource(c, &all[len(all)-1]); err != nil {
			return all, err
		}
	}
	return all, nil
}

// nameSource settles what others are told about a file.
func nameSource(c *cli.Call, s *source) error {
	if name := c.String(flagName); name != "" {
		s.name = name
	}
	if err := blob.CheckName(s.name); err != nil {
		return cli.WithHint(cli.BadArg("FILE", err), "give it another one with --%s NAME", flagName)
	}
	s.media = mime.TypeByExtension(filepath.Ext(s.name))
	if c.Source(flagMedia) != "default" {
		s.media = c.String(flagMedia)
	}
	if err := blob.CheckMedia(s.media); err != nil {
		return cli.BadArg("--"+flagMedia, err)
	}
	return nil
}

// matches reports whether a word names a file.
func matches(ref client.BlobRef, which string) bool {
	hash, err := bus.ParseBlobHash(which)
	return err == nil && hash == ref.Hash || which == ref.Name
}
