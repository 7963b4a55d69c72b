package ops

import (
	"context"

	"github.com/rccs-io/rccs/auth"
)

// TenantInfo is a tenant as it is listed.
type TenantInfo struct {
	Name    string      `json:"name"`
	Account string      `json:"account"`
	Limits  auth.Limits `json:"limits"`
	// Devices, Stored (bytes) and Consumers are of a tenant that is served.
	Served    bool   `json:"served"`
	Devices   int    `json:"devices"`
	Stored    uint64 `json:"stored"`
	Consumers int    `json:"consumers"`
}

// Use fills in what a tenant that is served uses.
func (t *Tenant) Use(ctx context.Context, info *TenantInfo, online int) error {
	store, err := t.store(ctx)
	if err != nil {
		return err
	}
	info.Served, info.Devices, info.Stored, info.Consumers = true, online, store.Used, store.Consumers
	return nil
}
