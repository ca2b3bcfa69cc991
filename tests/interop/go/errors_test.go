package interop

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"detcd.dev/interop/cluster"
)

func wantError(t testing.TB, err error, text string) {
	t.Helper()
	if err == nil || err.Error() != text {
		t.Errorf("error: got %v, want %s", err, text)
	}
}

// testErrorTexts checks errors as the client library rebuilds them: it does so from the text, so an
// error that equals the library's own has the right text; the code is compared beside it.
func testErrorTexts(t *testing.T, c *cluster.Cluster) {
	client := oneMember(t, c)
	now := put(t, client, "e/a", "1")
	lease, err := client.Grant(deadline(t), 60)
	if err != nil {
		t.Fatal(err)
	}
	var tooMany []clientv3.Op
	for i := range 129 {
		tooMany = append(tooMany, clientv3.OpPut(fmt.Sprintf("e/many/%d", i), ""))
	}

	for _, test := range []struct {
		name string
		do   func(ctx context.Context) error
		want error
		code codes.Code
	}{
		{"empty key", func(ctx context.Context) error {
			_, err := client.Put(ctx, "", "x")
			return err
		}, rpctypes.ErrEmptyKey, codes.InvalidArgument},
		{"value with ignore value", func(ctx context.Context) error {
			_, err := pb.NewKVClient(client.ActiveConnection()).Put(ctx,
				&pb.PutRequest{Key: []byte("e/a"), Value: []byte("x"), IgnoreValue: true})
			return rpctypes.Error(err)
		}, rpctypes.ErrValueProvided, codes.InvalidArgument},
		{"lease with ignore lease", func(ctx context.Context) error {
			_, err := client.Put(ctx, "e/a", "x", clientv3.WithLease(lease.ID), clientv3.WithIgnoreLease())
			return err
		}, rpctypes.ErrLeaseProvided, codes.InvalidArgument},
		{"ignore value of a missing key", func(ctx context.Context) error {
			_, err := client.Put(ctx, "e/none", "", clientv3.WithIgnoreValue())
			return err
		}, rpctypes.ErrKeyNotFound, codes.InvalidArgument},
		{"too many operations", func(ctx context.Context) error {
			_, err := client.Txn(ctx).Then(tooMany...).Commit()
			return err
		}, rpctypes.ErrTooManyOps, codes.InvalidArgument},
		{"duplicate key", func(ctx context.Context) error {
			_, err := client.Txn(ctx).Then(clientv3.OpPut("e/a", "1"), clientv3.OpPut("e/a", "2")).Commit()
			return err
		}, rpctypes.ErrDuplicateKey, codes.InvalidArgument},
		{"put into a deleted range", func(ctx context.Context) error {
			_, err := client.Txn(ctx).Then(clientv3.OpPut("e/a", "1"), clientv3.OpDelete("e/", clientv3.WithPrefix())).Commit()
			return err
		}, rpctypes.ErrDuplicateKey, codes.InvalidArgument},
		{"too large", func(ctx context.Context) error {
			_, err := client.Put(ctx, "e/large", strings.Repeat("x", 1_572_864))
			return err
		}, rpctypes.ErrRequestTooLarge, codes.InvalidArgument},
		{"future revision", func(ctx context.Context) error {
			_, err := client.Get(ctx, "e/a", clientv3.WithRev(now+1_000_000))
			return err
		}, rpctypes.ErrFutureRev, codes.OutOfRange},
		{"future revision in a txn", func(ctx context.Context) error {
			_, err := client.Txn(ctx).Then(clientv3.OpPut("e/b", "1"), clientv3.OpGet("e/a", clientv3.WithRev(now+1_000_000))).Commit()
			return err
		}, rpctypes.ErrFutureRev, codes.OutOfRange},
		{"invalid sort", func(ctx context.Context) error {
			_, err := pb.NewKVClient(client.ActiveConnection()).Range(ctx,
				&pb.RangeRequest{Key: []byte("e/a"), SortOrder: 9})
			return rpctypes.Error(err)
		}, rpctypes.ErrInvalidSortOption, codes.InvalidArgument},
		{"unknown lease", func(ctx context.Context) error {
			_, err := client.Put(ctx, "e/a", "x", clientv3.WithLease(12345))
			return err
		}, rpctypes.ErrLeaseNotFound, codes.NotFound},
		{"revoke of an unknown lease", func(ctx context.Context) error {
			_, err := client.Revoke(ctx, 12345)
			return err
		}, rpctypes.ErrLeaseNotFound, codes.NotFound},
		{"lease granted twice", func(ctx context.Context) error {
			_, err := pb.NewLeaseClient(client.ActiveConnection()).LeaseGrant(ctx,
				&pb.LeaseGrantRequest{ID: int64(lease.ID), TTL: 60})
			return rpctypes.Error(err)
		}, rpctypes.ErrLeaseExist, codes.FailedPrecondition},
		{"too large a time to live", func(ctx context.Context) error {
			_, err := client.Grant(ctx, 9_000_000_001)
			return err
		}, rpctypes.ErrLeaseTTLTooLarge, codes.OutOfRange},
		{"unknown member", func(ctx context.Context) error {
			_, err := client.MemberRemove(ctx, 12345)
			return err
		}, rpctypes.ErrMemberNotFound, codes.NotFound},
		{"peer URL in use", func(ctx context.Context) error {
			// Members that have been connected for less than five seconds count as unhealthy.
			for {
				_, err := client.MemberAddAsLearner(ctx, []string{c.Members[0].PeerURL})
				if !errors.Is(err, rpctypes.ErrUnhealthy) || ctx.Err() != nil {
					return err
				}
				time.Sleep(100 * time.Millisecond)
			}
		}, rpctypes.ErrPeerURLExist, codes.FailedPrecondition},
		{"malformed peer URL", func(ctx context.Context) error {
			_, err := pb.NewClusterClient(client.ActiveConnection()).MemberAdd(ctx,
				&pb.MemberAddRequest{PeerURLs: []string{"not a URL"}})
			return rpctypes.Error(err)
		}, rpctypes.ErrMemberBadURLs, codes.InvalidArgument},
		{"unknown user", func(ctx context.Context) error {
			_, err := client.UserGet(ctx, "nobody")
			return err
		}, rpctypes.ErrUserNotFound, codes.FailedPrecondition},
		{"auth is off", func(ctx context.Context) error {
			_, err := client.Authenticate(ctx, "root", "x")
			return err
		}, rpctypes.ErrAuthNotEnabled, codes.FailedPrecondition},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := test.do(deadline(t))
			if status.Code(err) == codes.Unimplemented {
				skipUnbuilt(t, err.Error())
			}
			if !errors.Is(err, test.want) {
				t.Fatalf("got %v, want %v", err, test.want)
			}
			var rebuilt rpctypes.EtcdError
			got := status.Code(err)
			if errors.As(err, &rebuilt) {
				got = rebuilt.Code()
			}
			same(t, "code", got, test.code)
		})
	}
	same(t, "nothing was written", get(t, client, "e/", clientv3.WithPrefix()).Header.Revision, now)
}
