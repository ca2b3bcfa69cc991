package interop

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"detcd.dev/interop/cluster"
)

// show renders key-values as "key=value key=value".
func show(kvs []*mvccpb.KeyValue) string {
	var shown []string
	for _, kv := range kvs {
		shown = append(shown, string(kv.Key)+"="+string(kv.Value))
	}
	return strings.Join(shown, " ")
}

// showRecord renders all of a key-value's fields, the revisions relative to base.
func showRecord(kv *mvccpb.KeyValue, base int64) string {
	return fmt.Sprintf("%s=%s created +%d modified +%d version %d lease %x",
		kv.Key, kv.Value, kv.CreateRevision-base, kv.ModRevision-base, kv.Version, kv.Lease)
}

func testRangeOptions(t *testing.T, c *cluster.Cluster) {
	client := oneMember(t, c)
	base := put(t, client, "r/a", "4")
	put(t, client, "r/b", "3")
	put(t, client, "r/c", "2")
	put(t, client, "r/d", "1")
	put(t, client, "r/b", "5")
	put(t, client, "r/x/y", "6")

	for _, test := range []struct {
		name    string
		key     string
		options []clientv3.OpOption
		want    string
		count   int64
		more    bool
	}{
		{"one key", "r/a", nil, "r/a=4", 1, false},
		{"a missing key", "r/aa", nil, "", 0, false},
		{"prefix", "r/", []clientv3.OpOption{clientv3.WithPrefix()}, "r/a=4 r/b=5 r/c=2 r/d=1 r/x/y=6", 5, false},
		{"interval", "r/b", []clientv3.OpOption{clientv3.WithRange("r/d")}, "r/b=5 r/c=2", 2, false},
		{"empty interval", "r/d", []clientv3.OpOption{clientv3.WithRange("r/b")}, "", 0, false},
		{"limit", "r/", []clientv3.OpOption{clientv3.WithPrefix(), clientv3.WithLimit(2)}, "r/a=4 r/b=5", 5, true},
		{"limit that is enough", "r/", []clientv3.OpOption{clientv3.WithPrefix(), clientv3.WithLimit(5)},
			"r/a=4 r/b=5 r/c=2 r/d=1 r/x/y=6", 5, false},
		{"keys only", "r/", []clientv3.OpOption{clientv3.WithPrefix(), clientv3.WithKeysOnly()},
			"r/a= r/b= r/c= r/d= r/x/y=", 5, false},
		{"count only", "r/", []clientv3.OpOption{clientv3.WithPrefix(), clientv3.WithCountOnly()}, "", 5, false},
		{"serializable", "r/a", []clientv3.OpOption{clientv3.WithSerializable()}, "r/a=4", 1, false},
		{"past revision", "r/", []clientv3.OpOption{clientv3.WithPrefix(), clientv3.WithRev(base + 2)},
			"r/a=4 r/b=3 r/c=2", 3, false},
		{"descending keys", "r/", []clientv3.OpOption{clientv3.WithPrefix(), clientv3.WithLimit(2),
			clientv3.WithSort(clientv3.SortByKey, clientv3.SortDescend)}, "r/x/y=6 r/d=1", 5, true},
		{"by value", "r/", []clientv3.OpOption{clientv3.WithPrefix(),
			clientv3.WithSort(clientv3.SortByValue, clientv3.SortAscend)}, "r/d=1 r/c=2 r/a=4 r/b=5 r/x/y=6", 5, false},
		{"by version", "r/", []clientv3.OpOption{clientv3.WithPrefix(), clientv3.WithLimit(1),
			clientv3.WithSort(clientv3.SortByVersion, clientv3.SortDescend)}, "r/b=5", 5, true},
		{"first created", "r/", clientv3.WithFirstCreate(), "r/a=4", 5, true},
		{"last modified", "r/", clientv3.WithLastRev(), "r/x/y=6", 5, true},
		{"created since", "r/", []clientv3.OpOption{clientv3.WithPrefix(), clientv3.WithMinCreateRev(base + 2)},
			"r/c=2 r/d=1 r/x/y=6", 5, false},
		{"created until", "r/", []clientv3.OpOption{clientv3.WithPrefix(), clientv3.WithMaxCreateRev(base + 1)},
			"r/a=4 r/b=5", 5, false},
		{"modified since", "r/", []clientv3.OpOption{clientv3.WithPrefix(), clientv3.WithMinModRev(base + 3)},
			"r/b=5 r/d=1 r/x/y=6", 5, false},
		{"modified until", "r/", []clientv3.OpOption{clientv3.WithPrefix(), clientv3.WithMaxModRev(base + 3)},
			"r/a=4 r/c=2 r/d=1", 5, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			response := get(t, client, test.key, test.options...)
			same(t, "key-values", show(response.Kvs), test.want)
			same(t, "count", response.Count, test.count)
			same(t, "more", response.More, test.more)
			same(t, "header revision", response.Header.Revision, base+5)
		})
	}

	record := get(t, client, "r/b").Kvs[0]
	same(t, "record", showRecord(record, base), "r/b=5 created +1 modified +4 version 2 lease 0")
	fromKey := get(t, client, "r/d", clientv3.WithFromKey(), clientv3.WithLimit(2))
	same(t, "from key", show(fromKey.Kvs), "r/d=1 r/x/y=6")
}

