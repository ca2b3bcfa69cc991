package interop

import (
	"context"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/kubernetes"
	"go.etcd.io/etcd/client/v3/leasing"
	"go.etcd.io/etcd/client/v3/mirror"
	"go.etcd.io/etcd/client/v3/namespace"
	"go.etcd.io/etcd/client/v3/naming/endpoints"
	"go.etcd.io/etcd/client/v3/naming/resolver"
	"go.etcd.io/etcd/client/v3/ordering"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"

	"detcd.dev/interop/cluster"
)

// TestClientLibraries covers the packages that come with etcd's Go client, other than concurrency. The
// last topics kill a member and start it again.
func TestClientLibraries(t *testing.T) {
	runTopics(t, []topic{
		{"namespace", testNamespace},
		{"mirror", testMirror},
		{"kubernetes", testKubernetes},
		{"leasing", testLeasing},
		{"naming", testNaming},
		{"ordering over a restart", testOrdering},
		{"leasing over a restart", testLeasingOverRestart},
	})
}

// restart kills the leader and starts it again, and waits until it serves.
func restart(t testing.TB, c *cluster.Cluster) {
	t.Helper()
	leader := c.Leader(t)
	cluster.Kill(t, leader)
	leader.Start(t)
	leader.WaitReady(t)
}

func testNamespace(t *testing.T, c *cluster.Cluster) {
	client := oneMember(t, c)
	kv := namespace.NewKV(client.KV, "ns/")
	watcher := namespace.NewWatcher(client.Watcher, "ns/")
	lease := namespace.NewLease(client.Lease, "ns/")
	put(t, client, "ns0", "outside")
	put(t, client, "n", "outside")

	granted, err := lease.Grant(deadline(t), 60)
	if err != nil {
		t.Fatal(err)
	}
	first, err := kv.Put(deadline(t), "a", "1", clientv3.WithLease(granted.ID))
	if err != nil {
		t.Fatal(err)
	}
	same(t, "inside seen from outside", value(t, client, "ns/a"), "1")
	all, err := kv.Get(deadline(t), "", clientv3.WithFromKey())
	if err != nil {
		t.Fatal(err)
	}
	same(t, "all inside", keysAndValues(all), "a=1")
	left, err := lease.TimeToLive(deadline(t), granted.ID, clientv3.WithAttachedKeys())
	if err != nil {
		t.Fatal(err)
	}
	same(t, "keys of the lease", fmt.Sprintf("%s", left.Keys), "[a]")

	txn := commit(t, kv.Txn(deadline(t)).If(clientv3.Compare(clientv3.Value("a"), "=", "1")).
		Then(clientv3.OpPut("b", "2"), clientv3.OpGet("", clientv3.WithPrefix()),
			clientv3.OpTxn(nil, []clientv3.Op{clientv3.OpDelete("a", clientv3.WithPrevKV())}, nil)))
	same(t, "succeeded", txn.Succeeded, true)
	same(t, "range inside", keysAndValues((*clientv3.GetResponse)(txn.Responses[1].GetResponseRange())), "a=1 b=2")
	removed := txn.Responses[2].GetResponseTxn().Responses[0].GetResponseDeleteRange()
	same(t, "deleted", string(removed.PrevKvs[0].Key), "a")

	events := watcher.Watch(deadline(t), "", clientv3.WithPrefix(), clientv3.WithRev(first.Header.Revision))
	same(t, "events", takeEvents(t, events, 3), "PUT a=1, PUT b=2, DELETE a=")
	gone, err := kv.Delete(deadline(t), "", clientv3.WithPrefix())
	if err != nil {
		t.Fatal(err)
	}
	same(t, "deleted", gone.Deleted, 1)
	same(t, "outside", value(t, client, "ns0")+value(t, client, "n"), "outsideoutside")
}

// keysAndValues is what a read found.
func keysAndValues(response *clientv3.GetResponse) string {
	var found []string
	for _, kv := range response.Kvs {
		found = append(found, fmt.Sprintf("%s=%s", kv.Key, kv.Value))
	}
	return strings.Join(found, " ")
}

// takeEvents reads the next count events of a watch.
func takeEvents(t testing.TB, events clientv3.WatchChan, count int) string {
	t.Helper()
	var found []string
	for len(found) < count {
		response, open := <-events
		if !open || response.Err() != nil {
			t.Fatalf("the watch ended after %v: %v", found, response.Err())
		}
		for _, event := range response.Events {
			found = append(found, fmt.Sprintf("%s %s=%s", event.Type, event.Kv.Key, event.Kv.Value))
		}
	}
	return strings.Join(found, ", ")
}

