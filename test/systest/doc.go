// Package systest is the tests that take a whole system: a real sshd, full
// disks, a large tree that this project did not make, and the matrix of
// docs/fidelity.md on four file systems. Run them with make system.
package systest
