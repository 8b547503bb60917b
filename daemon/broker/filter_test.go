package broker

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/enmanuel/unibus/lib/bus"
)

const (
	testConnect = `CONNECT {"nkey":"UABC","sig":"s","name":"n","echo":false,"verbose":false,"pedantic":false,"headers":true,"user":"u","pass":"p","auth_token":"t"}` + "\r\n"
	// Everything that was left out has the server's default.
	passedConnect = `CONNECT {"echo":false,"verbose":false,"pedantic":false,"tls_required":false,"nkey":"UABC","sig":"s","auth_token":"t","user":"192.0.2.1:9","pass":"mark","name":"n","lang":"","version":"","protocol":0,"headers":true}` + "\r\n"
)

func newTestFilter() *filter { return &filter{mark: "mark", address: "192.0.2.1:9"} }

// newQuotaFilter refuses frames of the room "full", and notes who is answered.
func newQuotaFilter() (f *filter, answered *[]string) {
	f, answered = newTestFilter(), new([]string)
	f.quota = &turnstile{
		full:   func(room []byte) bool { return string(room) == "full" },
		refuse: func(reply string) { *answered = append(*answered, reply) },
	}
	return f, answered
}

func TestFilterLeavesOutFramesOfFullRooms(t *testing.T) {
	const ping = "PING\r\n"
	for name, test := range map[string]struct {
		in, out  string // between pings
		answered []string
	}{
		"with an answer":      {in: "PUB ub.d.1.full.s _INBOX.UABC.x 2\r\nhi\r\n", answered: []string{"_INBOX.UABC.x"}},
		"with headers":        {in: "HPUB ub.d.1.full.s _INBOX.UABC.x 12 14\r\nNATS/1.0\r\n\r\nhi\r\n", answered: []string{"_INBOX.UABC.x"}},
		"empty":               {in: "PUB ub.d.1.full.s _INBOX.UABC.x 0\r\n\r\n", answered: []string{"_INBOX.UABC.x"}},
		"without an answer":   {in: "PUB ub.d.1.full.s 2\r\nhi\r\n", answered: []string{""}},
		"to a wide inbox":     {in: "PUB ub.d.1.full.s _INBOX.UABC.> 2\r\nhi\r\n", answered: []string{""}},
		"that look like more": {in: "PUB ub.d.1.full.s 17\r\nPUB ub.l.x.y 30\r\n\r\n", answered: []string{""}},
		"two in a row":        {in: strings.Repeat("PUB ub.d.1.full.s _INBOX.UABC.x 2\r\nhi\r\n", 2), answered: []string{"_INBOX.UABC.x", "_INBOX.UABC.x"}},
		"before another":      {in: "PUB ub.d.1.full.s 2\r\nhi\r\nPUB ub.d.1.free.s 2\r\nho\r\n", out: "PUB ub.d.1.free.s 2\r\nho\r\n", answered: []string{""}},
	} {
		t.Run(name, func(t *testing.T) {
			in := testConnect + ping + test.in + ping
			for size := 1; size <= len(in); size++ {
				f, answered := newQuotaFilter()
				var out []byte
				for rest := []byte(in); len(rest) > 0; {
					n := min(size, len(rest))
					var err error
					if out, err = f.pass(out, rest[:n]); err != nil {
						t.Fatal(err)
					}
					rest = rest[n:]
				}
				if diff := cmp.Diff(passedConnect+ping+test.out+ping, string(out)); diff != "" {
					t.Fatalf("in pieces of %d: %s", size, diff)
				}
				if diff := cmp.Diff(test.answered, *answered); diff != "" {
					t.Fatalf("in pieces of %d: %s", size, diff)
				}
			}
		})
	}
}

func TestFilterLeavesToTheServerWhatIsNoFrameOfAFullRoom(t *testing.T) {
	for _, in := range []string{
		"PUB ub.d.1.free.s 2\r\nhi\r\n", "PUB ub.l.1.full.s 2\r\nhi\r\n", "PUB ub.d.1.full 2\r\nhi\r\n",
		"PUB ub.d.full.s.x 2\r\nhi\r\n", "PUB ub.d. 2\r\nhi\r\n", "PUB full 2\r\nhi\r\n",
	} {
		f, answered := newQuotaFilter()
		out, err := f.pass(nil, []byte(testConnect+in))
		if err != nil || string(out) != passedConnect+in || len(*answered) > 0 {
			t.Errorf("%q: %q, %v, answered %q", in, out, err, *answered)
		}
	}
	// Without a name there is nobody to refuse, and with somebody else's inbox
	// the server does.
	for in, want := range map[string]string{
		"PUB ub.d.1.full.s 2\r\nhi\r\n":                             "PUB ub.d.1.full.s 2\r\nhi\r\n",
		testConnect + "PUB ub.d.1.full.s _INBOX.UABD.x 2\r\nhi\r\n": passedConnect + "PUB ub.d.1.full.s _R_._INBOX.UABD.x 2\r\nhi\r\n",
	} {
		f, answered := newQuotaFilter()
		if out, err := f.pass(nil, []byte(in)); err != nil || string(out) != want || len(*answered) > 0 {
			t.Errorf("%q: %q, %v, answered %q", in, out, err, *answered)
		}
	}
}

