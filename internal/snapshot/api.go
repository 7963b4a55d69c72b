package snapshot

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// askTimeout bounds one question to JetStream.
const askTimeout = 30 * time.Second

// answer is what all answers of the JetStream API have in common.
type answer struct {
	Error *jetstream.APIError `json:"error"`
}

func (a *answer) failed() error {
	if a.Error == nil {
		return nil
	}
	return a.Error
}

// ask sends a request to the JetStream API. into embeds answer.
func ask(ctx context.Context, nc *nats.Conn, subject string, request any, into interface{ failed() error }) error {
	body, err := json.Marshal(request)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	m, err := nc.RequestWithContext(ctx, subject, body)
	if err != nil {
		return err
	}
	return read(m.Data, into)
}

func read(body []byte, into interface{ failed() error }) error {
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("unreadable answer of JetStream: %w", err)
	}
	return into.failed()
}
