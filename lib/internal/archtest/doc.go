// Package archtest holds the tests of the project's own shape: who may import
// whom, a package comment everywhere, no test that sleeps. It exports nothing;
// each rule carries its reason and prints it when it is broken.
package archtest
