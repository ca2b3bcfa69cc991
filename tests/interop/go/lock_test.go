package interop

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3lock/v3lockpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"detcd.dev/interop/cluster"
)

// TestLockService covers the locks that the server keeps for clients without a session of their own.
func TestLockService(t *testing.T) {
	runTopics(t, []topic{
		{"lock and unlock", testLockAndUnlock},
		{"refusals", testLockRefusals},
		{"lease of the server", testLockLease},
		{"mutual exclusion", testLockExclusion},
		{"order of waiters", testLockOrder},
		{"lease expiry", testLockExpiry},
		{"waiter without a lease", testLockWaiterExpired},
		{"waiter that goes away", testLockWaiterGone},
	})
}

// granted is a new lease that nobody keeps alive.
func granted(t testing.TB, client *clientv3.Client, seconds int64) int64 {
	t.Helper()
	lease, err := client.Grant(deadline(t), seconds)
	if err != nil {
		t.Fatal(err)
	}
	return int64(lease.ID)
}

// sends fails the test unless the server sent this very status.
func sends(t testing.TB, what string, err error, code codes.Code, text string) {
	t.Helper()
	if status.Code(err) != code || status.Convert(err).Message() != text {
		t.Errorf("%s: got %v, want %s: %s", what, err, code, text)
	}
}

