package wire_test

import (
	"encoding/json"
	"testing"

	"github.com/rccs-io/rccs/wire"
)

// typical is an envelope of about 300 bytes, as a phone sends it.
const typical = `{"id":"018f6f2a-6f0e-7c3a-9d55-2b1f0f6d8a11","type":"user_message","toDeviceId":"desktop-1",` +
	`"payload":{"text":"the build on main is green, shall I deploy?","choices":["yes","no"],"nested":{"n":42,"ok":true}},` +
	`"timestamp":"2025-01-31T12:00:00.123Z","priority":2,"requiresAck":true,"correlationId":"018f6f2a-6f0e"}`

func BenchmarkDecodeFrame(b *testing.B) {
	frame := []byte(typical)
	b.SetBytes(int64(len(frame)))
	b.ReportAllocs()
	for b.Loop() {
		if items, err := wire.DecodeFrame(nil, frame); err != nil || items[0].Err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecodeFrameReuse(b *testing.B) {
	frame := []byte(typical)
	items := make([]wire.Item, 0, 1)
	b.SetBytes(int64(len(frame)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := wire.DecodeFrame(items, frame); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkFloorUnmarshal is what encoding/json takes for the same fields,
// without checking any of them.
func BenchmarkFloorUnmarshal(b *testing.B) {
	frame := []byte(typical)
	b.SetBytes(int64(len(frame)))
	b.ReportAllocs()
	for b.Loop() {
		var e struct {
			ID, Type, ToDeviceID, Timestamp, CorrelationID string
			Payload                                        json.RawMessage
			Priority                                       uint8
			RequiresAck                                    bool
		}
		if err := json.Unmarshal(frame, &e); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppend(b *testing.B) {
	items, err := wire.DecodeFrame(nil, []byte(typical))
	if err != nil {
		b.Fatal(err)
	}
	buf := make([]byte, 0, 1024)
	b.ReportAllocs()
	for b.Loop() {
		buf = items[0].Append(buf[:0])
	}
	b.SetBytes(int64(len(buf)))
}

func BenchmarkDecodeAck(b *testing.B) {
	payload := []byte(`{"seqs":[1001,1002,1003,1004,1005,1006,1007,1008]}`)
	seqs := make([]uint64, 0, 16)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := wire.DecodeAck(seqs, payload); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAccepted(b *testing.B) {
	a := wire.Accepted{
		OriginalID: "018f6f2a-6f0e-7c3a-9d55-2b1f0f6d8a11",
		Recipients: []wire.Recipient{{DeviceID: "desktop-1", Seq: 123456}},
	}
	buf := make([]byte, 0, 512)
	b.ReportAllocs()
	for b.Loop() {
		buf = a.Append(buf[:0])
	}
}

func BenchmarkEmbeddable(b *testing.B) {
	body := []byte(`{"text":"the build on main is green, shall I deploy?","choices":["yes","no"],"nested":{"n":42,"ok":true}}`)
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		if !wire.Embeddable(body) {
			b.Fatal("not embeddable")
		}
	}
}

func BenchmarkDecodePublish(b *testing.B) {
	payload := []byte(`{"topic":"builds.main","data":{"green":true,"commit":"9dae3aa","took":12.5,"steps":[1,2,3]}}`)
	b.SetBytes(int64(len(payload)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := wire.DecodePublish(payload); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkTaskID(b *testing.B) {
	payload := []byte(`{"prompt":"build the main branch, and tell me","taskId":"018f6f2a","options":{"a":[1,2,3],"b":{}}}`)
	b.SetBytes(int64(len(payload)))
	b.ReportAllocs()
	for b.Loop() {
		if wire.TaskID(payload) == "" {
			b.Fatal("no task")
		}
	}
}
