package identity

import (
	"bytes"
	"testing"

	"github.com/enmanuel/unibus/lib/internal/goldentest"
)

func FuzzParseCardPins(f *testing.F) {
	f.Add(goldentest.Read(f, "identity.json").Find(f, "card pins").Raw(f))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, raw []byte) {
		pins, err := parsePins(raw)
		if err == nil && !bytes.Equal(encodePins(pins), raw) {
			t.Fatal("accepted pins encode to other bytes")
		}
	})
}