// until waits for a condition of the store.
func until(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !holds(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

func exists(t testing.TB, client *clientv3.Client, key string) bool {
	t.Helper()
	return get(t, client, key).Count == 1
}

// contenderKey is the key by which a lease stands in line for a lock or an election.
func contenderKey(name string, lease int64) string {
	return fmt.Sprintf("%s/%x", name, lease)
}

func locks(client *clientv3.Client) v3lockpb.LockClient {
	return v3lockpb.NewLockClient(client.ActiveConnection())
}

func lock(t testing.TB, client *clientv3.Client, name string, lease int64) *v3lockpb.LockResponse {
	t.Helper()
	locked, err := locks(client).Lock(deadline(t), &v3lockpb.LockRequest{Name: []byte(name), Lease: lease})
	if err != nil {
		t.Fatalf("lock %s: %v", name, err)
	}
	return locked
}

func unlock(t testing.TB, client *clientv3.Client, key []byte) *v3lockpb.UnlockResponse {
	t.Helper()
	unlocked, err := locks(client).Unlock(deadline(t), &v3lockpb.UnlockRequest{Key: key})
	if err != nil {
		t.Fatalf("unlock %s: %v", key, err)
	}
	return unlocked
}

// answer is what a call that had to wait came back with.
type answer[T any] struct {
	value T
	err   error
}

// waiting makes a call in the background.
func waiting[T any](call func() (T, error)) <-chan answer[T] {
	done := make(chan answer[T], 1)
	go func() {
		value, err := call()
		done <- answer[T]{value, err}
	}()
	return done
}

// stillWaiting fails the test when a call has come back already.
func stillWaiting[T any](t testing.TB, what string, call <-chan answer[T]) {
	t.Helper()
	select {
	case early := <-call:
		t.Fatalf("%s: came back with %v, %v", what, early.value, early.err)
	case <-time.After(100 * time.Millisecond):
	}
}

// comesBack is the answer of a call that waits no longer.
func comesBack[T any](t testing.TB, what string, call <-chan answer[T]) answer[T] {
	t.Helper()
	select {
	case answer := <-call:
		return answer
	case <-time.After(patience):
		t.Fatalf("%s: does not come back", what)
		panic("unreachable")
	}
}

// lockWaiting asks for a lock that somebody holds, and comes back once it stands in line.
func lockWaiting(t testing.TB, ctx context.Context, client *clientv3.Client, name string, lease int64) <-chan answer[*v3lockpb.LockResponse] {
	t.Helper()
	call := waiting(func() (*v3lockpb.LockResponse, error) {
		return locks(client).Lock(ctx, &v3lockpb.LockRequest{Name: []byte(name), Lease: lease})
	})
	until(t, "the waiter stands in line", func() bool { return exists(t, client, contenderKey(name, lease)) })
	stillWaiting(t, "a lock that is held", call)
	return call
}

func testLockAndUnlock(t *testing.T, c *cluster.Cluster) {
	client := oneMember(t, c)
	lease := granted(t, client, 60)
	names := []string{"lock/plain", "lock/with/parts/", "", "lock/\x00\xff"}
	for _, name := range names {
		locked := lock(t, client, name, lease)
		same(t, "key", string(locked.Key), contenderKey(name, lease))
		stored := get(t, client, string(locked.Key))
		if stored.Count != 1 {
			t.Fatalf("lock %q has no key", name)
		}
		same(t, "value", string(stored.Kvs[0].Value), "")
		same(t, "lease", stored.Kvs[0].Lease, lease)
		same(t, "revision", locked.Header.Revision, stored.Kvs[0].CreateRevision)
		same(t, "cluster", locked.Header.ClusterId, stored.Header.ClusterId)
		same(t, "member", locked.Header.MemberId, stored.Header.MemberId)
		same(t, "term", locked.Header.RaftTerm, stored.Header.RaftTerm)

		// The same lease again has it already: no key is written, and the header tells the present.
		again := lock(t, client, name, lease)
		same(t, "key", string(again.Key), string(locked.Key))
		same(t, "revision", again.Header.Revision, locked.Header.Revision)
		same(t, "version", get(t, client, string(locked.Key)).Kvs[0].Version, 1)

		unlocked := unlock(t, client, locked.Key)
		same(t, "revision", unlocked.Header.Revision, locked.Header.Revision+1)
		same(t, "member", unlocked.Header.MemberId, stored.Header.MemberId)
		same(t, "the key is there", exists(t, client, string(locked.Key)), false)
		// Nobody asks who unlocks, or whether there is anything to unlock.
		same(t, "revision", unlock(t, client, locked.Key).Header.Revision, unlocked.Header.Revision)
	}
}

func testLockRefusals(t *testing.T, c *cluster.Cluster) {
	client := oneMember(t, c)
	const nobodys = 0x3039
	for _, lease := range []int64{nobodys, -1} {
		_, err := locks(client).Lock(deadline(t), &v3lockpb.LockRequest{Name: []byte("refused"), Lease: lease})
		sends(t, "a lease that is not there", err, codes.Unknown, "etcdserver: requested lease not found")
		same(t, "the key is there", exists(t, client, fmt.Sprintf("refused/%x", lease)), false)
	}
	_, err := locks(client).Unlock(deadline(t), &v3lockpb.UnlockRequest{})
	sends(t, "unlock without a key", err, codes.Unknown, "etcdserver: key is not provided")
	same(t, "a key that is none of a lock", unlock(t, client, []byte("refused/none")).Header.MemberId != 0, true)

	// Only a key that must be written asks for its lease.
	put(t, client, "refused/3039", "x")
	same(t, "key", string(lock(t, client, "refused", nobodys).Key), "refused/3039")
}

func testLockLease(t *testing.T, c *cluster.Cluster) {
	client := oneMember(t, c)
	locked := lock(t, client, "granted", 0)
	lease := get(t, client, string(locked.Key)).Kvs[0].Lease
	same(t, "key", string(locked.Key), contenderKey("granted", lease))
	left, err := client.TimeToLive(deadline(t), clientv3.LeaseID(lease))
	if err != nil {
		t.Fatal(err)
	}
	same(t, "granted", left.GrantedTTL, 60)
	unlock(t, client, locked.Key)
}

// testLockExclusion has ten clients add to a value without transactions: only the lock keeps their
// additions.
func testLockExclusion(t *testing.T, c *cluster.Cluster) {
	const workers, rounds = 10, 4
	endpoints := c.Endpoints()
	put(t, c.Client(t), "exclusion-count", "0")
	var group sync.WaitGroup
	for i := range workers {
		client := c.Client(t, endpoints[i%len(endpoints)])
		lease := granted(t, client, 60)
		group.Go(func() {
			for range rounds {
				if err := addUnderServerLock(client, lease); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	client := c.Client(t)
	same(t, "count", value(t, client, "exclusion-count"), strconv.Itoa(workers*rounds))
	same(t, "keys left", get(t, client, "exclusion/", clientv3.WithPrefix()).Count, 0)
}

func addUnderServerLock(client *clientv3.Client, lease int64) error {
	ctx, cancel := context.WithTimeout(context.Background(), 6*patience)
	defer cancel()
	locked, err := locks(client).Lock(ctx, &v3lockpb.LockRequest{Name: []byte("exclusion"), Lease: lease})
	if err != nil {
		return err
	}
	count, err := client.Get(ctx, "exclusion-count")
	if err != nil {
		return err
	}
	number, err := strconv.Atoi(string(count.Kvs[0].Value))
	if err != nil {
		return err
	}
	time.Sleep(rand.N(3 * time.Millisecond))
	if _, err := client.Put(ctx, "exclusion-count", strconv.Itoa(number+1)); err != nil {
		return err
	}
	_, err = locks(client).Unlock(ctx, &v3lockpb.UnlockRequest{Key: locked.Key})
	return err
}

func testLockOrder(t *testing.T, c *cluster.Cluster) {
	client := oneMember(t, c)
	held := lock(t, client, "order", granted(t, client, 60))
	var waiters []<-chan answer[*v3lockpb.LockResponse]
	for range 4 {
		waiters = append(waiters, lockWaiting(t, deadline(t), client, "order", granted(t, client, 60)))
	}
	for i, waiter := range waiters {
		unlocked := unlock(t, client, held.Key)
		next := comesBack(t, "the next in line", waiter)
		if next.err != nil {
			t.Fatal(next.err)
		}
		// The header is that of the last look at the own key.
		same(t, "revision", next.value.Header.Revision, unlocked.Header.Revision)
		for _, other := range waiters[i+1:] {
			stillWaiting(t, "one further back", other)
		}
		held = next.value
	}
	unlock(t, client, held.Key)
}

func testLockExpiry(t *testing.T, c *cluster.Cluster) {
	client := oneMember(t, c)
	lock(t, client, "expiry", granted(t, client, 1))
	lease := granted(t, client, 60)
	waiter := lockWaiting(t, deadline(t), client, "expiry", lease)
	next := comesBack(t, "the next in line", waiter)
	if next.err != nil {
		t.Fatal(next.err)
	}
	same(t, "keys", get(t, client, "expiry/", clientv3.WithPrefix()).Count, 1)
	unlock(t, client, next.value.Key)
}

// testLockWaiterExpired has a waiter lose its lease: it finds out when its turn comes.
func testLockWaiterExpired(t *testing.T, c *cluster.Cluster) {
	client := oneMember(t, c)
	held := lock(t, client, "expired", granted(t, client, 60))
	lease := granted(t, client, 60)
	waiter := lockWaiting(t, deadline(t), client, "expired", lease)
	if _, err := client.Revoke(deadline(t), clientv3.LeaseID(lease)); err != nil {
		t.Fatal(err)
	}
	stillWaiting(t, "a waiter without a lease", waiter)
	unlock(t, client, held.Key)
	sends(t, "a waiter without a lease", comesBack(t, "the waiter", waiter).err, codes.Unknown, "mutex: session is expired")
}

// testLockWaiterGone has waiters go away in each of the ways that there are: none may leave its key.
func testLockWaiterGone(t *testing.T, c *cluster.Cluster) {
	client := oneMember(t, c)
	held := lock(t, client, "gone", granted(t, client, 60))
	lease := granted(t, client, 60)
	key := contenderKey("gone", lease)
	freed := func(how string) {
		t.Helper()
		until(t, how+" frees its key", func() bool { return !exists(t, client, key) })
	}

	ctx, cancel := context.WithCancel(t.Context())
	waiter := lockWaiting(t, ctx, client, "gone", lease)
	cancel()
	sends(t, "cancelled", comesBack(t, "a cancelled call", waiter).err, codes.Canceled, "context canceled")
	freed("a cancelled call")

	ctx, cancel = context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	waiter = lockWaiting(t, ctx, client, "gone", lease)
	same(t, "code", status.Code(comesBack(t, "a late call", waiter).err), codes.DeadlineExceeded)
	freed("a late call")

	conn := connect(t, c.Members[len(c.Members)-1])
	broken := waiting(func() (*v3lockpb.LockResponse, error) {
		return v3lockpb.NewLockClient(conn).Lock(t.Context(), &v3lockpb.LockRequest{Name: []byte("gone"), Lease: lease})
	})
	until(t, "the waiter stands in line", func() bool { return exists(t, client, key) })
	conn.Close()
	comesBack(t, "a call without a connection", broken)
	freed("a lost connection")

	// Neither the lease nor the holder is touched by any of it.
	left, err := client.TimeToLive(deadline(t), clientv3.LeaseID(lease))
	if err != nil {
		t.Fatal(err)
	}
	same(t, "granted", left.GrantedTTL, 60)
	same(t, "the holder's key is there", exists(t, client, string(held.Key)), true)
	unlock(t, client, held.Key)
}
