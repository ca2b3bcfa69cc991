package interop

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/naming/endpoints"
	"go.etcd.io/etcd/client/v3/naming/resolver"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/peer"

	"detcd.dev/interop/cluster"
)

func newManager(t testing.TB, client *clientv3.Client, target string) endpoints.Manager {
	t.Helper()
	manager, err := endpoints.NewManager(client, target)
	if err != nil {
		t.Fatal(err)
	}
	return manager
}

// testNaming registers addresses of a service, one of them under a lease that ends.
func testNaming(t *testing.T, c *cluster.Cluster) {
	client := oneMember(t, c)
	manager := newManager(t, client, "naming/service")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	updates, err := manager.NewWatchChannel(ctx)
	if err != nil {
		t.Fatal(err)
	}
	next := func() string {
		t.Helper()
		select {
		case batch := <-updates:
			var all []string
			for _, one := range batch {
				operation := "add"
				if one.Op == endpoints.Delete {
					operation = "delete"
				}
				all = append(all, fmt.Sprintf("%s %s %s", operation, one.Key, one.Endpoint.Addr))
			}
			slices.Sort(all)
			return strings.Join(all, ", ")
		case <-time.After(patience):
			t.Fatal("no update came")
			return ""
		}
	}
	lease, err := client.Grant(deadline(t), 60)
	if err != nil {
		t.Fatal(err)
	}
	added := manager.AddEndpoint(deadline(t), "naming/service/a", endpoints.Endpoint{Addr: "a:1", Metadata: "blue"}, clientv3.WithLease(lease.ID))
	if added != nil {
		t.Fatal(added)
	}
	same(t, "an arrival", next(), "add naming/service/a a:1")
	err = manager.Update(deadline(t), []*endpoints.UpdateWithOpts{
		endpoints.NewAddUpdateOpts("naming/service/b", endpoints.Endpoint{Addr: "b:1"}),
		endpoints.NewAddUpdateOpts("naming/service/c", endpoints.Endpoint{Addr: "c:1"}),
	})
	if err != nil {
		t.Fatal(err)
	}
	same(t, "two arrivals", next(), "add naming/service/b b:1, add naming/service/c c:1")
	listed, err := manager.List(deadline(t))
	if err != nil {
		t.Fatal(err)
	}
	same(t, "listed", len(listed), 3)
	same(t, "metadata", fmt.Sprint(listed["naming/service/a"].Metadata), "blue")
	if _, err := client.Revoke(deadline(t), lease.ID); err != nil {
		t.Fatal(err)
	}
	same(t, "the end of a lease", next(), "delete naming/service/a ")
	if err := manager.DeleteEndpoint(deadline(t), "naming/service/b"); err != nil {
		t.Fatal(err)
	}
	same(t, "a departure", next(), "delete naming/service/b ")
}

// testResolver lets gRPC find a service by its name: the service is the members' own health service.
func testResolver(t *testing.T, c *cluster.Cluster) {
	client := oneMember(t, c)
	builder, err := resolver.NewBuilder(client)
	if err != nil {
		t.Fatal(err)
	}
	manager := newManager(t, client, "resolved")
	register := func(m *cluster.Member) {
		t.Helper()
		address := endpoints.Endpoint{Addr: strings.TrimPrefix(m.ClientURL, "http://")}
		if err := manager.AddEndpoint(deadline(t), "resolved/"+m.Name, address); err != nil {
			t.Fatal(err)
		}
	}
	register(c.Members[0])
	connection, err := grpc.NewClient("etcd:///resolved", grpc.WithResolvers(builder),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"round_robin":{}}]}`))
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close()
	health := grpc_health_v1.NewHealthClient(connection)
	// ask gives who answered.
	ask := func() string {
		t.Helper()
		var from peer.Peer
		response, err := health.Check(deadline(t), &grpc_health_v1.HealthCheckRequest{}, grpc.Peer(&from), grpc.WaitForReady(true))
		if err != nil {
			t.Fatal(err)
		}
		same(t, "health", response.Status, grpc_health_v1.HealthCheckResponse_SERVING)
		return "http://" + from.Addr.String()
	}
	same(t, "who answers", ask(), c.Members[0].ClientURL)
	if len(c.Members) == 1 {
		return
	}
	register(c.Members[1])
	until(t, "the new one is asked too", func() bool { return ask() == c.Members[1].ClientURL })
	if err := manager.DeleteEndpoint(deadline(t), "resolved/"+c.Members[0].Name); err != nil {
		t.Fatal(err)
	}
	until(t, "only the new one is asked", func() bool {
		for range 6 {
			if ask() != c.Members[1].ClientURL {
				return false
			}
		}
		return true
	})
}
