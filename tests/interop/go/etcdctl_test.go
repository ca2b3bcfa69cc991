package interop

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"detcd.dev/interop/cluster"
)

// TestEtcdctl runs etcd's own etcdctl and compares what it prints.
func TestEtcdctl(t *testing.T) {
	runTopics(t, []topic{
		{"put get del", ctlKV},
		{"formats", ctlFormats},
		{"txn", ctlTxn},
		{"watch", ctlWatch},
		{"lease", ctlLease},
		{"lock and elect", ctlLock},
		{"endpoint", ctlEndpoint},
		{"member", ctlMember},
		{"alarm", ctlAlarm},
		{"defrag", ctlDefrag},
		{"snapshot", ctlSnapshot},
		{"user and role", ctlUsers},
		{"errors", ctlErrors},
		{"compaction", ctlCompaction},
	})
}

// etcdctlPath is built by `go build -o bin tool`.
var etcdctlPath = filepath.Join("bin", "etcdctl")

// ctl runs etcdctl against all members and gives its stdout; it must succeed.
func ctl(t testing.TB, c *cluster.Cluster, args ...string) string {
	t.Helper()
	return ctlInput(t, c, "", args...)
}

func ctlInput(t testing.TB, c *cluster.Cluster, input string, args ...string) string {
	t.Helper()
	output := runCtl(t, c, input, args...)
	if output.Code != 0 {
		skipUnbuilt(t, output.Stderr)
		t.Fatalf("etcdctl %s: exit code %d\n%s", strings.Join(args, " "), output.Code, output.Stderr)
	}
	return output.Stdout
}

func runCtl(t testing.TB, c *cluster.Cluster, input string, args ...string) cluster.Output {
	t.Helper()
	args = append([]string{"--endpoints", strings.Join(c.Endpoints(), ",")}, args...)
	return cluster.Run(deadline(t), t, input, etcdctlPath, args...)
}

// prints checks all of what etcdctl prints.
func prints(t testing.TB, c *cluster.Cluster, want string, args ...string) {
	t.Helper()
	same(t, "etcdctl "+strings.Join(args, " "), ctl(t, c, args...), want)
}

// printsLike checks each line against a pattern that must match all of it.
func printsLike(t testing.TB, c *cluster.Cluster, patterns []string, args ...string) {
	t.Helper()
	lines := strings.Split(strings.TrimSuffix(ctl(t, c, args...), "\n"), "\n")
	like(t, "etcdctl "+strings.Join(args, " "), lines, patterns)
}

func like(t testing.TB, what string, lines, patterns []string) {
	t.Helper()
	same(t, what+": lines", len(lines), len(patterns))
	for i := range min(len(lines), len(patterns)) {
		if !regexp.MustCompile("^(?:" + patterns[i] + ")$").MatchString(lines[i]) {
			t.Errorf("%s: line %d is %q, want %s", what, i+1, lines[i], patterns[i])
		}
	}
}

// printsJSON decodes what etcdctl prints with -w json.
func printsJSON[T any](t testing.TB, c *cluster.Cluster, args ...string) T {
	t.Helper()
	var decoded T
	text := ctl(t, c, append(args, "-w", "json")...)
	if err := json.Unmarshal([]byte(text), &decoded); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return decoded
}

type jsonHeader struct {
	ClusterID uint64 `json:"cluster_id"`
	MemberID  uint64 `json:"member_id"`
	Revision  int64  `json:"revision"`
	RaftTerm  uint64 `json:"raft_term"`
}

type jsonRange struct {
	Header jsonHeader
	Kvs    []struct {
		Key, Value     []byte
		CreateRevision int64 `json:"create_revision"`
		ModRevision    int64 `json:"mod_revision"`
		Version        int64
	}
	Count int64
	More  bool
}

