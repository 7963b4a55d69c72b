//go:build unix

package localcluster

import "syscall"

// apart keeps Ctrl-C in a terminal from the processes: they are stopped in
// order.
func apart() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