// testMirror copies a prefix as make-mirror does: first what is there, in pages, then what changes.
func testMirror(t *testing.T, c *cluster.Cluster) {
	const keys = 1500 // more than a page of the syncer's
	client := oneMember(t, c)
	for i := 0; i < keys; i += 100 {
		var ops []clientv3.Op
		for j := range 100 {
			ops = append(ops, clientv3.OpPut(fmt.Sprintf("mirror/%04d", i+j), fmt.Sprint(i+j)))
		}
		commit(t, client.Txn(deadline(t)).Then(ops...))
	}
	syncer := mirror.NewSyncer(client, "mirror/", 0)
	base, failures := syncer.SyncBase(deadline(t))
	copied := map[string]string{}
	for response := range base {
		for _, kv := range response.Kvs {
			copied[string(kv.Key)] = string(kv.Value)
		}
	}
	for err := range failures {
		t.Error(err)
	}
	same(t, "keys", len(copied), keys)
	same(t, "the last", copied["mirror/1499"], "1499")
	put(t, client, "mirror/after", "1")
	if _, err := client.Delete(deadline(t), "mirror/0000"); err != nil {
		t.Fatal(err)
	}
	updates := syncer.SyncUpdates(deadline(t))
	same(t, "updates", takeEvents(t, updates, 2), "PUT mirror/after=1, DELETE mirror/0000=")
}