func ctlKV(t *testing.T, c *cluster.Cluster) {
	prints(t, c, "OK\n", "put", "ctl/a", "1")
	prints(t, c, "OK\nctl/a\n1\n", "put", "ctl/a", "2", "--prev-kv")
	same(t, "value from stdin", ctlInput(t, c, "from stdin", "put", "ctl/b"), "OK\n")
	prints(t, c, "OK\n", "put", "ctl/c", "")
	prints(t, c, "ctl/a\n2\n", "get", "ctl/a")
	prints(t, c, "", "get", "ctl/none")
	prints(t, c, "ctl/a\n2\nctl/b\nfrom stdin\nctl/c\n\n", "get", "ctl/", "--prefix")
	prints(t, c, "ctl/c\n\nctl/b\nfrom stdin\n", "get", "ctl/", "--prefix", "--order=DESCEND", "--limit=2")
	prints(t, c, "ctl/a\n\nctl/b\n\n", "get", "ctl/a", "ctl/c", "--keys-only")
	prints(t, c, "2\n", "get", "ctl/a", "--print-value-only")
	prints(t, c, "ctl/a\n2\n", "get", "ctl/a", "--consistency=s")
	prints(t, c, `\x63\x74\x6c\x2f\x61`+"\n"+`\x32`+"\n", "get", "ctl/a", "--hex")
	prints(t, c, "ctl/a\n2\nctl/b\nfrom stdin\nctl/c\n\n", "get", "ctl/", "--prefix", "--stream")

	now := printsJSON[jsonRange](t, c, "get", "ctl/a")
	before := fmt.Sprint("--rev=", now.Kvs[0].CreateRevision)
	prints(t, c, "ctl/a\n1\n", "get", "ctl/a", before)

	prints(t, c, "1\nctl/a\n2\n", "del", "ctl/a", "--prev-kv")
	prints(t, c, "2\n", "del", "ctl/", "--prefix")
	prints(t, c, "0\n", "del", "ctl/", "--prefix")
}

func ctlFormats(t *testing.T, c *cluster.Cluster) {
	ctl(t, c, "put", "fmt/a", "1")
	ctl(t, c, "put", "fmt/a", "2")
	found := printsJSON[jsonRange](t, c, "get", "fmt/a")
	kv := found.Kvs[0]
	same(t, "json", fmt.Sprintf("%s=%s version %d count %d", kv.Key, kv.Value, kv.Version, found.Count), "fmt/a=2 version 2 count 1")
	same(t, "json revisions", kv.ModRevision, kv.CreateRevision+1)
	same(t, "json header", found.Header.Revision, kv.ModRevision)
	if found.Header.ClusterID == 0 || found.Header.MemberID == 0 || found.Header.RaftTerm == 0 {
		t.Errorf("json header: %+v", found.Header)
	}
	printsLike(t, c, []string{
		fmt.Sprintf(`"ClusterID" : %d`, found.Header.ClusterID),
		`"MemberID" : [1-9]\d*`,
		fmt.Sprintf(`"Revision" : %d`, kv.ModRevision),
		`"RaftTerm" : [1-9]\d*`,
		`"Key" : "fmt/a"`,
		fmt.Sprintf(`"CreateRevision" : %d`, kv.CreateRevision),
		fmt.Sprintf(`"ModRevision" : %d`, kv.ModRevision),
		`"Version" : 2`,
		`"Value" : "2"`,
		`"Lease" : 0`,
		`"More" : false`,
		`"Count" : 1`,
	}, "get", "fmt/a", "-w", "fields")
	printsLike(t, c, []string{`"ClusterID" : \d+`, `"MemberID" : \d+`, `"Revision" : \d+`, `"RaftTerm" : \d+`, `"More" : false`, `"Count" : 1`},
		"get", "fmt/", "--prefix", "--count-only", "-w", "fields")
}

func ctlTxn(t *testing.T, c *cluster.Cluster) {
	ctl(t, c, "put", "txn/a", "1")
	script := "value(\"txn/a\") = \"1\"\nversion(\"txn/b\") = \"0\"\n\nput txn/b 2\nget txn/b\ndel txn/a\n\nget txn/a\n\n"
	same(t, "success", ctlInput(t, c, script, "txn"), "SUCCESS\n\nOK\n\ntxn/b\n2\n\n1\n")
	same(t, "failure", ctlInput(t, c, script, "txn"), "FAILURE\n\n")
	prints(t, c, "txn/b\n2\n", "get", "txn/", "--prefix")
}

