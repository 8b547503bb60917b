package control

import (
	"net/http"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/enmanuel/unibus/lib/api"
	"github.com/enmanuel/unibus/lib/audit"
	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/httpsig"
)

// unaudited are the endpoints that change nothing in the directory.
var unaudited = map[string]bool{"make cursors": true, "report": true}

// audited returns the entries of the log from number from on.
func (w *world) audited(from uint64) []audit.Entry {
	w.Helper()
	var all []audit.Entry
	_, err := audit.Scan(w.auditDir, func(e audit.Entry) error {
		if e.Seq >= from {
			all = append(all, e)
		}
		return nil
	})
	w.must(err)
	return all
}

func TestEveryChangeIsAudited(t *testing.T) {
	for name, e := range endpoints() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			p := w.people()[e.best]
			r, body := w.prepare(e, e.best)
			w.sign(r, body, p, w.now)
			v, err := httpsig.Verify(r, w.now)
			w.must(err)
			status, err := w.do(r, nil)
			w.want(name, status, err, e.ok, "")
			entries := w.audited(1)
			if e.method == http.MethodGet || unaudited[name] {
				if len(entries) != 0 {
					t.Errorf("%+v", entries)
				}
				return
			}
			if len(entries) != 2 {
				t.Fatalf("%d entries", len(entries))
			}
			begin, end := entries[0], entries[1]
			via := audit.ViaSignature
			if name == "put card" {
				via = audit.ViaCard
			}
			user, err := w.dir.User(w.ctx, p.SignPub())
			w.must(err)
			id := p.ID()
			want := &audit.Change{Via: via, ID: &id, Handle: user.Handle, Method: e.method, Path: r.URL.Path, Subject: begin.Subject, Digest: v.Base}
			if diff := cmp.Diff(want, begin.Change); diff != "" || begin.Subject == "" {
				t.Errorf("subject %q, change (-want +have):\n%s", begin.Subject, diff)
			}
			if end.Begin != 1 || end.Code != audit.OK || end.Revision == 0 || end.Request == "" || end.Request != begin.Request {
				t.Errorf("outcome %+v %+v", end, end.Outcome)
			}
			if room := name == "create room" || name == "append record"; room != (end.Outcome.Head != nil) {
				t.Errorf("head %v", end.Outcome.Head)
			}
		})
	}
}

func TestWhatIsRefusedByTheDirectoryIsAuditedWithItsCode(t *testing.T) {
	w := newWorld(t)
	add := api.AddUser{SignPub: w.outsider.SignPub(), Handle: "twice", Role: bus.UserMember}
	status, err := w.call(w.admin, http.MethodPost, api.UsersPath(), add, nil)
	w.want("add", status, err, 409, bus.CodeExists)
	if entries := w.audited(2); len(entries) != 1 || entries[0].Code != string(bus.CodeExists) || entries[0].Revision != 0 {
		t.Errorf("%+v", entries)
	}
	// What is refused before it could change anything is not a change.
	status, err = w.call(w.outsider, http.MethodPost, api.UsersPath(), add, nil)
	w.want("add", status, err, 403, bus.CodeForbidden)
	if entries := w.audited(3); len(entries) != 0 {
		t.Errorf("%+v", entries)
	}
}

func TestNothingChangesThatIsNotAudited(t *testing.T) {
	w := newWorld(t)
	w.must(w.cfg.Audit.Close())
	for name, e := range endpoints() {
		if e.method == http.MethodGet || unaudited[name] {
			continue
		}
		before := w.dir.Wrote()
		r, body := w.prepare(e, e.best)
		w.sign(r, body, w.people()[e.best], w.now)
		status, err := w.do(r, nil)
		w.want(name, status, err, 503, bus.CodeClosed)
		if after := w.dir.Wrote(); after != before {
			t.Errorf("%s: something was written", name)
		}
	}
}

func TestRevocationsByAnybodyAreAudited(t *testing.T) {
	w := newWorld(t)
	status, err := w.handIn(w.stranger.ID(), w.stranger.Revocation())
	w.want("of nobody", status, err, 404, bus.CodeNotFound)
	status, err = w.handIn(w.reader.ID(), w.reader.Revocation())
	w.want("of a user", status, err, 204, "")
	entries := w.audited(1)
	if len(entries) != 2 || entries[0].Via != audit.ViaProof || entries[0].Subject != w.reader.SignPub().String() || entries[0].ID != nil || entries[1].Code != audit.OK {
		t.Errorf("%+v", entries)
	}
}

func TestLocalSocketTellsWhoCalledAndHandsOutTheLog(t *testing.T) {
	w := local(t)
	add := api.AddUser{SignPub: w.person().SignPub(), Handle: "carol", Role: bus.UserMember}
	r, _ := w.request(http.MethodPost, api.UsersPath(), add)
	status, err := w.do(r, nil)
	w.want("add", status, err, 201, "")
	var page api.AuditPage
	r, _ = w.request(http.MethodGet, api.AuditPath(0), nil)
	status, err = w.do(r, &page)
	w.want("audit", status, err, 200, "")
	chain := audit.NewChain(page.First, page.Prev)
	var entries []audit.Entry
	for _, line := range page.Lines {
		e, err := chain.Add([]byte(line))
		w.must(err)
		entries = append(entries, e)
	}
	if diff := cmp.Diff(w.audited(1), entries); diff != "" || len(entries) != 2 {
		t.Fatalf("%d entries (-file +socket):\n%s", len(entries), diff)
	}
	if c := entries[0].Change; c.Via != audit.ViaSocket || c.UID == nil || *c.UID != os.Geteuid() || c.ID != nil {
		t.Errorf("%+v", c)
	}
	r, _ = w.request(http.MethodGet, api.PatternAudit+"?from=x", nil)
	status, err = w.do(r, nil)
	w.want("audit from x", status, err, 400, bus.CodeMalformed)
}
