package vectors

import (
	"bytes"
	"errors"
	"testing"
)

func TestBlobVectors(t *testing.T) {
	checks{"reference": blobRef, "padded reference": blobRef}.replay(t, blobFile)
}

func blobRef(t *testing.T, v *vector) {
	raw, sealed := v.bytes(t), v.input(t, "sealed")
	ref := must[*BlobRef](t)(ParseBlobRef(raw))
	v.has(t, ref.Fields)
	v.derivesText(t, "hash_text", Text(ref.SealedSHA256[:]))
	v.derivesText(t, "identity_text", ref.Identity)
	v.derivesText(t, "name_text", ref.Name)
	v.derivesText(t, "media_text", ref.Media)
	same(t, "content", must[[]byte](t)(ref.Open(sealed)), []byte(v.inputText(t, "content_text")))

	for i := range sealed {
		bad := bytes.Clone(sealed)
		bad[i] ^= 1
		var refused *Error
		if _, err := ref.Open(bad); !errors.As(err, &refused) || refused.Code != "blob_mismatch" {
			t.Fatalf("byte %d changed: %v", i, err)
		}
	}
	for i := range raw {
		if _, err := ParseBlobRef(raw[:i]); err == nil {
			t.Errorf("cut to %d bytes, it parses", i)
		}
	}
	bad := bytes.Clone(raw)
	bad[30] ^= 1 // within the identity
	if _, err := ParseBlobRef(bad); err == nil {
		t.Error("an identity with a wrong checksum parses")
	}
}
