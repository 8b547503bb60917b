// Command unibus-whoami is a plug-in of unibus: it tells who the user is to the
// bus of the context, and how many rooms they are in. See docs/plugins.md.
package main

import (
	"os"

	"github.com/enmanuel/unibus/lib/cli"
	"github.com/enmanuel/unibus/lib/cli/connect"
)

func main() {
	os.Exit(cli.Main(&cli.Command{Name: "whoami", Usage: "tell who you are to the bus", Action: cli.Action(whoami)}))
}

func whoami(c *cli.Call) error {
	client, err := connect.Dial(c.Context, c)
	if err != nil {
		return err
	}
	defer connect.Close(client)
	rooms, err := client.Rooms(c.Context)
	if err != nil {
		return err
	}
	if c.WantsJSON() {
		return c.JSON(map[string]any{"id": client.ID(), "rooms": len(rooms)})
	}
	c.Printf("%s, in %d rooms\n", client.ID(), len(rooms))
	return nil
}
