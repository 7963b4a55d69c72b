package backup

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rccs-io/rccs/auth"
	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/shard"
	"github.com/rccs-io/rccs/internal/snapshot"
)

// format is what a manifest begins with; another number is another format.
const format = "rccs-backup/1"

// Manifest says what is in a backup.
type Manifest struct {
	Format string `json:"format"`
	// Version is that of the program that made it.
	Version string `json:"version"`
	// Begun and Ended are when: what was accepted before Begun is in it.
	Begun time.Time `json:"begun"`
	Ended time.Time `json:"ended"`
	// Keys says that the installation's keys are in it.
	Keys    bool     `json:"keys"`
	Streams []Stream `json:"streams"`
	Parts   []Part   `json:"parts"`
}

// Stream is a stream, or that of a bucket, with where its messages are.
type Stream struct {
	snapshot.Stream
	Tenant string `json:"tenant,omitempty"` // empty: the default one
	Part   string `json:"part"`
}

// Part is an entry of the file.
type Part struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"` // hex
}

// Messages are how many there are in all streams.
func (m *Manifest) Messages() (n uint64) {
	for i := range m.Streams {
		n += m.Streams[i].Messages
	}
	return n
}

// Shards is how many shards a tenant has in the backup.
func (m *Manifest) Shards(tenant string) (n int) {
	for i := range m.Streams {
		if rest, ok := strings.CutPrefix(m.Streams[i].Name, layout.StreamInbox+"_"); ok && m.Streams[i].Tenant == tenant {
			if number, err := strconv.Atoi(rest); err == nil && shard.Check(number+1) == nil {
				n = max(n, number+1)
			}
		}
	}
	return max(n, 1)
}

// tenants are the names of all, the default one last: it has none.
func (m *Manifest) tenants() (all []string) {
	for i := range m.Streams {
		all = append(all, m.Streams[i].Tenant)
	}
	slices.Sort(all)
	all = slices.Compact(all)
	slices.Reverse(all)
	return all
}

// Bytes are those of all parts.
func (m *Manifest) Bytes() (n int64) {
	for _, p := range m.Parts {
		n += p.Size
	}
	return n
}

// Where parts are in the file.
const (
	keysPrefix     = "keys/"
	accountsPrefix = "accounts/"
	streamsPrefix  = "streams/"
	configName     = "nats.conf"
	manifestName   = "manifest.json"
	sumName        = "SHA256"
)

// fileName is what a key or an account JWT may be called: it becomes a name in
// the data directory.
var fileName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]*\.(nk|jwt|issued|untold)$`)

// streamName is what stands in a subject of the JetStream API.
var streamName = regexp.MustCompile(`^[^\s.*>/\\]+$`)

// parseManifest reads a manifest and checks that it makes sense by itself.
func parseManifest(body []byte) (*Manifest, error) {
	var begin struct {
		Format string `json:"format"`
	}
	if err := json.Unmarshal(body, &begin); err != nil {
		return nil, fmt.Errorf("its manifest is unreadable: %w", err)
	}
	if begin.Format != format {
		return nil, fmt.Errorf("its format is %q, and this program reads %q: restore it with the version of rccs that made it,"+
			" which a later version can then take over by its data directory", begin.Format, format)
	}
	m := &Manifest{}
	if err := json.Unmarshal(body, m); err != nil {
		return nil, fmt.Errorf("its manifest is unreadable: %w", err)
	}
	return m, m.check()
}

func (m *Manifest) check() error {
	parts := make(map[string]bool, len(m.Parts))
	for _, p := range m.Parts {
		if err := checkPart(p.Name); err != nil {
			return err
		}
		if parts[p.Name] {
			return fmt.Errorf("its manifest names %q twice", p.Name)
		}
		parts[p.Name] = true
	}
	streams := make(map[string]bool, len(m.Streams))
	for i := range m.Streams {
		s := &m.Streams[i]
		switch {
		case !streamName.MatchString(s.Name):
			return fmt.Errorf("its manifest has a stream %q", s.Name)
		case s.Tenant != "" && auth.CheckTenant(s.Tenant) != nil:
			return fmt.Errorf("its manifest has a tenant %q", s.Tenant)
		case streams[s.Tenant+"/"+s.Name]:
			return fmt.Errorf("its manifest has stream %s twice", s.Name)
		case !strings.HasPrefix(s.Part, streamsPrefix) || !parts[s.Part]:
			return fmt.Errorf("its manifest has stream %s without its messages", s.Name)
		}
		streams[s.Tenant+"/"+s.Name] = true
	}
	return nil
}

// checkPart refuses names that do not say what a part is.
func checkPart(name string) error {
	for _, prefix := range []string{keysPrefix, accountsPrefix} {
		if rest, ok := strings.CutPrefix(name, prefix); ok && fileName.MatchString(rest) {
			return nil
		}
	}
	if name == configName || strings.HasPrefix(name, streamsPrefix) {
		return nil
	}
	return fmt.Errorf("it has a part %q, which is not of a backup", name)
}

var errNoBackup = errors.New("it is not a backup of rccs, or it was cut off")
