package wire

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"

	"golang.org/x/crypto/chacha20poly1305"

	"github.com/enmanuel/unibus/lib/bus"
)

// Sizes of both suites' AEADs, in bytes.
const (
	KeySize   = 32
	NonceSize = 24
	Overhead  = 16
)

// NewAEAD returns the AEAD of an encrypting suite under a 32-byte key. Nonces
// have 24 bytes, enough to draw each at random. The error has
// [bus.CodePolicy] for a suite that does not encrypt.
func NewAEAD(suite bus.Suite, key []byte) (cipher.AEAD, error) {
	switch suite {
	case bus.SuiteXAESGCM:
		return NewXAES256GCM(key)
	case bus.SuiteXChaCha20:
		aead, err := chacha20poly1305.NewX(key)
		if err != nil {
			return nil, bus.Errorf(bus.CodeInternal, "new XChaCha20-Poly1305: %w", err)
		}
		return aead, nil
	}
	return nil, bus.Errorf(bus.CodePolicy, "new AEAD: suite %d does not encrypt", suite)
}

// xaes is XAES-256-GCM as specified by C2SP (https://c2sp.org/XAES-256-GCM):
// AES-256-GCM under a key derived with CMAC from the first half of the nonce.
type xaes struct {
	block cipher.Block
	k1    [aes.BlockSize]byte
}

// NewXAES256GCM returns XAES-256-GCM under a 32-byte key. One value may be used
// from several goroutines at once.
func NewXAES256GCM(key []byte) (cipher.AEAD, error) {
	if len(key) != KeySize {
		return nil, bus.Errorf(bus.CodeInternal, "new XAES-256-GCM: want a key of %d bytes, have %d", KeySize, len(key))
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, bus.Errorf(bus.CodeInternal, "new XAES-256-GCM: %w", err)
	}
	x := &xaes{block: block}
	// The CMAC subkey (NIST SP 800-38B): the encrypted zero block doubled in
	// GF(2^128), the carry folded in without a branch on secret bits.
	block.Encrypt(x.k1[:], x.k1[:])
	var carry byte
	for i := len(x.k1) - 1; i >= 0; i-- {
		x.k1[i], carry = x.k1[i]<<1|carry, x.k1[i]>>7
	}
	x.k1[len(x.k1)-1] ^= byte(subtle.ConstantTimeSelect(int(carry), 0x87, 0))
	return x, nil
}

func (*xaes) NonceSize() int { return NonceSize }
func (*xaes) Overhead() int  { return Overhead }

// derive returns AES-256-GCM under CMAC(0x0001 || "X" || 0x00 || nonce[:12])
// and CMAC(0x0002 || …), the two halves of the derived key.
func (x *xaes) derive(nonce []byte) cipher.AEAD {
	var key [KeySize]byte
	for half := range 2 {
		m := key[half*aes.BlockSize:][:aes.BlockSize]
		m[1], m[2] = byte(half+1), 'X'
		copy(m[4:], nonce[:12])
		subtle.XORBytes(m, m, x.k1[:])
		x.block.Encrypt(m, m)
	}
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic("wire: derived AES key: " + err.Error()) // the key has 32 bytes
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		panic("wire: derived GCM: " + err.Error()) // AES has the block size GCM wants
	}
	return gcm
}

func (x *xaes) Seal(dst, nonce, plaintext, data []byte) []byte {
	checkNonce(nonce)
	return x.derive(nonce).Seal(dst, nonce[12:], plaintext, data)
}

func (x *xaes) Open(dst, nonce, ciphertext, data []byte) ([]byte, error) {
	checkNonce(nonce)
	return x.derive(nonce).Open(dst, nonce[12:], ciphertext, data)
}

func checkNonce(nonce []byte) {
	if len(nonce) != NonceSize {
		panic("wire: XAES-256-GCM wants a nonce of 24 bytes") // as every cipher.AEAD does
	}
}
