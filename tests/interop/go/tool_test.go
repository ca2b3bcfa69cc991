package interop

import (
	"bufio"
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"detcd.dev/interop/cluster"
)

// tool is a command line that speaks etcdctl's language.
type tool struct {
	name string
	path string
}

// bothTools are etcdctl and what takes its place. They are held to the same words.
func bothTools(t testing.TB) []tool {
	t.Helper()
	return []tool{{"etcdctl", etcdctlPath}, {"detcdctl", detcdctl(t)}}
}

// detcdctl is the program named by DETCDCTL_BIN, else this repository's own build.
func detcdctl(t testing.TB) string {
	t.Helper()
	if path := os.Getenv("DETCDCTL_BIN"); path != "" {
		return path
	}
	for _, profile := range []string{"release", "debug"} {
		path := filepath.Join("..", "..", "..", "target", profile, "detcdctl")
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	t.Fatal("no detcdctl to test: build it or set DETCDCTL_BIN")
	return ""
}

// run runs the tool against all members to its end.
func (o tool) run(t testing.TB, c *cluster.Cluster, args ...string) cluster.Output {
	t.Helper()
	args = append([]string{"--endpoints", strings.Join(c.Endpoints(), ",")}, args...)
	return cluster.Run(deadline(t), t, "", o.path, args...)
}

// prints checks all of what the tool prints; it must succeed.
func (o tool) prints(t testing.TB, c *cluster.Cluster, want string, args ...string) {
	t.Helper()
	what := o.name + " " + strings.Join(args, " ")
	output := o.run(t, c, args...)
	if output.Code != 0 {
		t.Fatalf("%s: exit code %d\n%s", what, output.Code, output.Stderr)
	}
	same(t, what, output.Stdout, want)
}

// start starts the tool against all members.
func (o tool) start(t testing.TB, c *cluster.Cluster, args ...string) *runningTool {
	t.Helper()
	return startTool(t, c, o.path, args...)
}

// runningTool is a tool that goes on until it is told to end.
type runningTool struct {
	cmd    *exec.Cmd
	lined  chan string
	stderr bytes.Buffer // to be read when the tool has ended
}

func startTool(t testing.TB, c *cluster.Cluster, path string, args ...string) *runningTool {
	t.Helper()
	return startProgram(t, path, append([]string{"--endpoints", strings.Join(c.Endpoints(), ",")}, args...)...)
}

// startProgram starts a tool that is told everything.
func startProgram(t testing.TB, path string, args ...string) *runningTool {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	r := &runningTool{cmd: exec.CommandContext(ctx, path, args...), lined: make(chan string)}
	r.cmd.Stderr = &r.stderr
	stdout, err := r.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(r.lined)
		for scanner := bufio.NewScanner(stdout); scanner.Scan(); {
			select {
			case r.lined <- scanner.Text():
			case <-ctx.Done():
				return
			}
		}
	}()
	return r
}

// lines waits for the next count lines.
func (r *runningTool) lines(t testing.TB, count int) []string {
	t.Helper()
	var lines []string
	ctx := deadline(t)
	for len(lines) < count {
		select {
		case line, open := <-r.lined:
			if !open {
				t.Fatalf("%s ended after %q", r.cmd, lines)
			}
			lines = append(lines, line)
		case <-ctx.Done():
			t.Fatalf("%s printed only %q", r.cmd, lines)
		}
	}
	return lines
}

// end sends a signal and waits until the tool has cleaned up; it gives what was left to read.
func (r *runningTool) end(t testing.TB, signal os.Signal) cluster.Output {
	t.Helper()
	if err := r.cmd.Process.Signal(signal); err != nil {
		t.Fatal(err)
	}
	return r.ended(t)
}

// ended waits until the tool has ended; it gives what was left to read.
func (r *runningTool) ended(t testing.TB) cluster.Output {
	t.Helper()
	var rest strings.Builder
	ctx := deadline(t)
	for open := true; open; {
		var line string
		select {
		case line, open = <-r.lined:
			if open {
				rest.WriteString(line + "\n")
			}
		case <-ctx.Done():
			t.Fatalf("%s goes on", r.cmd)
		}
	}
	// The exit code tells how it ended.
	_ = r.cmd.Wait()
	return cluster.Output{Stdout: rest.String(), Stderr: r.stderr.String(), Code: r.cmd.ProcessState.ExitCode()}
}
