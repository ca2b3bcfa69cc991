package interop

import (
	"fmt"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"detcd.dev/interop/cluster"
)

func testTxnCompare(t *testing.T, c *cluster.Cluster) {
	client := oneMember(t, c)
	lease, err := client.Grant(deadline(t), 60)
	if err != nil {
		t.Fatal(err)
	}
	first := put(t, client, "tc/a", "m")
	last := put(t, client, "tc/a", "m", clientv3.WithLease(lease.ID))
	put(t, client, "tc/b", "n")

	for _, test := range []struct {
		name    string
		compare clientv3.Cmp
		want    bool
	}{
		{"value equal", clientv3.Compare(clientv3.Value("tc/a"), "=", "m"), true},
		{"value not equal", clientv3.Compare(clientv3.Value("tc/a"), "!=", "m"), false},
		{"value greater", clientv3.Compare(clientv3.Value("tc/a"), ">", "l"), true},
		{"value less", clientv3.Compare(clientv3.Value("tc/a"), "<", "l"), false},
		{"version", clientv3.Compare(clientv3.Version("tc/a"), "=", 2), true},
		{"version greater", clientv3.Compare(clientv3.Version("tc/a"), ">", 2), false},
		{"created", clientv3.Compare(clientv3.CreateRevision("tc/a"), "=", first), true},
		{"modified", clientv3.Compare(clientv3.ModRevision("tc/a"), "=", last), true},
		{"modified less", clientv3.Compare(clientv3.ModRevision("tc/a"), "<", last), false},
		{"lease", clientv3.Compare(clientv3.LeaseValue("tc/a"), "=", lease.ID), true},
		{"version of a missing key", clientv3.Compare(clientv3.Version("tc/none"), "=", 0), true},
		{"created of a missing key", clientv3.Compare(clientv3.CreateRevision("tc/none"), "=", 0), true},
		{"value of a missing key", clientv3.Compare(clientv3.Value("tc/none"), "=", ""), false},
		{"value of a missing key, not equal", clientv3.Compare(clientv3.Value("tc/none"), "!=", "x"), false},
		{"every key of a prefix", clientv3.Compare(clientv3.Value("tc/").WithPrefix(), ">", "l"), true},
		{"not every key of a prefix", clientv3.Compare(clientv3.Value("tc/").WithPrefix(), ">", "m"), false},
		{"every key of an interval", clientv3.Compare(clientv3.Version("tc/a").WithRange("tc/b"), "=", 2), true},
	} {
		t.Run(test.name, func(t *testing.T) {
			response := commit(t, client.Txn(deadline(t)).If(test.compare))
			same(t, "succeeded", response.Succeeded, test.want)
			same(t, "results", len(response.Responses), 0)
		})
	}

	both := commit(t, client.Txn(deadline(t)).
		If(clientv3.Compare(clientv3.Value("tc/a"), "=", "m"), clientv3.Compare(clientv3.Value("tc/b"), "=", "m")).
		Then(clientv3.OpPut("tc/c", "no")).
		Else(clientv3.OpPut("tc/c", "yes")))
	same(t, "all compares must hold", both.Succeeded, false)
	same(t, "the other branch ran", value(t, client, "tc/c"), "yes")
}

func testTxnExecution(t *testing.T, c *cluster.Cluster) {
	client := oneMember(t, c)
	base := put(t, client, "t/a", "1")
	put(t, client, "t/b", "2")

	// Operations see what came before them in the transaction; all share one revision.
	response := commit(t, client.Txn(deadline(t)).Then(
		clientv3.OpPut("t/c", "3", clientv3.WithPrevKV()),
		clientv3.OpGet("t/", clientv3.WithPrefix()),
		clientv3.OpDelete("t/a", clientv3.WithPrevKV()),
		clientv3.OpGet("t/", clientv3.WithPrefix()),
		clientv3.OpGet("t/a", clientv3.WithRev(base)),
	))
	same(t, "revision", response.Header.Revision, base+2)
	same(t, "after the put", show(response.Responses[1].GetResponseRange().Kvs), "t/a=1 t/b=2 t/c=3")
	same(t, "deleted", show(response.Responses[2].GetResponseDeleteRange().PrevKvs), "t/a=1")
	same(t, "after the delete", show(response.Responses[3].GetResponseRange().Kvs), "t/b=2 t/c=3")
	same(t, "in the past", show(response.Responses[4].GetResponseRange().Kvs), "t/a=1")
	same(t, "modified with the transaction", get(t, client, "t/c").Kvs[0].ModRevision, base+2)

	// A nested transaction compares with the state before the outer one.
	nested := commit(t, client.Txn(deadline(t)).Then(
		clientv3.OpPut("t/new", "outer"),
		clientv3.OpTxn(
			[]clientv3.Cmp{clientv3.Compare(clientv3.Version("t/new"), "=", 0)},
			[]clientv3.Op{clientv3.OpPut("t/inner", "then"), clientv3.OpGet("t/new")},
			[]clientv3.Op{clientv3.OpPut("t/inner", "else")},
		),
	))
	inner := nested.Responses[1].GetResponseTxn()
	same(t, "nested succeeded", inner.Succeeded, true)
	same(t, "nested read", show(inner.Responses[1].GetResponseRange().Kvs), "t/new=outer")
	same(t, "nested branch", value(t, client, "t/inner"), "then")
	same(t, "one revision with the nested", get(t, client, "t/inner").Kvs[0].ModRevision, nested.Header.Revision)

	// Reads alone take no revision.
	reads := commit(t, client.Txn(deadline(t)).Then(clientv3.OpGet("t/b"), clientv3.OpGet("t/c")))
	same(t, "a transaction of reads", reads.Header.Revision, nested.Header.Revision)
	same(t, "first read", show(reads.Responses[0].GetResponseRange().Kvs), "t/b=2")

	// 128 operations are the most.
	var puts []clientv3.Op
	for i := range 128 {
		puts = append(puts, clientv3.OpPut(fmt.Sprintf("t/many/%03d", i), "x"))
	}
	same(t, "128 results", len(commit(t, client.Txn(deadline(t)).Then(puts...)).Responses), 128)
	same(t, "128 keys", get(t, client, "t/many/", clientv3.WithPrefix(), clientv3.WithCountOnly()).Count, 128)
}
