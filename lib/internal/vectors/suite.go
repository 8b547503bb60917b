package vectors

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"

	"golang.org/x/crypto/chacha20poly1305"
)

const (
	nonceSize = 24
	tagSize   = 16
)

// AEAD is the cipher of a suite that has one, under a key of 32 bytes: nonces of 24 bytes, tags of 16.
func AEAD(suite byte, key []byte) (cipher.AEAD, error) {
	switch suite {
	case 1:
		return newXAES(key)
	case 2:
		return chacha20poly1305.NewX(key)
	}
	return nil, refuse("policy", "suite", "%d has no AEAD", suite)
}

// xaes is XAES-256-GCM as c2sp.org/XAES-256-GCM has it: AES-256-GCM under a key and nonce derived from the 24 bytes.
type xaes struct {
	block cipher.Block
	k1    [aes.BlockSize]byte // the first CMAC subkey
}

func newXAES(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	x := &xaes{block: block}
	block.Encrypt(x.k1[:], x.k1[:])
	var carry byte
	for i := len(x.k1) - 1; i >= 0; i-- {
		x.k1[i], carry = x.k1[i]<<1|carry, x.k1[i]>>7
	}
	if carry == 1 {
		x.k1[15] ^= 0x87
	}
	return x, nil
}

// gcm makes the cipher for one nonce: both halves of its key are the CMAC of a counter block with the nonce's first
// 12 bytes, and the other 12 are its nonce.
func (x *xaes) gcm(nonce []byte) cipher.AEAD {
	if len(nonce) != nonceSize {
		panic("vectors: XAES-256-GCM nonce is not 24 bytes")
	}
	key := make([]byte, 0, 32)
	for counter := byte(1); counter <= 2; counter++ {
		m := append([]byte{0, counter, 'X', 0}, nonce[:12]...)
		subtle.XORBytes(m, m, x.k1[:])
		x.block.Encrypt(m, m)
		key = append(key, m...)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err) // 32 bytes are a key
	}
	g, err := cipher.NewGCM(block)
	if err != nil {
		panic(err) // AES has the block size of GCM
	}
	return g
}

func (x *xaes) NonceSize() int { return nonceSize }
func (x *xaes) Overhead() int  { return tagSize }

func (x *xaes) Seal(dst, nonce, plaintext, aad []byte) []byte {
	return x.gcm(nonce).Seal(dst, nonce[12:], plaintext, aad)
}

func (x *xaes) Open(dst, nonce, ciphertext, aad []byte) ([]byte, error) {
	return x.gcm(nonce).Open(dst, nonce[12:], ciphertext, aad)
}
