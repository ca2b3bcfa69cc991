package interop

import (
	"fmt"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/leasing"
	"go.etcd.io/etcd/client/v3/ordering"

	"detcd.dev/interop/cluster"
)

// TestPackagesOverRestart has packages of etcd's Go client at work while the leader is killed and starts
// again.
func TestPackagesOverRestart(t *testing.T) {
	runTopics(t, []topic{
		{"ordering", testOrderingOverRestart},
		{"leasing", testLeasingOverRestart},
	})
}

// restart kills the leader and starts it again, and waits until it serves.
func restart(t testing.TB, c *cluster.Cluster) {
	t.Helper()
	leader := c.Leader(t)
	cluster.Kill(t, leader)
	leader.Start(t)
	leader.WaitReady(t)
}

// testOrderingOverRestart reads without consensus from whichever member comes next, while one of them restarts and
// others may lag: what the client has seen once it never sees older.
func testOrderingOverRestart(t *testing.T, c *cluster.Cluster) {
	const writes = 60
	writer, reader := c.Client(t), c.Client(t)
	kv := ordering.NewKV(reader.KV, ordering.NewOrderViolationSwitchEndpointClosure(reader))
	var last int64
	for i := range writes {
		if i == writes/2 {
			restart(t, c)
		}
		put(t, writer, "ordering/a", fmt.Sprint(i))
		response, err := kv.Get(deadline(t), "ordering/a", clientv3.WithSerializable())
		if err != nil {
			t.Fatal(err)
		}
		if response.Header.Revision < last {
			t.Fatalf("read at revision %d after %d", response.Header.Revision, last)
		}
		last = response.Header.Revision
	}
	response, err := kv.Get(deadline(t), "ordering/a")
	if err != nil {
		t.Fatal(err)
	}
	same(t, "the last", contents(response), fmt.Sprintf("ordering/a=%d", writes-1))
}

// newLeasing is a key-value client that owns what it has read until somebody else writes it.
func newLeasing(t testing.TB, client *clientv3.Client, prefix string) clientv3.KV {
	t.Helper()
	kv, closeKV, err := leasing.NewKV(client, prefix)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(closeKV)
	return kv
}

func testLeasingOverRestart(t *testing.T, c *cluster.Cluster) {
	ctx := deadline(t)
	one, two := newLeasing(t, c.Client(t), "leasing2/"), newLeasing(t, c.Client(t), "leasing2/")
	for round := range 4 {
		want := fmt.Sprint(round)
		if _, err := two.Put(ctx, "leased2/a", want); err != nil {
			t.Fatal(err)
		}
		response, err := one.Get(ctx, "leased2/a")
		if err != nil {
			t.Fatal(err)
		}
		same(t, "read", contents(response), "leased2/a="+want)
		if round == 1 {
			restart(t, c)
		}
	}
}
