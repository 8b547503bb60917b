// Package metrics counts what a node does, for Prometheus.
//
// Start with [New]. The parts of a node report to the [Metrics] they are given
// by its methods; what is looked at only when somebody asks comes from the
// function given to [Metrics.Watch]; [Metrics.Store] times the operations of a
// store. [Metrics.Handler] answers scrapes.
//
// What it guarantees: a metric has a fixed set of labels with a bounded set of
// values. None of them holds an identity, a handle, a room, an address or a
// path as somebody sent it, so that reading the metrics tells nothing about
// who talks to whom. Recording never waits for anything and never fails.
//
// Every metric is listed with its meaning in docs/operations.md.
//
// What it does not do: it listens nowhere. Where the numbers may be read is for
// the node to decide.
package metrics
