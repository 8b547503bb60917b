package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/enmanuel/unibus/daemon/blobs"
	"github.com/enmanuel/unibus/daemon/control"
	"github.com/enmanuel/unibus/daemon/node"
	"github.com/enmanuel/unibus/lib/api"
	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/cli"
	"github.com/enmanuel/unibus/lib/cli/about"
	"github.com/enmanuel/unibus/lib/identity"
)

// stopTimeout bounds a graceful stop; a supervisor's own patience is longer.
const stopTimeout = 20 * time.Second

// The flags, in the order the help and `unibusd settings` show them.
const (
	flagBusID          = "bus-id"
	flagData           = "data"
	flagNode           = "node"
	flagControlListen  = "control-listen"
	flagNATSListen     = "nats-listen"
	flagSocket         = "socket"
	flagTLSCert        = "tls-cert"
	flagTLSKey         = "tls-key"
	flagBootstrapAdmin = "bootstrap-admin"
	flagBootstrapEntry = "bootstrap-entry"
	flagMaxShardBytes  = "max-shard-bytes"
	flagUserBytes      = "user-bytes"
	flagMaxRooms       = "max-rooms"
	flagMaxMemberships = "max-memberships"
	flagMetricsListen  = "metrics-listen"
	flagDebugListen    = "debug-listen"
	flagMaxBlobBytes   = "max-blob-bytes"
	flagBlobQuota      = "blob-quota"
	flagBlobTotal      = "blob-total"
	flagBlobLife       = "blob-life"
	flagLogFormat      = "log-format"
	flagLogLevel       = "log-level"
)

func flags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: flagBusID, EnvVars: []string{"UNIBUSD_BUS_ID"}, Usage: "serve the bus with this `ID`, as unibus init prints it"},
		&cli.PathFlag{Name: flagData, EnvVars: []string{"UNIBUSD_DATA"}, Value: "/var/lib/unibus", Usage: "keep everything in `DIR`"},
		&cli.StringFlag{Name: flagNode, EnvVars: []string{"UNIBUSD_NODE"}, DefaultText: "the host's", Usage: "the node's `NAME`, which must not change later"},
		&cli.StringFlag{Name: flagControlListen, EnvVars: []string{"UNIBUSD_CONTROL_LISTEN"}, Value: node.DefaultControlListen, Usage: "serve the control plane at `HOST:PORT`"},
		&cli.StringFlag{Name: flagNATSListen, EnvVars: []string{"UNIBUSD_NATS_LISTEN"}, Value: node.DefaultNATSListen, Usage: "serve NATS clients at `HOST:PORT`"},
		&cli.PathFlag{Name: flagSocket, EnvVars: []string{"UNIBUSD_SOCKET"}, DefaultText: "control.sock in the data directory", Usage: "open the local door at `PATH`"},
		&cli.PathFlag{Name: flagTLSCert, EnvVars: []string{"UNIBUSD_TLS_CERT"}, DefaultText: "none, on loopback only", Usage: "present the certificate chain in `FILE` (PEM); a new one is taken within seconds, or at SIGHUP"},
		&cli.PathFlag{Name: flagTLSKey, EnvVars: []string{"UNIBUSD_TLS_KEY"}, Usage: "with the private key in `FILE` (PEM)"},
		&cli.StringFlag{Name: flagBootstrapAdmin, EnvVars: []string{"UNIBUSD_BOOTSTRAP_ADMIN"}, Usage: "make `[HANDLE:]SIGNPUB` an admin if there is none yet"},
		&cli.StringFlag{Name: flagBootstrapEntry, EnvVars: []string{"UNIBUSD_BOOTSTRAP_ENTRY"}, Usage: "store the directory `ENTRY` that the bus root signed if its handle has none yet"},
		&cli.Int64Flag{Name: flagMaxShardBytes, EnvVars: []string{"UNIBUSD_MAX_SHARD_BYTES"}, DefaultText: "the disk", Usage: fmt.Sprintf("refuse messages once one of the %d streams holds `BYTES`", bus.Shards)},
		&cli.Int64Flag{Name: flagUserBytes, EnvVars: []string{"UNIBUSD_USER_BYTES"}, DefaultText: "no limit", Usage: "refuse messages to the rooms of an owner whose rooms store `BYTES`"},
		&cli.IntFlag{Name: flagMaxRooms, EnvVars: []string{"UNIBUSD_MAX_ROOMS"}, Value: control.DefaultOwnedRooms, Usage: "let an identity own `N` rooms; -1 is any number"},
		&cli.IntFlag{Name: flagMaxMemberships, EnvVars: []string{"UNIBUSD_MAX_MEMBERSHIPS"}, Value: control.DefaultMemberships, Usage: "let others put an identity into `N` rooms; -1 is any number"},
		&cli.StringFlag{Name: flagMetricsListen, EnvVars: []string{"UNIBUSD_METRICS_LISTEN"}, DefaultText: "the local door only", Usage: "let everybody who reaches `HOST:PORT` read metrics there"},
		&cli.StringFlag{Name: flagDebugListen, EnvVars: []string{"UNIBUSD_DEBUG_LISTEN"}, DefaultText: "nowhere", Usage: "serve profiles at `HOST:PORT`, on loopback only"},
		&cli.Int64Flag{Name: flagMaxBlobBytes, EnvVars: []string{"UNIBUSD_MAX_BLOB_BYTES"}, Value: bus.MaxBlobBody, Usage: "take blobs of up to `BYTES`, sealed; -1 is no limit"},
		&cli.Int64Flag{Name: flagBlobQuota, EnvVars: []string{"UNIBUSD_BLOB_QUOTA"}, Value: blobs.DefaultUser, Usage: "refuse blobs once a user has put `BYTES`; -1 is no limit"},
		&cli.Int64Flag{Name: flagBlobTotal, EnvVars: []string{"UNIBUSD_BLOB_TOTAL"}, Value: -1, Usage: "refuse blobs once the node keeps `BYTES`; -1 leaves it to the disk"},
		&cli.DurationFlag{Name: flagBlobLife, EnvVars: []string{"UNIBUSD_BLOB_LIFE"}, DefaultText: "until removed", Usage: "delete blobs after `TIME`, such as 720h"},
		&cli.StringFlag{Name: flagLogFormat, EnvVars: []string{"UNIBUSD_LOG_FORMAT"}, Value: "text", Usage: "log as `text|json`"},
		&cli.StringFlag{Name: flagLogLevel, EnvVars: []string{"UNIBUSD_LOG_LEVEL"}, Value: "info", Usage: "log from this level on: `debug|info|warn|error`"},
	}
}

