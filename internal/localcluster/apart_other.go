//go:build !unix

package localcluster

import "syscall"

func apart() *syscall.SysProcAttr { return nil }
