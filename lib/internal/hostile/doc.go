// Package hostile is a server that lies, for tests: two proxies that stand
// between real clients and a real node, and what a dishonest member could sign.
//
// [NewControl] stands in front of the control plane and [NewData] in front of
// the NATS server. Honest unless told otherwise, they hand everything on; hooks
// then substitute, withhold, reorder, repeat and invent answers, messages and
// challenges, and break connections. Both record every byte of both directions
// on a [Tape], which [Tape.Find] searches for secrets in every form in which
// they could have got there.
//
// [Record] and [Frame] sign what the packages room and frame refuse to sign.
//
// The tests of this package are the table of lies, docs/lies.md: for each lie,
// the error that it raises, that nothing was released or sent, and, with the flag
// -mutants, that the row fails once the check that catches it is gone.
//
// Only tests import this package. It starts no node and knows no client.
package hostile
