package wire

// Label separates the uses of a primitive. Its value includes the protocol's
// name and version, so that a new version shares no hash with this one.
type Label string

// The labels.
const (
	LabelCard       Label = "unibus/1 card"        // signature of a card
	LabelCardHash   Label = "unibus/1 card-hash"   // hash of a card with its signature
	LabelRecord     Label = "unibus/1 record"      // signature of a room record
	LabelRecordHash Label = "unibus/1 record-hash" // hash of a record with its signature
	LabelMembers    Label = "unibus/1 members"     // hash of a member list with its length
	LabelSealed     Label = "unibus/1 seal"        // HPKE info of a member's copy of an epoch key
	LabelSealedHash Label = "unibus/1 sealed-hash" // hash of that copy
	LabelCommit     Label = "unibus/1 commit"      // commitment to an epoch key
	LabelName       Label = "unibus/1 name"        // key of a room's name
	LabelHistory    Label = "unibus/1 history"     // key of the previous epoch's key
	LabelFrame      Label = "unibus/1 frame"       // signature of a frame
	LabelFrameHash  Label = "unibus/1 frame-hash"  // hash that signature covers
	LabelFrameKey   Label = "unibus/1 frame-key"   // key of one session's frames in one epoch
	LabelTransport  Label = "unibus/1 transport"   // seed of an identity's key on one bus
	LabelDirectory  Label = "unibus/1 dir"         // signature of a directory entry by the bus root
	LabelRevoke     Label = "unibus/1 revoke"      // signature of a revocation by the key itself or the bus root
	LabelAudit      Label = "unibus/1 audit"       // hash of an entry of a node's audit log
)

// AppendLabel appends LP(l), one byte of length and the label.
func AppendLabel(dst []byte, l Label) []byte {
	return append(append(dst, byte(len(l))), l...)
}
