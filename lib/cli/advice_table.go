package cli

import "github.com/enmanuel/unibus/lib/bus"

// adviceGroups have an entry for every code of package bus; a test asks for it.
var adviceGroups = []AdviceGroup{
	{"what was typed or lies on this machine", typedAdvice},
	{"who may do what", rightsAdvice},
	{"whether the bus can be reached", reachAdvice},
	{"what is there and what is not", stateAdvice},
	{"what peers and servers did wrong: the alarms", alarmAdvice},
}

var typedAdvice = map[bus.Code]Advice{
	bus.CodeUsage: {
		Exit: ExitUsage,
		Why:  "A flag, argument or value is missing, unknown or not of the expected form. Nothing was tried.",
		Do:   "Read the help of the command; it lists the arguments and flags.",
	},
	bus.CodeNoContext: {
		Exit: ExitUsage,
		Hint: "unibus context add NAME --server tls://HOST:4222 --url https://HOST:8443 --bus-id ID --identity FILE",
		Why:  "Commands need to know which bus to talk to. No context is selected and no flag or UNIBUS_* variable says it.",
		Do:   "Make a bus with `unibus init`, save its addresses with `unibus context add`, or choose one with `unibus context select`.",
	},
	bus.CodeAmbiguous: {
		Exit: ExitUsage,
		Hint: "use one of the ids in place of the name",
		Why:  "Names are not unique: anybody may call a room what they like, and two that you know have the name you gave.",
		Do:   "Use the id instead; the message lists the candidates.",
	},
	bus.CodeFileExists: {
		Exit: ExitFailed,
		Hint: "choose another name, or move the file away first",
		Why:  "Files with keys are made new and never overwritten, because an overwritten key cannot be had back.",
		Do:   "Choose another name. If the old file is really not needed, move it away yourself.",
	},
	bus.CodeFileMode: {
		Exit: ExitFailed,
		Hint: "chmod 600 FILE",
		Why:  "The file holds a secret and its mode lets others read or change it.",
		Do:   "Take the rights away with chmod 600, and consider whether somebody has read it: a key that others could read is best replaced.",
	},
	bus.CodePassphrase: {
		Exit: ExitFailed,
		Hint: "type it at a terminal, set UNIBUS_PASSPHRASE_FILE, or use --passphrase-fd N",
		Why:  "The identity file is locked with a passphrase, and none was given or it does not open the file.",
		Do:   "Passphrases are asked for at a terminal, read from the file UNIBUS_PASSPHRASE_FILE (mode 0600) or from a file descriptor. A forgotten one cannot be recovered.",
	},
}

