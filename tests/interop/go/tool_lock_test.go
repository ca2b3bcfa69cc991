package interop

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"detcd.dev/interop/cluster"
)

// TestToolsInOneLine has etcdctl and detcdctl take locks and stand for election, one behind the other:
// both wait for the same keys, and say the same.
func TestToolsInOneLine(t *testing.T) {
	runTopics(t, []topic{
		{"lock", eachPair(toolsLock)},
		{"lock while a program runs", eachTool(toolLockProgram)},
		{"lock is lost", eachTool(toolLockLost)},
		{"lock prints", eachTool(toolLockFormats)},
		{"elect", eachPair(toolsElect)},
		{"wrong words", eachTool(toolWrongWords)},
	})
}

func eachTool(run func(*testing.T, *cluster.Cluster, tool)) func(*testing.T, *cluster.Cluster) {
	return func(t *testing.T, c *cluster.Cluster) {
		for _, one := range bothTools(t) {
			t.Run(one.name, func(t *testing.T) { run(t, c, one) })
		}
	}
}

func eachPair(run func(t *testing.T, c *cluster.Cluster, first, second tool)) func(*testing.T, *cluster.Cluster) {
	return eachTool(func(t *testing.T, c *cluster.Cluster, first tool) {
		for _, second := range bothTools(t) {
			t.Run("before "+second.name, func(t *testing.T) { run(t, c, first, second) })
		}
	})
}

// awaitLine waits until a line has that many keys, and gives them in their order.
func awaitLine(t testing.TB, c *cluster.Cluster, name string, count int) []string {
	t.Helper()
	client := c.Client(t)
	options := []clientv3.OpOption{clientv3.WithPrefix(), clientv3.WithSort(clientv3.SortByCreateRevision, clientv3.SortAscend)}
	for began := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		found := get(t, client, name+"/", options...)
		if len(found.Kvs) == count {
			var keys []string
			for _, kv := range found.Kvs {
				keys = append(keys, string(kv.Key))
			}
			return keys
		}
		if time.Since(began) > patience {
			t.Fatalf("%d keys in %s, not %d", len(found.Kvs), name, count)
		}
	}
}

// awaitWatchers waits until the members have that many watchers: whoever waits in a line has one, and by
// then is past the moment at which its key is there and it does not know.
func awaitWatchers(t testing.TB, c *cluster.Cluster, count int) {
	t.Helper()
	until(t, fmt.Sprint(count, " watchers"), func() bool {
		sum := 0
		for _, m := range c.Members {
			sum += gauge(t, m, "etcd_debugging_mvcc_watcher_total")
		}
		return sum == count
	})
}

