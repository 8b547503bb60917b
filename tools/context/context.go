// Package context is the command that keeps contexts: names for a bus, the way
// to it and the identity to use there. Files and their format are package
// cli's, see [cli.SavedContext]; this is what people type.
package context

import (
	"os"
	"strings"

	"github.com/enmanuel/unibus/lib/cli"
)

// Command returns the command "context".
func Command() *cli.Command {
	return &cli.Command{
		Name:  "context",
		Usage: "keep the buses you use under names",
		Description: "A context says where a bus is, which one it is, and who you are there. Other\n" +
			"commands use the selected one, or the one that --context or UNIBUS_CONTEXT names.",
		Subcommands: []*cli.Command{
			addCommand(),
			{
				Name:   "ls",
				Usage:  "list contexts; the selected one has a star",
				Action: cli.Action(list),
			},
			{
				Name:      "select",
				Usage:     "make a context the one to use",
				ArgsUsage: "CONTEXT",
				Action:    cli.Action(choose),
			},
			{
				Name:      "info",
				Usage:     "show the settings in effect and where each comes from",
				ArgsUsage: "[CONTEXT]",
				Action:    cli.Action(info),
			},
			validateCommand(),
			{
				Name:        "rm",
				Usage:       "remove contexts",
				ArgsUsage:   "CONTEXT...",
				Description: "Only the context is removed. Identity and certificates stay where they are.",
				Action:      cli.Action(remove),
			},
		},
	}
}

func addCommand() *cli.Command {
	return &cli.Command{
		Name:      "add",
		Usage:     "save a context",
		ArgsUsage: "NAME",
		Description: "Takes the addresses and files from --server, --url, --ca, --bus-id and\n" +
			"--identity. With --context, what is not given is as in that context: so another\n" +
			"identity on the same bus needs --identity only. The first context is selected at\n" +
			"once.",
		UsageText: "unibus context add work --server tls://bus.example.org:4222 \\\n" +
			"    --url https://bus.example.org:8443 --bus-id ID --identity alice.id\n" +
			"unibus context add bob --context work --identity bob.id",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "select", Usage: "make it the one to use"},
			&cli.BoolFlag{Name: "report-failures", Usage: "let clients tell the bus how often they refused something: counts by error code, nothing else"},
		},
		Action: cli.Action(add),
	}
}

func add(c *cli.Call) error {
	name := c.Arg(0)
	contexts, err := c.Env.Contexts()
	if err != nil {
		return err
	}
	path, err := contexts.Path(name)
	if err != nil {
		return err
	}
	read := c.Given
	if c.Source("context") == "flag" {
		read = func() (cli.Config, error) { return c.Config() }
	}
	given, err := read()
	if err != nil {
		return err
	}
	if len(given.Servers) == 0 && len(given.URLs) == 0 {
		return cli.Usagef("a context needs --server, --url or both")
	}
	for _, file := range []string{given.CA, given.Identity} {
		if file == "" {
			continue
		}
		if _, err := os.Stat(file); err != nil {
			c.Warn("%s", strings.TrimPrefix(err.Error(), "stat "))
		}
	}
	err = contexts.Create(name, cli.SavedContext{
		Servers: given.Servers, URLs: given.URLs, CA: given.CA, BusID: given.BusID, Identity: given.Identity,
		ReportFailures: c.Bool("report-failures"),
	})
	if err != nil {
		return err
	}
	selected, err := contexts.Selected()
	if err != nil {
		return err
	}
	if selected == "" || c.Bool("select") {
		if err := contexts.Select(name); err != nil {
			return err
		}
		selected = name
	}
	if c.WantsJSON() {
		return c.JSON(struct {
			Name     string `json:"name"`
			File     string `json:"file"`
			Selected bool   `json:"selected"`
		}{name, path, selected == name})
	}
	c.Note("saved %s", path)
	if selected == name {
		c.Note("selected context %s", name)
	}
	return nil
}

func choose(c *cli.Call) error {
	contexts, err := c.Env.Contexts()
	if err != nil {
		return err
	}
	if err := contexts.Select(c.Arg(0)); err != nil {
		return err
	}
	if c.WantsJSON() {
		return c.JSON(struct {
			Selected string `json:"selected"`
		}{c.Arg(0)})
	}
	c.Note("selected context %s", c.Arg(0))
	return nil
}

func remove(c *cli.Call) error {
	contexts, err := c.Env.Contexts()
	if err != nil {
		return err
	}
	for _, name := range c.Args().Slice() {
		if err := contexts.Remove(name); err != nil {
			return err
		}
		c.Note("removed context %s", name)
	}
	if c.WantsJSON() {
		return c.JSON(struct {
			Removed []string `json:"removed"`
		}{c.Args().Slice()})
	}
	return nil
}