var rightsAdvice = map[bus.Code]Advice{
	bus.CodeUnauthenticated: {
		Exit: ExitDenied,
		Hint: "ask an administrator to run: unibus usermgr add HANDLE SIGN_PUB (yours: unibus keygen show)",
		Why:  "The bus does not know the key that signed the request, or the signature does not hold for this address.",
		Do:   "Check that the identity is the one that was added to this bus, and that the context has the right bus_id and addresses.",
	},
	bus.CodeForbidden: {
		Exit: ExitDenied,
		Hint: "ask an administrator of the bus, or an owner of the room",
		Why:  "The bus knows you and you may not do this. Accounts are for administrators of the bus, rooms for their admins and owners; the one gives no right in the other.",
		Do:   "Ask somebody who may, or use the identity that may.",
	},
	bus.CodeRevoked: {
		Exit: ExitDenied,
		Hint: "ask an administrator of the bus",
		Why:  "An administrator revoked the user. Revoking is for good; the connection was cut.",
		Do:   "A person who is to come back is added with a new identity.",
	},
	bus.CodeNotMember: {
		Exit: ExitDenied,
		Hint: "ask an admin of the room to run: unibus room invite ROOM HANDLE",
		Why:  "Whoever sent this is no member of the room, or has a lower role than it takes: readers may not send.",
		Do:   "Have an admin or owner of the room invite the identity with the role it needs.",
	},
	bus.CodeNotAuthority: {
		Exit: ExitDenied,
		Hint: "ask an admin or owner of the room; unibus room show ROOM lists them",
		Why:  "Rooms are changed by records, and a record counts only if its signer is an admin or owner in the record before it.",
		Do:   "Ask an admin or owner. If one of them signed it, they may have lost the role in between: read the room's log.",
	},
	bus.CodeTransition: {
		Exit: ExitDenied,
		Hint: "ask an owner of the room",
		Why:  "Admins may add and remove readers and writers, renew and rotate; the rest is for owners. Encryption and suite are fixed when the room is made.",
		Do:   "Ask an owner, or make a new room where the fixed choices are to differ.",
	},
	bus.CodePolicy: {
		Exit: ExitDenied,
		Why:  "The room or the node forbids this, for instance rooms without encryption on a node that listens beyond this machine.",
		Do:   "The message names the rule. Make the request fit it, or have the room's owner or the node's operator change it.",
	},
	bus.CodeRefused: {
		Exit: ExitDenied,
		Why:  "The server answered that it will not store the message. It was not stored.",
		Do:   "Check with `unibus room show` that you may still send to the room; the message has the server's reason.",
	},
	bus.CodeQuota: {
		Exit: ExitDenied,
		Hint: "ask an administrator of the bus",
		Why:  "A limit of the node is reached: the bytes of a shard or of the rooms of an owner, where new messages are refused rather than old ones dropped, the rooms, memberships or sessions of one identity, or the bytes of blobs of one user or of all.",
		Do:   "Have messages purged earlier (a shorter max age) or the operator raise --max-shard-bytes, --user-bytes, --blob-quota or --blob-total; leave rooms, or end sessions, that nobody needs.",
	},
	bus.CodeClockSkew: {
		Exit: ExitDenied,
		Hint: "timedatectl status; timedatectl set-ntp true sets the clock from the network",
		Why:  "Signed requests are good for a minute, so the clocks of this machine and the node must agree within that.",
		Do:   "The message says by how much they differ, in which direction, and what time the node has. Set the clock of the machine that is wrong, best with NTP.",
	},
	bus.CodeNonceSpent: {
		Exit: ExitDenied,
		Why:  "A signed request was sent twice. Either something between replayed it, or a retry reused its signature.",
		Do:   "Run the command again; it signs anew. If it keeps happening, look for a proxy that repeats requests.",
	},
}

var reachAdvice = map[bus.Code]Advice{
	bus.CodeUnavailable: {
		Exit: ExitUnavailable,
		Hint: "unibus context validate",
		Why:  "No node answered, or the one that did cannot serve: a cluster needs more than half of its nodes.",
		Do:   "Check addresses with `unibus context validate` and the nodes with their /readyz, which gives the reasons.",
	},
	bus.CodeTimeout: {
		Exit: ExitUnavailable,
		Hint: "try again, or allow more time: --timeout 60s",
		Why:  "The answer did not come in time: the network, a node without quorum, or simply a lot of work.",
		Do:   "Try again or raise --timeout. Look at the nodes' /readyz if it goes on.",
	},
	bus.CodeRateLimited: {
		Exit: ExitUnavailable,
		Hint: "wait a moment and try again",
		Why:  "Each identity may send so many requests in a while; this one sent more.",
		Do:   "Wait and go slower. Long-running programs keep one connection instead of many short ones.",
	},
	bus.CodeClosed: {
		Exit: ExitUnavailable,
		Hint: "try again",
		Why:  "The connection or the room was closed while the command was at work.",
		Do:   "Try again. If the node was restarted this passes by itself.",
	},
	bus.CodeNoReply: {
		Exit: ExitUnavailable,
		Hint: "see that a program answers in the room, or allow more time with --timeout",
		Why:  "The request reached the room, and no reply came in time: nobody answers there now, it takes longer, or replies of others than the one named do not count.",
		Do:   "See that whoever answers runs, such as `unibus worker`, and is a member with the right to write; or allow more time with --timeout.",
	},
	bus.CodeRequestFailed: {
		Exit: ExitFailed,
		Why:  "A member took the request and answered that it failed there. The message has its reason.",
		Do:   "Look at the reason, and at the log of the worker that answered.",
	},
	bus.CodeUnknownOutcome: {
		Exit: ExitPartial,
		Hint: "read the room before sending it again",
		Why:  "The connection broke between sending and the acknowledgement, so nobody can say whether it was stored.",
		Do:   "Look whether it arrived before repeating it; repeating blindly may store it twice.",
	},
	bus.CodeInternal: {
		Exit: ExitFailed,
		Why:  "Something failed that has no code of its own. Servers keep the details in their log and give a request id.",
		Do:   "Read the message; at a server, search the log for the request id. --verbose says more.",
	},
}

