package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/rccs-io/rccs/internal/ops"
)

// A stream may be missing for other reasons than that nothing was ever started.
func TestWhoeverMissesAStreamIsSentToTheDoctorFirst(t *testing.T) {
	t.Parallel()
	told := explain(t.Context(), fmt.Errorf("%w: RCCS_INBOX is missing", ops.ErrNotInstalled)).Error()
	if !strings.Contains(told, "RCCS_INBOX is missing: 'rccs doctor' says") || strings.Contains(told, "start 'rccs serve' once") {
		t.Errorf("told %s", told)
	}
}
