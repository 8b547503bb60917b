// Command hello sends a message to the room lobby, as the user and over the
// bus of the selected context.
package main

import (
	"context"
	"log"

	"github.com/enmanuel/unibus/lib/cli/connect"
)

func main() {
	ctx := context.Background()
	client, err := connect.Open(ctx, "", nil)
	if err != nil {
		log.Fatal(err)
	}
	defer connect.Close(client)
	room, err := client.Room(ctx, "lobby")
	if err != nil {
		log.Fatal(err)
	}
	if _, err := room.Publish(ctx, []byte("hello from Go")); err != nil {
		log.Fatal(err)
	}
}