var stateAdvice = map[bus.Code]Advice{
	bus.CodeNotFound: {
		Exit: ExitFailed,
		Why:  "It does not exist, or not for you: servers do not tell strangers which rooms there are.",
		Do:   "Check the spelling, the context and the identity. Rooms are listed by `unibus room ls`.",
	},
	bus.CodeExists: {
		Exit: ExitFailed,
		Why:  "There is one with that name or key already. Nothing was changed, not even its role or status.",
		Do:   "Choose another name, or use the one that exists.",
	},
	bus.CodeConflict: {
		Exit: ExitFailed,
		Hint: "run the command again; it reads the new state first",
		Why:  "Somebody else changed the same thing at the same time and was first.",
		Do:   "Run the command again.",
	},
	bus.CodeTooLarge: {
		Exit: ExitFailed,
		Hint: "send it in parts of at most 240 KiB, as unibus pub does without --whole",
		Why:  "Messages end at 256 KiB, control requests at 2 MiB.",
		Do:   "Send large content in parts: `unibus pub` without --whole splits what it reads, and `unibus sub` puts it together again.",
	},
}

var alarmAdvice = map[bus.Code]Advice{
	bus.CodeMalformed: {
		Exit: ExitFailed,
		Why:  "Bytes or text are not what the protocol says, or beyond its limits: damaged, made by another version, or made on purpose.",
		Do:   "If you typed it, the message says what is expected. If it came over the bus, its sender runs something else than unibus 1.",
	},
	bus.CodeMisrouted: {
		Exit: ExitFailed,
		Why:  "A message arrived under the subject of another room or sender. Servers route by subject, so this is a server's doing or a sender's.",
		Do:   "It was dropped. If it goes on, question the server's operator.",
	},
	bus.CodeEpochUnknown: {
		Exit: ExitFailed,
		Why:  "A message names an epoch of the room whose record could not be fetched.",
		Do:   "It usually passes as soon as the record arrives. If not, the server withholds records.",
	},
	bus.CodeFork: {
		Exit: ExitFailed,
		Hint: "unibus room log ROOM",
		Why:  "Two records follow the same one. Two signers is a race between admins; a server that shows different people different records looks the same.",
		Do:   "Compare `unibus room log` with another member; it names the file of the proof, which anybody checks with `unibus room proof`. The room stays closed to those who saw both branches until an owner runs `unibus room resolve`; where no owner can, make a new room, or believe the servers: `unibus room forget --pins`.",
	},
	bus.CodeGap: {
		Exit: ExitPartial,
		Why:  "Something between the last known one and this is missing: lost, purged by age, or withheld.",
		Do:   "Nothing was invented to fill it. Ask the sender, or read the room from an earlier point if it persists.",
	},
	bus.CodeRollback: {
		Exit: ExitFailed,
		Why:  "The server offers a state that is older than what this identity accepted before. A restored backup does this, and so does a server that lies.",
		Do:   "Ask the operator whether a backup was restored. Until then the older state is not used. An owner of a room that goes on from a backup says so with `unibus room resolve --rewind`.",
	},
	bus.CodeEpochClosed: {
		Exit: ExitFailed,
		Why:  "A message was made under an epoch that its sender may no longer use: it was removed or demoted, or the grace time is over.",
		Do:   "It was dropped. An honest sender sends again under the new epoch by itself.",
	},
	bus.CodeReplay: {
		Exit: ExitFailed,
		Why:  "The message was delivered before, or is so old that nobody can tell.",
		Do:   "It was dropped. Servers that repeat messages are broken or hostile.",
	},
	bus.CodeDecrypt: {
		Exit: ExitFailed,
		Why:  "The bytes do not open under the key they name: changed on the way, or sealed for somebody else.",
		Do:   "It was dropped. For a file, check that it is the right one and undamaged.",
	},
	bus.CodeBadSignature: {
		Exit: ExitFailed,
		Why:  "The signature does not hold for the key that is named, so somebody pretends to be another or changed the content.",
		Do:   "It was dropped. Find out which server it came from.",
	},
	bus.CodeEquivocation: {
		Exit: ExitFailed,
		Hint: "unibus room log ROOM",
		Why:  "One signer made two statements that exclude each other. That is either a copied identity file or dishonesty; both are provable.",
		Do:   "The proof was kept: `unibus room log` names its file, and `unibus room proof FILE` checks it anywhere. Talk to the owner of that identity; an owner of the room can remove it.",
	},
	bus.CodeStale: {
		Exit: ExitFailed,
		Why:  "Live rooms drop messages older than five minutes, so that old ones cannot be played back.",
		Do:   "Check the clocks of both machines if messages are new and still dropped.",
	},
	bus.CodeExpired: {
		Exit: ExitFailed,
		Hint: "unibus room maintain ROOM",
		Why:  "Cards live 90 days and room records 30 unless renewed; nothing may be sent under an expired one.",
		Do:   "Any running client of a room's admin renews it; `unibus room maintain` does it as a service. Cards renew when their owner connects.",
	},
	bus.CodeMembersMismatch: {
		Exit: ExitFailed,
		Why:  "The member list does not have the hash that the record's author signed.",
		Do:   "The record was not accepted. The list was changed after it was signed.",
	},
	bus.CodeSealedMismatch: {
		Exit: ExitFailed,
		Why:  "The sealed key the server handed out is not the one the record's author signed.",
		Do:   "It was not opened. Fetch it from another node, and question this one.",
	},
	bus.CodeKeyMismatch: {
		Exit: ExitFailed,
		Why:  "The sealed key opens, but to another key than the record promises to everybody.",
		Do:   "The record was not accepted. Its author gave members different keys; tell the room's owners.",
	},
	bus.CodeCardMismatch: {
		Exit: ExitFailed,
		Why:  "The server answered with another card than the one that was asked for by its hash.",
		Do:   "It was not used. Fetch it from another node, and question this one.",
	},
	bus.CodeCardFork: {
		Exit: ExitFailed,
		Why:  "Two different cards of one identity carry the same number: its file was copied and used in two places, or somebody has its key.",
		Do:   "Ask the owner. If the key is not theirs alone any more, revoke the user and make a new identity.",
	},
	bus.CodeWeakKey: {
		Exit: ExitFailed,
		Why:  "The key is one of the few under which forged signatures pass. No honest program makes such keys.",
		Do:   "Do not accept it; ask where it came from.",
	},
	bus.CodeWrongBus: {
		Exit: ExitFailed,
		Hint: "unibus context info",
		Why:  "It was made for another bus than the one of the context: identities show a different face to every bus.",
		Do:   "Check bus_id and addresses of the context.",
	},
	bus.CodeDedupPoisoned: {
		Exit: ExitFailed,
		Why:  "The server says it has the message already, although it was sent for the first time. It may be suppressing it.",
		Do:   "Read the room to see whether it is there, and question the server's operator.",
	},
	bus.CodeNonceRefused: {
		Exit: ExitFailed,
		Why:  "The server asked to have something signed that is no login nonce; signing it could serve as a signature elsewhere.",
		Do:   "Nothing was signed. Do not trust that server.",
	},
	bus.CodeBlobMismatch: {
		Exit: ExitFailed,
		Hint: "try again; if it stays, ask the sender to put the file once more",
		Why:  "What the server gave, or was given, is not what the hash or the reference in the message says: cut short, swapped, or changed on a disk or on the way. It can also be that the sender's reference does not fit the file.",
		Do:   "No file was written. Fetch it from another node, question the one that gave it, or have the sender put it again.",
	},
	bus.CodePinChanged: {
		Exit: ExitFailed,
		Hint: "compare fingerprints with that person over another channel",
		Why:  "The handle resolved to another identity before. A new identity of the same person looks like this, and so does somebody in between.",
		Do:   "Ask the person for the fingerprint. Only if it is right, remove the handle from handles.json in $XDG_STATE_HOME/unibus/BUS/ID/ (~/.local/state without it).",
	},
	bus.CodeAuditBroken: {
		Exit: ExitFailed,
		Hint: "keep a copy of the audit directory as it is; compare it with a backup and with a head hash noted elsewhere",
		Why:  "Each entry of a node's audit log hashes the one before it. The entry that the message names does not fit: somebody changed the log, or the disk did.",
		Do:   "Entries before it stand; what it and those after it say proves nothing. Keep the files for whoever looks into it. To start the node again with a new log, move its audit directory away.",
	},
}
