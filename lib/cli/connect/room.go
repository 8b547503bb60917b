package connect

import (
	"context"
	"errors"
	"strings"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/cli"
	"github.com/enmanuel/unibus/lib/client"
)

// RoomIDPrefix marks an id on a command line, where one that begins with a dash
// would be taken for a flag.
const RoomIDPrefix = "id:"

// RoomID returns the id of the room that the argument ROOM of a command names: by
// the name under which it was made or accepted here, or by its id. What is neither
// has [bus.CodeUsage]. No server is asked.
func RoomID(cl *client.Client, arg string) (bus.RoomID, error) {
	text := strings.TrimPrefix(arg, RoomIDPrefix)
	if _, err := bus.ParseRoomID(text); err != nil {
		if _, err := bus.ParseRoomName(text); err != nil {
			return bus.RoomID{}, cli.BadArg("ROOM", err)
		}
	}
	id, err := cl.RoomID(text)
	return id, hintRoom(id, err)
}

// Room returns the room that [RoomID] finds. Other errors are those of
// [client.Client.Room].
func Room(ctx context.Context, cl *client.Client, arg string) (*client.Room, error) {
	id, err := RoomID(cl, arg)
	if err != nil {
		return nil, err
	}
	r, err := cl.Room(ctx, id.String())
	return r, hintRoom(id, err)
}

func hintRoom(id bus.RoomID, err error) error {
	switch {
	case errors.Is(err, bus.ErrNotFound):
		return cli.WithHint(err, "unibus room ls; a room you are invited to needs: unibus room accept ID")
	case Forked(err):
		return cli.WithHint(err, "what happened: unibus room log %s", RoomArg(id))
	}
	return err
}

// RoomArg writes a room's id so that no command takes it for a flag.
func RoomArg(id bus.RoomID) string {
	text := id.String()
	if strings.HasPrefix(text, "-") {
		return RoomIDPrefix + text
	}
	return text
}

// Forked reports whether a failure to read a room says that the servers show another
// branch of it than was accepted here, or less.
func Forked(err error) bool {
	return errors.Is(err, bus.ErrFork) || errors.Is(err, bus.ErrEquivocation) || errors.Is(err, bus.ErrRollback)
}
