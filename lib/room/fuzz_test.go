package room

import (
	"bytes"
	"testing"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/internal/goldentest"
)

func FuzzParseRecord(f *testing.F) {
	golden := goldentest.Read(f, goldenFile)
	for _, name := range []string{"genesis", "successor", "plain genesis"} {
		f.Add(golden.Find(f, name).Raw(f), golden.Find(f, name+": members").Raw(f))
	}
	f.Add([]byte{1, 2}, []byte{0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, raw, members []byte) {
		r, err := ParseRecord(raw, members)
		if err != nil {
			if r != nil || !bus.CodeOf(err).Known() {
				t.Fatalf("%v with %v", r, err)
			}
			return
		}
		again, err := r.encode()
		if err != nil || !bytes.Equal(append(again, raw[len(raw)-signatureSize:]...), raw) {
			t.Fatalf("an accepted record encodes to other bytes: %v", err)
		}
		if !bytes.Equal(encodeMembers(r.Members()), members) {
			t.Fatal("an accepted member list encodes to other bytes")
		}
	})
}

// Signatures stop the fuzzer early: here is what lies behind them.
func FuzzDecodeRecord(f *testing.F) {
	golden := goldentest.Read(f, goldenFile)
	for _, name := range []string{"genesis", "successor", "plain genesis"} {
		f.Add(golden.Find(f, name).Raw(f), golden.Find(f, name+": members").Raw(f))
	}
	f.Fuzz(func(t *testing.T, raw, members []byte) {
		r := &Record{raw: raw, members: members}
		if r.decode() != nil || r.checkForm() != nil {
			return
		}
		again, err := r.encode()
		if err != nil || !bytes.Equal(append(again, raw[len(raw)-signatureSize:]...), raw) {
			t.Fatalf("a decoded record encodes to other bytes: %v", err)
		}
		if r.checkMembers() == nil && !bytes.Equal(encodeMembers(r.Members()), members) {
			t.Fatal("a decoded member list encodes to other bytes")
		}
	})
}

func FuzzParsePin(f *testing.F) {
	f.Add(goldentest.Read(f, goldenFile).Find(f, "head pin").Raw(f))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, raw []byte) {
		pin, err := parsePin(raw)
		if err == nil && !bytes.Equal(pin.encode(), raw) {
			t.Fatal("an accepted pin encodes to other bytes")
		}
	})
}

func FuzzParseFork(f *testing.F) {
	golden := goldentest.Read(f, goldenFile)
	f.Add(golden.Find(f, "fork by two signers").Raw(f))
	f.Add(golden.Find(f, "fork by one signer").Raw(f))
	f.Add([]byte{0, 0, 0, 1})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, raw []byte) {
		fork, err := ParseFork(raw)
		if err != nil {
			if fork != nil || !bus.CodeOf(err).Known() {
				t.Fatalf("%v with %v", fork, err)
			}
			return
		}
		if !bytes.Equal(fork.Bytes(), raw) {
			t.Fatal("an accepted proof encodes to other bytes")
		}
	})
}
