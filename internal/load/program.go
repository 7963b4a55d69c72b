package load

import (
	"bytes"
	"context"
	"fmt"
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

// Edge starts the program rccs as an edge of a server, as [Serve] does, with the
// keys in the server's data directory.
func Edge(program, data string, server *Process, flags ...string) (*Process, error) {
	return start(program, data, append([]string{"edge", "--server", server.NATS}, flags...))
}

// start runs a command of rccs. What args say of a flag counts, where it stands
// here too.
func start(program, data string, args []string) (*Process, error) {
	cmd := exec.Command(program, slices.Insert(args, 1, //nolint:gosec // it runs the program that it was built beside
		"--data", data, "--log-level", "warn", "--listen", free, "--admin-listen", free,
		"--trusted-proxy", "127.0.0.1", // one address is all devices here
	)...)
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "RCCS_") })
	cmd.Env = append(cmd.Env, "RCCS_STOP_WITHIN="+stopWithin.String()) // it may have much to write; in the environment, since an earlier version does not know the flag
	return Start(cmd)
}

// Tokens has the program rccs make bearer tokens for devices, from the keys in
// a data directory.
func Tokens(ctx context.Context, program, data string, names []Name) (map[Name]string, error) {
	var in, out, stderr bytes.Buffer
	for _, name := range names {
		in.WriteString(name.String() + "\n")
	}
	cmd := exec.CommandContext(ctx, program, "creds", "device", "--bearer", "-", "--data", data) //nolint:gosec // it runs the program that it was built beside
	cmd.Stdin, cmd.Stdout, cmd.Stderr = &in, &out, &stderr
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("load: rccs creds: %w\n%s", err, stderr.Bytes())
	}
	tokens := make(map[Name]string, len(names))
	for line := range strings.Lines(out.String()) {
		name, token, _ := strings.Cut(strings.TrimSpace(line), " ")
		user, device, _ := strings.Cut(name, "/")
		tokens[Name{user, device}] = token
	}
	for _, name := range names {
		if tokens[name] == "" {
			return nil, fmt.Errorf("load: rccs creds made no token for %s", name)
		}
	}
	return tokens, nil
}
