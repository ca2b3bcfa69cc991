package interop

import (
	"fmt"
	"testing"

	"go.etcd.io/etcd/client/v3/kubernetes"

	"detcd.dev/interop/cluster"
)

// TestKubernetes covers the interface that etcd's Go client has for Kubernetes.
func TestKubernetes(t *testing.T) {
	runTopics(t, []topic{{"objects", testKubernetes}})
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