// testKubernetes covers the calls that an API server of Kubernetes makes.
func testKubernetes(t *testing.T, c *cluster.Cluster) {
	ctx := deadline(t)
	client := kubernetes.Client{Client: oneMember(t, c)}
	client.Kubernetes = client
	created, err := client.OptimisticPut(ctx, "/registry/a", []byte("1"), 0, kubernetes.PutOptions{})
	if err != nil || !created.Succeeded {
		t.Fatalf("create: %+v %v", created, err)
	}
	again, err := client.OptimisticPut(ctx, "/registry/a", []byte("2"), 0, kubernetes.PutOptions{GetOnFailure: true})
	if err != nil {
		t.Fatal(err)
	}
	same(t, "created twice", again.Succeeded, false)
	same(t, "what is there", string(again.KV.Value), "1")
	updated, err := client.OptimisticPut(ctx, "/registry/a", []byte("2"), created.Revision, kubernetes.PutOptions{})
	if err != nil {
		t.Fatal(err)
	}
	same(t, "updated", updated.Succeeded, true)
	for _, name := range []string{"b", "c"} {
		if _, err := client.OptimisticPut(ctx, "/registry/"+name, []byte(name), 0, kubernetes.PutOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	old, err := client.Kubernetes.Get(ctx, "/registry/a", kubernetes.GetOptions{Revision: created.Revision})
	if err != nil {
		t.Fatal(err)
	}
	same(t, "before", string(old.KV.Value), "1")

	page, err := client.List(ctx, "/registry/", kubernetes.ListOptions{Limit: 2})
	if err != nil {
		t.Fatal(err)
	}
	same(t, "first page", fmt.Sprintf("%s of %d", page.Kvs[1].Key, page.Count), "/registry/b of 3")
	rest, err := client.List(ctx, "/registry/", kubernetes.ListOptions{
		Limit: 2, Revision: page.Revision, Continue: string(page.Kvs[1].Key) + "\x00"})
	if err != nil {
		t.Fatal(err)
	}
	same(t, "second page", fmt.Sprintf("%d %s", len(rest.Kvs), rest.Kvs[0].Key), "1 /registry/c")
	count, err := client.Count(ctx, "/registry/", kubernetes.CountOptions{})
	if err != nil {
		t.Fatal(err)
	}
	same(t, "count", count, 3)

	stale, err := client.OptimisticDelete(ctx, "/registry/a", created.Revision, kubernetes.DeleteOptions{GetOnFailure: true})
	if err != nil {
		t.Fatal(err)
	}
	same(t, "deleted by an old revision", stale.Succeeded, false)
	same(t, "what is there", string(stale.KV.Value), "2")
	gone, err := client.OptimisticDelete(ctx, "/registry/a", updated.Revision, kubernetes.DeleteOptions{})
	if err != nil {
		t.Fatal(err)
	}
	same(t, "deleted", gone.Succeeded, true)
}

// newLeasing is a key-value client that owns what it has read until somebody else writes it.
func newLeasing(t testing.TB, client *clientv3.Client, prefix string) clientv3.KV {
	t.Helper()
	kv, closeKV, err := leasing.NewKV(client, prefix)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(closeKV)
	return kv
}

func testLeasing(t *testing.T, c *cluster.Cluster) {
	ctx := deadline(t)
	one := newLeasing(t, c.Client(t, c.Endpoints()[0]), "leasing/")
	two := newLeasing(t, oneMember(t, c), "leasing/")
	read := func(kv clientv3.KV) string {
		t.Helper()
		response, err := kv.Get(ctx, "leased/a")
		if err != nil {
			t.Fatal(err)
		}
		return keysAndValues(response)
	}
	if _, err := one.Put(ctx, "leased/a", "1"); err != nil {
		t.Fatal(err)
	}
	same(t, "read", read(one), "leased/a=1")
	same(t, "read from memory", read(one), "leased/a=1")
	same(t, "the owner's mark", len(get(t, oneMember(t, c), "leasing/", clientv3.WithPrefix()).Kvs), 1)
	// The other's write waits until the owner has let go.
	if _, err := two.Put(ctx, "leased/a", "2"); err != nil {
		t.Fatal(err)
	}
	same(t, "the owner reads", read(one), "leased/a=2")
	txn := commit(t, two.Txn(ctx).If(clientv3.Compare(clientv3.Value("leased/a"), "=", "2")).
		Then(clientv3.OpPut("leased/a", "3"), clientv3.OpPut("leased/b", "1")))
	same(t, "succeeded", txn.Succeeded, true)
	same(t, "the owner reads", read(one), "leased/a=3")
	gone, err := two.Delete(ctx, "leased/", clientv3.WithPrefix())
	if err != nil {
		t.Fatal(err)
	}
	same(t, "deleted", gone.Deleted, 2)
	same(t, "the owner reads", read(one), "")
}

func testLeasingOverRestart(t *testing.T, c *cluster.Cluster) {
	ctx := deadline(t)
	one, two := newLeasing(t, c.Client(t), "leasing2/"), newLeasing(t, c.Client(t), "leasing2/")
	for round := range 4 {
		want := fmt.Sprint(round)
		if _, err := two.Put(ctx, "leased2/a", want); err != nil {
			t.Fatal(err)
		}
		response, err := one.Get(ctx, "leased2/a")
		if err != nil {
			t.Fatal(err)
		}
		same(t, "read", keysAndValues(response), "leased2/a="+want)
		if round == 1 {
			restart(t, c)
		}
	}
}

// testNaming registers instances of a service, and has gRPC find them under its name.
func testNaming(t *testing.T, c *cluster.Cluster) {
	ctx := deadline(t)
	client := oneMember(t, c)
	manager, err := endpoints.NewManager(client, "naming/service")
	if err != nil {
		t.Fatal(err)
	}
	updates, err := manager.NewWatchChannel(ctx)
	if err != nil {
		t.Fatal(err)
	}
	granted, err := client.Grant(ctx, 60)
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for i := range 2 {
		key := fmt.Sprintf("naming/service/%d", i)
		want = append(want, key)
		instance := endpoints.Endpoint{Addr: startHealthService(t), Metadata: key}
		if err := manager.AddEndpoint(ctx, key, instance, clientv3.WithLease(granted.ID)); err != nil {
			t.Fatal(err)
		}
	}
	listed, err := manager.List(ctx)
	if err != nil {
		t.Fatal(err)
	}
	same(t, "registered", fmt.Sprint(slices.Sorted(maps.Keys(listed))), fmt.Sprint(want))
	checkService(t, ctx, client)

	// The service goes with its lease.
	if _, err := client.Revoke(ctx, granted.ID); err != nil {
		t.Fatal(err)
	}
	var added, removed []string
	for len(removed) < len(want) {
		select {
		case update := <-updates:
			for _, one := range update {
				if one.Op == endpoints.Add {
					added = append(added, one.Key)
				} else {
					removed = append(removed, one.Key)
				}
			}
		case <-ctx.Done():
			t.Fatalf("added %v, removed %v", added, removed)
		}
	}
	slices.Sort(removed)
	same(t, "added", fmt.Sprint(added), fmt.Sprint(want))
	same(t, "removed", fmt.Sprint(removed), fmt.Sprint(want))
}

// startHealthService runs an instance of a service until the test ends, and gives its address.
func startHealthService(t testing.TB) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	grpc_health_v1.RegisterHealthServer(server, health.NewServer())
	go server.Serve(listener)
	t.Cleanup(server.Stop)
	return listener.Addr().String()
}

// checkService asks the health of the service under the name that is registered.
func checkService(t testing.TB, ctx context.Context, client *clientv3.Client) {
	t.Helper()
	builder, err := resolver.NewBuilder(client)
	if err != nil {
		t.Fatal(err)
	}
	connection, err := grpc.NewClient("etcd:///naming/service", grpc.WithResolvers(builder),
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithNoProxy(),
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"round_robin":{}}]}`))
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close()
	answer, err := grpc_health_v1.NewHealthClient(connection).Check(ctx, &grpc_health_v1.HealthCheckRequest{}, grpc.WaitForReady(true))
	if err != nil {
		t.Fatal(err)
	}
	same(t, "health", answer.Status, grpc_health_v1.HealthCheckResponse_SERVING)
}

// testOrdering reads without consensus from whichever member comes next, while one of them restarts and
// others may lag: what the client has seen once it never sees older.
func testOrdering(t *testing.T, c *cluster.Cluster) {
	const writes = 60
	writer, reader := c.Client(t), c.Client(t)
	kv := ordering.NewKV(reader.KV, ordering.NewOrderViolationSwitchEndpointClosure(reader))
	var last int64
	for i := range writes {
		if i == writes/2 {
			restart(t, c)
		}
		put(t, writer, "ordering/a", fmt.Sprint(i))
		response, err := kv.Get(deadline(t), "ordering/a", clientv3.WithSerializable())
		if err != nil {
			t.Fatal(err)
		}
		if response.Header.Revision < last {
			t.Fatalf("read at revision %d after %d", response.Header.Revision, last)
		}
		last = response.Header.Revision
	}
	response, err := kv.Get(deadline(t), "ordering/a")
	if err != nil {
		t.Fatal(err)
	}
	same(t, "the last", keysAndValues(response), fmt.Sprintf("ordering/a=%d", writes-1))
}
