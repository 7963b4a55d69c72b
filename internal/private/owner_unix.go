//go:build unix

package private

import (
	"io/fs"
	"os"
	"syscall"
)

// ownedBySomeoneElse reports whether only another user can change the mode of a
// file.
func ownedBySomeoneElse(info fs.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && os.Geteuid() != 0 && int(stat.Uid) != os.Geteuid()
}
