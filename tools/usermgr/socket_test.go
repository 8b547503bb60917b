package usermgr

import (
	"bytes"
	"context"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/enmanuel/unibus/lib/api"
	"github.com/enmanuel/unibus/lib/cli"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// outcome is what a run of the command did.
type outcome struct {
	status         int
	stdout, stderr string
}

func usermgr(t *testing.T, args ...string) outcome {
	t.Helper()
	var stdout, stderr bytes.Buffer
	env := &cli.Env{
		Args: append([]string{"unibus-usermgr"}, args...), Environ: []string{"HOME=" + t.TempDir()},
		Stdin: strings.NewReader(""), Stdout: &stdout, Stderr: &stderr, Now: time.Now,
	}
	status := cli.Run(context.Background(), env, Command())
	return outcome{status, stdout.String(), stderr.String()}
}

// listen opens a socket where a node would have it.
func listen(t *testing.T) (net.Listener, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "control.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l, path
}

const someKey = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"

func TestWhoIsNotLetInHearsSo(t *testing.T) {
	l, path := listen(t)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			conn.Close()
		}
	}()
	got := usermgr(t, "--socket", path, "add", "alice", someKey)
	if got.status != int(cli.ExitDenied) || got.stdout != "" || !strings.Contains(got.stderr, "hint: run it as root or as the user of the node\n") {
		t.Errorf("%+v", got)
	}
}

// serve answers at a socket: health as a node has it, anything else by h.
func serve(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	l, path := listen(t)
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+api.PatternHealth, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", api.MediaJSON)
		w.Write([]byte(`{"status":"ok","node":"n2","store":"jetstream","replicas":3,"leader":"n2","followers_current":2}`))
	})
	mux.HandleFunc("/", h)
	srv := &http.Server{Handler: mux}
	done := make(chan struct{})
	go func() {
		defer close(done)
		srv.Serve(l)
	}()
	t.Cleanup(func() {
		srv.Close()
		<-done
	})
	return path
}

func TestALostAnswerIsAnUnknownOutcome(t *testing.T) {
	asked := make(chan string, 10)
	path := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		asked <- r.Method + " " + r.URL.Path
		panic(http.ErrAbortHandler)
	})
	got := usermgr(t, "--socket", path, "add", "alice", someKey)
	if got.status != int(cli.ExitPartial) || got.stdout != "" || !strings.Contains(got.stderr, "hint: unibus usermgr --socket "+path+" list\n") {
		t.Errorf("%+v", got)
	}
	if len(asked) != 1 {
		t.Errorf("asked %d times, want once: adding is not to be repeated blindly", len(asked))
	}
}

func TestAClusterSaysHowFarAWriteReached(t *testing.T) {
	path := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", api.MediaJSON)
		w.WriteHeader(http.StatusCreated)
		w.Write([]byte(`{"sign_pub":"` + someKey + `","id":"IRNx-f_-HYxeKgdIukxBj8-AVbOLHTKkQX7ENckQTHM","handle":"alice","role":"member","status":"active","created_at":"2031-02-03T04:05:06Z"}`))
	})
	got := usermgr(t, "--socket", path, "add", "alice", someKey)
	want := outcome{0, "added alice (member) " + someKey + "\n", "stored: leader=n2 followers_current=2/2\n"}
	if got != want {
		t.Errorf("have %+v, want %+v", got, want)
	}
	got = usermgr(t, "--socket", path, "add", "alice", someKey, "--json", "--quiet")
	want = outcome{0, `{"v":1,"user":{"sign_pub":"` + someKey + `","id":"IRNx-f_-HYxeKgdIukxBj8-AVbOLHTKkQX7ENckQTHM","handle":"alice","role":"member","status":"active","created_at":"2031-02-03T04:05:06Z"},` +
		`"reached":{"store":"jetstream","node":"n2","replicas":3,"leader":"n2","followers_current":2}}` + "\n", ""}
	if got != want {
		t.Errorf("have %+v, want %+v", got, want)
	}
}

func TestListReadsEveryPage(t *testing.T) {
	page := func(handle, key, more string) string {
		return `{"v":1,"users":[{"sign_pub":"` + key + `","id":"IRNx-f_-HYxeKgdIukxBj8-AVbOLHTKkQX7ENckQTHM","handle":"` + handle +
			`","role":"member","status":"active","created_at":"2031-02-03T04:05:06Z"}],"more":` + more + `}`
	}
	second := strings.Replace(someKey, "d7", "e7", 1)
	path := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", api.MediaJSON)
		switch r.URL.RawQuery {
		case "":
			w.Write([]byte(page("zoe", someKey, "true")))
		case "after=" + someKey:
			w.Write([]byte(page("bob", second, "false")))
		default:
			http.Error(w, r.URL.RawQuery, http.StatusTeapot)
		}
	})
	got := usermgr(t, "--socket", path, "list")
	lines := strings.Split(got.stdout, "\n")
	if got.status != 0 || got.stderr != "" || len(lines) != 4 ||
		!strings.HasPrefix(lines[0], "HANDLE ") || !strings.HasPrefix(lines[1], "bob ") || !strings.HasPrefix(lines[2], "zoe ") {
		t.Errorf("have %+v", got)
	}
}

func TestAnEmptyPageThatPromisesMoreIsAnError(t *testing.T) {
	path := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", api.MediaJSON)
		w.Write([]byte(`{"v":1,"users":[],"more":true}`))
	})
	if got := usermgr(t, "--socket", path, "list"); got.status != int(cli.ExitFailed) || got.stdout != "" {
		t.Errorf("have %+v", got)
	}
}

func TestPagesOfALogThatDoNotFollowAreRefused(t *testing.T) {
	const zero = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
	for name, page := range map[string]string{
		"no entries but more": `{"v":1,"first":1,"prev":"` + zero + `","lines":[],"more":true}`,
		"a forged entry":      `{"v":1,"first":1,"prev":"` + zero + `","lines":["` + zero + ` {}"],"more":false}`,
	} {
		t.Run(name, func(t *testing.T) {
			path := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", api.MediaJSON)
				w.Write([]byte(page))
			})
			if got := usermgr(t, "--socket", path, "audit", "verify"); got.status != int(cli.ExitFailed) || got.stdout != "" || !strings.Contains(got.stderr, "error: read audit log: ") {
				t.Errorf("have %+v", got)
			}
		})
	}
}
