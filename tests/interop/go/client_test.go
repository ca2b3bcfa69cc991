// Package interop drives a running detcd, one member and three, with etcd's own Go client and
// etcdctl, and kills and loads it. See ../README.md.
package interop

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"detcd.dev/interop/cluster"
)

// patience is longer than any answer takes; a test that waits this long has failed.
const patience = 10 * time.Second

// sizes are the clusters that each test runs on.
var sizes = []int{1, 3}

// topic is one subject that the tests of a client cover. Topics share a cluster; each works below a
// key prefix of its own, and no topic relies on the store's revision standing still elsewhere.
type topic struct {
	name string
	run  func(t *testing.T, c *cluster.Cluster)
}

func runTopics(t *testing.T, topics []topic) {
	for _, size := range sizes {
		t.Run(fmt.Sprintf("members=%d", size), func(t *testing.T) {
			c := cluster.Start(t, size, cluster.Fast...)
			for _, topic := range topics {
				t.Run(topic.name, func(t *testing.T) { topic.run(t, c) })
			}
		})
	}
}

// TestClient covers etcd's Go client, API by API.
func TestClient(t *testing.T) {
	runTopics(t, []topic{
		{"range options", testRangeOptions},
		{"put options", testPutOptions},
		{"delete", testDelete},
		{"range stream", testRangeStream},
		{"linearizable reads", testLinearizableReads},
		{"txn compare", testTxnCompare},
		{"txn execution", testTxnExecution},
		{"watch events", testWatchEvents},
		{"watch filters", testWatchFilters},
		{"watch progress", testWatchProgress},
		{"watch fragments", testWatchFragments},
		{"watch over a restart", testWatchOverRestart},
		{"lease", testLease},
		{"lease expiry", testLeaseExpiry},
		{"session and mutex", testMutex},
		{"election", testElection},
		{"stm", testSTM},
		{"status and members", testStatusAndMembers},
		{"alarms", testAlarms},
		{"error texts", testErrorTexts},
		// Compaction comes last: it takes history from whoever would come after.
		{"compaction", testCompaction},
		{"watch of compacted history", testWatchCompacted},
	})
}

// deadline is the context of one test's requests.
func deadline(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// oneMember is a client of a single member, a follower as often as not. What it wrote, that member
// has applied: a watch or a serializable read right behind a write would be up to another member,
// which may not have.
func oneMember(t testing.TB, c *cluster.Cluster) *clientv3.Client {
	t.Helper()
	return c.Client(t, c.Members[len(c.Members)-1].ClientURL)
}

// put writes and gives the revision.
func put(t testing.TB, client *clientv3.Client, key, value string, options ...clientv3.OpOption) int64 {
	t.Helper()
	response, err := client.Put(deadline(t), key, value, options...)
	if err != nil {
		t.Fatalf("put %s: %v", key, err)
	}
	return response.Header.Revision
}

// get reads.
func get(t testing.TB, client *clientv3.Client, key string, options ...clientv3.OpOption) *clientv3.GetResponse {
	t.Helper()
	response, err := client.Get(deadline(t), key, options...)
	if err != nil {
		t.Fatalf("get %s: %v", key, err)
	}
	return response
}

// value is the value of a key that must exist.
func value(t testing.TB, client *clientv3.Client, key string) string {
	t.Helper()
	response := get(t, client, key)
	if len(response.Kvs) != 1 {
		t.Fatalf("%s has %d values", key, len(response.Kvs))
	}
	return string(response.Kvs[0].Value)
}

// commit runs a transaction.
func commit(t testing.TB, txn clientv3.Txn) *clientv3.TxnResponse {
	t.Helper()
	response, err := txn.Commit()
	if err != nil {
		t.Fatalf("txn: %v", err)
	}
	return response
}

// unbuilt is how detcd answers what it does not do yet, always with the code Unimplemented. A test
// that meets it is skipped, and runs by itself from the day on that detcd does it.
const unbuilt = "not supported by this version"

func skipUnbuilt(t testing.TB, answer string) {
	t.Helper()
	if !cluster.IsEtcd() && strings.Contains(answer, unbuilt) {
		t.Skip(strings.TrimSpace(answer))
	}
}

// same fails the test when got is not want.
func same[T comparable](t testing.TB, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}
