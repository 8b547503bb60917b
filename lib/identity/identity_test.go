package identity_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nkeys"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/identity"
	"github.com/enmanuel/unibus/lib/internal/goldentest"
	"github.com/enmanuel/unibus/lib/wire"
)

func TestSealedKeyOpensWithEveryKeyOfTheIdentity(t *testing.T) {
	id, info, plain := person(t, "alice"), []byte("info"), make([]byte, 32)
	var sealed [][]byte
	for i := range 3 {
		kem := id.LatestKEM()
		if kem.CardSeq != uint64(i+1) {
			t.Fatalf("key %d has card number %d", i, kem.CardSeq)
		}
		s, err := identity.Seal(kem.ID, kem.Pub(), info, plain)
		if err != nil {
			t.Fatal(err)
		}
		if len(s) != 1168 {
			t.Errorf("sealed key has %d bytes, want 1168", len(s))
		}
		sealed = append(sealed, s)
		if _, err := id.AddKEM(goldentest.Rand(fmt.Sprint("key ", i))); err != nil {
			t.Fatal(err)
		}
	}
	for i, s := range sealed {
		if got, err := id.OpenSealed(info, s); err != nil || !bytes.Equal(got, plain) {
			t.Errorf("sealed to key %d: opened %x, %v", i, got, err)
		}
	}
	_, err := id.OpenSealed([]byte("other"), sealed[0])
	wantCode(t, "other info", err, bus.CodeDecrypt)
	_, err = person(t, "bob").OpenSealed(info, sealed[0])
	wantCode(t, "another identity", err, bus.CodeDecrypt)
	_, err = id.OpenSealed(info, nil)
	wantCode(t, "nothing", err, bus.CodeDecrypt)
	for i := range sealed[0] {
		changed := bytes.Clone(sealed[0])
		changed[i] ^= 0x80
		if _, err := id.OpenSealed(info, changed); !errors.Is(err, bus.ErrDecrypt) {
			t.Fatalf("byte %d changed: %v", i, err)
		}
	}
}

func TestSealBlamesTheKey(t *testing.T) {
	kem := person(t, "alice").LatestKEM()
	_, err := identity.Seal(0x0020, kem.Pub(), nil, nil)
	wantCode(t, "unknown KEM", err, bus.CodeMalformed)
	_, err = identity.Seal(kem.ID, kem.Pub()[1:], nil, nil)
	wantCode(t, "short key", err, bus.CodeMalformed)
	_, err = identity.Seal(kem.ID, append(kem.Pub()[:len(kem.Pub())-32], make([]byte, 32)...), nil, nil)
	wantCode(t, "point of small order", err, bus.CodeWeakKey)
}

func TestIdentityHoldsABoundedNumberOfKeys(t *testing.T) {
	id, rand := person(t, "alice"), goldentest.Rand("many keys")
	for range bus.MaxKEMKeys - 1 {
		if _, err := id.AddKEM(rand); err != nil {
			t.Fatal(err)
		}
	}
	_, err := id.AddKEM(rand)
	wantCode(t, "one key more", err, bus.CodeTooLarge)
	text := id.Marshal()
	if len(text) > bus.MaxSecretFile*3/4 {
		t.Errorf("full file has %d bytes: wrapped it would not be read", len(text))
	}
	if _, err := identity.Parse(text); err != nil {
		t.Error(err)
	}
}

func TestGenerateFailsWithItsRandomness(t *testing.T) {
	for _, n := range []int64{0, 31, 32, 63} {
		if _, err := identity.Generate(io.LimitReader(goldentest.Rand("x"), n)); err == nil {
			t.Errorf("made an identity from %d bytes", n)
		}
	}
	if _, err := identity.GenerateRoot(strings.NewReader("short")); err == nil {
		t.Error("made a root from 5 bytes")
	}
	id := person(t, "alice")
	if _, err := id.AddKEM(strings.NewReader("short")); err == nil || id.LatestKEM().CardSeq != 1 {
		t.Error("added a key from 5 bytes")
	}
}

