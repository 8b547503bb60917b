package vectors

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/hkdf"
	"crypto/mlkem"
	"crypto/sha256"
	"crypto/sha3"
	"slices"

	"golang.org/x/crypto/chacha20poly1305"
)

const (
	kemID       = 0x647a // MLKEM768-X25519
	kemSeedSize = 32
	mlkemSize   = 1184 // what the public key has in front of its X25519 half
	mlkemCTSize = 1088 // what enc has in front of its X25519 half
	encSize     = mlkemCTSize + 32
	kemLabel    = "\x5c\x2e\x2f\x2f\x5e\x5c"
)

// kemHalves are the two private keys of an HPKE seed.
func kemHalves(seed []byte) (m *mlkem.DecapsulationKey768, x *ecdh.PrivateKey, err error) {
	if len(seed) != kemSeedSize {
		return nil, nil, refuse("malformed", "seed", "has %d bytes", len(seed))
	}
	expanded := sha3.SumSHAKE256(seed, 96)
	if m, err = mlkem.NewDecapsulationKey768(expanded[:64]); err != nil {
		return nil, nil, refuse("malformed", "seed", "%v", err)
	}
	if x, err = ecdh.X25519().NewPrivateKey(expanded[64:]); err != nil {
		return nil, nil, refuse("malformed", "seed", "%v", err)
	}
	return m, x, nil
}

// KEMPub is the public key of an HPKE seed.
func KEMPub(seed []byte) ([]byte, error) {
	m, x, err := kemHalves(seed)
	if err != nil {
		return nil, err
	}
	return append(m.EncapsulationKey().Bytes(), x.PublicKey().Bytes()...), nil
}

// CheckKEMPub refuses a key that nobody can seal to; weak_key where its X25519 half is of small order.
func CheckKEMPub(pub []byte) error {
	if len(pub) != mlkemSize+32 {
		return refuse("malformed", "kem_pub", "has %d bytes", len(pub))
	}
	if _, err := mlkem.NewEncapsulationKey768(pub[:mlkemSize]); err != nil {
		return refuse("malformed", "kem_pub", "%v", err)
	}
	half, err := ecdh.X25519().NewPublicKey(pub[mlkemSize:])
	if err != nil {
		return refuse("malformed", "kem_pub", "%v", err)
	}
	// Every private key is a multiple of 8, so any of them takes a point of small order to zero, which ECDH refuses.
	probe, err := ecdh.X25519().NewPrivateKey(append(make([]byte, 31), 1))
	if err != nil {
		return err
	}
	if _, err := probe.ECDH(half); err != nil {
		return refuse("weak_key", "kem_pub", "X25519 half: %v", err)
	}
	return nil
}

// decapsulate is the shared secret of an enc. Codes: malformed (the seed), decrypt.
func decapsulate(seed, enc []byte) ([]byte, error) {
	m, x, err := kemHalves(seed)
	if err != nil {
		return nil, err
	}
	ssM, err := m.Decapsulate(enc[:mlkemCTSize])
	if err != nil {
		return nil, refuse("decrypt", "sealed", "%v", err)
	}
	ctX, err := ecdh.X25519().NewPublicKey(enc[mlkemCTSize:])
	if err != nil {
		return nil, refuse("decrypt", "sealed", "%v", err)
	}
	ssX, err := x.ECDH(ctX)
	if err != nil {
		return nil, refuse("decrypt", "sealed", "%v", err)
	}
	ss := sha3.Sum256(slices.Concat(ssM, ssX, ctX.Bytes(), x.PublicKey().Bytes(), []byte(kemLabel)))
	return ss[:], nil
}

// keySchedule is key and base nonce of RFC 9180 section 5.1 in base mode, of HKDF-SHA256 and an AEAD with keys of 32
// bytes and nonces of 12.
func keySchedule(shared, info []byte, aead uint16) (key, nonce []byte, err error) {
	suite := slices.Concat([]byte("HPKE"), u16(kemID), u16(1), u16(int(aead)))
	extract := func(salt []byte, label string, ikm []byte) (prk []byte) {
		if err == nil {
			prk, err = hkdf.Extract(sha256.New, slices.Concat([]byte("HPKE-v1"), suite, []byte(label), ikm), salt)
		}
		return prk
	}
	context := append([]byte{0}, extract(nil, "psk_id_hash", nil)...)
	context = append(context, extract(nil, "info_hash", info)...)
	secret := extract(shared, "secret", nil)
	expand := func(label string, n int) (out []byte) {
		if err == nil {
			out, err = hkdf.Expand(sha256.New, secret, string(slices.Concat(u16(n), []byte("HPKE-v1"), suite, []byte(label), context)), n)
		}
		return out
	}
	return expand("key", 32), expand("base_nonce", 12), err
}

// openHPKE opens enc || ct of the AEAD 0x0002 or 0x0003. Codes: malformed (the seed), decrypt.
func openHPKE(seed, info, sealed, aad []byte, aeadID uint16) ([]byte, error) {
	if len(sealed) < encSize {
		return nil, refuse("decrypt", "sealed", "has %d bytes", len(sealed))
	}
	shared, err := decapsulate(seed, sealed[:encSize])
	if err != nil {
		return nil, err
	}
	key, nonce, err := keySchedule(shared, info, aeadID)
	if err != nil {
		return nil, err
	}
	var aead cipher.AEAD
	if aeadID == 3 {
		aead, err = chacha20poly1305.New(key)
	} else {
		var block cipher.Block
		if block, err = aes.NewCipher(key); err == nil {
			aead, err = cipher.NewGCM(block)
		}
	}
	if err != nil {
		return nil, err
	}
	pt, err := aead.Open(nil, nonce, sealed[encSize:], aad)
	if err != nil {
		return nil, refuse("decrypt", "sealed", "%v", err)
	}
	return pt, nil
}

// OpenSealed opens enc || ct with the HPKE seed it was sealed to. Codes: malformed (the seed), decrypt.
func OpenSealed(seed, info, sealed []byte) ([]byte, error) {
	return openHPKE(seed, info, sealed, nil, 2)
}
