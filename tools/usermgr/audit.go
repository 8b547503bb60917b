package usermgr

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/enmanuel/unibus/lib/api"
	"github.com/enmanuel/unibus/lib/audit"
	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/cli"
	"github.com/enmanuel/unibus/lib/store/sqlite"
)

const (
	flagData    = "data"
	flagSince   = "since"
	flagUntil   = "until"
	flagUser    = "user"
	flagWhat    = "what"
	flagTail    = "tail"
	flagHead    = "head"
	flagPartial = "partial"
)

const auditDescription = `Lists what was changed on a node and by whom: accounts, cards, directory entries,
rooms. The log is read from its beginning, through the local socket of a running
node (--socket) or from the files of one (--data DIR, or --store URL), and every
entry is checked against the one before it.

The last line of the output is the number and the hash of the last entry. Note it
where whoever has the node cannot change it; later, "audit verify --head HASH" proves
that nothing up to it was changed.

An outcome "?" is a change during which the node ended: the accounts and rooms tell
whether it was made.
` + auditExit

const auditExit = `
Exit status: 0 the log verifies; 1 it does not, or failed; 2 wrong usage; 4 denied;
5 the node cannot be reached.`

func auditCommand() *cli.Command {
	return &cli.Command{
		Name:        "audit",
		Usage:       "list who changed what on a node",
		Description: auditDescription,
		UsageText: `unibus usermgr --socket /var/lib/unibus/control.sock audit --tail 20
unibus usermgr audit --data /var/lib/unibus --user alice --since 24h
unibus usermgr audit --data /var/lib/unibus --what revoke --json`,
		Flags: []cli.Flag{
			&cli.PathFlag{Name: flagData, Usage: "read the files of the node with the data directory `DIR`"},
			&cli.StringFlag{Name: flagSince, Usage: "only what began at `TIME` or later: 2006-01-02, 2006-01-02T15:04:05Z, or 24h ago"},
			&cli.StringFlag{Name: flagUntil, Usage: "only what began before `TIME`"},
			&cli.StringFlag{Name: flagUser, Usage: "only what `WHO` did: a handle, an id, or uid:N for a user of the machine"},
			&cli.StringFlag{Name: flagWhat, Usage: "only where `TEXT` is in the request or in what it changed"},
			&cli.IntFlag{Name: flagTail, Usage: "only the last `N`"},
		},
		Action: cli.Action(auditList),
		Subcommands: []*cli.Command{{
			Name:  "verify",
			Usage: "check the whole log",
			Description: `Checks every entry of the log and, with --head, that the log contains the entry with
a hash that was noted earlier: then nothing up to that entry was changed, left out
or moved. An entry that does not verify is named.
` + auditExit,
			UsageText: `unibus usermgr audit verify --data /var/lib/unibus --head 3q2-7w…`,
			Flags: []cli.Flag{
				&cli.StringFlag{Name: flagHead, Usage: "fail unless the log contains the entry with this `HASH`"},
				&cli.BoolFlag{Name: flagPartial, Usage: "accept that older files were moved away"},
			},
			Action: cli.Action(auditVerify),
		}},
	}
}

// readLog reads the log that the flags choose from its beginning, checks it and
// calls each for every entry.
func readLog(c *cli.Call, each func(audit.Entry) error) (audit.Summary, error) {
	data, store, socket := c.Path(flagData), c.String(flagStore), c.Path(flagSocket)
	switch {
	case data != "" && (store != "" || c.Source(flagSocket) == "flag"), store != "" && c.Source(flagSocket) == "flag":
		return audit.Summary{}, cli.Usagef("--%s, --%s and --%s are ways to the same log; give one", flagData, flagStore, flagSocket)
	case store != "":
		path, err := sqlite.ParseURL(store)
		if err != nil {
			return audit.Summary{}, cli.BadArg("--"+flagStore, err)
		}
		data = filepath.Dir(path)
	case data == "" && socket == "":
		return audit.Summary{}, cli.WithHint(cli.Usagef("no log to read: it is with the node"), "add --%s /var/lib/unibus, or --%s PATH", flagData, flagSocket)
	}
	if data != "" {
		return audit.Scan(audit.Dir(data), each)
	}
	d, err := openSocket(c, socket)
	if err != nil {
		return audit.Summary{}, err
	}
	s, err := d.readAudit(c.Context, each)
	if closeErr := d.Close(); err == nil {
		err = closeErr
	}
	return s, err
}