func TestTransportKeyIsPerBusAndPlainEd25519(t *testing.T) {
	id := person(t, "alice")
	one, two := id.Transport(bus.BusID{1}), id.Transport(bus.BusID{2})
	signPub := id.SignPub()
	if one.TransportPub() == two.TransportPub() || one.NKey() == two.NKey() || [32]byte(one.TransportPub()) == [32]byte(signPub) {
		t.Error("transport keys of two buses, or the signing key, are the same")
	}
	if one.TransportPub() != id.Transport(bus.BusID{1}).TransportPub() {
		t.Error("the transport key changes")
	}
	pub, msg := one.TransportPub(), []byte("message")
	if !ed25519.Verify(pub[:], msg, one.SignRaw(msg)) {
		t.Error("signature is not plain Ed25519")
	}
	user, err := nkeys.FromPublicKey(one.NKey())
	if err != nil || !nkeys.IsValidPublicUserKey(one.NKey()) {
		t.Fatalf("%s is no nkey of a user: %v", one.NKey(), err)
	}
	nonce := "abcdefghij_-012"
	if err := user.Verify([]byte(nonce), mustSign(t, one, nonce)); err != nil {
		t.Error(err)
	}
	if !wire.Verify(signPub[:], wire.LabelFrame, msg, id.Sign(wire.LabelFrame, msg)) {
		t.Error("own signature refused")
	}
}

func TestNoncesThatCouldBeSomethingElseAreNotSigned(t *testing.T) {
	tr := person(t, "alice").Transport(bus.BusID{1})
	for _, ok := range []string{strings.Repeat("a", 15), strings.Repeat("Z", 64), "abcXYZ019_-abcd"} {
		if sig, err := tr.SignNonce([]byte(ok)); err != nil || len(sig) != 64 {
			t.Errorf("nonce %q refused: %v", ok, err)
		}
	}
	for name, bad := range map[string]string{
		"empty":         "",
		"too short":     strings.Repeat("a", 14),
		"too long":      strings.Repeat("a", 65),
		"a long text":   strings.Repeat("a", 2045),
		"line break":    "abcdefghijklmno\n",
		"break in it":   "abcdefgh\nijklmno",
		"signature":     "\"@method\": GET aaaaa",
		"plus":          "abcdefghijklmn+",
		"slash":         "abcdefghijklmn/",
		"padding":       "abcdefghijklmn=",
		"not ASCII":     "abcdefghijklmné",
		"zero byte":     "abcdefghijklmno\x00",
		"space":         "abcdefgh ijklmno",
		"label prefix":  "\x0eunibus/1 frame",
		"leading break": "\nabcdefghijklmno",
	} {
		sig, err := tr.SignNonce([]byte(bad))
		if sig != nil {
			t.Errorf("%s: signed", name)
		}
		wantCode(t, name, err, bus.CodeNonceRefused)
	}
}

func TestNKeyTextIsReadStrictly(t *testing.T) {
	pub := person(t, "alice").Transport(bus.BusID{1}).TransportPub()
	text := identity.EncodeNKey(pub)
	if got, err := identity.ParseNKey(text); err != nil || got != pub {
		t.Fatalf("%s reads as %s, %v", text, got, err)
	}
	account, err := nkeys.Encode(nkeys.PrefixByteAccount, pub[:])
	if err != nil {
		t.Fatal(err)
	}
	long, err := nkeys.Encode(nkeys.PrefixByteUser, append(pub[:], 0))
	if err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string]string{
		"empty": "", "33 bytes": string(long), "lower case": strings.ToLower(text), "account": string(account),
		"checksum": text[:10] + "A" + text[11:], "short": text[:55], "long": text + "A", "padding": text + "=", "line break": text + "\n",
	} {
		if bad == text {
			t.Fatalf("%s: the text is unchanged", name)
		}
		_, err := identity.ParseNKey(bad)
		wantCode(t, name, err, bus.CodeMalformed)
	}
	_, err = identity.ParseNKey(identity.EncodeNKey(bus.TransportPub{1}))
	wantCode(t, "small order", err, bus.CodeWeakKey)
}

