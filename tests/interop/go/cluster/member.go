package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// stopTimeout is how long a member may take to end after SIGTERM.
const stopTimeout = 15 * time.Second

var errUnexpectedEnd = errors.New("the process ended by itself")

// Member is one server of a cluster, running or not.
type Member struct {
	Name      string
	ClientURL string
	PeerURL   string
	DataDir   string
	LogFile   string

	binary string
	args   []string
	run    *process // nil until started; the last run afterwards
	down   bool     // we ended the last run
	client *clientv3.Client
}

func newMember(t T, binary, dir, name string) *Member {
	t.Helper()
	m := &Member{
		Name:      name,
		ClientURL: "http://" + FreeAddress(t),
		PeerURL:   "http://" + FreeAddress(t),
		DataDir:   filepath.Join(dir, name+".etcd"),
		LogFile:   filepath.Join(dir, name+".log"),
		binary:    binary,
	}
	m.args = []string{
		"--name", name,
		"--data-dir", m.DataDir,
		"--listen-client-urls", m.ClientURL,
		"--advertise-client-urls", m.ClientURL,
		"--listen-peer-urls", m.PeerURL,
		"--initial-advertise-peer-urls", m.PeerURL,
		"--initial-cluster-token", filepath.Base(dir),
	}
	return m
}

// handedOut are the addresses that FreeAddress gave away. The system may offer a port again while the
// member that it was given to has not bound it yet.
var handedOut sync.Map

// FreeAddress is an address of this machine with a port that nobody listens on; no two calls in this
// process get the same one.
func FreeAddress(t T) string {
	t.Helper()
	for {
		listener, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
		if err != nil {
			t.Fatal(err)
		}
		address := listener.Addr().String()
		listener.Close()
		if _, again := handedOut.LoadOrStore(address, true); !again {
			return address
		}
	}
}

// Start runs the member, without waiting until it serves.
func (m *Member) Start(t T) {
	t.Helper()
	log, err := os.OpenFile(m.LogFile, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	m.run, err = startProcess(m.binary, m.args, log)
	if err != nil {
		t.Fatal(err)
	}
	m.down = false
}

// SetFlag gives a flag another value, from the next start on.
func (m *Member) SetFlag(t T, name, value string) {
	t.Helper()
	at := slices.Index(m.args, name)
	if at < 0 {
		t.Fatalf("%s has no flag %s", m.Name, name)
	}
	m.args[at+1] = value
}

// WaitReady waits until the member serves.
func (m *Member) WaitReady(t T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), readyTimeout)
	defer cancel()
	if err := m.waitReady(ctx); err != nil {
		t.Fatalf("%s is not ready: %v", m.Name, err)
	}
}

// Ready tells whether the member serves now.
func (m *Member) Ready(t T) bool {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	return m.health(ctx) == nil
}

// Kill ends members at once (SIGKILL), all at the same moment: what they had not yet given to the
// system is lost.
func Kill(t T, members ...*Member) {
	t.Helper()
	for _, m := range members {
		m.down = true
		if err := m.run.signal(syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	for _, m := range members {
		<-m.run.done
	}
}

// Stop ends the member in order (SIGTERM).
func (m *Member) Stop(t T) {
	t.Helper()
	if err := m.end(); err != nil {
		t.Fatalf("%s: %v", m.Name, err)
	}
}

// ResidentBytes is the memory that the member's process holds now, as the system counts it.
func (m *Member) ResidentBytes() (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", m.run.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if value, found := strings.CutPrefix(line, "VmRSS:"); found {
			kib, err := strconv.ParseInt(strings.Fields(value)[0], 10, 64)
			return kib << 10, err
		}
	}
	return 0, fmt.Errorf("%s is not running", m.Name)
}

// end stops the member with SIGTERM, and with SIGKILL when that takes too long. It reports a member
// that was not there any more though nobody had ended it.
func (m *Member) end() error {
	if m.client != nil {
		m.client.Close()
		m.client = nil
	}
	if m.run == nil || m.down {
		return nil
	}
	m.down = true
	if m.run.ended() {
		return fmt.Errorf("%w: %s", errUnexpectedEnd, m.run.cmd.ProcessState)
	}
	if err := m.run.signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-m.run.done:
		return nil
	case <-time.After(stopTimeout):
		m.run.signal(syscall.SIGKILL)
		<-m.run.done
		return fmt.Errorf("still running %s after SIGTERM", stopTimeout)
	}
}

// waitReady waits until the member's health check answers 200.
func (m *Member) waitReady(ctx context.Context) error {
	var last error
	for {
		last = m.health(ctx)
		if last == nil {
			return nil
		}
		select {
		case <-m.run.done:
			return fmt.Errorf("%w: %s", errUnexpectedEnd, m.run.cmd.ProcessState)
		case <-ctx.Done():
			return last
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// direct never asks a proxy, whatever the environment says.
var direct = &http.Client{Transport: &http.Transport{Proxy: nil, DisableKeepAlives: true}}

func (m *Member) health(ctx context.Context) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, m.ClientURL+"/health", nil)
	if err != nil {
		return err
	}
	response, err := direct.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return errors.New(response.Status)
	}
	return nil
}

func (m *Member) status(ctx context.Context) (*clientv3.StatusResponse, error) {
	if m.client == nil {
		client, err := NewClient(m.ClientURL)
		if err != nil {
			return nil, err
		}
		m.client = client
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	return m.client.Status(ctx, m.ClientURL)
}

// cleanEnvironment is ours without the settings that servers and clients would read from it.
func cleanEnvironment() []string {
	var kept []string
	for _, variable := range os.Environ() {
		if !strings.HasPrefix(variable, "ETCD_") && !strings.HasPrefix(variable, "ETCDCTL_") {
			kept = append(kept, variable)
		}
	}
	return kept
}
