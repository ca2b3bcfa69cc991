// Launcher runs a program, such as the tests of a client in another language, against a cluster of
// three members:
//
//	launcher mvn test
//
// The program finds in its environment
//
//	ENDPOINTS  the members' client URLs in the order m1, m2, m3, with commas between them
//	CONTROL    the URL of the launcher's control
//
// and asks the control for what it needs done to a member:
//
//	POST /kill/m2   ends it with SIGKILL; answers when it is gone
//	POST /start/m2  starts it again; answers when it serves
//	GET  /leader    answers the name of the leader, waiting for one
//
// Which server runs is up to DETCD_BIN and SERVER, as in the Go tests. The members end with the
// launcher, however it ends. Its exit code is the program's, and 1 when a member ended by itself.
package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"sync"
	"syscall"

	"detcd.dev/interop/cluster"
)

// members is the size of the cluster.
const members = 3

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: launcher program [argument ...]")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	os.Exit(launch(ctx, os.Args[1:]))
}

// launch runs a cluster and the command, and gives the exit code.
func launch(ctx context.Context, command []string) (code int) {
	t := &task{ctx: ctx}
	defer func() {
		t.cleanUp()
		if t.Failed() && code == 0 {
			code = 1
		}
	}()
	err := t.try(func() {
		c := cluster.Start(t, members, cluster.Fast...)
		control := startControl(t, c)
		code = runCommand(t, command, "ENDPOINTS="+strings.Join(c.Endpoints(), ","), "CONTROL="+control)
	})
	if err != nil {
		t.Errorf("%v", err)
	}
	return code
}

// runCommand runs the command to its end and gives its exit code. A failure of the command keeps the
// members' logs, as that of a test does.
func runCommand(t *task, command []string, variables ...string) int {
	cmd := exec.CommandContext(t.ctx, command[0], command[1:]...)
	cmd.Env = append(os.Environ(), variables...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit) && exit.Exited():
		t.Errorf("%s: %v", command[0], err)
		return exit.ExitCode()
	default:
		t.Errorf("%s: %v", command[0], err)
		return 1
	}
}

// startControl serves the control until the task ends, and gives its URL.
func startControl(t *task, c *cluster.Cluster) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var one sync.Mutex // the cluster is one task's
	handle := func(pattern string, action func(m *cluster.Member) string) {
		http.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			one.Lock()
			defer one.Unlock()
			member := find(c, r.PathValue("member"))
			if member == nil && r.PathValue("member") != "" {
				http.Error(w, "no such member", http.StatusNotFound)
				return
			}
			var answer string
			if err := t.try(func() { answer = action(member) }); err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
				return
			}
			fmt.Fprint(w, answer)
		})
	}
	handle("POST /kill/{member}", func(m *cluster.Member) string {
		cluster.Kill(t, m)
		return ""
	})
	handle("POST /start/{member}", func(m *cluster.Member) string {
		m.Start(t)
		m.WaitReady(t)
		return ""
	})
	handle("GET /leader", func(*cluster.Member) string { return c.Leader(t).Name })
	server := &http.Server{}
	go server.Serve(listener)
	t.Cleanup(func() { server.Close() })
	return "http://" + listener.Addr().String()
}

func find(c *cluster.Cluster, name string) *cluster.Member {
	for _, m := range c.Members {
		if m.Name == name {
			return m
		}
	}
	return nil
}