func TestFilterPassesWhatMembersMaySend(t *testing.T) {
	for name, test := range map[string]struct{ in, out string }{
		"ping":                         {"PING\r\n", "PING\r\n"},
		"pong":                         {"PONG\r\n", "PONG\r\n"},
		"subscription":                 {"SUB a.* 1\r\n", "SUB a.* 1\r\n"},
		"queue subscription":           {"SUB a.* q 1\r\n", "SUB a.* q 1\r\n"},
		"end of subscription":          {"UNSUB 1 5\r\n", "UNSUB 1 5\r\n"},
		"publish":                      {"PUB a 2\r\nhi\r\n", "PUB a 2\r\nhi\r\n"},
		"empty publish":                {"PUB a 0\r\n\r\n", "PUB a 0\r\n\r\n"},
		"spaces and tabs":              {"PUB  a\t 2 \r\nhi\r\n", "PUB a 2\r\nhi\r\n"},
		"payload that looks like more": {"PUB a 11\r\nPUB b c 1\r\n\r\nPING\r\n", "PUB a 11\r\nPUB b c 1\r\n\r\nPING\r\n"},
		"publish with headers":         {"HPUB a 12 14\r\nNATS/1.0\r\n\r\nhi\r\n", "HPUB a 12 14\r\nNATS/1.0\r\n\r\nhi\r\n"},
		"own reply subject":            {"PUB a _INBOX.UABC.x.1 2\r\nhi\r\n", "PUB a _INBOX.UABC.x.1 2\r\nhi\r\n"},
		"own reply subject, headers":   {"HPUB a _INBOX.UABC.x 12 14\r\nNATS/1.0\r\n\r\nhi\r\n", "HPUB a _INBOX.UABC.x 12 14\r\nNATS/1.0\r\n\r\nhi\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			out, err := newTestFilter().pass(nil, []byte(testConnect+test.in))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(passedConnect+test.out, string(out)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestFilterMarksForeignReplySubjects(t *testing.T) {
	for _, reply := range []string{
		"_INBOX.UABD.x", "_INBOX.UABCD.x", "_INBOX.UABC", "_INBOX.>", "_inbox.UABC.x", "ub.c.victim",
		"ub.l.0.room.victim", "$JS.API.STREAM.DELETE.X", "_R_.x", "$JS.ACK.x", "x",
	} {
		for _, form := range []string{"PUB a %s 2\r\nhi\r\n", "HPUB a %s 12 14\r\nNATS/1.0\r\n\r\nhi\r\n"} {
			in, want := fmt.Sprintf(form, reply), fmt.Sprintf(form, "_R_."+reply)
			t.Run(strings.Fields(in)[0]+" "+reply, func(t *testing.T) {
				out, err := newTestFilter().pass(nil, []byte(testConnect+in))
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(passedConnect+want, string(out)); diff != "" {
					t.Error(diff)
				}
			})
		}
	}
}

func TestFilterMarksEveryReplySubjectBeforeConnect(t *testing.T) {
	for _, reply := range []string{"_INBOX.UABC.x", "_INBOX..x", "x"} {
		out, err := newTestFilter().pass(nil, []byte("PUB a "+reply+" 2\r\nhi\r\n"))
		if err != nil || string(out) != "PUB a _R_."+reply+" 2\r\nhi\r\n" {
			t.Errorf("%s: %q, %v", reply, out, err)
		}
	}
}

func TestFilterRefuses(t *testing.T) {
	for name, in := range map[string]string{
		"second connect":              testConnect,
		"line without return":         "PING\n",
		"return inside a line":        "PUB a 5\r7\r\n",
		"lower case":                  "pub a 0\r\n\r\n",
		"server's command":            "MSG a 1 2\r\nhi\r\n",
		"route's command":             "RS+ BUS ub.>\r\n",
		"info":                        "INFO {}\r\n",
		"tab after the command":       "PUB\ta b 0\r\n\r\n",
		"nothing":                     "\r\n",
		"publish without size":        "PUB a\r\n",
		"publish with too many":       "PUB a b c 1\r\n",
		"publish with headers, short": "HPUB a 1\r\n",
		"publish with headers, long":  "HPUB a b 1 2 3\r\n",
		"negative size":               "PUB a -1\r\n",
		"size with a sign":            "PUB a +1\r\n",
		"huge size":                   "PUB a 99999999999\r\n",
		"size beyond the limit":       "PUB a 1048577\r\n",
		"endless line":                "SUB " + strings.Repeat("a", maxLine),
		"line too long":               "SUB " + strings.Repeat("a", maxLine) + " 1\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			out, err := newTestFilter().pass(nil, []byte(testConnect+in))
			if bus.CodeOf(err) != bus.CodeMalformed {
				t.Errorf("error %v", err)
			}
			if diff := cmp.Diff(passedConnect, string(out)); diff != "" {
				t.Error(diff)
			}
		})
	}
	for name, in := range map[string]string{
		"connect without JSON":   "CONNECT\r\n",
		"connect with bad JSON":  "CONNECT {\r\n",
		"connect with two of it": "CONNECT {}{}\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			if out, err := newTestFilter().pass(nil, []byte(in)); bus.CodeOf(err) != bus.CodeMalformed || len(out) != 0 {
				t.Errorf("%q, %v", out, err)
			}
		})
	}
}

