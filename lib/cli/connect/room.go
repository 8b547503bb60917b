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

// Room returns the room that the argument ROOM of a command names: by the name
// under which it was made or accepted here, or by its id. What is neither has
// [bus.CodeUsage]; other errors are those of [client.Client.Room].
func Room(ctx context.Context, cl *client.Client, arg string) (*client.Room, error) {
	text := strings.TrimPrefix(arg, RoomIDPrefix)
	if _, err := bus.ParseRoomID(text); err != nil {
		if _, err := bus.ParseRoomName(text); err != nil {
			return nil, cli.BadArg("ROOM", err)
		}
	}
	r, err := cl.Room(ctx, text)
	if errors.Is(err, bus.ErrNotFound) {
		return nil, cli.WithHint(err, "unibus room ls; a room you are invited to needs: unibus room accept ID")
	}
	return r, err
}
