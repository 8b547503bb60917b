// Package api is what a client and the control plane of a node say to each
// other over HTTP: paths, the JSON of requests and replies, and errors.
//
// Start with the path builders in paths.go; each names the method, the request
// and the reply of its route. Errors travel as problem documents (RFC 9457):
// [NewProblem] and [WriteProblem] on the server's side, [ReadReply] on the
// client's, which gives back an [*Error] with the code the server had.
//
// Field names are snake_case. Binary is base64url without padding ([Bytes] and
// the identifiers of package bus), signing keys are hexadecimal, times are RFC
// 3339 in UTC. [Decode] reads requests and is strict: unknown fields, trailing
// data and values out of their limits are refused. Replies are read by
// [ReadReply], which skips fields it does not know, so that a server may add some.
//
// The package signs, verifies and decides nothing. What a reply says about a
// room or a user is a server's word; what members believe comes from signed
// cards and records.
package api
