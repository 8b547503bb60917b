package bus

import "time"

// Limits of the protocol. A decoder rejects what goes beyond them before it
// allocates for it; an encoder refuses to write it.
const (
	// Version is the first byte of every structure.
	Version = 1

	// TypeCard and so on are the second byte of a structure; TypeEntry is a
	// directory entry.
	TypeCard       = 1
	TypeRecord     = 2
	TypeFrame      = 3
	TypeEntry      = 4
	TypeRevocation = 5

	MaxFrameSize   = 256 << 10 // bytes on the wire, header and signature included
	MaxRecords     = 1024      // records a frame
	MaxRecordSize  = 261_910   // bytes of one record in a frame: its encoded headers and its body
	MaxHeadersSize = 16 << 10  // encoded headers of one record
	MaxHeaderKey   = 255       // bytes

	MaxMembers     = 1024
	MaxAuthorities = 16
	MaxCuts        = 256      // sessions listed in one record
	MaxResolves    = 4        // losing branches named in one record
	MaxRoomRecord  = 16 << 10 // bytes of a record with its signature, without the member list; all its lists full make 15,592
	MaxSealedSize  = 2 << 10  // bytes of one member's sealed key

	MaxKEMKeys     = 256      // HPKE keys of one identity; at one every 45 days they last 31 years
	MaxSecretFile  = 32 << 10 // bytes of an identity or root file; MaxKEMKeys make 15,200, wrapped 20,900
	MaxEntriesFile = 4 << 20  // bytes of a file of directory entries; one takes some 400
	MaxCardSize    = 2 << 10
	MaxHandleLen   = 64
	MaxRoomName    = 200
	MaxDetailLen   = 1 << 10

	MaxBody = 2 << 20 // bytes of a control-plane request
	// MaxBlobBody is how many bytes a node takes as one blob unless it is told
	// otherwise: a file of 64 MiB, sealed.
	MaxBlobBody  = 64<<20 + 32<<10
	MaxBlobSize  = 1 << 40 // bytes of a blob that a reference can speak of
	MaxBlobPart  = 4 << 20 // bytes of one request that uploads a part of a blob
	MaxBlobName  = 255     // bytes of the name in a reference
	MaxBlobMedia = 127     // bytes of the media type in a reference
	MaxURL       = 4 << 10

	// SealedChunk is how many sealed keys the store keeps in one value.
	SealedChunk = 256

	// Shards is how many streams the persisted rooms share.
	Shards = 8
	// CatchUpSlots is how many rooms a session may read from the past at once.
	CatchUpSlots = 4
)

// Times.
const (
	ClockSkew        = 120 * time.Second // between the clocks of two members
	RequestClockSkew = 60 * time.Second  // between a client and its control plane
	RequestLifetime  = 60 * time.Second  // created to expires
	NonceLifetime    = 180 * time.Second // how long a spent request nonce is remembered

	MaxCardLife       = 90 * 24 * time.Hour
	MaxRecordLife     = 90 * 24 * time.Hour
	EntryWarning      = 30 * 24 * time.Hour // before a directory entry ends, its renewal is asked for
	DefaultRecordLife = 30 * 24 * time.Hour
	DefaultRotate     = 7 * 24 * time.Hour
	MaxGrace          = 30 * time.Second
	LiveStale         = 5 * time.Minute // older frames of a live room are refused

	// PublishTimeout bounds all attempts to publish one frame. DedupWindow is
	// longer, so that a retry always meets the memory of its first attempt.
	PublishTimeout = 60 * time.Second
	DedupWindow    = 5 * time.Minute

	HeadPoll = 60 * time.Second // how often clients ask for heads without a notice
)

// Receiving.
const (
	WindowSize       = 1024 // seqs remembered a session
	WindowSessions   = 64   // sessions a room with a full window
	WindowHeights    = 4096 // older sessions a room of which the highest seq is kept
	ReorderWait      = 10 * time.Second
	ReorderBytes     = 4 << 20
	FetchQueueFrames = 1000 // frames that wait for an unknown epoch
	FetchQueueBytes  = 4 << 20
)
