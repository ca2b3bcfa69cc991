package interop

import (
	"context"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3election/v3electionpb"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3lock/v3lockpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"

	"detcd.dev/interop/cluster"
)

// connect is a plain connection to a member: what its server says arrives as it is, where etcd's client
// would look at it first and try some of it again.
func connect(t testing.TB, m *cluster.Member) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(m.ClientURL[len("http://"):], grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// TestLeaderless asks a member that is alone. A write that finds no leader to go to ends with its time,
// and was never made; a read cannot tell. All of them wait: an election would take less time.
func TestLeaderless(t *testing.T) {
	c := cluster.Start(t, 3, cluster.Fast...)
	client := c.Client(t, c.Members[0].ClientURL)
	lease := granted(t, client, 600)
	election := campaign(t, client, "leaderless", lease, "1").Leader
	conn := connect(t, c.Members[0])
	kv, leases := pb.NewKVClient(conn), pb.NewLeaseClient(conn)
	locks, elections := v3lockpb.NewLockClient(conn), v3electionpb.NewElectionClient(conn)

	cluster.Kill(t, c.Members[1:]...)
	until(t, "the member sees no leader", func() bool {
		now, err := client.Status(deadline(t), c.Members[0].ClientURL)
		return err == nil && now.Leader == 0
	})
	var group sync.WaitGroup
	for _, test := range []struct {
		what string
		call func(ctx context.Context) (any, error)
		code codes.Code
		text string
	}{
		{"put", func(ctx context.Context) (any, error) {
			return kv.Put(ctx, &pb.PutRequest{Key: []byte("k")})
		}, codes.DeadlineExceeded, "context deadline exceeded"},
		{"delete", func(ctx context.Context) (any, error) {
			return kv.DeleteRange(ctx, &pb.DeleteRangeRequest{Key: []byte("k")})
		}, codes.DeadlineExceeded, "context deadline exceeded"},
		{"compact", func(ctx context.Context) (any, error) {
			return kv.Compact(ctx, &pb.CompactionRequest{Revision: 1})
		}, codes.DeadlineExceeded, "context deadline exceeded"},
		{"range", func(ctx context.Context) (any, error) {
			return kv.Range(ctx, &pb.RangeRequest{Key: []byte("k")})
		}, codes.Unavailable, "etcdserver: request timed out"},
		{"grant", func(ctx context.Context) (any, error) {
			return leases.LeaseGrant(ctx, &pb.LeaseGrantRequest{TTL: 5})
		}, codes.DeadlineExceeded, "context deadline exceeded"},
		{"time to live", func(ctx context.Context) (any, error) {
			return leases.LeaseTimeToLive(ctx, &pb.LeaseTimeToLiveRequest{ID: lease})
		}, codes.Unavailable, "etcdserver: no leader"},
		{"keep-alive", func(ctx context.Context) (any, error) {
			stream, err := leases.LeaseKeepAlive(ctx)
			if err != nil {
				return nil, err
			}
			if err := stream.Send(&pb.LeaseKeepAliveRequest{ID: lease}); err != nil {
				return nil, err
			}
			return stream.Recv()
		}, codes.Unavailable, "etcdserver: no leader"},
		{"lock", func(ctx context.Context) (any, error) {
			return locks.Lock(ctx, &v3lockpb.LockRequest{Name: []byte("l"), Lease: lease})
		}, codes.DeadlineExceeded, "context deadline exceeded"},
		{"lock without a lease", func(ctx context.Context) (any, error) {
			return locks.Lock(ctx, &v3lockpb.LockRequest{Name: []byte("l")})
		}, codes.DeadlineExceeded, "context deadline exceeded"},
		{"unlock", func(ctx context.Context) (any, error) {
			return locks.Unlock(ctx, &v3lockpb.UnlockRequest{Key: []byte("l")})
		}, codes.DeadlineExceeded, "context deadline exceeded"},
		{"campaign", func(ctx context.Context) (any, error) {
			return elections.Campaign(ctx, &v3electionpb.CampaignRequest{Name: []byte("e"), Lease: lease})
		}, codes.DeadlineExceeded, "context deadline exceeded"},
		{"proclaim", func(ctx context.Context) (any, error) {
			return elections.Proclaim(ctx, &v3electionpb.ProclaimRequest{Leader: election})
		}, codes.DeadlineExceeded, "context deadline exceeded"},
		{"resign", func(ctx context.Context) (any, error) {
			return elections.Resign(ctx, &v3electionpb.ResignRequest{Leader: election})
		}, codes.DeadlineExceeded, "context deadline exceeded"},
		{"leader", func(ctx context.Context) (any, error) {
			return elections.Leader(ctx, &v3electionpb.LeaderRequest{Name: []byte("leaderless")})
		}, codes.Unknown, "etcdserver: request timed out"},
	} {
		group.Go(func() {
			begin := time.Now()
			_, err := test.call(t.Context())
			if waited := time.Since(begin); waited < 5*time.Second {
				t.Errorf("%s gave up after %s", test.what, waited)
			}
			sends(t, test.what, err, test.code, test.text)
		})
	}
	group.Wait()
}
