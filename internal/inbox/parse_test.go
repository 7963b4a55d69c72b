package inbox

import (
	"reflect"
	"testing"

	"github.com/nats-io/nats.go"
)

func FuzzParseCursor(f *testing.F) {
	for _, s := range []string{
		`{"sent":[0,17,0,0],"unacked":[[],[12,15],[],[]],"open":true}`, `{}`, `{"unacked":[[1]]}`,
		`{"sent":[1,2,3,4],"unacked":[null,[2],[],[4]]}`, `{"sent":[5],"unacked":[[3,2]]}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := ParseCursor(data)
		if err != nil {
			return
		}
		back, err := ParseCursor(c.Append(nil))
		if err != nil {
			t.Fatalf("%s is written as %s, which is refused: %v", data, c.Append(nil), err)
		}
		for n := range c.Unacked { // null and [] are the same
			if len(c.Unacked[n]) == 0 {
				c.Unacked[n], back.Unacked[n] = nil, nil
			}
		}
		if !reflect.DeepEqual(c, back) {
			t.Fatalf("%+v came back as %+v", c, back)
		}
	})
}

func FuzzParsePubAck(f *testing.F) {
	for _, s := range []string{
		`{"stream":"RCCS_INBOX","seq":12}`, `{"stream":"RCCS_INBOX","seq":12,"duplicate":true}`,
		`{"error":{"code":503,"err_code":10077,"description":"x"}}`, `{"stream":"a","seq":1,"domain":"d"}`, ``,
		`{"stream":"a\",\"seq\":9}","seq":7}`, `{"stream":"a","seq":18446744073709551615}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := parseAck(&nats.Msg{Data: data})
		if err == nil && r.Seq == 0 {
			t.Fatalf("%s: stored nowhere and no error", data)
		}
	})
}

func TestPubAckIsReadTheSameByHandAndByJSON(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]Receipt{
		`{"stream":"RCCS_INBOX","seq":12}`:                          {Seq: 12},
		`{"stream":"RCCS_INBOX", "seq":12}`:                         {Seq: 12},
		`{"stream":"RCCS_INBOX","seq":7,"duplicate": true}`:         {Seq: 7, Duplicate: true},
		`{"stream":"RCCS_INBOX","domain":"hub","seq":123456789012}`: {Seq: 123456789012},
	} {
		if got, err := parseAck(&nats.Msg{Data: []byte(in)}); err != nil || got != want {
			t.Errorf("%s: %+v, %v", in, got, err)
		}
	}
	if _, err := parseAck(&nats.Msg{Data: []byte(`{"error":{"code":400,"err_code":1,"description":"no"},"stream":"a","seq":0}`)}); err == nil {
		t.Error("a refusal was taken for a receipt")
	}
	if _, err := parseAck(&nats.Msg{Header: nats.Header{"Status": {"503"}}}); err != ErrUnavailable { //nolint:errorlint // it is returned as it is
		t.Errorf("no responders: %v", err)
	}
}
