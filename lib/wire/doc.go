// Package wire holds the primitives every structure of the protocol is made
// of: labelled hashes, signatures and key derivation, the AEADs of the suites,
// the lengths of padding, and the check of public keys.
//
// Start with [Label]: each use of a primitive has its own, so that nothing made
// for one purpose is ever valid for another. With LP(L) = u8(len L) || L:
//
//	Hash(L, x)              SHA-256(LP(L) || x)
//	Sign(sk, L, x)          Ed25519(sk, LP(L) || u32(len x) || x)
//	DeriveKey(k, s, L, c)   HKDF-SHA-256(k, salt s, info LP(L) || c)
//
// Structures themselves are written and read with golang.org/x/crypto/cryptobyte
// by the packages that own them. This package keeps no state, reads no files,
// and takes every secret as an argument.
package wire
