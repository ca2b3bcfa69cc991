package interop

import (
	"context"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3election/v3electionpb"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3lock/v3lockpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"detcd.dev/interop/cluster"
)

// TestLockLeaderKilled kills the leader while clients of a follower wait: they wait on, and get what they
// wait for under the next leader.
func TestLockLeaderKilled(t *testing.T) {
	c := cluster.Start(t, 3, cluster.Fast...)
	killed := c.Leader(t)
	var others []*cluster.Member
	for _, m := range c.Members {
		if m != killed {
			others = append(others, m)
		}
	}
	client, holder := c.Client(t, others[0].ClientURL), c.Client(t, others[1].ClientURL)
	held := lock(t, holder, "kill", granted(t, holder, 60))
	first := campaign(t, holder, "kill-election", granted(t, holder, 60), "1")
	watched := observe(t, t.Context(), client, "kill-election")
	watched.next(t, "1")
	waiter := lockWaiting(t, t.Context(), client, "kill", granted(t, client, 60))
	candidate := campaignWaiting(t, t.Context(), client, "kill-election", granted(t, client, 60), "2")

	cluster.Kill(t, killed)
	stillWaiting(t, "the waiter", waiter)
	stillWaiting(t, "the candidate", candidate)
	until(t, "another member leads", func() bool {
		_, err := holder.Put(deadline(t), "kill-probe", "")
		return err == nil
	})
	unlock(t, holder, held.Key)
	if next := comesBack(t, "the waiter", waiter); next.err != nil {
		t.Error(next.err)
	}
	resign(t, holder, first.Leader)
	if next := comesBack(t, "the candidate", candidate); next.err != nil {
		t.Error(next.err)
	}
	watched.next(t, "2")
}

// TestLockWithoutLeader takes the quorum away. Who asks for a leader is told so at the start; who waits
// already waits on, but for a stream that asked for one.
func TestLockWithoutLeader(t *testing.T) {
	c := cluster.Start(t, 3, cluster.Fast...)
	client := c.Client(t, c.Members[0].ClientURL)
	demanding := clientv3.WithRequireLeader(t.Context())
	held := lock(t, client, "alone", granted(t, client, 600))
	first := campaign(t, client, "alone-election", granted(t, client, 600), "1")
	lease := granted(t, client, 600)
	waiter := lockWaiting(t, t.Context(), client, "alone", lease)
	demandingWaiter := lockWaiting(t, demanding, client, "alone", granted(t, client, 600))
	candidate := campaignWaiting(t, t.Context(), client, "alone-election", lease, "2")
	patient := observe(t, t.Context(), client, "alone-election")
	patient.next(t, "1")
	impatient := observe(t, demanding, client, "alone-election")
	impatient.next(t, "1")

	cluster.Kill(t, c.Members[1:]...)
	until(t, "the member sees no leader", func() bool {
		now, err := client.Status(deadline(t), c.Members[0].ClientURL)
		return err == nil && now.Leader == 0
	})
	sends(t, "a stream that wants a leader", impatient.ended(t), codes.Unavailable, "etcdserver: no leader")
	_, err := locks(client).Lock(demanding, &v3lockpb.LockRequest{Name: []byte("alone"), Lease: lease})
	sends(t, "a lock that wants a leader", err, codes.Unavailable, "etcdserver: no leader")
	_, err = elections(client).Leader(demanding, &v3electionpb.LeaderRequest{Name: []byte("alone-election")})
	sends(t, "a question that wants a leader", err, codes.Unavailable, "etcdserver: no leader")

	late := observe(t, t.Context(), client, "alone-election")
	// Its first look finds nobody who answers: it ends without a word of why.
	if err := late.ended(t); err != nil {
		t.Errorf("a stream that begins without a leader: %v", err)
	}

	// Who waited before waits on, demanding or not.
	stillWaiting(t, "the waiter", waiter)
	stillWaiting(t, "the waiter that wants a leader", demandingWaiter)
	stillWaiting(t, "the candidate", candidate)
	patient.silent(t)
	for _, m := range c.Members[1:] {
		m.Start(t)
	}
	c.WaitReady(t)
	unlock(t, client, held.Key)
	next := comesBack(t, "the waiter", waiter)
	if next.err != nil {
		t.Fatal(next.err)
	}
	unlock(t, client, next.value.Key)
	if next := comesBack(t, "the waiter that wants a leader", demandingWaiter); next.err != nil {
		t.Error(next.err)
	}
	resign(t, client, first.Leader)
	if next := comesBack(t, "the candidate", candidate); next.err != nil {
		t.Error(next.err)
	}
	patient.next(t, "2")
}

// TestLockMemberStops ends the member that clients wait on, in order and at once. They hear that it is not
// there; after an orderly end they are not in line any more.
func TestLockMemberStops(t *testing.T) {
	c := cluster.Start(t, 3, cluster.Fast...)
	away := c.Follower(t)
	var rest []string
	for _, m := range c.Members {
		if m != away {
			rest = append(rest, m.ClientURL)
		}
	}
	holder := c.Client(t, rest...)
	held := lock(t, holder, "stop", granted(t, holder, 60))
	for name, end := range map[string]func(){
		"in order": func() { away.Stop(t) },
		"at once":  func() { cluster.Kill(t, away) },
	} {
		t.Run(name, func(t *testing.T) {
			client, err := cluster.NewClient(away.ClientURL)
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			lease := granted(t, client, 60)
			waiter := lockWaiting(t, context.Background(), client, "stop", lease)
			watched := observe(t, context.Background(), client, "stop")
			watched.next(t, "")
			end()
			same(t, "the waiter's code", status.Code(comesBack(t, "the waiter", waiter).err), codes.Unavailable)
			same(t, "the observer's code", status.Code(watched.ended(t)), codes.Unavailable)
			same(t, "the waiter is in line", exists(t, holder, contenderKey("stop", lease)), name == "at once")
			if _, err := holder.Revoke(deadline(t), clientv3.LeaseID(lease)); err != nil {
				t.Fatal(err)
			}
			away.Start(t)
			away.WaitReady(t)
		})
	}
	unlock(t, holder, held.Key)
}