// What the filter lets pass must not depend on where reads happened to end, and
// must hold to its promises whatever the member sends.
func FuzzFilter(f *testing.F) {
	f.Add([]byte(testConnect+"PUB a _INBOX.UABC.x 2\r\nhi\r\nPING\r\n"), uint8(3))
	f.Add([]byte(testConnect+"PUB a ub.c.x 2\r\nhi\r\nSUB a 1\r\n"), uint8(1))
	f.Add([]byte("HPUB a b 12 14\r\nNATS/1.0\r\n\r\nhi\r\n"+testConnect), uint8(7))
	f.Add([]byte("PUB  a\tb  3\r\nPUB\r\nUNSUB 1\r\n"), uint8(2))
	f.Add([]byte("PUB 0 080\r\n000000"), uint8(2))
	f.Add([]byte("CONNECT {\"NKEY\":\"UABD\",\"nkey\":\"UABC\"}\r\nPUB a _INBOX.UABD.x 0\r\n\r\n"), uint8(9))
	f.Add([]byte(testConnect+"PUB ub.d.1.full.s _INBOX.UABC.x 2\r\nhi\r\nPUB ub.d.1.full.s 4\r\nhi"), uint8(5))
	f.Fuzz(func(t *testing.T, in []byte, step uint8) {
		one, answeredOne := newQuotaFilter()
		whole, wholeErr := one.pass(nil, in)

		parts, answeredParts := newQuotaFilter()
		var out []byte
		var err error
		for rest := in; len(rest) > 0 && err == nil; {
			n := min(int(step)+1, len(rest))
			out, err = parts.pass(out, rest[:n])
			rest = rest[n:]
		}
		if !bytes.Equal(whole, out) || bus.CodeOf(wholeErr) != bus.CodeOf(err) {
			t.Fatalf("in one piece %q, %v\nin parts     %q, %v", whole, wholeErr, out, err)
		}
		if !slices.Equal(*answeredOne, *answeredParts) {
			t.Fatalf("in one piece %q are answered, in parts %q", *answeredOne, *answeredParts)
		}
		for _, reply := range *answeredOne {
			if reply != "" && (one.inbox == nil || !strings.HasPrefix(reply, string(one.inbox))) {
				t.Fatalf("%q is answered, the inbox is %q", reply, one.inbox)
			}
		}
		checkFiltered(t, whole)
	})
}

// checkFiltered reads the output the way the protocol is documented, with
// nothing of the filter's own code.
func checkFiltered(t *testing.T, out []byte) {
	t.Helper()
	inbox, connects := "", 0
	for len(out) > 0 {
		line, rest, ok := bytes.Cut(out, []byte("\r\n"))
		if !ok {
			t.Fatalf("a line was passed before it was complete: %q", out)
		}
		out = rest
		words := strings.FieldsFunc(string(line), func(r rune) bool { return r == ' ' || r == '\t' })
		switch words[0] {
		case "PING", "PONG", "SUB", "UNSUB":
			continue
		case "CONNECT":
			connects++
			fields := make(map[string]any)
			if err := json.Unmarshal(bytes.TrimPrefix(line, []byte("CONNECT ")), &fields); err != nil {
				t.Fatal(err)
			}
			if connects > 1 || fields["pass"] != "mark" || fields["user"] != "192.0.2.1:9" {
				t.Fatalf("CONNECT without the mark, or a second one: %q", line)
			}
			key, _ := fields["nkey"].(string)
			inbox = "_INBOX." + key + "."
			continue
		case "PUB", "HPUB":
		default:
			t.Fatalf("command %q was passed", line)
		}
		sizes := 1
		if words[0] == "HPUB" {
			sizes = 2
		}
		if len(words) == 3+sizes {
			if reply := words[2]; !strings.HasPrefix(reply, "_R_.") && (inbox == "" || !strings.HasPrefix(reply, inbox)) {
				t.Fatalf("reply subject %q was passed", reply)
			}
		} else if len(words) != 2+sizes {
			t.Fatalf("command %q was passed", line)
		}
		if inbox != "" && strings.HasPrefix(words[1], "ub.d.1.full.") && !strings.HasPrefix(words[2], "_R_.") {
			t.Fatalf("a frame of a full room was passed: %q", line)
		}
		size, err := strconv.Atoi(words[len(words)-1]) // decimal, whatever it begins with
		if err != nil {
			t.Fatal(err)
		}
		out = out[min(size+2, len(out)):]
	}
}
