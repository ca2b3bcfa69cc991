// Package cluster runs one or more members of an etcd-compatible server as processes of this
// machine, for tests: it finds ports, starts, stops, kills and restarts members, waits until they
// are ready, and always ends what it started.
//
// The server is the program named by DETCD_BIN, else this repository's own build. As flags and API
// are etcd's, the same tests run against etcd itself: that is how the tests are tested.
package cluster

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
)

const (
	// host is not 127.0.0.1 because that is where outgoing connections come from: the system could
	// give the port of a member that is down to a client that is trying to reach it.
	host = "127.0.0.2"

	// readyTimeout is how long a cluster may take until every member serves.
	readyTimeout = 30 * time.Second
)

// Fast are flags for tests that kill leaders: elections within half a second.
var Fast = []string{"--heartbeat-interval=50", "--election-timeout=250"}

// Cluster is a running cluster. Its members keep their order, names and ports over restarts.
type Cluster struct {
	Members []*Member

	dir string // holds the data folder and the log of each member
}

// Start runs a cluster of size members with flags added to each, waits until all serve, and ends
// it with the test. When the test fails, the logs stay and their ends are printed.
func Start(t T, size int, flags ...string) *Cluster {
	t.Helper()
	c := New(t, size, flags...)
	for _, m := range c.Members {
		m.Start(t)
	}
	c.WaitReady(t)
	return c
}

// New lays out a cluster without starting its members.
func New(t T, size int, flags ...string) *Cluster {
	t.Helper()
	dir, err := os.MkdirTemp("", "interop-")
	if err != nil {
		t.Fatal(err)
	}
	c := &Cluster{dir: dir}
	t.Cleanup(func() { c.cleanup(t) })

	binary := Binary(t)
	var initial []string
	for i := range size {
		m := newMember(t, binary, dir, fmt.Sprintf("m%d", i+1))
		c.Members = append(c.Members, m)
		initial = append(initial, m.Name+"="+m.PeerURL)
	}
	for _, m := range c.Members {
		m.args = append(m.args, "--initial-cluster", strings.Join(initial, ","))
		m.args = append(m.args, flags...)
	}
	return c
}

// Binary is the server under test: DETCD_BIN, else this repository's release or debug build.
func Binary(t T) string {
	t.Helper()
	if path := os.Getenv("DETCD_BIN"); path != "" {
		return path
	}
	for _, profile := range []string{"release", "debug"} {
		path := filepath.Join("..", "..", "..", "target", profile, "detcd")
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	t.Fatal("no server to test: build detcd or set DETCD_BIN")
	return ""
}

// IsEtcd tells that the server under test is etcd itself (SERVER=etcd): the few tests of what only
// detcd promises do not apply.
func IsEtcd() bool {
	return os.Getenv("SERVER") == "etcd"
}

// Endpoints lists the client URL of every member.
func (c *Cluster) Endpoints() []string {
	var all []string
	for _, m := range c.Members {
		all = append(all, m.ClientURL)
	}
	return all
}

// Client connects to the given endpoints, all members when none is given, until the test ends.
func (c *Cluster) Client(t T, endpoints ...string) *clientv3.Client {
	t.Helper()
	if len(endpoints) == 0 {
		endpoints = c.Endpoints()
	}
	client, err := NewClient(endpoints...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client
}

// NewClient is a client that comes back to a restarted member at once: gRPC would wait a second or
// more between two attempts.
func NewClient(endpoints ...string) (*clientv3.Client, error) {
	return clientv3.New(clientv3.Config{
		Endpoints:   endpoints,
		DialTimeout: 5 * time.Second,
		Logger:      zap.NewNop(),
		DialOptions: []grpc.DialOption{grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.5, MaxDelay: 250 * time.Millisecond},
			MinConnectTimeout: time.Second,
		})},
	})
}

// WaitReady waits until every member answers its health check: it has a leader and serves
// linearizable reads.
func (c *Cluster) WaitReady(t T) {
	t.Helper()
	for _, m := range c.Members {
		m.WaitReady(t)
	}
}

// Leader is the member that is leader now; it waits for one.
func (c *Cluster) Leader(t T) *Member {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), readyTimeout)
	defer cancel()
	for ctx.Err() == nil {
		for _, m := range c.Members {
			status, err := m.status(ctx)
			if err == nil && status.Leader != 0 && status.Leader == status.Header.MemberId {
				return m
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("the cluster has no leader")
	return nil
}

// Follower is a member that is not the leader.
func (c *Cluster) Follower(t T) *Member {
	t.Helper()
	leader := c.Leader(t)
	for _, m := range c.Members {
		if m != leader {
			return m
		}
	}
	t.Fatal("a cluster of one has no follower")
	return nil
}

func (c *Cluster) cleanup(t T) {
	logs := map[*Member]string{} // as they are now: stopping adds lines that explain nothing
	for _, m := range c.Members {
		logs[m] = tail(m.LogFile, 2048)
	}
	for _, m := range c.Members {
		if err := m.end(); err != nil {
			t.Errorf("%s: %v", m.Name, err)
		}
	}
	if !t.Failed() {
		os.RemoveAll(c.dir)
		return
	}
	for _, m := range c.Members {
		t.Logf("the end of %s:\n%s", m.LogFile, logs[m])
	}
}

// tail is the last size bytes of a file.
func tail(path string, size int) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-size):])
}
