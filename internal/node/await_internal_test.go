package node

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rccs-io/rccs/internal/natstest"
)

// While a cluster elects leaders a question may stay without an answer.
func TestAQuestionWithoutAnAnswerAtTheStartIsAskedAgain(t *testing.T) {
	t.Parallel()
	nc := natstest.Server(t).Conn(t)
	if _, err := nc.Subscribe("lost.>", func(*nats.Msg) {}); err != nil {
		t.Fatal(err)
	}
	js, err := jetstream.NewWithAPIPrefix(nc, "lost", jetstream.WithDefaultTimeout(10*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	w := &waiter{within: time.Hour, log: slog.New(slog.DiscardHandler)}
	tries := 0
	err = w.until(t.Context(), waitsForServers, func(ctx context.Context) error {
		if tries++; tries == 3 {
			return nil
		}
		_, err := js.Stream(ctx, "ANY")
		return err
	})
	if err != nil || tries != 3 {
		t.Errorf("%d tries, %v", tries, err)
	}
}

func TestAStartThatWaitsTooLongSaysForWhat(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		missing := errors.New("two of three servers")
		w := &waiter{within: time.Minute, log: slog.New(slog.DiscardHandler)}
		begin := time.Now()
		err := w.until(t.Context(), always, func(context.Context) error { return missing })
		if !errors.Is(err, missing) || time.Since(begin) != time.Minute {
			t.Errorf("after %s: %v", time.Since(begin), err)
		}
	})
}
