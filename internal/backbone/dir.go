package backbone

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/rccs-io/rccs/internal/private"
)

// unfinished begins the name of a directory in which a restore makes a data
// directory; it is there when that was killed.
const unfinished = ".restore-"

// CheckDir refuses a data directory that is open to other users, that a restore
// has left unfinished, or that a later version of rccs has written; the error
// names every mistake. One that is empty
// or not there is fine: it is closed to others when it is used. A directory that
// belongs to another user, such as the root of a volume, cannot be closed: then
// everything in it has to be.
func CheckDir(dir string) error {
	entries, err := private.Entries(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("backbone: data directory: %w", err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), unfinished) {
			return fmt.Errorf("backbone: data directory %s holds an unfinished restore, %s: remove what is in the directory, and restore again",
				dir, filepath.Join(dir, e.Name()))
		}
	}
	if len(entries) == 0 {
		return nil
	}
	if err := checkFormat(dir); err != nil {
		return err
	}
	if err := errors.Join(private.Check(dir), checkEntries(dir, entries)); err != nil {
		return fmt.Errorf("backbone: data directory %s holds keys and messages: %w", dir, err)
	}
	return nil
}

// checkEntries checks what lies in the directory, and all of the keys. What
// nats-server makes further below cannot be reached past these.
func checkEntries(dir string, entries []fs.DirEntry) error {
	var mistakes []error
	info, err := os.Stat(dir)
	closed := err == nil && info.Mode()&0o007 == 0
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if e.Name() == "keys" {
			mistakes = append(mistakes, private.CheckTree(path))
			continue
		}
		if closed && !e.IsDir() {
			continue // such as a credential that somebody put there: nobody else gets to it
		}
		if err := private.Check(path); !errors.Is(err, fs.ErrNotExist) {
			mistakes = append(mistakes, err)
		}
	}
	return errors.Join(mistakes...)
}

// openDir makes the data directory, or takes one that is fit. One that is empty
// is closed to others, if it is ours.
func openDir(dir string) error {
	if err := CheckDir(dir); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("backbone: data directory: %w", err)
	}
	entries, err := private.Entries(dir)
	if err == nil && len(entries) == 0 {
		err = private.Close(dir)
	}
	if err != nil {
		return fmt.Errorf("backbone: data directory: %w", err)
	}
	return nil
}

// ErrAlone is wrapped by the error of a server of a cluster that finds the streams
// of a server that ran alone.
var ErrAlone = errors.New("it has the streams of a server that ran alone, and a server of a cluster would remove them: " +
	"start it alone again, make a backup and restore that into the cluster (docs/cluster.md, One server becomes a cluster)")

// ErrCluster is wrapped by the error of a server alone that finds the streams of a
// server of a cluster.
var ErrCluster = errors.New("it has one of the copies of a cluster's streams, and what a server alone changed would be lost in the cluster: " +
	"start it with the nats.conf of the cluster (--config), or see docs/cluster.md, When the other servers are gone for good")

// checkStreams refuses a data directory to a server that would not keep its streams
// as they are. nats-server removes, without a word, each stream that the cluster
// does not know. A server alone takes what its copy has, which may be less than was
// accepted, and the cluster takes nothing of what was stored meanwhile.
func checkStreams(dir string, clustered bool) error {
	root := os.DirFS(filepath.Join(dir, "jetstream"))
	streams, err := fs.Glob(root, "*/streams/*")
	if err == nil && len(streams) > 0 {
		var cluster []string
		cluster, err = fs.Glob(root, "*/_js_/_meta_")
		switch {
		case err != nil:
		case clustered && len(cluster) == 0:
			err = ErrAlone
		case !clustered && len(cluster) > 0:
			err = ErrCluster
		}
	}
	if err != nil {
		return fmt.Errorf("backbone: data directory %s: %w", dir, err)
	}
	return nil
}
