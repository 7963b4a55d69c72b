package backbone

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/rccs-io/rccs/internal/private"
)

// The data directory has a format with a number of its own, apart from the
// version of the program. The number rises when a program that knows only the
// number before would read the directory wrongly. A directory without the file is
// of the time before it, and is format 1 in all else.
const (
	formatName   = "FORMAT"
	formatPrefix = "rccs-data/"
	// DataFormat is what this program writes, and the highest that it reads.
	DataFormat = 1
)

// ErrNewerFormat is wrapped by the error about a data directory that a later
// version of rccs has written.
var ErrNewerFormat = errors.New("a later version of rccs has written it")

// checkFormat refuses a data directory of a later format.
func checkFormat(dir string) error {
	path := filepath.Join(dir, formatName)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("backbone: data directory: %w", err)
	}
	number, ok := strings.CutPrefix(strings.TrimSpace(string(text)), formatPrefix)
	format, err := strconv.Atoi(number)
	switch {
	case !ok || err != nil || format < 1:
		return fmt.Errorf("backbone: %s holds %.40q, and not %s%d: put that there if the directory is one of rccs", path, text, formatPrefix, DataFormat)
	case format > DataFormat:
		return fmt.Errorf("backbone: data directory %s has format %d, and this program knows formats up to %d: %w: start that version again,"+
			" or restore a backup that was made before the upgrade into another directory", dir, format, DataFormat, ErrNewerFormat)
	}
	return nil
}

// writeFormat says that the data directory has this program's format from now on.
func writeFormat(dir string) error {
	want := formatPrefix + strconv.Itoa(DataFormat) + "\n"
	path := filepath.Join(dir, formatName)
	if text, err := os.ReadFile(path); err == nil && string(text) == want {
		return nil
	}
	if err := private.Replace(path, []byte(want)); err != nil {
		return fmt.Errorf("backbone: data directory: %w", err)
	}
	return nil
}
