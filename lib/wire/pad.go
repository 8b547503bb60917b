package wire

import "math/bits"

// Padmé returns the length that content of n bytes is padded to where its
// length is to be hidden (Nikitin et al., "Reducing Metadata Leakage from
// Encrypted Files and Communication with PURBs", 2019): at most 12 % more, and
// O(log log n) bits of the length are left to see. Below 2 it is n.
func Padmé(n int64) int64 {
	if n < 2 {
		return n
	}
	e := bits.Len64(uint64(n)) - 1
	mask := int64(1)<<(e-bits.Len64(uint64(e))) - 1
	return (n + mask) &^ mask
}
