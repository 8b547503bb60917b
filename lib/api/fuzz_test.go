package api_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"unicode"

	"github.com/enmanuel/unibus/lib/api"
	"github.com/enmanuel/unibus/lib/bus"
)

// What a hostile server answers must end in a value or an error with a known
// code, and its words must be safe to print.
func FuzzReadReply(f *testing.F) {
	problem, err := json.Marshal(api.NewProblem(bus.ErrConflict, "id"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(409, api.MediaProblem, problem)
	f.Add(200, api.MediaJSON, []byte(`{"room":"`+bus.RoomID{1}.String()+`","epoch":1,"hash":"`+bus.RecordHash{2}.String()+`"}`))
	f.Add(502, "text/html", []byte("<h1>\x1b[31m</h1>"))
	f.Fuzz(func(t *testing.T, status int, media string, body []byte) {
		resp := &http.Response{StatusCode: status, Header: http.Header{"Content-Type": {media}}, Body: io.NopCloser(bytes.NewReader(body))}
		var head api.Head
		err := api.ReadReply(resp, &head)
		if err == nil {
			return
		}
		if !bus.CodeOf(err).Known() {
			t.Errorf("unknown code in %v", err)
		}
		if status >= 200 && status <= 299 {
			return
		}
		for _, r := range err.Error() {
			if !unicode.IsPrint(r) {
				t.Errorf("the message has %U: %q", r, err)
			}
		}
	})
}

func FuzzParseEpoch(f *testing.F) {
	f.Add("0")
	f.Add("18446744073709551615")
	f.Add("+1")
	f.Fuzz(func(t *testing.T, s string) {
		e, err := api.ParseEpoch(s)
		if err != nil {
			return
		}
		var room bus.RoomID
		if back := api.KeyPath(room, e); back != "/rooms/"+room.String()+"/keys/"+s {
			t.Errorf("epoch %q becomes %s", s, back)
		}
	})
}

func FuzzParsePart(f *testing.F) {
	f.Add("4194304-67127099")
	f.Add("0-")
	f.Fuzz(func(t *testing.T, s string) {
		offset, size, err := api.ParsePart(s)
		if err != nil {
			if !errors.Is(err, bus.ErrMalformed) {
				t.Fatalf("error is %v", err)
			}
			return
		}
		if _, again, _ := strings.Cut(api.BlobPartPath(bus.BlobHash{}, offset, size), "="); again != s {
			t.Fatalf("%q is written %q", s, again)
		}
	})
}