// Secrets reach logs through formatting, by whatever verb.
func TestSecretsArePrintedByNoVerb(t *testing.T) {
	id, root := person(t, "alice"), testRoot(t)
	seed, rootSeed := seedOf(t, "alice"), payload(t, root.Marshal())
	for _, secret := range [][]byte{seed, rootSeed, payload(t, id.Marshal())[44:]} {
		decimal := fmt.Sprint(secret)
		forms := []string{
			string(secret), hex.EncodeToString(secret), strings.ToUpper(hex.EncodeToString(secret)),
			base64.RawURLEncoding.EncodeToString(secret), base64.RawStdEncoding.EncodeToString(secret),
			strings.Trim(decimal, "[]"), strings.ReplaceAll(strings.Trim(decimal, "[]"), " ", ", "),
		}
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "% x", "%c", "%t", "%o", "%z"} {
			for _, value := range []any{id, id.LatestKEM(), id.Transport(bus.BusID{1}), root, []any{id, root}, struct{ X *identity.Identity }{id}} {
				text := fmt.Sprintf(verb, value)
				for _, form := range forms {
					if strings.Contains(text, form) {
						t.Errorf("%s of %T prints a secret", verb, value)
					}
				}
			}
		}
	}
	if got := fmt.Sprint(id); !strings.Contains(got, id.ID().String()) {
		t.Errorf("identity prints as %q", got)
	}
}

func TestDroppingKeysKeepsTheNewest(t *testing.T) {
	id, info := person(t, "alice"), []byte("info")
	var sealed [][]byte
	for i := range 3 {
		s, err := identity.Seal(identity.KEMHybrid, id.LatestKEM().Pub(), info, []byte{byte(i)})
		if err != nil {
			t.Fatal(err)
		}
		sealed = append(sealed, s)
		if i < 2 {
			if _, err := id.AddKEM(goldentest.Rand(fmt.Sprint("key ", i))); err != nil {
				t.Fatal(err)
			}
		}
	}
	only := id.OnlyLatest()
	for i, s := range sealed {
		_, err := only.OpenSealed(info, s)
		if (err == nil) != (i == 2) {
			t.Errorf("the newest alone opens number %d: %v", i, err)
		}
	}
	for _, step := range []struct {
		before  uint64
		dropped int
		left    int
	}{{0, 0, 3}, {2, 1, 2}, {2, 0, 2}, {99, 1, 1}, {99, 0, 1}} {
		if n := id.DropKEMs(step.before); n != step.dropped || len(id.KEMs()) != step.left {
			t.Errorf("before %d: dropped %d, %d left", step.before, n, len(id.KEMs()))
		}
	}
	if _, err := id.OpenSealed(info, sealed[2]); err != nil || id.LatestKEM().CardSeq != 3 {
		t.Errorf("%d, %v", id.LatestKEM().CardSeq, err)
	}
	again, err := identity.Parse(id.Marshal())
	if err != nil || len(again.KEMs()) != 1 {
		t.Errorf("%v, %v", again, err)
	}
}

func TestUpdatesOfAFileDoNotLoseEachOther(t *testing.T) {
	path := filepath.Join(t.TempDir(), "alice.id")
	if err := person(t, "alice").Create(path, ""); err != nil {
		t.Fatal(err)
	}
	add := func(id *identity.Identity) error {
		_, err := id.AddKEM(rand.Reader)
		return err
	}
	var all sync.WaitGroup
	const workers, rounds = 4, 5
	for range workers {
		all.Go(func() {
			for range rounds {
				if _, err := identity.Update(t.Context(), path, nil, add); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	id, err := identity.Load(path, nil)
	if err != nil || len(id.KEMs()) != 1+workers*rounds {
		t.Fatalf("%d keys, %v", len(id.KEMs()), err)
	}
	// What a change refuses, or a file that is not there, changes nothing.
	refused := errors.New("refused")
	_, err = identity.Update(t.Context(), path, nil, func(id *identity.Identity) error { return errors.Join(add(id), refused) })
	if again, loadErr := identity.Load(path, nil); !errors.Is(err, refused) || loadErr != nil || len(again.KEMs()) != len(id.KEMs()) {
		t.Errorf("%v, %v", err, loadErr)
	}
	_, err = identity.Update(t.Context(), path+".no", nil, add)
	wantCode(t, "no file", err, bus.CodeNotFound)
	if _, err := os.Stat(path + ".no.lock"); err == nil {
		t.Error("a lock was left beside nothing")
	}
}
