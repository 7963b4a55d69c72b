package backbone

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/nats-io/nats-server/v2/conf"

	"github.com/rccs-io/rccs/internal/private"
)

// checkKeyFiles refuses private keys that the nats.conf names and that other
// users may read, by the rule for all files of secrets.
func (o Options) checkKeyFiles() error {
	var all map[string]any
	var err error
	switch {
	case o.ConfigPath != "":
		all, err = conf.ParseFile(o.ConfigPath)
	case len(o.Config) > 0:
		all, err = conf.Parse(string(o.Config))
	}
	if err != nil {
		return fmt.Errorf("backbone: nats.conf: %w", err)
	}
	var mistakes []error
	for _, path := range keyFiles(all) {
		if err := private.Check(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			mistakes = append(mistakes, fmt.Errorf("backbone: a key_file of nats.conf: %w", err))
		}
	}
	return errors.Join(mistakes...)
}

// keyFiles are the private keys that a part of a nats.conf names, at any depth.
func keyFiles(part any) (paths []string) {
	switch part := part.(type) {
	case map[string]any:
		for name, value := range part {
			if path, ok := value.(string); ok && strings.EqualFold(name, "key_file") {
				paths = append(paths, path)
				continue
			}
			paths = append(paths, keyFiles(value)...)
		}
	case []map[string]any:
		for _, one := range part {
			paths = append(paths, keyFiles(one)...)
		}
	case []any:
		for _, one := range part {
			paths = append(paths, keyFiles(one)...)
		}
	}
	return paths
}
