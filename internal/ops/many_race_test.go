//go:build race

package ops_test

// The race detector makes all of it some six times slower.
const manyDevices = 2_000
