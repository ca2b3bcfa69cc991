package interop

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"detcd.dev/interop/cluster"
)

const (
	connections           = 1000
	watchersPerConnection = 10

	largeValue = 1_500_000 // bytes; the largest request is 1,572,864

	// What is written past the clients that do not read: about 200 MB.
	unreadWrites = 2000
	unreadValue  = 100_000 // bytes
	unreadKeys   = 20

	// memoryLimit bounds every member over the whole test. (etcd holds more than 1 GB: it maps its
	// database into memory, and reads up to 1,000 revisions at once for a watcher that is behind.)
	memoryLimit = 700 << 20

	// Other clients are unharmed while the 99th percentile of their puts stays below the larger of
	// these: slowdownLimit times what it was before, and slowestPut. Loose, as the load shares the
	// machine's processors and disk with the members and the clients.
	slowdownLimit = 10
	slowestPut    = 750 * time.Millisecond
)

// TestLoad loads the cluster in several ways, each with two questions: did everything arrive, and
// what did it cost the members' memory and the other clients.
func TestLoad(t *testing.T) {
	for _, size := range sizes {
		t.Run(fmt.Sprintf("members=%d", size), func(t *testing.T) {
			c := cluster.Start(t, size)
			memory := watchMemory(t, c)
			idle := others(t, c, func() { time.Sleep(2 * time.Second) })
			limit := max(slowdownLimit*idle.p99, slowestPut)
			t.Logf("idle: others' puts %s", idle)

			for _, phase := range []topic{
				{"connections and watchers", manyWatchers},
				{"large requests", largeRequests},
				{"watches that nobody reads", unreadWatches},
			} {
				t.Run(phase.name, func(t *testing.T) {
					loaded := others(t, c, func() { phase.run(t, c) })
					t.Logf("others' puts %s; memory at most %d MB", loaded, memory.Load()>>20)
					if loaded.p99 > limit {
						t.Errorf("others' puts: %s, the limit is %s (idle: %s)", loaded, limit, idle)
					}
				})
			}
			if most := memory.Load(); most > memoryLimit && !cluster.IsEtcd() {
				t.Errorf("a member held %d MB, the limit is %d MB", most>>20, memoryLimit>>20)
			}
		})
	}
}

// watchMemory samples the members' memory until the test ends; the value is the most seen.
func watchMemory(t testing.TB, c *cluster.Cluster) *atomic.Int64 {
	var most atomic.Int64
	stop := make(chan struct{})
	var group sync.WaitGroup
	group.Go(func() {
		for {
			for _, m := range c.Members {
				now, err := m.ResidentBytes()
				if err != nil {
					t.Error(err)
					return
				}
				most.Store(max(most.Load(), now))
			}
			select {
			case <-stop:
				return
			case <-time.After(50 * time.Millisecond):
			}
		}
	})
	t.Cleanup(func() { close(stop); group.Wait() })
	return &most
}

// latencies summarises how long requests took.
type latencies struct {
	count         int
	p50, p99, max time.Duration
}

func (l latencies) String() string {
	return fmt.Sprintf("%d, p50 %.1f ms, p99 %.1f ms, max %.1f ms", l.count, milliseconds(l.p50), milliseconds(l.p99), milliseconds(l.max))
}

func milliseconds(d time.Duration) float64 {
	return float64(d) / float64(time.Millisecond)
}

// others measures small puts of two clients while do runs. Each must succeed.
func others(t testing.TB, c *cluster.Cluster, do func()) latencies {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var group sync.WaitGroup
	var mutex sync.Mutex
	var took []time.Duration
	for i := range 2 {
		client := c.Client(t)
		group.Go(func() {
			for ctx.Err() == nil {
				began := time.Now()
				_, err := client.Put(ctx, fmt.Sprint("load/other/", i), "a small value")
				if ctx.Err() != nil {
					return
				}
				if err != nil {
					t.Errorf("another client's put: %v", err)
					return
				}
				mutex.Lock()
				took = append(took, time.Since(began))
				mutex.Unlock()
				// A steady client, not a benchmark: it leaves the machine to the load.
				time.Sleep(2 * time.Millisecond)
			}
		})
	}
	do()
	stop()
	group.Wait()
	if len(took) == 0 {
		t.Fatal("no put of the other clients came through")
	}
	slices.Sort(took)
	return latencies{len(took), took[len(took)/2], took[len(took)*99/100], took[len(took)-1]}
}

// largeRequests writes and reads values near the limit from several clients at once.
func largeRequests(t *testing.T, c *cluster.Cluster) {
	const clients, each = 4, 5
	key := func(client, i int) string { return fmt.Sprintf("load/large/%d/%d", client, i) }
	content := func(client, i int) []byte {
		return bytes.Repeat([]byte{byte('a' + client), byte('a' + i), 0, 0xff}, largeValue/4)
	}
	var group sync.WaitGroup
	for n := range clients {
		client := c.Client(t)
		group.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			for i := range each {
				if _, err := client.Put(ctx, key(n, i), string(content(n, i))); err != nil {
					t.Error(err)
					return
				}
			}
			all, err := client.Get(ctx, fmt.Sprintf("load/large/%d/", n), clientv3.WithPrefix())
			if err != nil {
				t.Error(err)
				return
			}
			if len(all.Kvs) != each {
				t.Errorf("%d large values of %d", len(all.Kvs), each)
				return
			}
			for i, kv := range all.Kvs {
				if string(kv.Key) != key(n, i) || !bytes.Equal(kv.Value, content(n, i)) {
					t.Errorf("%s came back changed, with %d bytes", kv.Key, len(kv.Value))
				}
			}
		})
	}
	group.Wait()
}
