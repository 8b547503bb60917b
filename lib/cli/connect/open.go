package connect

import (
	"context"

	"github.com/enmanuel/unibus/lib/cli"
	"github.com/enmanuel/unibus/lib/client"
)

// Open connects a Go program that is no command to the bus of a saved context,
// such as "unibus context add" makes. With name "" it is the context that
// UNIBUS_CONTEXT names, else the selected one. UNIBUS_SERVER, UNIBUS_URL,
// UNIBUS_CA, UNIBUS_BUS_ID, UNIBUS_IDENTITY and UNIBUS_TIMEOUT go before the
// context, as they do for the tools. The passphrase of an identity file is the
// first line of the file that UNIBUS_PASSPHRASE_FILE names; nobody is asked for
// it. The client writes new keys for its card to the identity file, and shares
// its state with the tools of the same user.
//
// change may be nil. Otherwise it is called once before connecting, to set what
// a context does not say, above all OnEvent and Logger, which are not set. Who
// replaces Identity has to replace Keeper too.
//
// ctx bounds connecting, together with UNIBUS_TIMEOUT or else
// [cli.DefaultTimeout]. The client is to be closed with [Close] or with
// [client.Client.Close].
//
// Errors: those of [Dial], [bus.CodeNotFound] for a context that does not exist,
// [bus.CodeUsage] for a name or variable that does not do, and
// [bus.CodePassphrase] where the identity file has one that nobody gave.
func Open(ctx context.Context, name string, change func(*client.Config)) (*client.Client, error) {
	c, err := cli.Detached(ctx, cli.System(), name)
	if err != nil {
		return nil, err
	}
	return dial(ctx, c, change)
}