func command() *cli.Command {
	return &cli.Command{
		Name:  "unibusd",
		Usage: "serve a bus: message server and control plane in one process",
		Description: "Runs until SIGTERM or SIGINT. Without a certificate it listens on loopback only.\n" +
			"The local door, a Unix socket, lets root and the daemon's own user add users:\n" +
			"unibus usermgr --socket DIR/control.sock add HANDLE SIGNPUB",
		Flags:  flags(),
		Action: cli.Action(serve),
		Subcommands: []*cli.Command{
			{
				Name:   "settings",
				Usage:  "print each effective setting and where it comes from",
				Action: cli.Action(settings),
			},
			healthCommand(),
			about.Completion("unibusd"),
			about.Man("unibusd"),
		},
	}
}

func serve(c *cli.Call) error {
	logger, err := newLogger(c)
	if err != nil {
		return err
	}
	cfg, err := config(c, logger)
	if err != nil {
		return err
	}
	boss, err := newSupervisor(logger)
	if err != nil {
		return err
	}
	boss.starting()
	n, err := node.Start(c.Context, cfg)
	if err != nil {
		return advise(cfg, err)
	}
	boss.ready(n)
	failure := attend(c.Context, n, boss, logger)
	boss.stopping(stopTimeout)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.Context), stopTimeout)
	defer cancel()
	if err := n.Stop(ctx); err != nil {
		return fmt.Errorf("stop node: %w", err)
	}
	logger.Info("stopped")
	return advise(cfg, failure)
}

// attend waits until the node is to end, and returns why if that is a failure. A
// hangup has it look at its certificate again, as supervisors reload daemons.
// Meanwhile the supervisor hears how it is.
func attend(ctx context.Context, n *node.Node, boss *supervisor, logger *slog.Logger) error {
	watching, stopWatching := context.WithCancel(context.WithoutCancel(ctx))
	var watched sync.WaitGroup
	watched.Go(func() { boss.watch(watching, n) })
	defer watched.Wait()
	defer stopWatching()
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	for {
		select {
		case <-hangup:
			boss.reload(n.ReloadCertificate)
		case <-ctx.Done():
			logger.Info("stopping", "cause", context.Cause(ctx))
			return nil
		case failure := <-n.Failed():
			logger.Error("stopping", "cause", failure)
			return failure
		}
	}
}

