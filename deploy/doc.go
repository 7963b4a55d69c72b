// Package deploy holds no code, only the files that deploy RCCS and the tests
// that start each with the real program it is for: proxies, systemd, dpkg,
// Prometheus. What containers run is run as processes. docs/deploy.md,
// docs/install.md and docs/kubernetes.md say how to use them.
package deploy