// ctlWatch reads a watch while it runs: history first, then what happens meanwhile.
func ctlWatch(t *testing.T, c *cluster.Cluster) {
	ctl(t, c, "put", "cw/a", "1")
	first := printsJSON[jsonRange](t, c, "get", "cw/a").Header.Revision
	watch := startTool(t, c, etcdctlPath, "watch", "cw/", "--prefix", "--prev-kv", fmt.Sprint("--rev=", first))
	like(t, "history", watch.lines(t, 3), []string{"PUT", "cw/a", "1"})
	ctl(t, c, "put", "cw/a", "2")
	ctl(t, c, "del", "cw/a")
	// The value before, then the change: a deleted key has an empty value.
	like(t, "changes", watch.lines(t, 10), []string{"PUT", "cw/a", "1", "cw/a", "2", "DELETE", "cw/a", "2", "cw/a", ""})
}

func ctlLease(t *testing.T, c *cluster.Cluster) {
	granted := ctl(t, c, "lease", "grant", "100")
	match := regexp.MustCompile(`^lease ([0-9a-f]{16}) granted with TTL\(100s\)\n$`).FindStringSubmatch(granted)
	if match == nil {
		t.Fatalf("grant: %q", granted)
	}
	id := match[1]
	if listed := ctl(t, c, "lease", "list"); !strings.Contains(listed, id) {
		t.Errorf("lease list: %q", listed)
	}
	prints(t, c, "OK\n", "put", "cl/a", "1", "--lease="+id)
	printsLike(t, c, []string{"lease " + id + ` granted with TTL\(100s\), remaining\((99|98|97)s\), attached keys\(\[cl/a\]\)`},
		"lease", "timetolive", id, "--keys")
	prints(t, c, "lease "+id+" keepalived with TTL(100)\n", "lease", "keep-alive", "--once", id)
	prints(t, c, "lease "+id+" revoked\n", "lease", "revoke", id)
	prints(t, c, "lease "+id+" already expired\n", "lease", "timetolive", id)
	prints(t, c, "", "get", "cl/a")
}

func ctlLock(t *testing.T, c *cluster.Cluster) {
	lock := startTool(t, c, etcdctlPath, "lock", "ctl-lock")
	like(t, "lock", lock.lines(t, 1), []string{"ctl-lock/[0-9a-f]+"})
	lock.end(t, os.Interrupt)
	prints(t, c, "", "get", "ctl-lock", "--prefix")

	elect := startTool(t, c, etcdctlPath, "elect", "ctl-elect", "me")
	like(t, "elect", elect.lines(t, 2), []string{"ctl-elect/[0-9a-f]+", "me"})
	listen := startTool(t, c, etcdctlPath, "elect", "-l", "ctl-elect")
	like(t, "observe", listen.lines(t, 2), []string{"ctl-elect/[0-9a-f]+", "me"})
	elect.end(t, os.Interrupt)
}

type jsonStatuses []struct {
	Endpoint string
	Status   struct {
		Header         jsonHeader
		Version        string
		StorageVersion string
		Leader         uint64
	}
}

// awaitStorageVersion waits until the members have agreed on a cluster version, which takes some
// seconds after a first start, and have taken it up.
func awaitStorageVersion(t testing.TB, c *cluster.Cluster) {
	t.Helper()
	for began := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		all := printsJSON[jsonStatuses](t, c, "endpoint", "status")
		agreed := 0
		for _, s := range all {
			if s.Status.StorageVersion == "3.7.0" {
				agreed++
			}
		}
		if agreed == len(c.Members) {
			return
		}
		if time.Since(began) > 2*patience {
			t.Fatalf("storage versions: %+v", all)
		}
	}
}

func ctlEndpoint(t *testing.T, c *cluster.Cluster) {
	var healthy, status, hashes []string
	for range c.Members {
		healthy = append(healthy, `http://127\.0\.0\.2:\d+ is healthy: successfully committed proposal: took = .*s`)
	}
	printsLike(t, c, healthy, "endpoint", "health")

	awaitStorageVersion(t, c)
	leader := c.Leader(t)
	for _, m := range c.Members {
		status = append(status, fmt.Sprintf(`%s, [0-9a-f]+, 3\.7\.1, 3\.7\.0, .*B, .*B, \d+%%, 2\.1 GB, %t, false, \d+, \d+, \d+, , , false`,
			regexp.QuoteMeta(m.ClientURL), m == leader))
		hashes = append(hashes, fmt.Sprintf(`%s, \d+, \d+`, regexp.QuoteMeta(m.ClientURL)))
	}
	printsLike(t, c, status, "endpoint", "status")
	printsLike(t, c, hashes, "endpoint", "hashkv")

	for _, s := range printsJSON[jsonStatuses](t, c, "endpoint", "status") {
		same(t, s.Endpoint+" version", s.Status.Version, "3.7.1")
		same(t, s.Endpoint+" leads", s.Status.Leader == s.Status.Header.MemberID, s.Endpoint == leader.ClientURL)
	}
	table := ctl(t, c, "endpoint", "status", "-w", "table")
	for _, want := range []string{"│        ENDPOINT", "IS LEADER", c.Members[0].ClientURL} {
		if !strings.Contains(table, want) {
			t.Errorf("no %q in\n%s", want, table)
		}
	}
}

