package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/pflag"

	"github.com/rccs-io/rccs/internal/backbone"
	"github.com/rccs-io/rccs/internal/private"
)

// The variables that hold keys themselves, where no file can be had.
const (
	storeKeyVar    = "RCCS_JS_KEY"
	oldStoreKeyVar = "RCCS_JS_OLD_KEY"
)

// storeKey is the key with which what JetStream stores is encrypted.
type storeKey struct{ file, oldFile string }

func (f *storeKey) add(flags *pflag.FlagSet) {
	flags.StringVar(&f.file, "encryption-key-file", "", "`file` with the key that encrypts what is stored; or the key in "+storeKeyVar)
}

func (f *storeKey) addOld(flags *pflag.FlagSet) {
	flags.StringVar(&f.oldFile, "encryption-old-key-file", "", "`file` with the previous key, for the start that changes it; or that key in "+oldStoreKeyVar)
}

// read returns the keys, or empty texts.
func (f *storeKey) read(env *environment) (key, old string, err error) {
	if key, err = env.secret("--encryption-key-file", f.file, storeKeyVar); err != nil {
		return "", "", err
	}
	old, err = env.secret("--encryption-old-key-file", f.oldFile, oldStoreKeyVar)
	if err == nil && old != "" && key == "" {
		err = errors.New("--encryption-old-key-file: the new key is missing: name it with --encryption-key-file")
	}
	return key, old, err
}

// secret reads a file that other users may not read, or a variable.
func (env *environment) secret(flag, path, variable string) (string, error) {
	text, inEnv := env.lookup(variable)
	switch {
	case path == "" && inEnv:
		return strings.TrimSpace(text), nil
	case path == "":
		return "", nil
	case inEnv:
		return "", fmt.Errorf("%s and %s are both given: leave one out", flag, variable)
	}
	if err := private.Check(path); err != nil {
		return "", fmt.Errorf("%s: %w", flag, err)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("%s: %w", flag, err)
	}
	if text = strings.TrimSpace(string(content)); text == "" {
		return "", fmt.Errorf("%s: %s is empty: make a key with openssl rand -base64 32", flag, path)
	}
	return text, nil
}

// explainKey says of errors about the store's key which flag helps.
func explainKey(err error) error {
	if errors.Is(err, backbone.ErrKeyMissing) || errors.Is(err, backbone.ErrKeyWrong) {
		return fmt.Errorf("%w: --encryption-key-file or %s", err, storeKeyVar)
	}
	return err
}
