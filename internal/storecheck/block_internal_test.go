package storecheck

import (
	"bytes"
	"encoding/binary"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// message makes a record as nats-server writes it.
func (b *block) message(seq uint64, subject string, body []byte) []byte {
	length := recordHeader + len(subject) + len(body) + checksumSize
	buf := make([]byte, recordHeader, length)
	binary.LittleEndian.PutUint32(buf, uint32(length))
	binary.LittleEndian.PutUint64(buf[4:], seq)
	binary.LittleEndian.PutUint16(buf[20:], uint16(len(subject)))
	buf = append(append(buf, subject...), body...)
	b.hash.Reset()
	_, _ = b.hash.Write(buf[4:20])
	_, _ = b.hash.Write(buf[recordHeader:])
	return b.hash.Sum(buf)
}

// records fills a block with n messages.
func records(n int) (*block, []byte) { return recordsFrom(1, 1, n) }

// recordsFrom fills the block of a number with n messages from a sequence on.
func recordsFrom(number int, seq uint64, n int) (*block, []byte) {
	b := newBlock("S", number)
	var buf []byte
	for range n {
		buf = append(buf, b.message(seq, "rccs.inbox.alice.phone.normal", bytes.Repeat([]byte("x"), 300))...)
		seq++
	}
	return b, buf
}

// Whatever stands in a block: what is mended is whole, and holds every record
// that checked.
func FuzzBlock(f *testing.F) {
	_, whole := records(3)
	f.Add(whole)
	f.Add(whole[:len(whole)-5])
	f.Add(append(bytes.Clone(whole[:30]), whole...))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, buf []byte) {
		b := newBlock("S", 1)
		c := b.check(bytes.Clone(buf))
		if c.mended == nil {
			return
		}
		if again := b.check(c.mended); again.mended != nil {
			t.Errorf("what was mended is damaged: %+v", again)
		}
	})
}

// What it costs to check a message before the store is opened.
func BenchmarkCheckBlock(b *testing.B) {
	const n = 20_000
	blk, buf := records(n)
	b.SetBytes(int64(len(buf)))
	for b.Loop() {
		if c := blk.check(buf); c.mended != nil || c.last != n {
			b.Fatalf("%+v", c.lost)
		}
	}
}

// What the check adds to a start with 1,000,000 messages that was not stopped in
// order.
func BenchmarkRunAfterAKill(b *testing.B) {
	const messages, perBlock = 1_000_000, 20_000
	dir := b.TempDir()
	msgs := filepath.Join(dir, "jetstream", "ACCOUNT", "streams", "S", "msgs")
	if err := os.MkdirAll(msgs, 0o700); err != nil {
		b.Fatal(err)
	}
	for n := range messages / perBlock {
		_, buf := recordsFrom(n+1, uint64(n*perBlock)+1, perBlock)
		if err := os.WriteFile(blockFile(msgs, n+1), buf, 0o600); err != nil {
			b.Fatal(err)
		}
	}
	began := cpu(b)
	for b.Loop() {
		if err := Run(Options{Dir: dir, Logger: slog.New(slog.DiscardHandler)}); err != nil {
			b.Fatal(err)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, damagedDir)); err == nil {
		b.Error("something is damaged")
	}
	b.ReportMetric((cpu(b)-began).Seconds()/float64(b.N), "cpu-s/start")
}

// cpu is the processor time of this process, which other processes do not add to.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		b.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}
