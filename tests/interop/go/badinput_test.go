package interop

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"detcd.dev/interop/cluster"
)

// TestBadFlags starts the server with what it must refuse: one clear line, and an exit code.
func TestBadFlags(t *testing.T) {
	for _, test := range []struct {
		name string
		args []string
		code int
		text string // part of the complaint
	}{
		{"unknown flag", []string{"--no-such-flag"}, 2, "no-such-flag"},
		{"not a number", []string{"--heartbeat-interval=abc"}, 2, "heartbeat-interval"},
		{"quota is not a number", []string{"--quota-backend-bytes=many"}, 2, "quota-backend-bytes"},
		{"URL without a scheme", []string{"--listen-client-urls=127.0.0.1:1"}, 2, "listen-client-urls"},
		{"URL without a port", []string{"--listen-peer-urls=http://127.0.0.1"}, 2, "listen-peer-urls"},
		{"unknown cluster state", []string{"--initial-cluster-state=old"}, 2, "initial-cluster-state"},
		{"stray argument", []string{"stray"}, 1, "stray"},
		{"host name to bind", []string{"--listen-client-urls=http://example.com:2379", "--advertise-client-urls=http://example.com:2379"},
			1, "expected IP in URL for binding"},
		{"nothing advertised", []string{"--listen-client-urls=http://127.0.0.2:2379"}, 1, "--advertise-client-urls is required"},
		{"election too short", []string{"--heartbeat-interval=100", "--election-timeout=300"},
			1, "--election-timeout[300ms] should be at least as 5 times as --heartbeat-interval[100ms]"},
		{"election too long", []string{"--election-timeout=60000"}, 1, "should be set less than 50000ms"},
		{"unknown compaction mode", []string{"--auto-compaction-mode=never"}, 1, `unknown auto-compaction-mode`},
		{"zero interval", []string{"--compact-hash-check-time=0s"}, 1, "--compact-hash-check-time must be >0"},
		{"half a discovery", []string{"--discovery-token=t"}, 1, "both --discovery-token and --discovery-endpoints must be set"},
		{"not in the cluster", []string{"--name=x", "--initial-cluster=y=http://localhost:2380"}, 1, "couldn't find local name"},
		{"a peer URL twice", []string{"--initial-cluster=default=http://localhost:2380,b=http://localhost:2380"}, 1, "duplicate"},
		{"no such configuration", []string{"--config-file=/no/such/file"}, 1, "/no/such/file"},
		{"no such certificate", []string{"--listen-client-urls=https://127.0.0.2:1", "--advertise-client-urls=https://127.0.0.2:1",
			"--cert-file=/no/such/cert", "--key-file=/no/such/key"}, 1, "/no/such/"},
	} {
		t.Run(test.name, func(t *testing.T) {
			args := append([]string{"--data-dir", filepath.Join(t.TempDir(), "data")}, test.args...)
			refuses(t, args, test.code, test.text)
		})
	}
}

// refuses runs the server, which must end with the exit code and complain in one line beside its log.
func refuses(t testing.TB, args []string, code int, text string) {
	t.Helper()
	output := cluster.Run(deadline(t), t, "", cluster.Binary(t), args...)
	same(t, "exit code", output.Code, code)
	if cluster.IsEtcd() {
		// etcd prints its usage or a stack trace around the complaint.
		if !strings.Contains(output.Stderr, strings.ReplaceAll(text, `"`, `\"`)) {
			t.Errorf("no %q in %s", text, output.Stderr)
		}
		return
	}
	skipUnbuilt(t, output.Stderr)
	complaints := complaintsIn(output.Stderr)
	if len(complaints) != 1 || !strings.Contains(complaints[0], text) {
		t.Errorf("want one line with %q, got\n%s", text, output.Stderr)
	}
	same(t, "stdout", output.Stdout, "")
}

// complaintsIn leaves out the log, which goes to stderr as well, and the pointer to --help.
func complaintsIn(stderr string) []string {
	var lines []string
	for line := range strings.Lines(stderr) {
		if !strings.HasPrefix(line, `{"level":`) && !strings.HasPrefix(line, "Run '") {
			lines = append(lines, strings.TrimSuffix(line, "\n"))
		}
	}
	return lines
}

func TestDataFolderIsAFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	refuses(t, []string{"--data-dir", file}, 1, file)
}

// TestPortInUse gives the server a client port, then a peer port, that somebody listens on.
func TestPortInUse(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.2:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	for _, which := range []string{"client", "peer"} {
		t.Run(which, func(t *testing.T) {
			urls := map[string]string{
				"client": "http://" + cluster.FreeAddress(t),
				"peer":   "http://" + cluster.FreeAddress(t),
			}
			urls[which] = "http://" + listener.Addr().String()
			refuses(t, []string{
				"--data-dir", filepath.Join(t.TempDir(), "data"),
				"--listen-client-urls", urls["client"], "--advertise-client-urls", urls["client"],
				"--listen-peer-urls", urls["peer"], "--initial-advertise-peer-urls", urls["peer"],
				"--initial-cluster", "default=" + urls["peer"],
			}, 1, "address already in use")
		})
	}
}

// TestSecondProcess starts a second server on the data folder of a running one, with ports of its
// own. etcd would wait for the first to end; detcd says so at once. The first is unharmed.
func TestSecondProcess(t *testing.T) {
	if cluster.IsEtcd() {
		t.Skip("etcd waits")
	}
	c := cluster.Start(t, 1)
	client := c.Client(t)
	put(t, client, "a", "1")

	clientURL, peerURL := "http://"+cluster.FreeAddress(t), "http://"+cluster.FreeAddress(t)
	refuses(t, []string{
		"--data-dir", c.Members[0].DataDir, "--name", "m1",
		"--listen-client-urls", clientURL, "--advertise-client-urls", clientURL,
		"--listen-peer-urls", peerURL, "--initial-advertise-peer-urls", peerURL,
		"--initial-cluster", "m1=" + peerURL,
	}, 1, "in use")
	put(t, client, "a", "2")
	same(t, "the first goes on", value(t, client, "a"), "2")
}

// TestForeignMember gives one of three members another cluster's token: the two others make a
// quorum and do not talk to it, and it never serves.
func TestForeignMember(t *testing.T) {
	c := cluster.New(t, 3, cluster.Fast...)
	foreign := c.Members[2]
	foreign.SetFlag(t, "--initial-cluster-token", "another cluster")
	for _, m := range c.Members {
		m.Start(t)
	}
	for _, m := range c.Members[:2] {
		m.WaitReady(t)
	}
	client := c.Client(t, c.Members[0].ClientURL, c.Members[1].ClientURL)
	for i := range 10 {
		put(t, client, "a", fmt.Sprint(i))
	}
	time.Sleep(time.Second)
	if foreign.Ready(t) {
		t.Error("a member of another cluster serves")
	}
	same(t, "the two go on", value(t, client, "a"), "9")
	log, err := os.ReadFile(foreign.LogFile)
	if err != nil {
		t.Fatal(err)
	}
	if !regexp.MustCompile(`(?i)cluster id mismatch|the caller belongs to`).Match(log) {
		t.Error("the log of the foreign member does not give the other cluster as the reason")
	}
}