func ctlMember(t *testing.T, c *cluster.Cluster) {
	type members struct {
		Members []struct {
			ID         uint64
			Name       string
			PeerURLs   []string `json:"peerURLs"`
			ClientURLs []string `json:"clientURLs"`
		}
	}
	byName := map[string]*cluster.Member{}
	for _, m := range c.Members {
		byName[m.Name] = m
	}
	listed := printsJSON[members](t, c, "member", "list")
	same(t, "members", len(listed.Members), len(c.Members))
	var lines []string
	for _, m := range listed.Members {
		same(t, m.Name+" peer URLs", fmt.Sprint(m.PeerURLs), fmt.Sprint([]string{byName[m.Name].PeerURL}))
		same(t, m.Name+" client URLs", fmt.Sprint(m.ClientURLs), fmt.Sprint([]string{byName[m.Name].ClientURL}))
		lines = append(lines, fmt.Sprintf("%x, started, %s, %s, %s, false\n", m.ID, m.Name, m.PeerURLs[0], m.ClientURLs[0]))
	}
	prints(t, c, strings.Join(lines, ""), "member", "list")
	table := ctl(t, c, "member", "list", "-w", "table")
	if !regexp.MustCompile(fmt.Sprintf(`│ +%x │ started │`, listed.Members[0].ID)).MatchString(table) {
		t.Errorf("table:\n%s", table)
	}
}

func ctlAlarm(t *testing.T, c *cluster.Cluster) {
	prints(t, c, "", "alarm", "list")
	client := c.Client(t)
	maintenance := pb.NewMaintenanceClient(client.ActiveConnection())
	raise := &pb.AlarmRequest{Action: pb.AlarmRequest_ACTIVATE, MemberID: 42, Alarm: pb.AlarmType_NOSPACE}
	if _, err := maintenance.Alarm(deadline(t), raise); err != nil {
		t.Fatal(err)
	}
	// How many spaces there are is up to the build of etcdctl.
	printsLike(t, c, []string{"memberID:42 +alarm:NOSPACE ?"}, "alarm", "list")
	printsLike(t, c, []string{"memberID:42 +alarm:NOSPACE ?"}, "alarm", "disarm")
	prints(t, c, "", "alarm", "list")
}

func ctlDefrag(t *testing.T, c *cluster.Cluster) {
	var lines []string
	for range c.Members {
		lines = append(lines, `Finished defragmenting etcd member\[http://127\.0\.0\.2:\d+\]\. took .*s`)
	}
	printsLike(t, c, lines, "defrag")
}

func ctlSnapshot(t *testing.T, c *cluster.Cluster) {
	// etcdutl reads the snapshot as etcd's own: its hash and revision are those of the store.
	ctl(t, c, "put", "snapshot/a", "1")
	revision := printsJSON[jsonRange](t, c, "get", "snapshot/a").Header.Revision
	file := filepath.Join(t.TempDir(), "snapshot.db")
	// A snapshot is one member's: the first.
	saved := cluster.Run(deadline(t), t, "", etcdctlPath, "--endpoints", c.Endpoints()[0], "snapshot", "save", file)
	skipUnbuilt(t, saved.Stderr)
	same(t, "snapshot save", saved.Stdout, "Snapshot saved at "+file+"\nServer version 3.7.0\n")
	status := cluster.Run(deadline(t), t, "", filepath.Join("bin", "etcdutl"), "snapshot", "status", file, "-w", "json")
	var snapshot struct{ Revision, TotalKey int64 }
	if err := json.Unmarshal([]byte(status.Stdout), &snapshot); err != nil {
		t.Fatalf("%v: %s%s", err, status.Stdout, status.Stderr)
	}
	if snapshot.Revision < revision-1 || snapshot.Revision > revision || snapshot.TotalKey == 0 {
		t.Errorf("snapshot at revision %d with %d keys, the store is at %d", snapshot.Revision, snapshot.TotalKey, revision)
	}
}