func testPutOptions(t *testing.T, c *cluster.Cluster) {
	client := oneMember(t, c)
	lease, err := client.Grant(deadline(t), 60)
	if err != nil {
		t.Fatal(err)
	}
	base := put(t, client, "p/a", "1", clientv3.WithLease(lease.ID))

	replaced, err := client.Put(deadline(t), "p/a", "2", clientv3.WithPrevKV(), clientv3.WithIgnoreLease())
	if err != nil {
		t.Fatal(err)
	}
	same(t, "previous", showRecord(replaced.PrevKv, base), fmt.Sprintf("p/a=1 created +0 modified +0 version 1 lease %x", lease.ID))

	touched, err := client.Put(deadline(t), "p/a", "", clientv3.WithIgnoreValue(), clientv3.WithIgnoreLease())
	if err != nil {
		t.Fatal(err)
	}
	same(t, "touch revision", touched.Header.Revision, base+2)
	same(t, "touched", showRecord(get(t, client, "p/a").Kvs[0], base),
		fmt.Sprintf("p/a=2 created +0 modified +2 version 3 lease %x", lease.ID))

	put(t, client, "p/a", "3")
	same(t, "detached", showRecord(get(t, client, "p/a").Kvs[0], base), "p/a=3 created +0 modified +3 version 4 lease 0")

	fresh, err := client.Put(deadline(t), "p/new", "", clientv3.WithPrevKV())
	if err != nil {
		t.Fatal(err)
	}
	if fresh.PrevKv != nil {
		t.Errorf("a new key has a previous value: %v", fresh.PrevKv)
	}
	same(t, "an empty value", value(t, client, "p/new"), "")
	binary := string([]byte{'p', '/', 0, 0xff, '\n'})
	put(t, client, binary, binary)
	same(t, "a binary key and value", value(t, client, binary), binary)
}

func testDelete(t *testing.T, c *cluster.Cluster) {
	client := oneMember(t, c)
	base := put(t, client, "d/a", "1")
	put(t, client, "d/b", "2")
	put(t, client, "d/c", "3")

	deleted, err := client.Delete(deadline(t), "d/a", clientv3.WithRange("d/c"), clientv3.WithPrevKV())
	if err != nil {
		t.Fatal(err)
	}
	same(t, "deleted", deleted.Deleted, 2)
	same(t, "previous", show(deleted.PrevKvs), "d/a=1 d/b=2")
	same(t, "one revision for all", deleted.Header.Revision, base+3)

	none, err := client.Delete(deadline(t), "d/a")
	if err != nil {
		t.Fatal(err)
	}
	same(t, "deleted of nothing", none.Deleted, 0)
	same(t, "no revision for nothing", none.Header.Revision, base+3)

	put(t, client, "d/a", "4")
	same(t, "a new generation", showRecord(get(t, client, "d/a").Kvs[0], base), "d/a=4 created +4 modified +4 version 1 lease 0")
	past := get(t, client, "d/", clientv3.WithPrefix(), clientv3.WithRev(base+2))
	same(t, "before the delete", show(past.Kvs), "d/a=1 d/b=2 d/c=3")
}

// testRangeStream reads the streaming range (new in 3.7) by the generated stub: the keys come in
// several messages, header and count in the last.
func testRangeStream(t *testing.T, c *cluster.Cluster) {
	client := oneMember(t, c)
	var last int64
	for i := range 40 {
		last = put(t, client, fmt.Sprintf("rs/%03d", i), strings.Repeat("v", i))
	}
	request := &pb.RangeRequest{Key: []byte("rs/"), RangeEnd: []byte(clientv3.GetPrefixRangeEnd("rs/"))}
	stream, err := pb.NewKVClient(client.ActiveConnection()).RangeStream(deadline(t), request)
	if err != nil {
		t.Fatal(err)
	}
	var kvs []*mvccpb.KeyValue
	var final *pb.RangeResponse
	for {
		message, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if final != nil && final.Header != nil {
			t.Error("a message after the one with the header")
		}
		final = message.RangeResponse
		kvs = append(kvs, final.Kvs...)
	}
	same(t, "count", final.Count, 40)
	same(t, "revision", final.Header.Revision, last)
	same(t, "key-values", show(kvs), show(get(t, client, "rs/", clientv3.WithPrefix()).Kvs))
}

// testLinearizableReads reads through every member what another has just acknowledged.
func testLinearizableReads(t *testing.T, c *cluster.Cluster) {
	var clients []*clientv3.Client
	for _, endpoint := range c.Endpoints() {
		clients = append(clients, c.Client(t, endpoint))
	}
	for i := range 50 {
		written := fmt.Sprint(i)
		revision := put(t, clients[i%len(clients)], "lin/a", written)
		for member, client := range clients {
			kv := get(t, client, "lin/a").Kvs[0]
			if string(kv.Value) != written || kv.ModRevision != revision {
				t.Fatalf("member %d answers %s at %d after %s was written at %d", member, kv.Value, kv.ModRevision, written, revision)
			}
		}
	}
}
