// Package tooltest runs the tools against real nodes, each as a process of its
// own: the scripts in testdata/script read like what people type.
//
// It has nothing but tests, because a tool imports neither another tool nor a
// node. A script that needs a bus says "bus"; see script_test.go.
package tooltest
