package frame

import (
	"crypto/cipher"
	"crypto/sha256"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/room"
	"github.com/enmanuel/unibus/lib/wire"
)

// Statement is what a sender has signed with a frame: the frame without its
// ciphertext. It says nothing about the content to anybody who has no key.
type Statement struct {
	Header    [HeaderSize]byte  // as it arrived
	Digest    [sha256.Size]byte // SHA-256 of the ciphertext
	Signature [SignatureSize]byte
}

// statementOf reads the statement of a frame whose lengths are checked.
func statementOf(frame []byte) Statement {
	end := len(frame) - SignatureSize
	return Statement{
		Header:    [HeaderSize]byte(frame),
		Digest:    sha256.Sum256(frame[HeaderSize:end]),
		Signature: [SignatureSize]byte(frame[end:]),
	}
}

// Hash returns the hash of the frame, which its signature covers.
func (s *Statement) Hash() bus.FrameHash { return hashOf(s.Header[:], s.Digest[:]) }

func hashOf(header, digest []byte) bus.FrameHash {
	return wire.Hash(wire.LabelFrameHash, header, digest)
}

// verify reports whether the statement's signature is pub's over this hash,
// which is that of [Statement.Hash].
func (s *Statement) verify(pub bus.SignPub, hash bus.FrameHash) bool {
	return wire.Verify(pub[:], wire.LabelFrame, hash[:], s.Signature[:])
}

// newAEAD returns the AEAD of one sender's session in the epoch that begins
// with the record of this hash; nil for [bus.SuitePlain].
func newAEAD(suite bus.Suite, key room.Key, record bus.RecordHash, sender bus.ID, session bus.SessionID) (cipher.AEAD, error) {
	if suite == bus.SuitePlain {
		return nil, nil
	}
	derived := wire.DeriveKey(key[:], record[:], wire.LabelFrameKey, wire.KeySize, []byte{byte(suite)}, sender[:], session[:])
	return wire.NewAEAD(suite, derived)
}
