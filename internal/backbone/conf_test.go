package backbone_test

import (
	"bytes"
	"flag"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/rccs-io/rccs"
	"github.com/rccs-io/rccs/internal/backbone"
)

// What `nats-server -t -c nats.conf` does is in server.ConfigureOptions: main
// only prints the outcome.
func TestStockServerAcceptsDefaultConfig(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "nats.conf")
	if err := os.WriteFile(path, rccs.DefaultConfig(), 0o600); err != nil {
		t.Fatal(err)
	}
	fs := flag.NewFlagSet("nats-server", flag.ContinueOnError)
	never := func() { t.Error("the arguments were not understood") }
	opts, err := server.ConfigureOptions(fs, []string{"-t", "-c", path}, never, never, never)
	if err != nil {
		t.Fatal(err)
	}
	if !opts.CheckConfig || !opts.JetStream {
		t.Error("the file was not read")
	}
	if opts.SyncInterval != time.Second || opts.SyncAlways {
		t.Errorf("sync_interval is %s", opts.SyncInterval)
	}
	if want := int32(1<<20 + 64<<10); opts.MaxPayload != want {
		t.Errorf("max_payload is %d, want %d", opts.MaxPayload, want)
	}
	if opts.MaxControlLine != 2*server.MAX_CONTROL_LINE_SIZE {
		t.Errorf("max_control_line is %d, and said to be twice the default", opts.MaxControlLine)
	}
}

func TestDefaultConfigLeavesToRCCSWhatIsItsOwn(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	opts := newTrust(t).options(t.TempDir())
	opts.Logger = slog.New(slog.NewTextHandler(&out, nil))
	if _, err := backbone.New(opts); err != nil {
		t.Fatal(err)
	}
	if out.Len() > 0 {
		t.Errorf("the default configuration is warned of: %s", out.String())
	}
}

func TestDefaultConfigIsTheCallers(t *testing.T) {
	t.Parallel()
	clear(rccs.DefaultConfig())
	if bytes.IndexByte(rccs.DefaultConfig(), 0) >= 0 {
		t.Error("a caller changed the configuration of all")
	}
}