// gauge reads a member's metric that is a whole number.
func gauge(t testing.TB, m *cluster.Member, name string) int {
	t.Helper()
	response, err := http.Get(m.ClientURL + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	match := regexp.MustCompile(`(?m)^` + name + ` (\d+)$`).FindSubmatch(text)
	if match == nil {
		t.Fatalf("no %s", name)
	}
	value, err := strconv.Atoi(string(match[1]))
	if err != nil {
		t.Fatal(err)
	}
	return value
}

func toolsLock(t *testing.T, c *cluster.Cluster, first, second tool) {
	name := "line/" + first.name + second.name
	holder := first.start(t, c, "lock", name)
	held := holder.lines(t, 2)
	same(t, "the key of the holder", held[0], awaitLine(t, c, name, 1)[0])
	same(t, "its value", held[1], "")
	waiting := second.start(t, c, "lock", name)
	awaitLine(t, c, name, 2)
	given := second.start(t, c, "lock", name)
	keys := awaitLine(t, c, name, 3)
	awaitWatchers(t, c, 2)

	// Who gives up takes its key out of the line.
	gone := given.end(t, syscall.SIGTERM)
	same(t, "exit code of who gave up", gone.Code, 1)
	same(t, "what it printed", gone.Stdout, "")
	same(t, "what it said", lastLine(gone.Stderr), "Error: context canceled")
	awaitLine(t, c, name, 2)

	freed := holder.end(t, os.Interrupt)
	same(t, "exit code of the holder", freed.Code, 0)
	same(t, "what it said", freed.Stderr, "")
	same(t, "the key of the next", waiting.lines(t, 2)[0], keys[1])
	same(t, "exit code of the next", waiting.end(t, os.Interrupt).Code, 0)
	awaitLine(t, c, name, 0)
}

func toolLockProgram(t *testing.T, c *cluster.Cluster, one tool) {
	name := "program/" + one.name
	script := `echo "$ETCD_LOCK_KEY at $ETCD_LOCK_REV"; cat; exit 3`
	ran := one.run(t, c, "lock", name, "--", "sh", "-c", script)
	same(t, "exit code", ran.Code, 3)
	same(t, "what it said", lastLine(ran.Stderr), "Error: exit status 3")
	like(t, "what it printed", strings.Split(ran.Stdout, "\n"), []string{name + `/[0-9a-f]+ at [1-9]\d*`, ""})
	awaitLine(t, c, name, 0)

	one.prints(t, c, "fine\n", "lock", name, "echo", "fine")
	awaitLine(t, c, name, 0)
	missing := one.run(t, c, "lock", name, "no-such-program")
	same(t, "exit code", missing.Code, 1)
	same(t, "what it said", lastLine(missing.Stderr), `Error: exec: "no-such-program": executable file not found in $PATH`)
	for path, text := range map[string]string{"./no-such-program": "no such file or directory", "/etc/passwd": "permission denied"} {
		refused := one.run(t, c, "lock", name, path)
		same(t, path+": exit code", refused.Code, 1)
		same(t, path+": what it said", lastLine(refused.Stderr), "Error: fork/exec "+path+": "+text)
	}
	killed := one.run(t, c, "lock", name, "--", "sh", "-c", "kill -9 $$")
	same(t, "exit code", killed.Code, 255)
	same(t, "what it said", lastLine(killed.Stderr), "Error: signal: killed")
}

// toolLockLost ends the lease of a holder and of one that waits.
func toolLockLost(t *testing.T, c *cluster.Cluster, one tool) {
	name := "lost/" + one.name
	client := c.Client(t)
	revoke := func(key string) {
		t.Helper()
		lease := clientv3.LeaseID(get(t, client, key).Kvs[0].Lease)
		if _, err := client.Revoke(deadline(t), lease); err != nil {
			t.Fatal(err)
		}
	}
	holder := one.start(t, c, "lock", name, "--ttl=3")
	key := holder.lines(t, 2)[0]
	lives, err := client.TimeToLive(deadline(t), clientv3.LeaseID(get(t, client, key).Kvs[0].Lease))
	if err != nil {
		t.Fatal(err)
	}
	same(t, "time to live", lives.GrantedTTL, 3)
	waiting := one.start(t, c, "lock", name)
	keys := awaitLine(t, c, name, 2)
	revoke(keys[1])
	revoke(keys[0])
	lost := waiting.ended(t)
	same(t, "exit code of who waited", lost.Code, 1)
	same(t, "what it said", lastLine(lost.Stderr), "Error: mutex: session is expired")
	lost = holder.ended(t)
	same(t, "exit code of the holder", lost.Code, 1)
	same(t, "what it said", lastLine(lost.Stderr), "Error: session expired")
}

func toolLockFormats(t *testing.T, c *cluster.Cluster, one tool) {
	name := "printed/" + one.name
	holder := one.start(t, c, "lock", name, "-w", "json")
	var found jsonRange
	if line := holder.lines(t, 1)[0]; json.Unmarshal([]byte(line), &found) != nil {
		t.Fatal(line)
	}
	holder.end(t, os.Interrupt)
	kv := found.Kvs[0]
	same(t, "json", fmt.Sprintf("%d %d %d %d", len(found.Kvs), found.Count, kv.Version, len(kv.Value)), "1 1 1 0")
	same(t, "json key", strings.HasPrefix(string(kv.Key), name+"/"), true)

	leader := one.start(t, c, "elect", name, "me", "-w", "fields")
	like(t, "fields", leader.lines(t, 12), []string{
		`"ClusterID" : \d+`, `"MemberID" : \d+`, `"Revision" : \d+`, `"RaftTerm" : \d+`,
		`"Key" : "` + name + `/[0-9a-f]+"`, `"CreateRevision" : \d+`, `"ModRevision" : \d+`, `"Version" : 1`,
		`"Value" : "me"`, `"Lease" : \d+`, `"More" : false`, `"Count" : 1`,
	})
	observer := one.start(t, c, "elect", name, "-l", "-w", "fields")
	like(t, "observed", observer.lines(t, 12)[4:], []string{
		`"Key" : "` + name + `/[0-9a-f]+"`, `"CreateRevision" : \d+`, `"ModRevision" : \d+`, `"Version" : 1`,
		`"Value" : "me"`, `"Lease" : \d+`, `"More" : false`, `"Count" : 0`,
	})
	leader.end(t, os.Interrupt)
	observer.end(t, os.Interrupt)
}

func toolsElect(t *testing.T, c *cluster.Cluster, first, second tool) {
	name := "elect/" + first.name + second.name
	early := second.start(t, c, "elect", "-l", name)
	ann := first.start(t, c, "elect", name, "ann")
	elected := ann.lines(t, 2)
	same(t, "elected", elected[1], "ann")
	same(t, "observed", strings.Join(early.lines(t, 2), " "), elected[0]+" ann")
	bob := second.start(t, c, "elect", name, "bob")
	awaitLine(t, c, name, 2)
	eve := second.start(t, c, "elect", name, "eve")
	keys := awaitLine(t, c, name, 3)
	late := second.start(t, c, "elect", "--listen", name)
	same(t, "observed late", strings.Join(late.lines(t, 2), " "), elected[0]+" ann")

	// A new value of the leader's key is observed as well, whoever writes it.
	put(t, c.Client(t), elected[0], "ann again", clientv3.WithIgnoreLease())
	same(t, "observed", strings.Join(early.lines(t, 2), " "), elected[0]+" ann again")
	same(t, "observed late", strings.Join(late.lines(t, 2), " "), elected[0]+" ann again")

	gone := eve.end(t, os.Interrupt)
	same(t, "exit code of who gave up", gone.Code, 1)
	same(t, "what it said", lastLine(gone.Stderr), "Error: context canceled")
	awaitLine(t, c, name, 2)
	resigned := ann.end(t, syscall.SIGTERM)
	same(t, "exit code of who resigned", resigned.Code, 0)
	same(t, "what it said", resigned.Stderr, "")
	same(t, "elected next", strings.Join(bob.lines(t, 2), " "), keys[1]+" bob")
	for _, observer := range []*runningTool{early, late} {
		same(t, "observed", strings.Join(observer.lines(t, 2), " "), keys[1]+" bob")
		same(t, "exit code of an observer", observer.end(t, os.Interrupt).Code, 0)
	}

	same(t, "exit code of the last", bob.end(t, os.Interrupt).Code, 0)
	awaitLine(t, c, name, 0)
}

func toolWrongWords(t *testing.T, c *cluster.Cluster, one tool) {
	for _, test := range []struct {
		words []string
		text  string
	}{
		{[]string{"lock"}, "Error: lock takes a lock name argument and an optional command to execute"},
		{[]string{"elect"}, "Error: elect takes one election name argument and an optional proposal argument"},
		{[]string{"elect", "a", "b", "c"}, "Error: elect takes one election name argument and an optional proposal argument"},
		{[]string{"elect", "a"}, "Error: no proposal argument but -l not set"},
		{[]string{"elect", "-l", "a", "b"}, "Error: proposal given but -l is set"},
	} {
		output := one.run(t, c, test.words...)
		same(t, fmt.Sprint(test.words, ": exit code"), output.Code, 128)
		same(t, fmt.Sprint(test.words, ": stderr"), lastLine(output.Stderr), test.text)
	}
}
