package interop

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	"go.etcd.io/etcd/client/v3/leasing"
	"go.etcd.io/etcd/client/v3/mirror"
	"go.etcd.io/etcd/client/v3/namespace"
	"go.etcd.io/etcd/client/v3/ordering"

	"detcd.dev/interop/cluster"
)

// TestClientPackages covers what etcd's Go client builds on top of the API.
func TestClientPackages(t *testing.T) {
	runTopics(t, []topic{
		{"namespace", testNamespace},
		{"mirror", testMirror},
		{"leasing", testLeasing},
		{"naming", testNaming},
		{"resolver", testResolver},
		{"stm isolation", testSTMIsolation},
		{"locker", testLocker},
		{"session of a lease", testSessionOfLease},
		{"resumed election", testResumedElection},
	})
}

// contents are the keys and values of an answer as "key=value".
func contents(response *clientv3.GetResponse) string {
	var all []string
	for _, kv := range response.Kvs {
		all = append(all, fmt.Sprintf("%s=%s", kv.Key, kv.Value))
	}
	return strings.Join(all, " ")
}

func testNamespace(t *testing.T, c *cluster.Cluster) {
	outside := c.Client(t)
	inside := c.Client(t)
	inside.KV = namespace.NewKV(inside.KV, "space/")
	inside.Watcher = namespace.NewWatcher(inside.Watcher, "space/")
	inside.Lease = namespace.NewLease(inside.Lease, "space/")

	lease, err := inside.Grant(deadline(t), 60)
	if err != nil {
		t.Fatal(err)
	}
	first := put(t, inside, "a", "1", clientv3.WithLease(lease.ID))
	put(t, outside, "space0", "not inside")
	same(t, "outside", value(t, outside, "space/a"), "1")
	same(t, "inside", contents(get(t, inside, "", clientv3.WithPrefix())), "a=1")
	same(t, "from a key on", contents(get(t, inside, "a", clientv3.WithFromKey())), "a=1")
	lives, err := inside.TimeToLive(deadline(t), lease.ID, clientv3.WithAttachedKeys())
	if err != nil {
		t.Fatal(err)
	}
	same(t, "keys of the lease", fmt.Sprintf("%s", lives.Keys), "[a]")

	watch := inside.Watch(t.Context(), "", clientv3.WithPrefix(), clientv3.WithRev(first))
	checkEvents(t, watch, first, "+0 put a=1")
	swapped := commit(t, inside.Txn(deadline(t)).
		If(clientv3.Compare(clientv3.Value("a"), "=", "1"), clientv3.Compare(clientv3.Version(""), ">", 0).WithPrefix()).
		Then(clientv3.OpPut("b", "2"), clientv3.OpDelete("a", clientv3.WithPrevKV()), clientv3.OpGet("", clientv3.WithPrefix())).
		Else(clientv3.OpGet("a")))
	same(t, "txn", swapped.Succeeded, true)
	same(t, "deleted", string(swapped.Responses[1].GetResponseDeleteRange().PrevKvs[0].Key), "a")
	same(t, "read", contents((*clientv3.GetResponse)(swapped.Responses[2].GetResponseRange())), "b=2")
	checkEvents(t, watch, swapped.Header.Revision, "+0 put b=2", "+0 delete a")
	same(t, "outside", contents(get(t, outside, "space", clientv3.WithPrefix())), "space/b=2 space0=not inside")
}

