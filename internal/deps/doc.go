// Package deps holds no code, only the tests that keep the shape of the tree:
// which package may import which, and what source files must not contain. They
// read the source as it is, so they need the go command and the repository.
package deps
