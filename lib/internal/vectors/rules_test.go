package vectors

import (
	"bytes"
	"encoding/hex"
	"errors"
	"slices"
	"testing"
)

// The golden files hold nearly only what is to be accepted. Here is what is not.

func code(err error) string {
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

// The known answers are those of c2sp.org/XAES-256-GCM: with the top bit of the CMAC subkey's source clear and set.
func TestXAESKnownAnswers(t *testing.T) {
	for _, tt := range []struct {
		key       byte
		aad, want string
	}{
		{1, "", "ce546ef63c9cc60765923609b33a9a1974e96e52daf2fcf7075e2271"},
		{3, "c2sp.org/XAES-256-GCM", "986ec1832593df5443a179437fd083bf3fdb41abd740a21f71eb769d"},
	} {
		x, err := AEAD(1, bytes.Repeat([]byte{tt.key}, 32))
		if err != nil {
			t.Fatal(err)
		}
		nonce, pt := []byte("ABCDEFGHIJKLMNOPQRSTUVWX"), []byte("XAES-256-GCM")
		ct := x.Seal(nil, nonce, pt, []byte(tt.aad))
		same(t, "ciphertext", ct, unhex(t, "ciphertext", tt.want))
		same(t, "plaintext", must[[]byte](t)(x.Open(nil, nonce, ct, []byte(tt.aad))), pt)
	}
}

func TestPadme(t *testing.T) {
	for n, want := range map[int]int{1: 1, 2: 2, 3: 3, 8: 8, 9: 10, 17: 18, 21: 22, 255: 256, 257: 272, 317: 320, 258047: 258048} {
		if got := Padme(n); got != want {
			t.Errorf("Padmé(%d) = %d, not %d", n, got, want)
		}
	}
}

func TestWeakSigningKeysAreRefused(t *testing.T) {
	for what, key := range map[string]string{
		"the identity":            "0100000000000000000000000000000000000000000000000000000000000000",
		"the point of order 2":    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"a point of order 4":      "0000000000000000000000000000000000000000000000000000000000000000",
		"a point of order 8":      "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
		"the identity, not short": "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"x = 0 with a sign":       "0100000000000000000000000000000000000000000000000000000000000080",
		"y = 3 as 3 + p":          "f0ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"no point":                "0200000000000000000000000000000000000000000000000000000000000000",
	} {
		if err := CheckKey(Hash32(unhex(t, what, key))); code(err) != "weak_key" {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestWeakHPKEKeysAreRefused(t *testing.T) {
	pub := must[[]byte](t)(KEMPub(readCast(t).latestKEM().Seed))
	if err := CheckKEMPub(append(pub[:mlkemSize:mlkemSize], make([]byte, 32)...)); code(err) != "weak_key" {
		t.Errorf("X25519 half of small order: %v", err)
	}
	if err := CheckKEMPub(append(bytes.Repeat([]byte{0xff}, mlkemSize), pub[mlkemSize:]...)); code(err) != "malformed" {
		t.Errorf("ML-KEM half that is not reduced: %v", err)
	}
	if err := CheckKEMPub(pub[1:]); code(err) != "malformed" {
		t.Errorf("a byte too few: %v", err)
	}
}

func TestTextIsStrict(t *testing.T) {
	for _, s := range []string{"AA==", "A", "AB", "AA\n", "A\rA", "A+", "A/", " AA"} {
		if b, err := ParseText(s); err == nil {
			t.Errorf("%q is %x", s, b)
		}
	}
}

func TestIdentityFilesAreRefused(t *testing.T) {
	seed, kem := make([]byte, 32), append([]byte{0x64, 0x7a}, make([]byte, 8)...)
	key := func(seq byte, n int) []byte { return slices.Concat(kem[:9], []byte{seq}, u16(n), make([]byte, n)) }
	for what, text := range map[string]string{
		"another first line":   "unibus-root-1\n" + Text(slices.Concat(seed, key(1, 32))) + "\n",
		"two lines":            "unibus-identity-1\n" + Text(slices.Concat(seed, key(1, 32))) + "\n\n",
		"a comment at the end": "unibus-identity-1\n" + Text(slices.Concat(seed, key(1, 32))) + "\n#\n",
		"no HPKE key":          "unibus-identity-1\n" + Text(seed) + "\n",
		"a number twice":       "unibus-identity-1\n" + Text(slices.Concat(seed, key(1, 32), key(1, 32))) + "\n",
		"number 0":             "unibus-identity-1\n" + Text(slices.Concat(seed, key(0, 32))) + "\n",
		"a short seed":         "unibus-identity-1\n" + Text(slices.Concat(seed, key(1, 31))) + "\n",
		"a byte too many":      "unibus-identity-1\n" + Text(slices.Concat(seed, key(1, 32), []byte{0})) + "\n",
	} {
		if _, err := ParseIdentity(text); code(err) != "malformed" {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// A signed structure of which any one bit was changed is refused, and so is one with a byte more or less.
func TestChangedBytesAreRefused(t *testing.T) {
	identity, room := readVectors(t, identityFile), readVectors(t, roomFile)
	frames, e := readFrames(t)
	frame := unhex(t, "frame", frames.Frames[0].Frame)
	rd := e.reader(&must[*Frame](t)(ParseFrame(frame)).Header, frames.Frames[0].Header.Flags)
	genesis := must[*Record](t)(ParseRecord(room["genesis"].bytes(t)))
	for _, tt := range []struct {
		what  string
		bytes []byte
		parse func([]byte) error
	}{
		{"card", identity["card"].bytes(t), func(b []byte) error { _, err := ParseCard(b); return err }},
		{"directory entry", identity["directory entry"].bytes(t), func(b []byte) error { _, err := ParseEntry(b); return err }},
		{"record", room["successor"].bytes(t), func(b []byte) error { _, err := ParseRecord(b); return err }},
		{"members", room["genesis: members"].bytes(t), func(b []byte) error { _, err := genesis.CheckMembers(b); return err }},
		{"frame", frame, func(b []byte) error { _, err := rd.Open(b); return err }},
	} {
		if err := tt.parse(tt.bytes); err != nil {
			t.Fatalf("%s as it is: %v", tt.what, err)
		}
		for i := range tt.bytes {
			b := slices.Clone(tt.bytes)
			b[i] ^= 1 << (i % 8)
			if code(tt.parse(b)) == "" {
				t.Errorf("%s with byte %d changed: accepted", tt.what, i)
			}
		}
		if code(tt.parse(tt.bytes[:len(tt.bytes)-1])) == "" || code(tt.parse(append(tt.bytes, 0))) == "" {
			t.Errorf("%s, longer or shorter: accepted", tt.what)
		}
	}
}

func TestSealedKeysOpenForNobodyElse(t *testing.T) {
	room := readVectors(t, roomFile)
	rec := must[*Record](t)(ParseRecord(room["genesis"].bytes(t)))
	list := must[[]Member](t)(rec.CheckMembers(room["genesis: members"].bytes(t)))
	v := room["genesis: key sealed to alice"]
	sealed, seed := v.bytes(t), v.input(t, "kem_seed")
	m := list[0]

	other := m
	other.CardHash[0] ^= 1
	if _, err := rec.OpenKey(other, seed, sealed); code(err) != "decrypt" {
		t.Errorf("bound to another card: %v", err)
	}
	if _, err := rec.OpenKey(list[1], seed, sealed); code(err) != "sealed_mismatch" {
		t.Errorf("another member's hash: %v", err)
	}
	if _, err := OpenSealed(room["genesis: key sealed to bob"].input(t, "kem_seed"), rec.SealInfo(m), sealed); code(err) != "decrypt" {
		t.Errorf("another member's key: %v", err)
	}
	if _, err := rec.OpenName(make([]byte, 32)); code(err) != "decrypt" {
		t.Errorf("name under another key: %v", err)
	}
	if err := rec.checkKey(make([]byte, 32)); code(err) != "key_mismatch" {
		t.Errorf("commitment to another key: %v", err)
	}
}

func TestRecordsOutOfPlaceAreRefused(t *testing.T) {
	room := readVectors(t, roomFile)
	record := func(name string) Record { return *must[*Record](t)(ParseRecord(room[name].bytes(t))) }
	for want, change := range map[string]func(head, next *Record){
		"gap":           func(_, next *Record) { next.Epoch++ },
		"fork":          func(_, next *Record) { next.Prev[0] ^= 1 },
		"misrouted":     func(_, next *Record) { next.RoomID[0] ^= 1 },
		"not_authority": func(head, _ *Record) { head.Authorities = nil },
		"transition":    func(_, next *Record) { next.Suite = 2 },
	} {
		head, next := record("genesis"), record("successor")
		change(&head, &next)
		if err := next.Follows(&head); code(err) != want {
			t.Errorf("%v, not %s", err, want)
		}
	}
}

// Records are refused with the code that the page gives, also where they are signed.
func TestRecordsThatBreakARuleAreRefused(t *testing.T) {
	room, alice := readVectors(t, roomFile), readCast(t).alice
	head := must[*Record](t)(ParseRecord(room["genesis"].bytes(t)))
	for _, tt := range []struct {
		what, record, want string
		change             map[string][]byte
	}{
		{"unknown role", "successor", "malformed", map[string][]byte{"authority_role": {2}}},
		{"no owner", "successor", "transition", map[string][]byte{"authority_role": {RoleAdmin}}},
		{"no owner at the beginning", "genesis", "not_authority", map[string][]byte{"authority_role": {RoleAdmin}}},
		{"no history", "successor", "malformed", map[string][]byte{"history_ct_length": {0}, "history_nonce": {}, "history_sealed": {}}},
		{"short history", "successor", "malformed", map[string][]byte{"history_ct_length": {71}, "history_sealed": make([]byte, 47)}},
		{"empty name", "successor", "malformed", map[string][]byte{"name_ct_length": {0, 40}, "name_sealed": make([]byte, 16)}},
		{"no commitment", "successor", "malformed", map[string][]byte{"key_commitment": make([]byte, 32)}},
		{"unknown flag", "successor", "policy", map[string][]byte{"flags": {0x1f}}},
		{"no life", "successor", "malformed", map[string][]byte{"not_after": make([]byte, 8)}},
		{"no life to speak of, but earlier than the head", "successor", "", map[string][]byte{"created": u64(1), "not_after": u64(2)}},
	} {
		var b []byte
		for _, f := range must[*Record](t)(ParseRecord(room[tt.record].bytes(t))).Fields {
			if value, ok := tt.change[f.Name]; ok {
				f.Value = value
			}
			if f.Name != "sig" {
				b = append(b, f.Value...)
			}
		}
		rec, err := ParseRecord(append(b, Sign(alice.SignSeed, "record", b)...))
		switch {
		case err == nil && tt.record == "genesis":
			err = rec.Begins()
		case err == nil:
			err = rec.Follows(head)
		}
		if code(err) != tt.want {
			t.Errorf("%s: %v, not %q", tt.what, err, tt.want)
		}
	}
}

// FuzzParse holds every parser to this: whatever it accepts is exactly the fields it found, one after the other.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"01010000", "01040000", "0102", "0000000000", "5542010300"} {
		b, err := hex.DecodeString(s)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, true)
	}
	f.Fuzz(func(t *testing.T, b []byte, padded bool) {
		whole := func(what string, fields []Field, err error) {
			var all []byte
			for _, x := range fields {
				all = append(all, x.Value...)
			}
			if err == nil && !bytes.Equal(all, b) {
				t.Errorf("%s: accepted %x as %x", what, b, all)
			}
		}
		if c, err := ParseCard(b); err == nil {
			whole("card", c.Fields, nil)
		}
		if e, err := ParseEntry(b); err == nil {
			whole("directory entry", e.Fields, nil)
		}
		if r, err := ParseRecord(b); err == nil {
			whole("record", r.Fields, nil)
		}
		if fr, err := ParseFrame(b); err == nil {
			whole("frame", fr.Fields, nil)
		}
		if p, err := ParseFork(b); err == nil {
			whole("fork", p.Fields, nil)
		}
		if p, err := ParseEquivocation(b); err == nil {
			whole("equivocation", p.Fields, nil)
		}
		_, fields, err := ParseMembers(b)
		whole("members", fields, err)
		_, fields, err = ParseCardPins(b)
		whole("card pins", fields, err)
		_, fields, err = ParseHeadPin(b)
		whole("head pin", fields, err)
		if in, err := ParseInner(b, padded); err == nil && !bytes.Equal(in.Encode(padded), b) {
			t.Errorf("inner part: %x comes back as %x", b, in.Encode(padded))
		}
		text := "unibus-identity-1\n" + Text(b) + "\n"
		if id, err := ParseIdentity(text); err == nil {
			whole("identity file", id.Fields, nil)
		}
		if back, err := ParseText(string(b)); err == nil && Text(back) != string(b) {
			t.Errorf("base64url: %q comes back as %q", b, Text(back))
		}
	})
}
