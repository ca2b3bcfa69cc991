package interop

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"detcd.dev/interop/cluster"
)

func testLease(t *testing.T, c *cluster.Cluster) {
	client := oneMember(t, c)
	lease, err := client.Grant(deadline(t), 60)
	if err != nil {
		t.Fatal(err)
	}
	same(t, "granted", lease.TTL, 60)
	put(t, client, "l/b", "1", clientv3.WithLease(lease.ID))
	put(t, client, "l/a", "2", clientv3.WithLease(lease.ID))

	// Keep-alives and remaining time come from the leader, whichever member is asked.
	for _, endpoint := range c.Endpoints() {
		member := c.Client(t, endpoint)
		alive, err := member.KeepAliveOnce(deadline(t), lease.ID)
		if err != nil {
			t.Fatalf("%s: %v", endpoint, err)
		}
		same(t, "kept alive for", alive.TTL, 60)
		left, err := member.TimeToLive(deadline(t), lease.ID, clientv3.WithAttachedKeys())
		if err != nil {
			t.Fatalf("%s: %v", endpoint, err)
		}
		slices.SortFunc(left.Keys, slices.Compare)
		same(t, "keys", fmt.Sprintf("%s", left.Keys), "[l/a l/b]")
		same(t, "granted", left.GrantedTTL, 60)
		if left.TTL < 50 || left.TTL > 60 {
			t.Errorf("%d seconds left", left.TTL)
		}
	}

	all, err := client.Leases(deadline(t))
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(all.Leases, func(l clientv3.LeaseStatus) bool { return l.ID == lease.ID }) {
		t.Errorf("the lease is not listed: %v", all.Leases)
	}

	watch := created(t, client, "l/", clientv3.WithPrefix(), clientv3.WithPrevKV())
	revoked, err := client.Revoke(deadline(t), lease.ID)
	if err != nil {
		t.Fatal(err)
	}
	checkEvents(t, watch, revoked.Header.Revision, "+0 delete l/a (was 2)", "+0 delete l/b (was 1)")
	same(t, "keys after the revoke", get(t, client, "l/", clientv3.WithPrefix()).Count, 0)

	if _, err := client.KeepAliveOnce(deadline(t), lease.ID); !errors.Is(err, rpctypes.ErrLeaseNotFound) {
		t.Errorf("keep-alive of a revoked lease: %v", err)
	}
	gone, err := client.TimeToLive(deadline(t), lease.ID)
	if err != nil {
		t.Fatal(err)
	}
	same(t, "time to live of a revoked lease", gone.TTL, -1)
}

func testLeaseExpiry(t *testing.T, c *cluster.Cluster) {
	client := oneMember(t, c)
	short, err := client.Grant(deadline(t), 1)
	if err != nil {
		t.Fatal(err)
	}
	same(t, "granted", short.TTL, 1)
	kept, err := client.Grant(deadline(t), 2)
	if err != nil {
		t.Fatal(err)
	}
	alive, err := client.KeepAlive(t.Context(), kept.ID)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for range alive {
		}
	}()
	watch := created(t, client, "le/", clientv3.WithPrefix())
	base := put(t, client, "le/short", "1", clientv3.WithLease(short.ID))
	put(t, client, "le/kept", "2", clientv3.WithLease(kept.ID))
	granted := time.Now()
	checkEvents(t, watch, base, "+0 put le/short=1", "+1 put le/kept=2", "+2 delete le/short")
	if waited := time.Since(granted); waited < 500*time.Millisecond {
		t.Errorf("a lease of one second expired after %s", waited)
	}
	time.Sleep(2 * time.Second)
	same(t, "kept alive", value(t, client, "le/kept"), "2")
	if _, err := client.Revoke(deadline(t), kept.ID); err != nil {
		t.Fatal(err)
	}
}
