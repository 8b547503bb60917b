package identity_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/identity"
	"github.com/enmanuel/unibus/lib/internal/goldentest"
	"github.com/enmanuel/unibus/lib/wire"
)

func TestARevocationCountsForOneKeyWhereItsSignerMaySay(t *testing.T) {
	root, alice, bob := testRoot(t), person(t, "alice"), person(t, "bob")
	here, elsewhere := root.BusID(), bus.BusID{9}
	own, byRoot := alice.Revocation(), rootRevocation(t, root, alice)
	for _, tc := range []struct {
		name string
		r    identity.Revocation
		bus  bus.BusID
		id   bus.ID
		want bus.Code
	}{
		{"own, here", own, here, alice.ID(), ""},
		{"own, on another bus", own, elsewhere, alice.ID(), ""},
		{"own, for somebody else", own, here, bob.ID(), bus.CodeMisrouted},
		{"by the root, here", byRoot, here, alice.ID(), ""},
		{"by the root, on another bus", byRoot, elsewhere, alice.ID(), bus.CodeWrongBus},
		{"by the root, for somebody else", byRoot, here, bob.ID(), bus.CodeMisrouted},
	} {
		wantCode(t, tc.name, tc.r.Check(tc.bus, tc.id), tc.want)
	}
	if !own.BySelf() || byRoot.BySelf() || own.ID() != alice.ID() || byRoot.ID() != alice.ID() {
		t.Errorf("own %+v, by the root %+v", own, byRoot)
	}
	if !bytes.Equal(own.Bytes(), alice.Revocation().Bytes()) {
		t.Error("the same revocation was made twice and differs")
	}
	_, err := root.Revocation(bus.SignPub{1})
	wantCode(t, "a key of small order", err, bus.CodeWeakKey)
}

// Every bit counts, and each failure has its class.
func TestRevocationsThatAreRefused(t *testing.T) {
	root, alice := testRoot(t), person(t, "alice")
	for _, r := range []identity.Revocation{alice.Revocation(), rootRevocation(t, root, alice)} {
		seen := map[bus.Code]bool{}
		for i := range len(r.Bytes()) * 8 {
			raw := bytes.Clone(r.Bytes())
			raw[i/8] ^= 1 << (i % 8)
			_, err := identity.ParseRevocation(raw)
			seen[bus.CodeOf(err)] = true
			if err == nil {
				t.Fatalf("bit %d does not count", i)
			}
		}
		for _, c := range []bus.Code{bus.CodeMalformed, bus.CodeWeakKey, bus.CodeBadSignature} {
			if !seen[c] {
				t.Errorf("no flipped bit was %q", c)
			}
		}
	}
	// What somebody else signs, in their own name or in another's.
	mallory, pub := person(t, "mallory"), alice.SignPub()
	sign := func(b bus.BusID, signer bus.SignPub) []byte {
		body := append([]byte{bus.Version, bus.TypeRevocation}, b[:]...)
		body = append(append(body, pub[:]...), signer[:]...)
		return append(body, mallory.Sign(wire.LabelRevoke, body)...)
	}
	for name, tc := range map[string]struct {
		raw  []byte
		want bus.Code
	}{
		"by a stranger":                {sign(bus.BusID{}, mallory.SignPub()), bus.CodeBadSignature},
		"by a stranger on a bus":       {sign(root.BusID(), mallory.SignPub()), bus.CodeBadSignature},
		"by a stranger for the key":    {sign(bus.BusID{}, pub), bus.CodeBadSignature},
		"by a stranger for the root":   {sign(root.BusID(), bus.SignPub(root.Pub())), bus.CodeBadSignature},
		"by the key, bound to one bus": {sign(root.BusID(), pub), bus.CodeBadSignature},
		"by the root, bound to no bus": {sign(bus.BusID{}, bus.SignPub(root.Pub())), bus.CodeBadSignature},
		"empty":                        {nil, bus.CodeMalformed},
		"a byte too long":              {append(bytes.Clone(alice.Revocation().Bytes()), 0), bus.CodeMalformed},
		"a byte too short":             {alice.Revocation().Bytes()[:161], bus.CodeMalformed},
		"a directory entry":            {goldentest.Read(t, goldenFile).Find(t, "directory entry").Raw(t), bus.CodeMalformed},
	} {
		_, err := identity.ParseRevocation(tc.raw)
		wantCode(t, name, err, tc.want)
	}
}

func TestRevocationFileIsPrivateAndNeverOverwritten(t *testing.T) {
	path, r := filepath.Join(t.TempDir(), "alice.revoke"), person(t, "alice").Revocation()
	if err := r.Create(path); err != nil {
		t.Fatal(err)
	}
	wantCode(t, "again", r.Create(path), bus.CodeFileExists)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	got, err := identity.ParseRevocationText(text)
	if err != nil || !bytes.Equal(got.Bytes(), r.Bytes()) {
		t.Errorf("read back %+v, %v", got, err)
	}
	_, err = identity.ParseRevocationText(person(t, "alice").Marshal())
	wantCode(t, "an identity", err, bus.CodeMalformed)
}
