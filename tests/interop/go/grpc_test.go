package interop

import (
	"context"
	"fmt"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/proto"

	"detcd.dev/interop/cluster"
)

// TestGRPC covers what lies below the services: what gRPC itself refuses, and its own service.
func TestGRPC(t *testing.T) {
	c := cluster.Start(t, 1, cluster.Fast...)
	for _, topic := range []topic{
		{"messages that are too large", testMessageLimit},
		{"health", testHealth},
	} {
		t.Run(topic.name, func(t *testing.T) { topic.run(t, c) })
	}
}

// testMessageLimit sends more than the largest request and what may come with it.
func testMessageLimit(t *testing.T, c *cluster.Cluster) {
	const limit = 1_572_864 + 512<<10
	conn := connect(t, c.Members[0])
	large := make([]byte, limit)
	refused := func(what string, message proto.Message, err error) {
		t.Helper()
		text := fmt.Sprintf("grpc: received message larger than max (%d vs. %d)", proto.Size(message), limit)
		sends(t, what, err, codes.ResourceExhausted, text)
	}
	put := &pb.PutRequest{Key: []byte("k"), Value: large}
	_, err := pb.NewKVClient(conn).Put(deadline(t), put)
	refused("put", put, err)
	get := &pb.RangeRequest{Key: large}
	_, err = pb.NewKVClient(conn).Range(deadline(t), get)
	refused("range", get, err)

	watch, err := pb.NewWatchClient(conn).Watch(deadline(t))
	if err != nil {
		t.Fatal(err)
	}
	create := &pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: &pb.WatchCreateRequest{Key: large}}}
	if err := watch.Send(create); err != nil {
		t.Fatal(err)
	}
	_, err = watch.Recv()
	refused("watch", create, err)
}

func testHealth(t *testing.T, c *cluster.Cluster) {
	const serving = grpc_health_v1.HealthCheckResponse_SERVING
	health := grpc_health_v1.NewHealthClient(connect(t, c.Members[0]))
	checked, err := health.Check(deadline(t), &grpc_health_v1.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	same(t, "the server", checked.Status, serving)
	_, err = health.Check(deadline(t), &grpc_health_v1.HealthCheckRequest{Service: "etcdserverpb.KV"})
	sends(t, "a service of the server", err, codes.NotFound, "unknown service")
	listed, err := health.List(deadline(t), &grpc_health_v1.HealthListRequest{})
	if err != nil {
		t.Fatal(err)
	}
	same(t, "services", len(listed.Statuses), 1)
	same(t, "the server", listed.Statuses[""].Status, serving)

	for service, want := range map[string]grpc_health_v1.HealthCheckResponse_ServingStatus{
		"": serving, "none": grpc_health_v1.HealthCheckResponse_SERVICE_UNKNOWN,
	} {
		ctx, cancel := context.WithCancel(t.Context())
		watch, err := health.Watch(ctx, &grpc_health_v1.HealthCheckRequest{Service: service})
		if err != nil {
			t.Fatal(err)
		}
		watched, err := watch.Recv()
		if err != nil {
			t.Fatal(err)
		}
		same(t, "watched", watched.Status, want)
		// It stays open: there may be news one day.
		next := waiting(watch.Recv)
		stillWaiting(t, "a watch of health", next)
		cancel()
		sends(t, "cancelled", comesBack(t, "a watch of health", next).err, codes.Canceled, "context canceled")
	}
}
