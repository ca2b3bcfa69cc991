package interop

import (
	"context"
	"fmt"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// change is one event of the history.
type change struct {
	revision int64
	write
}

func (c change) String() string {
	if c.value == "" {
		return fmt.Sprintf("%d: delete %s", c.revision, c.key)
	}
	return fmt.Sprintf("%d: put %s=%s", c.revision, c.key, c.value)
}

// watcher follows all writes of a crash test from the first on, across kills.
type watcher struct {
	name    string
	clients []*clientv3.Client // one after the other, a new one with each opening
	reopen  time.Duration      // how long a watch stays open; 0: no limit

	// What run saw; to be read once it has returned.
	changes []change
	problem string
}

// run watches until it has seen the last write.
func (w *watcher) run(ctx context.Context) {
	for opened := 0; ctx.Err() == nil && w.problem == "" && !w.done(); opened++ {
		w.follow(ctx, w.clients[opened%len(w.clients)])
	}
}

func (w *watcher) done() bool {
	return len(w.changes) > 0 && w.changes[len(w.changes)-1].key == lastKey
}

// next is the revision to resume from.
func (w *watcher) next() int64 {
	if len(w.changes) == 0 {
		return 1
	}
	return w.changes[len(w.changes)-1].revision + 1
}

// follow watches once, from the last revision seen, until the watch ends.
func (w *watcher) follow(ctx context.Context, client *clientv3.Client) {
	timeout := w.reopen
	if timeout == 0 {
		timeout = time.Hour
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	options := []clientv3.OpOption{clientv3.WithPrefix(), clientv3.WithRev(w.next())}
	for message := range client.Watch(clientv3.WithRequireLeader(ctx), crashPrefix, options...) {
		if message.CompactRevision != 0 {
			w.problem = fmt.Sprintf("compacted at %d", message.CompactRevision)
			return
		}
		for _, event := range message.Events {
			w.changes = append(w.changes, toChange(event))
		}
		if w.done() {
			return
		}
	}
}

func toChange(event *clientv3.Event) change {
	return change{event.Kv.ModRevision, write{string(event.Kv.Key), string(event.Kv.Value)}}
}

// history reads all changes up to last from one member.
func history(t testing.TB, client *clientv3.Client, last int64) []change {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), progressTimeout)
	defer cancel()
	var changes []change
	for message := range client.Watch(ctx, crashPrefix, clientv3.WithPrefix(), clientv3.WithRev(1)) {
		if err := message.Err(); err != nil {
			t.Fatalf("reading the history: %v", err)
		}
		for _, event := range message.Events {
			changes = append(changes, toChange(event))
		}
		if len(changes) > 0 && changes[len(changes)-1].revision >= last {
			return changes
		}
	}
	t.Fatalf("the history ends with %d changes, before revision %d", len(changes), last)
	return nil
}
