// Package usermgr is the command usermgr: it adds, lists and revokes the
// accounts of a bus, and hands in what was signed about them offline
// (signed.go): directory entries and revocations.
//
// Start with [Command]. There are three ways in: the local socket of a running
// node (socket.go), the control plane over HTTPS as an administrator (remote.go),
// and the store of a node that is stopped (offline.go). They do the same through
// the interface door.
//
// An account that exists is never changed by adding it again, and revoking is
// for good. Accounts say nothing about rooms: those belong to their members.
package usermgr
