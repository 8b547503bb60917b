package plugin

import "github.com/enmanuel/unibus/lib/cli"

// found is a plug-in as --json prints it.
type found struct {
	Name string `json:"name"`
	Path string `json:"path"`
}

// Command returns the command "plugins".
func Command() *cli.Command {
	return &cli.Command{
		Name:  "plugins",
		Usage: "list the plug-ins of this machine, and where they are",
		Description: "A plug-in is an executable unibus-NAME, which unibus NAME runs: beside this program, in\n" +
			"the directories of UNIBUS_PLUGIN_PATH, or in those of PATH. What is built in goes\n" +
			"before. Nothing is run to list them.",
		Action: cli.Action(list),
	}
}

func list(c *cli.Call) error {
	out := struct {
		Plugins  []found  `json:"plugins"`
		Searched []string `json:"searched"`
	}{[]found{}, directories(c.Env)}
	var rows [][]string
	for _, cmd := range (Finder{}).List(c.Env) {
		if c.Program().Command(cmd.Name) != nil {
			continue
		}
		out.Plugins = append(out.Plugins, found{cmd.Name, cmd.Usage})
		rows = append(rows, []string{cmd.Name, cmd.Usage})
	}
	if c.WantsJSON() {
		return c.JSON(out)
	}
	if len(rows) == 0 {
		c.Note("no plug-ins in %d directories; --verbose lists them", len(out.Searched))
	}
	for _, dir := range out.Searched {
		c.Detail("looked in %s", dir)
	}
	c.Table([]string{"name", "path"}, rows)
	return nil
}
