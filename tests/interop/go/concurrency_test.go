package interop

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"

	"detcd.dev/interop/cluster"
)

func newSession(t testing.TB, client *clientv3.Client) *concurrency.Session {
	t.Helper()
	session, err := concurrency.NewSession(client, concurrency.WithTTL(5))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { session.Close() })
	return session
}

// testMutex has four sessions read and write a value under a lock, without transactions: only the
// lock keeps their additions.
func testMutex(t *testing.T, c *cluster.Cluster) {
	const workers, rounds = 4, 5
	endpoints := c.Endpoints()
	put(t, c.Client(t), "mutex-count", "0")
	var group sync.WaitGroup
	for i := range workers {
		client := c.Client(t, endpoints[i%len(endpoints)])
		session := newSession(t, client)
		group.Go(func() {
			for range rounds {
				if err := addUnderLock(t, client, session); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	same(t, "count", value(t, c.Client(t), "mutex-count"), fmt.Sprint(workers*rounds))

	client := c.Client(t)
	holder := concurrency.NewMutex(newSession(t, client), "mutex-try")
	if err := holder.Lock(deadline(t)); err != nil {
		t.Fatal(err)
	}
	other := concurrency.NewMutex(newSession(t, client), "mutex-try")
	if err := other.TryLock(deadline(t)); !errors.Is(err, concurrency.ErrLocked) {
		t.Errorf("a held lock was taken: %v", err)
	}
	if err := holder.Unlock(deadline(t)); err != nil {
		t.Fatal(err)
	}
	if err := other.TryLock(deadline(t)); err != nil {
		t.Errorf("a free lock was refused: %v", err)
	}
}

func addUnderLock(t testing.TB, client *clientv3.Client, session *concurrency.Session) error {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	mutex := concurrency.NewMutex(session, "mutex")
	if err := mutex.Lock(ctx); err != nil {
		return err
	}
	now, err := client.Get(ctx, "mutex-count")
	if err != nil {
		return err
	}
	var count int
	if _, err := fmt.Sscan(string(now.Kvs[0].Value), &count); err != nil {
		return err
	}
	if _, err := client.Put(ctx, "mutex-count", fmt.Sprint(count+1)); err != nil {
		return err
	}
	return mutex.Unlock(ctx)
}

func testElection(t *testing.T, c *cluster.Cluster) {
	client := c.Client(t)
	first := concurrency.NewElection(newSession(t, client), "election")
	loser := newSession(t, client)
	second := concurrency.NewElection(loser, "election")
	observed := first.Observe(deadline(t))

	if err := first.Campaign(deadline(t), "one"); err != nil {
		t.Fatal(err)
	}
	same(t, "observed", string((<-observed).Kvs[0].Value), "one")
	won := make(chan error, 1)
	go func() { won <- second.Campaign(deadline(t), "two") }()
	if err := first.Proclaim(deadline(t), "one again"); err != nil {
		t.Fatal(err)
	}
	same(t, "observed", string((<-observed).Kvs[0].Value), "one again")
	leader, err := second.Leader(deadline(t))
	if err != nil {
		t.Fatal(err)
	}
	same(t, "leader", string(leader.Kvs[0].Value), "one again")
	select {
	case err := <-won:
		t.Fatalf("two leaders: %v", err)
	default:
	}

	if err := first.Resign(deadline(t)); err != nil {
		t.Fatal(err)
	}
	if err := <-won; err != nil {
		t.Fatal(err)
	}
	same(t, "observed", string((<-observed).Kvs[0].Value), "two")

	// A session that ends gives the leadership up.
	if err := loser.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := first.Leader(deadline(t)); !errors.Is(err, concurrency.ErrElectionNoLeader) {
		t.Errorf("a leader without a session: %v", err)
	}
}

// testSTM moves money between accounts from several clients at once: none is made or lost.
func testSTM(t *testing.T, c *cluster.Cluster) {
	const accounts, start = 4, 100
	account := func(i int) string { return fmt.Sprintf("stm/%d", i%accounts) }
	endpoints := c.Endpoints()
	setup := oneMember(t, c)
	for i := range accounts {
		put(t, setup, account(i), fmt.Sprint(start))
	}
	var group sync.WaitGroup
	for worker := range 3 {
		// One member each: an STM reads at the revision of its first read, wherever it reads.
		client := c.Client(t, endpoints[worker%len(endpoints)])
		group.Go(func() {
			for i := range 10 {
				from, to := account(worker+i), account(worker+2*i+1)
				_, err := concurrency.NewSTM(client, func(stm concurrency.STM) error {
					return move(stm, from, to)
				}, concurrency.WithAbortContext(deadline(t)))
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()

	sum := 0
	for _, kv := range get(t, setup, "stm/", clientv3.WithPrefix()).Kvs {
		var amount int
		if _, err := fmt.Sscan(string(kv.Value), &amount); err != nil {
			t.Fatal(err)
		}
		sum += amount
	}
	same(t, "sum", sum, accounts*start)
}

func move(stm concurrency.STM, from, to string) error {
	if from == to {
		return nil
	}
	var a, b int
	if _, err := fmt.Sscan(stm.Get(from), &a); err != nil {
		return err
	}
	if _, err := fmt.Sscan(stm.Get(to), &b); err != nil {
		return err
	}
	stm.Put(from, fmt.Sprint(a-1))
	stm.Put(to, fmt.Sprint(b+1))
	return nil
}
