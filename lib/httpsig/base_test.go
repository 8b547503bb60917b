package httpsig

import (
	"net/http"
	"testing"

	"github.com/dunglas/httpsfv"

	"github.com/enmanuel/unibus/lib/bus"
)

func TestSignatureBaseJoinsFieldLines(t *testing.T) {
	req := &http.Request{Header: http.Header{"X-List": {" a, b\t", "", "c"}}}
	list := httpsfv.InnerList{Items: []httpsfv.Item{httpsfv.NewItem("x-list")}, Params: httpsfv.NewParams()}
	const want = "\"x-list\": a, b, , c\n\"@signature-params\": (\"x-list\")"
	if base, err := signatureBase(req, list); err != nil || string(base) != want {
		t.Errorf("got %q (%v), want %q", base, err, want)
	}
}

func TestSignatureBaseRefusesAmbiguity(t *testing.T) {
	withParam := httpsfv.NewItem("@path")
	withParam.Params.Add("req", true)
	for _, c := range []struct {
		name  string
		items []httpsfv.Item
		want  bus.Code
	}{
		{"a component twice", []httpsfv.Item{httpsfv.NewItem("@path"), httpsfv.NewItem("@path")}, bus.CodeMalformed},
		{"a component with a parameter", []httpsfv.Item{withParam}, bus.CodeMalformed},
		{"a component that is a number", []httpsfv.Item{httpsfv.NewItem(1)}, bus.CodeMalformed},
		{"an unknown derived component", []httpsfv.Item{httpsfv.NewItem("@status")}, bus.CodeMalformed},
		{"a field in upper case", []httpsfv.Item{httpsfv.NewItem("Date")}, bus.CodeMalformed},
		{"a field without a name", []httpsfv.Item{httpsfv.NewItem("")}, bus.CodeMalformed},
		{"a field that is missing", []httpsfv.Item{httpsfv.NewItem("x-missing")}, bus.CodeUnauthenticated},
		{"a line break in a field", []httpsfv.Item{httpsfv.NewItem("x-forged")}, bus.CodeMalformed},
	} {
		t.Run(c.name, func(t *testing.T) {
			req := newSigned(t)
			req.Header["X-Forged"] = []string{"a\n\"@path\": /other"}
			_, err := signatureBase(req, httpsfv.InnerList{Items: c.items, Params: httpsfv.NewParams()})
			wantCode(t, err, c.want)
		})
	}
}
