package roster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"

	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/subjects"
)

// Forget asks the coordinator, over nc, to remove a device, its inbox and
// everything else that belongs to it. If no coordinator runs, the error is
// [nats.ErrNoResponders].
func Forget(ctx context.Context, nc *nats.Conn, a subjects.Address) error {
	body, err := json.Marshal(map[string]string{"user": string(a.User), "device": string(a.Device)})
	if err != nil {
		return err
	}
	answer, err := nc.RequestWithContext(ctx, layout.PartEndpoint("forget"), body)
	if errors.Is(err, nats.ErrNoResponders) { // a coordinator of an earlier version
		answer, err = nc.RequestWithContext(ctx, subjects.CoordinatorEndpoint("forget"), body)
	}
	if err != nil {
		return fmt.Errorf("roster: forget %s: %w", a, err)
	}
	if text := answer.Header.Get("Nats-Service-Error"); text != "" {
		return fmt.Errorf("roster: the coordinator did not forget %s: %s", a, text)
	}
	return nil
}
