package client

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
)

// pins are the public curve keys that other devices are known by: those that
// were seen first, or were accepted since.
type pins struct {
	path string // "" keeps them in memory

	mu   sync.Mutex
	keys map[string]string // by USER/DEVICE
}

// openPins reads the file, if there is one.
func openPins(path string) (*pins, error) {
	p := &pins{path: path, keys: make(map[string]string)}
	if path == "" {
		return p, nil
	}
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return p, nil
	}
	if err == nil {
		err = json.Unmarshal(text, &p.keys)
	}
	if err != nil {
		return nil, fmt.Errorf("client: Seal.Pins: %s: %w", path, err)
	}
	if p.keys == nil { // null
		p.keys = make(map[string]string)
	}
	return p, nil
}

// get is the key of the device called name; "" when there is none yet.
func (p *pins) get(name string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.keys[name]
}

// first pins a key unless one is pinned, and returns the pinned key.
func (p *pins) first(name, key string) (string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if known := p.keys[name]; known != "" {
		return known, nil
	}
	return key, p.setLocked(name, key)
}

// set pins a key in place of what was there.
func (p *pins) set(name, key string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.setLocked(name, key)
}

func (p *pins) setLocked(name, key string) error {
	before, had := p.keys[name]
	p.keys[name] = key
	err := p.writeLocked()
	if err != nil { // a pin that would be forgotten is none
		delete(p.keys, name)
		if had {
			p.keys[name] = before
		}
		return fmt.Errorf("client: Seal.Pins: %w", err)
	}
	return nil
}

// writeLocked replaces the file as a whole, so that it is never half a file.
func (p *pins) writeLocked() error {
	if p.path == "" {
		return nil
	}
	text, err := json.MarshalIndent(p.keys, "", "  ")
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(p.path), filepath.Base(p.path)+".*") // mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(append(text, '\n'))
	if err == nil {
		err = f.Sync()
	}
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = os.Rename(f.Name(), p.path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}
