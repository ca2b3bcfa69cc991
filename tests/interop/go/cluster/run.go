package cluster

import (
	"bytes"
	"context"
	"errors"
	"os/exec"
	"strings"
)

// Output is what a finished program left.
type Output struct {
	Stdout string
	Stderr string
	Code   int // -1: ended by a signal or by ctx
}

// Run runs a program to its end, with input as its stdin.
func Run(ctx context.Context, t T, input, binary string, args ...string) Output {
	t.Helper()
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Env = cleanEnvironment()
	cmd.Stdin = strings.NewReader(input)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("%s: %v", binary, err)
	}
	return Output{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}
