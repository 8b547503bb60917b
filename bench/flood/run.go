package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/cli"
	"github.com/enmanuel/unibus/lib/identity"
)

// manySources is how many addresses a flood comes from that comes from many.
const manySources = 200

// calm is how long it is measured without a flood, and waited after one.
const calm = 3 * time.Second

// phase is a line of the table.
type phase struct {
	Name      string        `json:"name"`
	Sources   int           `json:"sources"` // 0 without a flood, 1 is the members' own address
	Publishes summary       `json:"publishes"`
	SignIns   summary       `json:"sign_ins"`
	Flood     *attackResult `json:"flood,omitempty"`
	Node      nodeStats     `json:"node"` // at the end
}

type report struct {
	Phases []phase `json:"phases"`
	Files  uint64  `json:"files_limit"`
	OK     bool    `json:"ok"`
}

func run(c *cli.Call) error {
	o, err := optionsOf(c)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "unibus-flood-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	r, err := flood(c, o, dir)
	if err != nil {
		return err
	}
	r.OK = true
	for _, p := range r.Phases {
		r.OK = r.OK && p.Publishes.Failed == 0 && p.SignIns.Failed == 0 && p.Publishes.OK > 0
	}
	if c.WantsJSON() {
		err = c.JSON(r)
	} else {
		show(c, r)
	}
	if err == nil && !r.OK {
		err = bus.Errorf(bus.CodeUnavailable, "flood node: something failed for a member")
	}
	return err
}

// flood starts the node and runs through the phases.
func flood(c *cli.Call, o options, dir string) (r report, err error) {
	ca, err := makeCertificate(dir)
	if err != nil {
		return r, err
	}
	root, err := identity.GenerateRoot(rand.Reader)
	if err != nil {
		return r, err
	}
	admin, err := identity.Generate(rand.Reader)
	if err != nil {
		return r, err
	}
	node, err := spawn(c.Context, c, "node", nodeSetup{dir, root.BusID(), admin.SignPub()})
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, node.end()) }()
	var ready nodeReady
	if err := node.read(&ready); err != nil {
		return r, err
	}
	r.Files = ready.Files
	if most := int(ready.Files) * 3 / 4; o.connections > most {
		c.Warn("a process may open %d files here, so there are %d connections instead of %d", ready.Files, most, o.connections)
		o.connections = most
	}
	m, err := newMember(c.Context, ready, root.BusID(), admin, ca, dir)
	if err != nil {
		return r, err
	}
	m.start(c.Context, o.pace)
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(c.Context), patience)
		defer cancel()
		err = errors.Join(err, m.finish(ctx))
	}()
	s := &stage{c, o, m, node, ready}
	wait(c.Context, calm) // the first publishes open things
	m.publishes.take()
	m.signIns.take()
	phases := []func() (phase, error){func() (phase, error) { return s.quiet("before") }}
	for _, kind := range []string{"silent", "slow-bodies", "bad-signatures", "bad-logins"} {
		for _, sources := range []int{1, manySources} {
			phases = append(phases, func() (phase, error) { return s.attack(kind, sources) })
		}
	}
	for _, next := range append(phases, func() (phase, error) { return s.quiet("after") }) {
		p, err := next()
		if err == nil {
			err = c.Err()
		}
		if err != nil {
			return r, err
		}
		r.Phases = append(r.Phases, p)
	}
	return r, nil
}

// stage is what phases happen on.
type stage struct {
	c     *cli.Call
	o     options
	m     *member
	node  *child
	ready nodeReady
}

func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// quiet measures without a flood.
func (s *stage) quiet(name string) (phase, error) {
	wait(s.c.Context, calm)
	return s.measured(phase{Name: name})
}

func (s *stage) measured(p phase) (phase, error) {
	p.Publishes, p.SignIns = s.m.publishes.take(), s.m.signIns.take()
	return p, s.node.ask(&p.Node)
}

// attack floods for a while and lets the node calm down.
func (s *stage) attack(kind string, sources int) (phase, error) {
	setup := attackSetup{Kind: kind, Control: s.ready.Control, NATS: s.ready.NATS, Sources: sources, Count: s.o.connections, Rate: s.o.rate}
	switch kind {
	case "silent":
		setup.Rate = int(2*float64(setup.Count)/s.o.duration.Seconds()) + 1 // all are tried in half the time
	case "slow-bodies":
		setup.Count = s.o.bodies
	}
	s.c.Note("%s from %d addresses for %s", kind, sources, s.o.duration)
	k, err := spawn(s.c.Context, s.c, "attack", setup)
	if err != nil {
		return phase{}, err
	}
	wait(s.c.Context, s.o.duration)
	p, err := s.measured(phase{Name: kind, Sources: sources, Flood: &attackResult{}})
	if err == nil {
		err = k.ask(p.Flood)
	}
	err = errors.Join(err, k.end())
	wait(s.c.Context, time.Second)
	return p, err
}

func show(c *cli.Call, r report) {
	var rows [][]string
	for _, p := range r.Phases {
		tried, closed, held := "-", "-", "-"
		if p.Flood != nil {
			tried, closed, held = strconv.FormatInt(p.Flood.Tried, 10), strconv.FormatInt(p.Flood.Closed, 10), strconv.FormatInt(p.Flood.Held, 10)
		}
		rows = append(rows, []string{
			p.Name, strconv.Itoa(p.Sources), tried, closed, held,
			strconv.Itoa(p.Publishes.OK), strconv.Itoa(p.Publishes.Failed), fmt.Sprint(p.Publishes.P50), fmt.Sprint(p.Publishes.P99), fmt.Sprint(p.Publishes.Max),
			strconv.Itoa(p.SignIns.OK), strconv.Itoa(p.SignIns.Failed), fmt.Sprint(p.SignIns.P50), fmt.Sprint(p.SignIns.Max),
			strconv.Itoa(p.Node.MemoryMB), strconv.Itoa(p.Node.Goroutines), strconv.Itoa(p.Node.Files),
		})
		for what, s := range map[string]summary{"publish": p.Publishes, "sign in": p.SignIns} {
			if s.Error != "" {
				c.Note("%s: %s failed: %s", p.Name, what, s.Error)
			}
		}
	}
	c.Table([]string{
		"flood", "from", "tried", "closed", "held", "published", "failed", "p50 ms", "p99 ms", "max ms",
		"sign-ins", "failed", "p50 ms", "max ms", "MB", "goroutines", "files",
	}, rows)
}