func ctlUsers(t *testing.T, c *cluster.Cluster) {
	prints(t, c, "Authentication Status: false\nAuthRevision: 1\n", "auth", "status")
	prints(t, c, "Role reader created\n", "role", "add", "reader")
	prints(t, c, "Role reader updated\n", "role", "grant-permission", "reader", "read", "ctl/", "--prefix")
	prints(t, c, "Role reader\nKV Read:\n\t[ctl/, ctl0) (prefix ctl/)\nKV Write:\n", "role", "get", "reader")
	prints(t, c, "User ann created\n", "user", "add", "ann:secret")
	prints(t, c, "Role reader is granted to user ann\n", "user", "grant-role", "ann", "reader")
	prints(t, c, "User: ann\nRoles: reader\n", "user", "get", "ann")
	prints(t, c, "ann\n", "user", "list")

	prints(t, c, "User root created\n", "user", "add", "root:secret")
	prints(t, c, "Role root created\n", "role", "add", "root")
	prints(t, c, "Role root is granted to user root\n", "user", "grant-role", "root", "root")
	prints(t, c, "Authentication Enabled\n", "auth", "enable")
	refused := runCtl(t, c, "", "--user", "ann:secret", "put", "ctl/a", "1")
	same(t, "a reader writes", lastLine(refused.Stderr), "Error: etcdserver: permission denied")
	same(t, "exit code", refused.Code, 1)
	wrong := runCtl(t, c, "", "--user", "ann:wrong", "get", "ctl/a")
	same(t, "a wrong password", lastLine(wrong.Stderr), "Error: etcdserver: authentication failed, invalid user ID or password")
	prints(t, c, "OK\n", "--user", "root:secret", "put", "ctl/a", "1")
	prints(t, c, "ctl/a\n1\n", "--user", "ann:secret", "get", "ctl/a")
	prints(t, c, "Authentication Disabled\n", "--user", "root:secret", "auth", "disable")
}

func ctlErrors(t *testing.T, c *cluster.Cluster) {
	for _, test := range []struct {
		args []string
		code int
		text string
	}{
		{[]string{"put", "", "x"}, 1, "Error: etcdserver: key is not provided"},
		{[]string{"get", "a", "--rev=1000000"}, 1, "Error: etcdserver: mvcc: required revision is a future revision"},
		{[]string{"put", "a", "1", "--lease=123"}, 1, "Error: etcdserver: requested lease not found"},
		{[]string{"lease", "revoke", "123"}, 1, "Error: failed to revoke lease (etcdserver: requested lease not found)"},
		{[]string{"user", "get", "nobody"}, 1, "Error: etcdserver: user name not found"},
		{[]string{"get"}, 128, "Error: get command needs one argument as key and an optional argument as range_end"},
	} {
		t.Run(strings.Join(test.args, " "), func(t *testing.T) {
			output := runCtl(t, c, "", test.args...)
			skipUnbuilt(t, output.Stderr)
			same(t, "exit code", output.Code, test.code)
			same(t, "stderr", lastLine(output.Stderr), test.text)
			same(t, "stdout", output.Stdout, "")
		})
	}
}

func ctlCompaction(t *testing.T, c *cluster.Cluster) {
	ctl(t, c, "put", "cc/a", "1")
	revision := printsJSON[jsonRange](t, c, "get", "cc/a").Header.Revision
	ctl(t, c, "put", "cc/a", "2")
	prints(t, c, fmt.Sprintf("compacted revision %d\n", revision), "compaction", fmt.Sprint(revision), "--physical")
	again := runCtl(t, c, "", "compaction", fmt.Sprint(revision))
	same(t, "compacting again", lastLine(again.Stderr), "Error: etcdserver: mvcc: required revision has been compacted")
	old := runCtl(t, c, "", "get", "cc/a", fmt.Sprint("--rev=", revision-1))
	same(t, "a compacted read", lastLine(old.Stderr), "Error: etcdserver: mvcc: required revision has been compacted")
}

// lastLine is etcdctl's own error: the client library logs above it.
func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return lines[len(lines)-1]
}
