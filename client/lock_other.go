//go:build !unix

package client

import "os"

// lockFile does nothing: there the owner of the file has to mind that one
// client uses it.
func lockFile(*os.File) error { return nil }
