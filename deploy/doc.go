// Package deploy holds no code, only the files that deploy RCCS and the tests
// that start each with the real program it is for: proxies, systemd,
// Prometheus. docs/deploy.md says how to use them.
package deploy
