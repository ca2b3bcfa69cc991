package interop

import (
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"detcd.dev/interop/cluster"
)

// TestShutdownUnderWatches ends a member in order while 1,000 clients watch and none of them lets go. It
// does not wait for them: each is told, soon, and the member is back with what it had.
func TestShutdownUnderWatches(t *testing.T) {
	c := cluster.Start(t, 1)
	revision := put(t, c.Client(t), "shutdown/key", "kept")
	watches := openWatches(t.Context(), t, c, func(int) []*pb.WatchCreateRequest {
		return []*pb.WatchCreateRequest{{Key: []byte("shutdown/"), RangeEnd: []byte("shutdown0")}}
	})

	began := time.Now()
	c.Members[0].Stop(t)
	t.Logf("ended %.0f ms after SIGTERM", milliseconds(time.Since(began)))
	inParallel(connections, func(n int) {
		if message, err := watches[n].stream.Recv(); err == nil && !message.Canceled {
			t.Errorf("connection %d heard %v in place of the end", n, message)
		}
		watches[n].connection.Close()
	})

	c.Members[0].Start(t)
	c.WaitReady(t)
	kvs := get(t, c.Client(t), "shutdown/key").Kvs
	if len(kvs) != 1 || string(kvs[0].Value) != "kept" || kvs[0].ModRevision != revision {
		t.Errorf("after the restart: %v, written at revision %d", kvs, revision)
	}
}
