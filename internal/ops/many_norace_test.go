//go:build !race

package ops_test

const manyDevices = 10_000
