package load

import (
	"os"
	"os/exec"
	"slices"
	"strings"
)

// free is any port of the loopback interface that nobody has.
const free = "127.0.0.1:0"

// Serve starts the program rccs as a server with its data in a directory, on
// free ports of the loopback interface, with further flags. Settings in the
// environment are not for it.
func Serve(program, data string, flags ...string) (*Process, error) {
	return start(program, data, append([]string{"serve", "--nats-listen", free}, flags...))
}

// start runs a command of rccs. What args say of a flag counts, where it stands
// here too.
func start(program, data string, args []string) (*Process, error) {
	cmd := exec.Command(program, slices.Insert(args, 1, //nolint:gosec // it runs the program that it was built beside
		"--data", data, "--log-level", "warn", "--listen", free, "--admin-listen", free,
		"--trusted-proxy", "127.0.0.1", // one address is all devices here
	)...)
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "RCCS_") })
	cmd.Env = append(cmd.Env, "RCCS_STOP_WITHIN="+stopTimeout.String()) // it may have much to write; in the environment, since an earlier version does not know the flag
	return Start(cmd)
}
