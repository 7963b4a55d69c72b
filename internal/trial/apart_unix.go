//go:build unix

package trial

import "syscall"

// apart keeps Ctrl-C in a terminal from the processes: they are stopped in
// order.
func apart() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
