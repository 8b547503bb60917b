package main

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"github.com/enmanuel/unibus/daemon/node"
)

// statusEvery is how often a supervisor without a watchdog hears how the node is.
const statusEvery = 10 * time.Second

// supervisor tells systemd how the node is, by the protocol of sd_notify(3).
// Where no supervisor listens it does nothing.
type supervisor struct {
	log   *slog.Logger
	every time.Duration                    // how often the node is looked at
	send  func(state string) (bool, error) // false where nobody listens

	mu     sync.Mutex
	told   string // the last status
	silent bool   // the supervisor could not be reached, which was said
}

// newSupervisor finds out from the environment, which only systemd writes,
// whether there is one and how patient it is.
func newSupervisor(log *slog.Logger) (*supervisor, error) {
	patience, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		return nil, fmt.Errorf("read settings of the watchdog: %w", err)
	}
	s := &supervisor{log: log, every: statusEvery, send: func(state string) (bool, error) { return daemon.SdNotify(false, state) }}
	if patience > 0 {
		// One look that is late or fails is not the end.
		s.every = patience / 4
	}
	return s, nil
}

// tell sends what the lines say, such as "READY=1", and, where it changed, how
// the node is, as text for people.
func (s *supervisor) tell(status string, lines ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if status = strings.ReplaceAll(status, "\n", "; "); status != "" && status != s.told {
		s.told = status
		lines = append([]string{"STATUS=" + status}, lines...)
	}
	if len(lines) == 0 {
		return
	}
	_, err := s.send(strings.Join(lines, "\n"))
	if failed := err != nil; failed != s.silent {
		s.silent = failed
		if failed {
			s.log.Warn("supervisor not told", "error", err)
		}
	}
}

// starting says what takes so long.
func (s *supervisor) starting() { s.tell("starting: opening the store") }

// ready says that the node serves.
func (s *supervisor) ready(n *node.Node) {
	s.tell(serving(n), daemon.SdNotifyReady)
}

// reload says that the node takes in its files again, and that it has.
func (s *supervisor) reload(again func()) {
	s.tell("", daemon.SdNotifyReloading, strings.TrimSpace(daemon.SdNotifyMonotonicUsec()))
	again()
	s.tell("", daemon.SdNotifyReady)
}

// watch looks at the node until ctx ends. The watchdog is fed only while
// everything works: a node that is stuck is killed and started anew.
func (s *supervisor) watch(ctx context.Context, n *node.Node) {
	tick := time.NewTicker(s.every)
	defer tick.Stop()
	for {
		s.look(ctx, n)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// look looks once.
func (s *supervisor) look(ctx context.Context, n *node.Node) {
	bounded, cancel := context.WithTimeout(ctx, s.every)
	defer cancel()
	err := n.Healthy(bounded)
	switch {
	case ctx.Err() != nil:
	case err != nil:
		s.tell("not ready: " + err.Error())
	default:
		s.tell(serving(n), daemon.SdNotifyWatchdog)
	}
}

func serving(n *node.Node) string {
	return fmt.Sprintf("ready: control plane %s, messages %s", n.URL(), n.ServerURL())
}

// stopping says that the node ends, and how long writing out may take.
func (s *supervisor) stopping(atMost time.Duration) {
	extend := fmt.Sprintf("EXTEND_TIMEOUT_USEC=%d", atMost.Microseconds())
	s.tell("stopping: answering what has begun, writing out streams", daemon.SdNotifyStopping, extend)
}
