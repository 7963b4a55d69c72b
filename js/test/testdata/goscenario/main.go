// Command goscenario plays one side of scenario.json with the Go SDK: the test
// of the JavaScript SDK plays the other. It prints a line when it is connected
// and one at the end.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/rccs-io/rccs/client"
	"github.com/rccs-io/rccs/subjects"
	"github.com/rccs-io/rccs/wire"
)

// step is what one side does. See scenario.test.ts, which reads the same.
type step struct {
	By, Do, Type, Method, Topic string
	Payload, Params, Data       json.RawMessage
	Parts, Items                []json.RawMessage
	Error, Status, Reason       string
	Count                       int
}

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	// goscenario URL CREDENTIALS SCENARIO SIDE OTHER
	if err := run(ctx, os.Args[1], os.Args[2], os.Args[3], os.Args[4], subjects.DeviceID(os.Args[5])); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, url, creds, file, side string, other subjects.DeviceID) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var steps []step
	if err := json.Unmarshal(data, &steps); err != nil {
		return err
	}
	c, err := client.Dial(ctx, url, &client.Options{Credentials: client.CredentialsFile(creds)})
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	got := make(chan *client.Message, 1024)
	c.Handle("", func(_ context.Context, m *client.Message) error {
		got <- m
		return nil
	})
	c.Handle("refused", func(context.Context, *client.Message) error { return client.Reject("not here") })
	answer(c)
	go func() { _ = c.Serve(ctx) }()
	fmt.Println("connected")
	p := &player{c: c, other: other, got: got}
	for i, s := range steps {
		if s.By != side {
			continue
		}
		if err := p.play(ctx, s); err != nil {
			return fmt.Errorf("step %d, %s: %w", i, s.Do, err)
		}
	}
	fmt.Println("played")
	<-ctx.Done() // the other side ends it
	return nil
}

// answer has the methods that both sides have.
func answer(c *client.Client) {
	c.HandleRequest("sum", func(_ context.Context, r *client.Request) (any, error) {
		var all []float64
		err := r.Decode(&all)
		sum := 0.0
		for _, v := range all {
			sum += v
		}
		return sum, err
	})
	c.HandleRequest("count", func(_ context.Context, r *client.Request) (any, error) {
		var n int
		if err := r.Decode(&n); err != nil {
			return nil, err
		}
		for i := 1; i < n; i++ {
			if err := r.Part(i); err != nil {
				return nil, err
			}
		}
		return n, nil
	})
	c.HandleRequest("fail", func(_ context.Context, r *client.Request) (any, error) {
		var code string
		if err := r.Decode(&code); err != nil {
			return nil, err
		}
		return nil, &wire.Failure{Code: code, Message: "as asked"}
	})
}

type player struct {
	c     *client.Client
	other subjects.DeviceID
	got   chan *client.Message
}

func (p *player) play(ctx context.Context, s step) error {
	to := client.To(p.other)
	switch s.Do {
	case "send":
		_, err := p.c.SendJSON(ctx, s.Type, s.Payload, to)
		return err
	case "expect":
		return p.expect(ctx, s.Type, s.Payload)
	case "many":
		for i := range s.Count {
			if _, err := p.c.SendJSON(ctx, s.Type, i, to); err != nil {
				return err
			}
		}
	case "expectMany":
		for i := range s.Count {
			if err := p.expect(ctx, s.Type, fmt.Appendf(nil, "%d", i)); err != nil {
				return err
			}
		}
	case "request":
		return p.request(ctx, s)
	case "publish":
		_, err := p.c.Publish(ctx, s.Topic, s.Data)
		return err
	case "hear":
		return p.hear(ctx, s)
	case "track":
		return p.track(ctx, s)
	default:
		return errors.New("unknown step")
	}
	return nil
}

func (p *player) expect(ctx context.Context, typ string, payload json.RawMessage) error {
	select {
	case m := <-p.got:
		if m.Type != typ || m.FromDeviceID != p.other {
			return fmt.Errorf("got %s of %s", m.Type, m.FromDeviceID)
		}
		return same(m.Payload, payload)
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (p *player) request(ctx context.Context, s step) error {
	var parts []json.RawMessage
	for part, err := range p.c.RequestStream(ctx, p.other, s.Method, s.Params) {
		var failure *wire.Failure
		if errors.As(err, &failure) && failure.Code == s.Error {
			return nil
		}
		if err != nil {
			return err
		}
		parts = append(parts, part)
	}
	if s.Error != "" {
		return fmt.Errorf("no %s", s.Error)
	}
	return all(parts, s.Parts)
}

func (p *player) hear(ctx context.Context, s step) error {
	sub, err := p.c.Subscribe(ctx, s.Topic, &client.SubscribeOptions{Since: wire.Since{Kind: wire.SinceSeq}})
	if err != nil {
		return err
	}
	defer func() { _ = sub.Close() }()
	var items []json.RawMessage
	for range s.Items {
		m, err := sub.Next(ctx)
		if err != nil {
			return err
		}
		items = append(items, json.RawMessage(m.Payload))
	}
	return all(items, s.Items)
}

func (p *player) track(ctx context.Context, s step) error {
	e, err := client.Compose(s.Type, s.Payload, client.To(p.other))
	if err != nil {
		return err
	}
	t, err := p.c.Track(ctx, e)
	if err != nil {
		return err
	}
	defer t.Close()
	o, err := t.Next(ctx)
	if err == nil && (string(o.Status) != s.Status || o.Reason != s.Reason || o.Device != p.other) {
		err = fmt.Errorf("outcome %+v", o)
	}
	return err
}

func all(got, want []json.RawMessage) error {
	if len(got) != len(want) {
		return fmt.Errorf("got %d, want %d", len(got), len(want))
	}
	for i := range got {
		if err := same(got[i], want[i]); err != nil {
			return err
		}
	}
	return nil
}

// same compares JSON values.
func same(got, want json.RawMessage) error {
	var a, b any
	if err := errors.Join(json.Unmarshal(got, &a), json.Unmarshal(want, &b)); err != nil {
		return err
	}
	x, _ := json.Marshal(a)
	y, _ := json.Marshal(b)
	if !bytes.Equal(x, y) {
		return fmt.Errorf("got %s, want %s", x, y)
	}
	return nil
}
