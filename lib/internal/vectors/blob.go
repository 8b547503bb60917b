package vectors

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"strings"
	"unicode/utf8"

	"golang.org/x/crypto/chacha20poly1305"
)

// BlobRef is a reference to a blob, as the header unibus-blob has it.
type BlobRef struct {
	Identity         string
	Seed             []byte // what Identity is the text of
	Size, SealedSize uint64
	SHA256           Hash32
	SealedSHA256     Hash32
	Name, Media      string
	Fields           []Field
}

// ParseBlobRef reads a reference. Code: malformed.
func ParseBlobRef(in []byte) (*BlobRef, error) {
	r := newReader(in)
	ref := &BlobRef{}
	r.check(r.uint("version", 1) == 1, "version", "not 1")
	ref.Identity = string(r.blob("identity", 1))
	var ok bool
	ref.Seed, ok = bech32("AGE-SECRET-KEY-PQ-", ref.Identity)
	r.check(ok && len(ref.Seed) == kemSeedSize, "identity", "is not the Bech32 of a seed")
	ref.Size, ref.SealedSize = r.uint("size", 8), r.uint("sealed_size", 8)
	r.check(ref.Size <= 1<<40, "size", "%d is over 2^40", ref.Size)
	r.check(ref.SealedSize == sealedSize(ref.Size) || ref.SealedSize == sealedSize(uint64(Padme(int(ref.Size)))), "sealed_size", "%d is not that of %d", ref.SealedSize, ref.Size)
	ref.SHA256, ref.SealedSHA256 = r.hash("sha256"), r.hash("sealed_sha256")
	ref.Name, ref.Media = string(r.blob("name", 1)), string(r.blob("media", 1))
	r.check(utf8.ValidString(ref.Name) && ref.Name != "." && ref.Name != ".." && !strings.ContainsFunc(ref.Name, func(c rune) bool {
		return c < 0x20 || 0x7f <= c && c <= 0x9f || c == '/' || c == '\\'
	}), "name", "%q is no name", ref.Name)
	r.check(len(ref.Media) <= 127 && !strings.ContainsFunc(ref.Media, func(c rune) bool { return c < 0x20 || c > 0x7e }), "media", "%q is no media type", ref.Media)
	ref.Fields = r.fields
	return ref, r.done()
}

// sealedSize is how long n bytes are in an age file for one hybrid recipient.
func sealedSize(n uint64) uint64 { return 1627 + 16 + n + 16*max(1, (n+65535)/65536) }

// bech32 decodes BIP 173 text, all of it in upper case.
func bech32(hrp, s string) (data []byte, ok bool) {
	const alphabet = "QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L"
	rest, ok := strings.CutPrefix(s, hrp+"1")
	if !ok || len(rest) < 6 {
		return nil, false
	}
	var values []byte
	low := strings.ToLower(hrp)
	for i := range low {
		values = append(values, low[i]>>5)
	}
	values = append(values, 0)
	for i := range low {
		values = append(values, low[i]&31)
	}
	var acc, n uint
	for i := range rest {
		v := strings.IndexByte(alphabet, rest[i])
		if v < 0 {
			return nil, false
		}
		values = append(values, byte(v))
		if i >= len(rest)-6 {
			continue
		}
		if acc, n = acc<<5|uint(v), n+5; n >= 8 {
			n -= 8
			data = append(data, byte(acc>>n))
			acc &= 1<<n - 1
		}
	}
	sum := uint32(1)
	for _, v := range values {
		top := sum >> 25
		sum = sum&0x1ffffff<<5 ^ uint32(v)
		for i, g := range []uint32{0x3b6a57b2, 0x26508e6d, 0x1ea119fa, 0x3d4233dd, 0x2a1462b3} {
			if top>>i&1 == 1 {
				sum ^= g
			}
		}
	}
	return data, sum == 1 && n < 5 && acc == 0
}

// Open opens sealed bytes. Code: blob_mismatch.
func (ref *BlobRef) Open(sealed []byte) ([]byte, error) {
	if uint64(len(sealed)) != ref.SealedSize || sha256.Sum256(sealed) != ref.SealedSHA256 {
		return nil, refuse("blob_mismatch", "sealed_sha256", "is not of these %d bytes", len(sealed))
	}
	fileKey, err := ref.fileKey(sealed[:1627])
	if err != nil {
		return nil, err
	}
	key, err := hkdf.Key(sha256.New, fileKey, sealed[1627:1643], "payload", 32)
	if err != nil {
		return nil, err
	}
	aead, err := chacha20poly1305.New(key)
	if err != nil {
		return nil, err
	}
	var content []byte
	for i, rest := uint64(0), sealed[1643:]; len(rest) > 0; i++ {
		chunk := rest[:min(len(rest), 65536+16)]
		rest = rest[len(chunk):]
		nonce := make([]byte, 12)
		binary.BigEndian.PutUint64(nonce[3:], i)
		if len(rest) == 0 {
			nonce[11] = 1
		}
		if content, err = aead.Open(content, nonce, chunk, nil); err != nil {
			return nil, refuse("blob_mismatch", "chunk", "%d does not open", i)
		}
	}
	padding := content[ref.Size:]
	if content = content[:ref.Size]; sha256.Sum256(content) != ref.SHA256 {
		return nil, refuse("blob_mismatch", "sha256", "is not of this content")
	}
	for _, b := range padding {
		if b != 0 {
			return nil, refuse("blob_mismatch", "padding", "is not zero")
		}
	}
	return content, nil
}

// fileKey opens the one stanza of an age header and checks the MAC.
func (ref *BlobRef) fileKey(header []byte) ([]byte, error) {
	lines := strings.Split(string(header), "\n")
	if len(lines) != 5 || lines[0] != "age-encryption.org/v1" || lines[4] != "" {
		return nil, refuse("blob_mismatch", "header", "has %d lines", len(lines))
	}
	stanza, ok1 := strings.CutPrefix(lines[1], "-> mlkem768x25519 ")
	mac, ok2 := strings.CutPrefix(lines[3], "--- ")
	enc, err1 := base64.RawStdEncoding.DecodeString(stanza)
	body, err2 := base64.RawStdEncoding.DecodeString(lines[2])
	want, err3 := base64.RawStdEncoding.DecodeString(mac)
	if !ok1 || !ok2 || err1 != nil || err2 != nil || err3 != nil {
		return nil, refuse("blob_mismatch", "header", "is not one stanza and its MAC")
	}
	fileKey, err := openHPKE(ref.Seed, []byte("age-encryption.org/mlkem768x25519"), append(enc, body...), nil, 3)
	if err != nil || len(fileKey) != 16 {
		return nil, refuse("blob_mismatch", "header", "the stanza does not open")
	}
	macKey, err := hkdf.Key(sha256.New, fileKey, nil, "header", 32)
	if err != nil {
		return nil, err
	}
	h := hmac.New(sha256.New, macKey)
	h.Write(header[:strings.LastIndex(string(header), "---")+3])
	if !hmac.Equal(h.Sum(nil), want) {
		return nil, refuse("blob_mismatch", "header", "the MAC does not hold")
	}
	return fileKey, nil
}
