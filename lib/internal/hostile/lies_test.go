package hostile_test

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"

	"go.uber.org/goleak"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/internal/hostile"
)

// Who lies.
const (
	server = "server"
	member = "member"
	thief  = "thief"
)

// lie is a row of the table.
type lie struct {
	name string
	who  string
	told string   // what is told
	want bus.Code // the error that is raised; "" where the lie comes to nothing in silence
	// tell sets the scene, tells the lie and returns the error it raised.
	tell func(s *stage) error
	// check is where the lie is caught; removed is the edit that takes the check
	// away, with all others that would catch the same lie.
	check   string
	removed []change
	// sends is how many frames and changes the victim rightly sends after the lie.
	sends int
}

// change replaces a text, which a file has once.
type change struct{ file, old, new string }

// table holds every row, in the order of docs/lies.md.
func table() []lie {
	return slices.Concat(cardLies, handleLies, chainLies, answerLies, recordLies, keyLies, frameLies, memberLies, replayLies, publishLies, accessLies)
}

// parallel is how many rows run at once: most of their time they wait for a disk
// or for each other.
const parallel = "6"

func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", parallel); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m)
}

// verdict is what came of a lie.
type verdict struct {
	raised              string
	released, sent, bad int
}

// Every lie raises its error, releases nothing and has nothing sent.
func TestLies(t *testing.T) {
	th := newTheatre(t)
	rows := table()
	var mu sync.Mutex
	verdicts := map[string]verdict{}
	t.Cleanup(func() { printTable(t, rows, verdicts) })
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			v := tell(newStage(t, th), row)
			mu.Lock()
			defer mu.Unlock()
			verdicts[row.name] = v
		})
	}
}

// tell has one lie told and judges what came of it.
func tell(s *stage, row lie) verdict {
	err := row.tell(s)
	v := verdict{raised: string(bus.CodeOf(err))}
	switch {
	case row.want == "" && err != nil:
		s.Errorf("raised %v, want nothing", err)
	case row.want != "" && !errors.Is(err, &bus.Error{Code: row.want}):
		s.Errorf("raised %v, want %s", err, row.want)
	default:
		v.raised = string(row.want)
	}
	if !s.told {
		s.Error("the lie was never told")
	}
	if v.released = s.released(); v.released > 0 {
		s.Errorf("%d messages were released", v.released)
	}
	for _, a := range s.actors {
		frames, changes := a.sent()
		v.sent += frames + changes
	}
	if v.sent -= row.sends; v.sent != 0 {
		s.Errorf("%d frames and changes were sent after the lie, besides %d", v.sent, row.sends)
	}
	for _, a := range s.actors {
		for _, where := range slices.Concat(a.control.Tape.Find(s.secrets...), a.data.Tape.Find(s.secrets...)) {
			v.bad++
			s.Errorf("the server saw the %s", where)
		}
	}
	return v
}

// printTable tells of the rows that were run.
func printTable(t *testing.T, rows []lie, verdicts map[string]verdict) {
	var out strings.Builder
	w := tabwriter.NewWriter(&out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "lie\twho\tcaught by\terror raised\tplaintext released\tsent\tsecrets seen")
	for _, row := range rows {
		v, ok := verdicts[row.name]
		if !ok {
			continue
		}
		if v.raised == "" {
			v.raised = "none, in vain"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%d\t%d\n", row.name, row.who, row.check, v.raised, v.released, v.sent, v.bad)
	}
	if err := w.Flush(); err != nil {
		t.Error(err)
	}
	t.Logf("%d lies\n%s", len(verdicts), out.String())
}

// The search finds what is there: in every form, and on a tape of a room that
// is not encrypted.
func TestSearchFindsWhatIsThere(t *testing.T) {
	th := newTheatre(t)
	t.Run("plain room", func(t *testing.T) {
		s := newStage(t, th)
		alice := s.actor("alice")
		r := s.plainRoom(alice)
		body := s.secret("message")
		s.publish(r, body)
		found := slices.Concat(alice.control.Tape.Find(s.secrets...), alice.data.Tape.Find(s.secrets...))
		for _, want := range []string{"message (raw) in data plane from the client", "room name (base64url) in control plane from the client"} {
			if !slices.Contains(found, want) {
				t.Errorf("did not find %s in %q", want, found)
			}
		}
	})
	t.Run("planted", func(t *testing.T) {
		s := newStage(t, th)
		alice := s.actor("alice")
		value := []byte(s.secret("planted"))
		for form, texts := range hostile.Forms(value) {
			for _, text := range texts {
				tape := hostile.NewTape("before " + string(text) + " after")
				if found := tape.Find(hostile.Secret{Name: "planted", Value: value}); !slices.ContainsFunc(found, func(f string) bool { return strings.Contains(f, form) }) {
					t.Errorf("%s %s: found %q", form, text, found)
				}
			}
		}
		if found := alice.control.Tape.Find(s.secrets...); len(found) > 0 {
			t.Errorf("found %q where nothing was planted", found)
		}
	})
}

// Names are unique, every row says what it is about, and every edit that
// removes a check still fits the source.
func TestRowsAreWhole(t *testing.T) {
	names := map[string]bool{}
	for _, row := range table() {
		if names[row.name] {
			t.Errorf("%s: there are two", row.name)
		}
		names[row.name] = true
		if row.told == "" || row.check == "" || len(row.removed) == 0 || row.want != "" && !row.want.Known() {
			t.Errorf("%s: it is incomplete", row.name)
		}
		for _, c := range row.removed {
			source, err := os.ReadFile(sourcePath(c.file))
			if err != nil {
				t.Errorf("%s: %v", row.name, err)
			} else if n := strings.Count(string(source), c.old); n != 1 {
				t.Errorf("%s: %s has %d times what is to be removed: %q", row.name, c.file, n, c.old)
			}
		}
	}
	if len(names) < 40 {
		t.Errorf("%d lies", len(names))
	}
}