func config(c *cli.Call, logger *slog.Logger) (node.Config, error) {
	cfg := node.Config{
		DataDir:       c.Path(flagData),
		Name:          c.String(flagNode),
		ControlListen: c.String(flagControlListen),
		NATSListen:    c.String(flagNATSListen),
		Socket:        c.Path(flagSocket),
		MaxShardBytes: c.Int64(flagMaxShardBytes),
		UserBytes:     c.Int64(flagUserBytes),
		MetricsListen: c.String(flagMetricsListen),
		DebugListen:   c.String(flagDebugListen),
		Blobs:         blobs.Limits{Blob: c.Int64(flagMaxBlobBytes), User: c.Int64(flagBlobQuota), Total: c.Int64(flagBlobTotal)},
		BlobLife:      c.Duration(flagBlobLife),
		Version:       c.Env.Version,
		Logger:        logger,
		Now:           c.Env.Now,
	}
	cfg.Limits.OwnedRooms, cfg.Limits.Memberships = c.Int(flagMaxRooms), c.Int(flagMaxMemberships)
	if cfg.Limits.OwnedRooms == 0 || cfg.Limits.Memberships == 0 {
		return cfg, cli.Usagef("--%s and --%s cannot be 0", flagMaxRooms, flagMaxMemberships)
	}
	if c.String(flagBusID) == "" {
		return cfg, cli.WithHint(cli.Usagef("no bus to serve: --%s is missing", flagBusID), "unibus init")
	}
	var err error
	if cfg.BusID, err = bus.ParseBusID(c.String(flagBusID)); err != nil {
		return cfg, cli.BadArg("--"+flagBusID, err)
	}
	if s := c.String(flagBootstrapAdmin); s != "" {
		admin, err := node.ParseAdmin(s)
		if err != nil {
			return cfg, cli.BadArg("--"+flagBootstrapAdmin, err)
		}
		cfg.BootstrapAdmin = &admin
	}
	if s := c.String(flagBootstrapEntry); s != "" {
		var entry api.Bytes
		err := entry.UnmarshalText([]byte(s))
		if err == nil {
			_, err = identity.ParseEntry(entry, cfg.BusID)
		}
		if err != nil {
			return cfg, cli.BadArg("--"+flagBootstrapEntry, err)
		}
		cfg.BootstrapEntry = entry
	}
	cfg.CertFile, cfg.KeyFile = c.Path(flagTLSCert), c.Path(flagTLSKey)
	if (cfg.CertFile == "") != (cfg.KeyFile == "") {
		return cfg, cli.Usagef("--%s and --%s go together", flagTLSCert, flagTLSKey)
	}
	return cfg, nil
}

func newLogger(c *cli.Call) (*slog.Logger, error) {
	level, err := logLevel(c)
	if err != nil {
		return nil, err
	}
	handler, err := newHandler(c.String(flagLogFormat), c.Stderr, &slog.HandlerOptions{Level: level})
	if err != nil {
		return nil, err
	}
	return slog.New(handler), nil
}

// logLevel is what --log-level says or, without it, --verbose or --quiet.
func logLevel(c *cli.Call) (slog.Level, error) {
	if c.Source(flagLogLevel) == "default" {
		switch {
		case c.Verbose():
			return slog.LevelDebug, nil
		case c.Quiet():
			return slog.LevelWarn, nil
		}
	}
	switch name := c.String(flagLogLevel); name {
	case "debug":
		return slog.LevelDebug, nil
	case "info":
		return slog.LevelInfo, nil
	case "warn":
		return slog.LevelWarn, nil
	case "error":
		return slog.LevelError, nil
	default:
		return 0, cli.Usagef("--%s is %q: want debug, info, warn or error", flagLogLevel, name)
	}
}

func newHandler(format string, w io.Writer, opts *slog.HandlerOptions) (slog.Handler, error) {
	switch format {
	case "text":
		return slog.NewTextHandler(w, opts), nil
	case "json":
		return slog.NewJSONHandler(w, opts), nil
	}
	return nil, cli.Usagef("--%s is %q: want text or json", flagLogFormat, format)
}

// setting is one line of `unibusd settings`.
type setting struct {
	Name     string `json:"name"`
	Value    string `json:"value"`
	Source   string `json:"source"`
	Variable string `json:"variable"`
}

func settings(c *cli.Call) error {
	var all []setting
	for _, f := range flags() {
		name := f.Names()[0]
		s := setting{Name: name, Value: fmt.Sprint(c.Value(name)), Source: c.Source(name)}
		switch {
		case name == flagNode && s.Value == "":
			var err error
			if s.Value, err = node.DefaultName(); err != nil {
				return err
			}
		case name == flagSocket && s.Value == "":
			s.Value = node.DefaultSocket(c.Path(flagData))
		}
		if env, ok := f.(interface{ GetEnvVars() []string }); ok {
			s.Variable = env.GetEnvVars()[0]
		}
		all = append(all, s)
	}
	if c.WantsJSON() {
		return c.JSON(struct {
			Settings []setting `json:"settings"`
		}{all})
	}
	rows := make([][]string, len(all))
	for i, s := range all {
		value := s.Value
		if value == "" || (s.Name == flagMaxShardBytes || s.Name == flagUserBytes) && value == strconv.Itoa(0) {
			value = "-"
		}
		rows[i] = []string{s.Name, value, s.Source, s.Variable}
	}
	c.Table([]string{"setting", "value", "from", "variable"}, rows)
	return nil
}