// readAudit fetches the log page by page and checks it here.
func (h *httpDoor) readAudit(ctx context.Context, each func(audit.Entry) error) (audit.Summary, error) {
	var s audit.Summary
	var chain *audit.Chain
	for from := uint64(0); ; from = chain.Next() {
		var page api.AuditPage
		if err := h.call(ctx, http.MethodGet, api.AuditPath(from), nil, &page); err != nil {
			return s, fmt.Errorf("read audit log: %w", err)
		}
		switch {
		case chain == nil:
			s.First, chain = page.First, audit.NewChain(page.First, page.Prev)
		case page.First != chain.Next() || page.Prev != chain.Head() || len(page.Lines) == 0:
			return s, bus.Errorf(bus.CodeAuditBroken, "read audit log: what the node hands out after entry %d does not follow it", chain.Next()-1)
		}
		for _, line := range page.Lines {
			e, err := chain.Add([]byte(line))
			if err == nil {
				err = each(e)
			}
			if err != nil {
				return s, fmt.Errorf("read audit log: %w", err)
			}
		}
		if !page.More {
			s.Next, s.Head = chain.Next(), chain.Head()
			return s, nil
		}
	}
}

// logged is a change with its outcome, as --json prints it.
type logged struct {
	Seq     uint64    `json:"seq"`
	Time    time.Time `json:"time"`
	Request string    `json:"request,omitempty"`
	audit.Change
	End      uint64          `json:"end,omitempty"`  // number of the entry with the outcome
	Code     string          `json:"code,omitempty"` // left out where the node ended meanwhile
	Revision uint64          `json:"revision,omitempty"`
	Epoch    *bus.Epoch      `json:"epoch,omitempty"`
	Head     *bus.RecordHash `json:"head,omitempty"`
}

// who names who made a change.
func (l logged) who() string {
	switch {
	case l.Handle != "":
		return string(l.Handle)
	case l.UID != nil:
		return "uid:" + strconv.Itoa(*l.UID) + " (" + string(l.Via) + ")"
	}
	return "(" + string(l.Via) + ")"
}

// wanted says which changes are asked for.
type wanted struct {
	since, until time.Time // zero is any
	user, what   string    // "" is any
	tail         int       // 0 is all
}

func wantedOf(c *cli.Call) (w wanted, err error) {
	w = wanted{user: c.String(flagUser), what: c.String(flagWhat), tail: c.Int(flagTail)}
	if w.tail < 0 {
		return w, cli.Usagef("--%s is %d", flagTail, w.tail)
	}
	for flag, t := range map[string]*time.Time{flagSince: &w.since, flagUntil: &w.until} {
		if *t, err = parseTime(c.String(flag), c.Env.Now()); err != nil {
			return w, cli.BadArg("--"+flag, err)
		}
	}
	return w, nil
}

// parseTime reads a time, a day, or how long ago it was.
func parseTime(s string, now time.Time) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if t, err := time.Parse(layout, s); err == nil {
			return t, nil
		}
	}
	ago, err := time.ParseDuration(s)
	if err != nil || ago < 0 {
		return time.Time{}, fmt.Errorf("%.40q is no time: want 2006-01-02, 2006-01-02T15:04:05Z or 24h", s)
	}
	return now.Add(-ago), nil
}

func (w wanted) has(l logged) bool {
	byUser := w.user == string(l.Handle) || l.ID != nil && w.user == l.ID.String() || l.UID != nil && w.user == "uid:"+strconv.Itoa(*l.UID)
	return !l.Time.Before(w.since) &&
		(w.until.IsZero() || l.Time.Before(w.until)) &&
		(w.user == "" || byUser) &&
		strings.Contains(strings.Join([]string{l.Method, l.Path, l.Subject}, " "), w.what)
}

// collect gathers changes and gives them their outcomes, which come later.
type collector struct {
	wanted
	found []*logged
	open  map[uint64]*logged
}

