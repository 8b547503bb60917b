package connect_test

import (
	"context"
	"fmt"
	"log"

	"github.com/enmanuel/unibus/lib/cli/connect"
	"github.com/enmanuel/unibus/lib/client"
)

// A program of one's own goes where the tools of its user go.
func ExampleOpen() {
	ctx := context.Background()
	c, err := connect.Open(ctx, "work", func(cfg *client.Config) { // "" is the selected context
		cfg.OnEvent = func(e client.Event) { log.Println(e.Kind, e.Detail, e.Err) }
	})
	if err != nil {
		log.Fatal(err)
	}
	defer connect.Close(c)

	fmt.Println("connected to", c.Server())
}