// listed is one context in the output of ls.
type listed struct {
	Name     string   `json:"name"`
	Selected bool     `json:"selected"`
	Error    string   `json:"error,omitempty"` // why it cannot be used; what follows is empty then
	Servers  []string `json:"servers"`
	URLs     []string `json:"urls"`
	CA       string   `json:"ca"`
	BusID    string   `json:"bus_id"`
	Identity string   `json:"identity"`
	Reports  bool     `json:"report_failures"`
}

func listedContext(contexts *cli.Contexts, name string) listed {
	saved, err := contexts.Load(name)
	if err != nil {
		return listed{Name: name, Error: err.Error(), Servers: []string{}, URLs: []string{}} // it does not hide the others
	}
	item := listed{Name: name, Servers: saved.Servers, URLs: saved.URLs, CA: saved.CA, Identity: saved.Identity, Reports: saved.ReportFailures}
	if !saved.BusID.IsZero() {
		item.BusID = saved.BusID.String()
	}
	return item
}

func list(c *cli.Call) error {
	contexts, err := c.Env.Contexts()
	if err != nil {
		return err
	}
	names, err := contexts.Names()
	if err != nil {
		return err
	}
	selected, err := contexts.Selected()
	if err != nil {
		return err
	}
	all := []listed{}
	for _, name := range names {
		item := listedContext(contexts, name)
		item.Selected = name == selected
		all = append(all, item)
	}
	if c.WantsJSON() {
		return c.JSON(struct {
			Contexts []listed `json:"contexts"`
		}{all})
	}
	if len(all) == 0 {
		c.Note("no contexts yet; make one with: unibus context add NAME")
	}
	var rows [][]string
	for _, item := range all {
		star := ""
		if item.Selected {
			star = "*"
		}
		if item.Error != "" {
			c.Warn("%s", item.Error)
			rows = append(rows, []string{star, item.Name, "unusable", "", ""})
			continue
		}
		rows = append(rows, []string{star, item.Name, strings.Join(item.Servers, " "), strings.Join(item.URLs, " "), item.Identity})
	}
	c.Table([]string{"", "name", "servers", "urls", "identity"}, rows)
	return nil
}

// settings is the JSON form of what info shows.
type settings struct {
	Context  string            `json:"context"` // "" if none is used
	Servers  []string          `json:"servers"`
	URLs     []string          `json:"urls"`
	CA       string            `json:"ca"`
	BusID    string            `json:"bus_id"`
	Identity string            `json:"identity"`
	TimeoutS float64           `json:"timeout_s"`
	Reports  bool              `json:"report_failures"`
	Sources  map[string]string `json:"sources"`
}

func info(c *cli.Call) error {
	cfg, err := configOf(c)
	if err != nil {
		return err
	}
	out := settings{
		Context: cfg.Context, Servers: append([]string{}, cfg.Servers...), URLs: append([]string{}, cfg.URLs...),
		CA: cfg.CA, Identity: cfg.Identity, TimeoutS: cfg.Timeout.Seconds(), Reports: cfg.ReportFailures, Sources: cfg.Sources,
	}
	bus := ""
	if !cfg.BusID.IsZero() {
		out.BusID = cfg.BusID.String()
		bus = out.BusID + " (" + cfg.BusID.Fingerprint() + ")"
	}
	if c.WantsJSON() {
		return c.JSON(out)
	}
	if cfg.Context == "" {
		c.Note("no context is selected; choose one with: unibus context select NAME")
	}
	c.Table([]string{"setting", "value", "from"}, [][]string{
		{"servers", strings.Join(cfg.Servers, " "), cfg.Sources["servers"]},
		{"urls", strings.Join(cfg.URLs, " "), cfg.Sources["urls"]},
		{"ca", cfg.CA, cfg.Sources["ca"]},
		{"bus_id", bus, cfg.Sources["bus_id"]},
		{"identity", cfg.Identity, cfg.Sources["identity"]},
		{"timeout", cfg.Timeout.String(), cfg.Sources["timeout"]},
	})
	return nil
}

// configOf is the configuration in effect, with the context that the argument
// names, if there is one, as --context would.
func configOf(c *cli.Call, needs ...cli.Need) (cli.Config, error) {
	if name := c.Arg(0); name != "" {
		if err := c.Set("context", name); err != nil {
			return cli.Config{}, err
		}
	}
	return c.Config(needs...)
}