// testMirror copies more keys than go into one request of the mirror, then what happens meanwhile.
func testMirror(t *testing.T, c *cluster.Cluster) {
	const keys = 2500
	client := oneMember(t, c)
	for from := 0; from < keys; from += 100 {
		var puts []clientv3.Op
		for i := from; i < from+100; i++ {
			puts = append(puts, clientv3.OpPut(fmt.Sprintf("mirror/%04d", i), fmt.Sprint("value ", i)))
		}
		commit(t, client.Txn(deadline(t)).Then(puts...))
	}
	syncer := mirror.NewSyncer(client, "mirror/", 0)
	base, failed := syncer.SyncBase(deadline(t))
	copied := map[string]string{}
	batches := 0
	for response := range base {
		batches++
		for _, kv := range response.Kvs {
			copied[string(kv.Key)] = string(kv.Value)
		}
	}
	if err := <-failed; err != nil {
		t.Fatal(err)
	}
	same(t, "batches", batches > 1, true)
	same(t, "keys", len(copied), keys)
	for i := range keys {
		same(t, "a copied value", copied[fmt.Sprintf("mirror/%04d", i)], fmt.Sprint("value ", i))
	}
	changed := put(t, client, "mirror/0000", "new")
	if _, err := client.Delete(deadline(t), "mirror/0001"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	checkEvents(t, syncer.SyncUpdates(ctx), changed, "+0 put mirror/0000=new", "+1 delete mirror/0001")
}

// testLeasing has two clients that keep keys to themselves take them from each other.
func testLeasing(t *testing.T, c *cluster.Cluster) {
	open := func() clientv3.KV {
		kv, done, err := leasing.NewKV(c.Client(t), "leasing-of/", concurrency.WithTTL(5))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(done)
		return kv
	}
	read := func(kv clientv3.KV, key string) string {
		t.Helper()
		response, err := kv.Get(deadline(t), key)
		if err != nil {
			t.Fatal(err)
		}
		return contents(response)
	}
	plain, one, two := c.Client(t), open(), open()
	put(t, plain, "leasing/a", "1")
	same(t, "one reads", read(one, "leasing/a"), "leasing/a=1")
	same(t, "one owns it", get(t, plain, "leasing-of/leasing/a").Count, 1)
	if _, err := two.Put(deadline(t), "leasing/a", "2"); err != nil {
		t.Fatal(err)
	}
	same(t, "one reads what two wrote", read(one, "leasing/a"), "leasing/a=2")
	if _, err := one.Put(deadline(t), "leasing/a", "3"); err != nil {
		t.Fatal(err)
	}
	same(t, "two reads what one wrote", read(two, "leasing/a"), "leasing/a=3")
	same(t, "everyone does", value(t, plain, "leasing/a"), "3")
	response, err := two.Txn(deadline(t)).
		If(clientv3.Compare(clientv3.Value("leasing/a"), "=", "3")).
		Then(clientv3.OpPut("leasing/a", "4"), clientv3.OpPut("leasing/b", "5")).
		Else(clientv3.OpGet("leasing/a")).Commit()
	if err != nil {
		t.Fatal(err)
	}
	same(t, "txn", response.Succeeded, true)
	same(t, "one reads what the txn wrote", read(one, "leasing/a")+" "+read(one, "leasing/b"), "leasing/a=4 leasing/b=5")
	deleted, err := one.Delete(deadline(t), "leasing/", clientv3.WithPrefix())
	if err != nil {
		t.Fatal(err)
	}
	same(t, "deleted", deleted.Deleted, 2)
	same(t, "two reads", read(two, "leasing/a"), "")
}

// testSTMIsolation counts up from three clients at each level that forbids lost updates.
func testSTMIsolation(t *testing.T, c *cluster.Cluster) {
	const rounds = 8
	endpoints := c.Endpoints()
	levels := map[string]concurrency.Isolation{
		"serializable snapshot": concurrency.SerializableSnapshot,
		"serializable":          concurrency.Serializable,
		"repeatable reads":      concurrency.RepeatableReads,
	}
	for _, name := range slices.Sorted(maps.Keys(levels)) {
		key := "isolation/" + name
		put(t, oneMember(t, c), key, "0")
		clients := make([]*clientv3.Client, 3)
		for worker := range clients {
			clients[worker] = c.Client(t, endpoints[worker%len(endpoints)])
			// Two of the levels read what the member has: from here on it has the key.
			same(t, "count", value(t, clients[worker], key), "0")
		}
		var group sync.WaitGroup
		for _, client := range clients {
			group.Go(func() {
				for range rounds {
					_, err := concurrency.NewSTM(client, func(stm concurrency.STM) error {
						var count int
						if _, err := fmt.Sscan(stm.Get(key), &count); err != nil {
							return err
						}
						stm.Put(key, fmt.Sprint(count+1))
						return nil
					}, concurrency.WithIsolation(levels[name]), concurrency.WithPrefetch(key), concurrency.WithAbortContext(deadline(t)))
					if err != nil {
						t.Error(err)
					}
				}
			})
		}
		group.Wait()
		same(t, name, value(t, c.Client(t), key), fmt.Sprint(len(clients)*rounds))
	}

	// Read committed only promises that reads are of committed values.
	client := oneMember(t, c)
	put(t, client, "isolation/a", "1")
	_, err := concurrency.NewSTM(client, func(stm concurrency.STM) error {
		stm.Put("isolation/copy", stm.Get("isolation/a"))
		stm.Del("isolation/a")
		same(t, "a deleted key in its transaction", stm.Get("isolation/a"), "")
		return nil
	}, concurrency.WithIsolation(concurrency.ReadCommitted), concurrency.WithAbortContext(deadline(t)))
	if err != nil {
		t.Fatal(err)
	}
	same(t, "copy", value(t, client, "isolation/copy"), "1")
	same(t, "deleted", get(t, client, "isolation/a").Count, 0)
}

// testLocker guards a plain variable with a sync.Locker of the cluster.
func testLocker(t *testing.T, c *cluster.Cluster) {
	const workers, rounds = 3, 5
	count := 0
	var group sync.WaitGroup
	for range workers {
		session := newSession(t, c.Client(t))
		group.Go(func() {
			locker := concurrency.NewLocker(session, "locker")
			for range rounds {
				locker.Lock()
				count++
				locker.Unlock()
			}
		})
	}
	group.Wait()
	same(t, "count", count, workers*rounds)
}

// testSessionOfLease leaves a session and takes its lease up in another one.
func testSessionOfLease(t *testing.T, c *cluster.Cluster) {
	client := oneMember(t, c)
	first := newSession(t, client)
	mutex := concurrency.NewMutex(first, "session-of-lease")
	if err := mutex.Lock(deadline(t)); err != nil {
		t.Fatal(err)
	}
	first.Orphan()
	<-first.Done()
	same(t, "an orphan keeps its key", get(t, client, mutex.Key()).Count, 1)
	second, err := concurrency.NewSession(client, concurrency.WithLease(first.Lease()))
	if err != nil {
		t.Fatal(err)
	}
	again := concurrency.NewMutex(second, "session-of-lease")
	if err := again.TryLock(deadline(t)); err != nil {
		t.Errorf("the lease has the lock already: %v", err)
	}
	same(t, "key", again.Key(), mutex.Key())
	owns := commit(t, client.Txn(deadline(t)).If(again.IsOwner()).Then(clientv3.OpGet(again.Key())))
	same(t, "it is the owner", owns.Succeeded, true)
	if err := second.Close(); err != nil {
		t.Fatal(err)
	}
	same(t, "the key of a closed session", get(t, client, mutex.Key()).Count, 0)
}

// testResumedElection lets a new object go on where the old one was leader.
func testResumedElection(t *testing.T, c *cluster.Cluster) {
	client := c.Client(t)
	session := newSession(t, client)
	old := concurrency.NewElection(session, "resumed")
	if err := old.Campaign(deadline(t), "before"); err != nil {
		t.Fatal(err)
	}
	resumed := concurrency.ResumeElection(session, "resumed/", old.Key(), old.Rev())
	if err := resumed.Proclaim(deadline(t), "after"); err != nil {
		t.Fatal(err)
	}
	leader, err := old.Leader(deadline(t))
	if err != nil {
		t.Fatal(err)
	}
	same(t, "leader", string(leader.Kvs[0].Value), "after")
	if err := resumed.Resign(deadline(t)); err != nil {
		t.Fatal(err)
	}
	if err := old.Proclaim(deadline(t), "too late"); !errors.Is(err, concurrency.ErrElectionNotLeader) {
		t.Errorf("it resigned and leads: %v", err)
	}
}

// TestOrdering reads from two clusters as if they were members of one, of which the second has fallen
// behind: the ordering client never shows what is older than what it has shown.
func TestOrdering(t *testing.T) {
	ahead, behind := cluster.Start(t, 1), cluster.Start(t, 1)
	for range 3 {
		put(t, ahead.Client(t), "ordering/a", "new")
	}
	put(t, behind.Client(t), "ordering/a", "old")
	client := ahead.Client(t, ahead.Endpoints()[0], behind.Endpoints()[0])
	read := func(kv clientv3.KV) (string, error) {
		response, err := kv.Get(deadline(t), "ordering/a", clientv3.WithSerializable())
		if err != nil {
			return "", err
		}
		return string(response.Kvs[0].Value), nil
	}
	// The client takes turns between them.
	seen := map[string]bool{}
	for range 100 {
		found, err := read(client)
		if err != nil {
			t.Fatal(err)
		}
		seen[found] = true
	}
	same(t, "values without order", len(seen), 2)

	ordered := ordering.NewKV(client, ordering.NewOrderViolationSwitchEndpointClosure(client))
	until(t, "the one that is ahead answers", func() bool {
		found, err := read(ordered)
		return err == nil && found == "new"
	})
	for range 5 {
		found, err := read(ordered)
		if err != nil {
			t.Fatal(err)
		}
		same(t, "value", found, "new")
	}
	cluster.Kill(t, ahead.Members[0])
	until(t, "there is no newer answer", func() bool {
		found, err := read(ordered)
		if found == "old" {
			t.Fatal("an old value after a new one")
		}
		return errors.Is(err, ordering.ErrNoGreaterRev)
	})
}
