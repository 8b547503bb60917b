package connect

import (
	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/cli"
	"github.com/enmanuel/unibus/lib/client"
	"github.com/enmanuel/unibus/lib/identity"
)

// Candidates is a [cli.Completer] for commands whose arguments or flags name
// rooms (ROOM) and people (WHO, HANDLE): those that the user has met on the bus
// of the settings, as far as they are known here.
func Candidates(c *cli.Call, kind string) []cli.Candidate {
	if kind != "ROOM" && kind != "WHO" && kind != "HANDLE" {
		return nil
	}
	cfg, err := c.Config(cli.NeedBusID)
	if err != nil {
		return nil
	}
	state, err := c.Env.StateDir()
	if err != nil {
		return nil
	}
	var who bus.ID
	if cfg.Identity != "" {
		// One with a passphrase stays closed; then everybody's rooms have to do.
		if id, err := identity.Load(cfg.Identity, nil); err == nil {
			who = id.ID()
		}
	}
	rooms, handles, err := client.Remembered(state, cfg.BusID, who)
	if err != nil {
		return nil
	}
	var candidates []cli.Candidate
	if kind == "ROOM" {
		for _, name := range rooms {
			candidates = append(candidates, cli.Candidate{Word: string(name), About: "room"})
		}
		return candidates
	}
	for _, handle := range handles {
		candidates = append(candidates, cli.Candidate{Word: string(handle), About: "known handle"})
	}
	return candidates
}
