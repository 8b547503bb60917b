package cli

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/enmanuel/unibus/lib/api"
	"github.com/enmanuel/unibus/lib/bus"
)

// A user who asks the operator for help can say which line of the log to look at.
func TestRequestOfAServersErrorIsShownToWhoAsks(t *testing.T) {
	answer := &http.Response{
		StatusCode: http.StatusForbidden,
		Header:     http.Header{"Content-Type": {api.MediaProblem}},
		Body:       http.NoBody,
	}
	fail := func(*Call) error {
		e := api.ReadProblem(answer)
		e.Problem.RequestID = "abc\x1b[1m"
		return bus.Errorf(bus.CodeForbidden, "invite bob: %w", fmt.Errorf("post /rooms: %w", e))
	}
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"pub", "lobby"}, ""},
		{[]string{"pub", "lobby", "--verbose"}, `request: abc\x1b[1m (quote it to whoever runs the bus)` + "\n"},
		{[]string{"pub", "lobby", "--json"}, `,"request_id":"abc\\x1b[1m"}}`},
	} {
		w := newWorld(t, tt.args...)
		if status := toy(fail).Run(t.Context(), w.Env); status != int(ExitDenied) {
			t.Errorf("%v: status %d", tt.args, status)
		}
		have := w.errs.String()
		if tt.want == "" && strings.Contains(have, "abc") || !strings.Contains(have, tt.want) {
			t.Errorf("%v: %s", tt.args, have)
		}
	}
}
