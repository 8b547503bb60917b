package identity_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/identity"
	"github.com/enmanuel/unibus/lib/internal/goldentest"
)

func FuzzParseCard(f *testing.F) {
	golden := goldentest.Read(f, goldenFile)
	for _, name := range []string{"card", "another card"} {
		f.Add(golden.Find(f, name).Raw(f))
	}
	f.Add([]byte{1, 1})
	f.Fuzz(func(t *testing.T, raw []byte) {
		c, err := identity.ParseCard(raw)
		if err != nil {
			if c != nil || !bus.CodeOf(err).Known() {
				t.Fatalf("%v with %v", c, err)
			}
			return
		}
		again := rawCard{
			version: bus.Version, kind: bus.TypeCard, signPub: c.SignPub[:], bus: c.BusID[:], transport: c.TransportPub[:],
			kem: c.KEM, kemPub: c.KEMPub, seq: c.Seq, notBefore: uint64(c.NotBefore.Unix()), notAfter: uint64(c.NotAfter.Unix()),
		}
		if !bytes.Equal(append(again.body(), raw[len(raw)-64:]...), raw) || !bytes.Equal(c.Bytes(), raw) {
			t.Fatal("an accepted card encodes to other bytes")
		}
	})
}

func FuzzParseEntry(f *testing.F) {
	f.Add(goldentest.Read(f, goldenFile).Find(f, "directory entry").Raw(f))
	f.Add([]byte{1, 4})
	root := testRoot(f)
	f.Fuzz(func(t *testing.T, raw []byte) {
		e, err := identity.ParseEntry(raw, root.BusID())
		if err != nil {
			return
		}
		if again, err := root.SignEntry(e); err != nil || !bytes.Equal(again, raw) {
			t.Fatalf("an accepted entry encodes to %x, %v", again, err)
		}
	})
}

func FuzzParseEntries(f *testing.F) {
	raw := goldentest.Read(f, goldenFile).Find(f, "directory entry").Raw(f)
	root := testRoot(f)
	e, err := identity.ParseEntry(raw, root.BusID())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(identity.MarshalEntries([]identity.SignedEntry{{Entry: e, Raw: raw}, {Entry: e, Raw: raw}}))
	f.Add([]byte("unibus-entries-1\n#\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		entries, err := identity.ParseEntries(text)
		if err != nil {
			return
		}
		if got, want := withoutComments(string(identity.MarshalEntries(entries))), withoutComments(string(text)); got != want {
			t.Fatalf("%q is written as %q", want, got)
		}
	})
}

func FuzzParseRevocation(f *testing.F) {
	golden := goldentest.Read(f, goldenFile)
	for _, name := range []string{"revocation by the key itself", "revocation by the root"} {
		v := golden.Find(f, name)
		f.Add(v.Raw(f))
		f.Add([]byte(v.Inputs["text"]))
	}
	f.Add([]byte{1, 5})
	f.Fuzz(func(t *testing.T, raw []byte) {
		check := func(r identity.Revocation, err error) bool {
			if err != nil && (r.Bytes() != nil || !bus.CodeOf(err).Known()) {
				t.Fatalf("%v with %v", r, err)
			}
			return err == nil
		}
		if r, err := identity.ParseRevocation(raw); check(r, err) && !bytes.Equal(r.Bytes(), raw) {
			t.Fatal("an accepted revocation has other bytes")
		}
		if r, err := identity.ParseRevocationText(raw); check(r, err) && withoutComments(string(r.Marshal())) != withoutComments(string(raw)) {
			t.Fatalf("%q is written as %q", raw, r.Marshal())
		}
	})
}

// Comments aside, a file that is read is the file that would be written.
func FuzzParseIdentity(f *testing.F) {
	f.Add(goldentest.Read(f, goldenFile).Find(f, "identity file").Inputs["text"])
	f.Add("unibus-identity-1\n#\n")
	f.Fuzz(func(t *testing.T, text string) {
		id, err := identity.Parse([]byte(text))
		if err != nil {
			return
		}
		if got, want := withoutComments(string(id.Marshal())), withoutComments(text); got != want {
			t.Fatalf("%q is written as %q", want, got)
		}
	})
}

func FuzzParseRoot(f *testing.F) {
	f.Add(goldentest.Read(f, goldenFile).Find(f, "root file").Inputs["text"])
	f.Add("unibus-root-1\n\n")
	f.Fuzz(func(t *testing.T, text string) {
		root, err := identity.ParseRoot([]byte(text))
		if err != nil {
			return
		}
		if got, want := withoutComments(string(root.Marshal())), withoutComments(text); got != want {
			t.Fatalf("%q is written as %q", want, got)
		}
	})
}

func FuzzParseNKey(f *testing.F) {
	f.Add(person(f, "alice").Transport(bus.BusID{1}).NKey())
	f.Add("U")
	f.Fuzz(func(t *testing.T, text string) {
		pub, err := identity.ParseNKey(text)
		if err == nil && identity.EncodeNKey(pub) != text {
			t.Fatalf("%q is written as %q", text, identity.EncodeNKey(pub))
		}
	})
}

func withoutComments(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "#") {
			b.WriteString(line)
		}
	}
	return b.String()
}