func (k *collector) add(e audit.Entry) error {
	if e.Outcome != nil {
		if l := k.open[e.Begin]; l != nil {
			l.End, l.Code, l.Revision, l.Epoch, l.Head = e.Seq, e.Code, e.Revision, e.Epoch, e.Outcome.Head
			delete(k.open, e.Begin)
		}
		return nil
	}
	l := &logged{Seq: e.Seq, Time: e.Time, Request: e.Request, Change: *e.Change}
	if !k.has(*l) {
		return nil
	}
	k.open[e.Seq] = l
	k.found = append(k.found, l)
	if k.tail > 0 && len(k.found) > k.tail {
		delete(k.open, k.found[0].Seq)
		k.found = slices.Delete(k.found, 0, 1)
	}
	return nil
}

// auditReport is what audit prints with --json.
type auditReport struct {
	Changes []*logged     `json:"changes"`
	First   uint64        `json:"first"` // number of the oldest entry that is there
	Last    uint64        `json:"last"`  // of the latest, 0 if there is none
	Head    bus.AuditHash `json:"head"`  // its hash
	Torn    int           `json:"torn,omitempty"`
}

func auditList(c *cli.Call) error {
	w, err := wantedOf(c)
	if err != nil {
		return err
	}
	k := collector{wanted: w, open: map[uint64]*logged{}}
	s, failure := readLog(c, k.add)
	switch {
	case failure != nil && bus.CodeOf(failure) != bus.CodeAuditBroken:
		return failure
	case c.WantsJSON():
		if failure != nil {
			return failure
		}
		return c.JSON(auditReport{append([]*logged{}, k.found...), s.First, s.Next - 1, s.Head, s.Torn})
	}
	rows := make([][]string, len(k.found))
	for i, l := range k.found {
		code := l.Code
		if code == "" {
			code = "?"
		}
		rows[i] = []string{strconv.FormatUint(l.Seq, 10), c.Time(l.Time), l.who(), l.Method + " " + l.Path, l.Subject, code}
	}
	c.Table([]string{"entry", "time", "who", "request", "subject", "outcome"}, rows)
	if failure != nil {
		return failure
	}
	c.Printf("head: %d %s\n", s.Next-1, s.Head)
	noteTorn(c, s)
	return nil
}

func noteTorn(c *cli.Call, s audit.Summary) {
	if s.Torn > 0 {
		c.Note("the log ends in %d bytes of an unfinished entry: one that is being written, or that a crash left", s.Torn)
	}
}

// verified is what verify prints with --json.
type verified struct {
	First   uint64        `json:"first"`
	Last    uint64        `json:"last"`
	Head    bus.AuditHash `json:"head"`
	Noted   *uint64       `json:"noted,omitempty"` // number of the entry that --head names
	Unended int           `json:"unended"`         // changes without an outcome
	Torn    int           `json:"torn,omitempty"`
}

func auditVerify(c *cli.Call) error {
	var noted bus.AuditHash
	if text := c.String(flagHead); text != "" {
		var err error
		if noted, err = bus.ParseAuditHash(text); err != nil {
			return cli.BadArg("--"+flagHead, err)
		}
	}
	var v verified
	open := map[uint64]bool{}
	s, err := readLog(c, func(e audit.Entry) error {
		if e.Hash == noted {
			v.Noted = &e.Seq
		}
		if e.Outcome != nil {
			delete(open, e.Begin)
		} else {
			open[e.Seq] = true
		}
		return nil
	})
	if err != nil {
		return err
	}
	v.First, v.Last, v.Head, v.Torn, v.Unended = s.First, s.Next-1, s.Head, s.Torn, len(open)
	switch {
	case v.First > 1 && !c.Bool(flagPartial):
		return cli.WithHint(bus.Errorf(bus.CodeAuditBroken, "check audit log: entries 1 to %d are missing", v.First-1),
			"add --%s if their files were moved away on purpose", flagPartial)
	case c.String(flagHead) != "" && v.Noted == nil:
		return bus.Errorf(bus.CodeAuditBroken, "check audit log: no entry has the hash %s: the log was changed, or cut off before it", noted)
	}
	if c.WantsJSON() {
		return c.JSON(v)
	}
	c.Printf("verified: entries %d to %d\nhead: %[2]d %[3]s\n", v.First, v.Last, v.Head)
	if v.Noted != nil {
		c.Printf("the noted head is entry %d: nothing up to it was changed\n", *v.Noted)
	}
	if v.Unended > 0 {
		c.Note("%d changes have no outcome: they are under way, or the node ended during them", v.Unended)
	}
	noteTorn(c, s)
	return nil
}
