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

	"detcd.dev/interop/cluster"
)

// showEvent renders an event as "put key=value" or "delete key", with its revision relative to base
// and the value before it.
func showEvent(event *clientv3.Event, base int64) string {
	shown := fmt.Sprintf("+%d put %s=%s", event.Kv.ModRevision-base, event.Kv.Key, event.Kv.Value)
	if event.Type == clientv3.EventTypeDelete {
		shown = fmt.Sprintf("+%d delete %s", event.Kv.ModRevision-base, event.Kv.Key)
	}
	if event.PrevKv != nil {
		shown += fmt.Sprintf(" (was %s)", event.PrevKv.Value)
	}
	return shown
}

// nextEvents waits for count events, however many messages bring them.
func nextEvents(t testing.TB, watch clientv3.WatchChan, count int) []*clientv3.Event {
	t.Helper()
	var events []*clientv3.Event
	for len(events) < count {
		events = append(events, nextMessage(t, watch).Events...)
	}
	return events
}

func nextMessage(t testing.TB, watch clientv3.WatchChan) clientv3.WatchResponse {
	t.Helper()
	select {
	case message, open := <-watch:
		if !open {
			t.Fatal("the watch ended")
		}
		return message
	case <-time.After(patience):
		t.Fatal("no watch message")
		return clientv3.WatchResponse{}
	}
}

func checkEvents(t testing.TB, watch clientv3.WatchChan, base int64, want ...string) {
	t.Helper()
	var got []string
	for _, event := range nextEvents(t, watch, len(want)) {
		got = append(got, showEvent(event, base))
	}
	same(t, "events", strings.Join(got, "\n"), strings.Join(want, "\n"))
}

// created opens a watch and waits until the server has it: events come from here on.
func created(t testing.TB, client *clientv3.Client, key string, options ...clientv3.OpOption) clientv3.WatchChan {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	watch := client.Watch(ctx, key, append(options, clientv3.WithCreatedNotify())...)
	if message := nextMessage(t, watch); !message.Created {
		t.Fatalf("the first message is not the creation: %+v", message)
	}
	return watch
}

func testWatchEvents(t *testing.T, c *cluster.Cluster) {
	client := oneMember(t, c)
	base := put(t, client, "w/a", "1")
	put(t, client, "w/other", "x")

	past := created(t, client, "w/a", clientv3.WithRev(base), clientv3.WithPrevKV())
	live := created(t, client, "w/", clientv3.WithPrefix())
	future := created(t, client, "w/a", clientv3.WithRev(base+4))

	put(t, client, "w/a", "2")
	commit(t, client.Txn(deadline(t)).Then(clientv3.OpPut("w/b", "3"), clientv3.OpDelete("w/a")))
	put(t, client, "w/a", "4")

	checkEvents(t, past, base, "+0 put w/a=1", "+2 put w/a=2 (was 1)", "+3 delete w/a (was 2)", "+4 put w/a=4")
	checkEvents(t, live, base, "+2 put w/a=2", "+3 put w/b=3", "+3 delete w/a", "+4 put w/a=4")
	checkEvents(t, future, base, "+4 put w/a=4")

	// All events of one revision are in one message.
	atomic := created(t, client, "w/", clientv3.WithPrefix(), clientv3.WithRev(base+3))
	message := nextMessage(t, atomic)
	if len(message.Events) < 2 || message.Events[0].Kv.ModRevision != message.Events[1].Kv.ModRevision {
		t.Errorf("a transaction was split: %v", message.Events)
	}
}

func testWatchFilters(t *testing.T, c *cluster.Cluster) {
	client := oneMember(t, c)
	puts := created(t, client, "wf/a", clientv3.WithFilterDelete())
	deletes := created(t, client, "wf/a", clientv3.WithFilterPut())
	base := put(t, client, "wf/a", "1")
	for _, step := range []string{"2", "3"} {
		if _, err := client.Delete(deadline(t), "wf/a"); err != nil {
			t.Fatal(err)
		}
		put(t, client, "wf/a", step)
	}
	checkEvents(t, puts, base, "+0 put wf/a=1", "+2 put wf/a=2", "+4 put wf/a=3")
	checkEvents(t, deletes, base, "+1 delete wf/a", "+3 delete wf/a")
}

func testWatchProgress(t *testing.T, c *cluster.Cluster) {
	client := oneMember(t, c)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	watch := client.Watch(ctx, "wp/a", clientv3.WithCreatedNotify(), clientv3.WithProgressNotify())
	nextMessage(t, watch)

	put(t, client, "wp/a", "1")
	nextEvents(t, watch, 1)
	last := put(t, client, "wp/elsewhere", "2")

	// The server drops a request while the watcher is behind, and a member may be: ask again.
	for asked := time.Now(); ; {
		if err := client.RequestProgress(ctx); err != nil {
			t.Fatal(err)
		}
		select {
		case message := <-watch:
			if !message.IsProgressNotify() {
				t.Fatalf("not a progress message: %+v", message)
			}
			if message.Header.Revision >= last {
				same(t, "progress", message.Header.Revision, last)
				return
			}
		case <-time.After(100 * time.Millisecond):
		}
		if time.Since(asked) > patience {
			t.Fatalf("no progress message at revision %d", last)
		}
	}
}

// testWatchFragments watches a revision that is larger than a message should be (2 MiB): its pieces
// come marked, and hold every event once. No request is that large, but values with their previous
// ones are. The Go client joins the pieces, so the raw stream is read.
func testWatchFragments(t *testing.T, c *cluster.Cluster) {
	client := oneMember(t, c)
	base := put(t, client, "wg/0", "start")
	large := strings.Repeat("v", 700_000)
	for range 2 {
		commit(t, client.Txn(deadline(t)).Then(clientv3.OpPut("wg/1", large), clientv3.OpPut("wg/2", large)))
	}

	stream, err := pb.NewWatchClient(client.ActiveConnection()).Watch(deadline(t))
	if err != nil {
		t.Fatal(err)
	}
	create := &pb.WatchCreateRequest{
		Key:           []byte("wg/"),
		RangeEnd:      []byte(clientv3.GetPrefixRangeEnd("wg/")),
		StartRevision: base,
		PrevKv:        true,
		Fragment:      true,
	}
	if err := stream.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: create}}); err != nil {
		t.Fatal(err)
	}
	var events []string
	fragments := 0
	for len(events) < 5 {
		message, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if message.Fragment {
			fragments++
		}
		size := 0
		for _, event := range message.Events {
			events = append(events, fmt.Sprintf("+%d %s", event.Kv.ModRevision-base, event.Kv.Key))
			size += len(event.Kv.Value) + len(event.GetPrevKv().GetValue())
		}
		if size > 2<<20 {
			t.Errorf("a message of %d bytes with %d events", size, len(message.Events))
		}
		if len(events) == 5 && message.Fragment {
			t.Error("the last piece is marked as if another came")
		}
	}
	same(t, "events", strings.Join(events, ", "), "+0 wg/0, +1 wg/1, +1 wg/2, +2 wg/1, +2 wg/2")
	if fragments == 0 {
		t.Error("nothing was split")
	}
}

// testWatchOverRestart restarts the member that a watch is connected to: the client resumes on its
// own, and no event is lost or repeated.
func testWatchOverRestart(t *testing.T, c *cluster.Cluster) {
	writer := c.Client(t)
	watched := c.Members[len(c.Members)-1]
	watch := created(t, c.Client(t, watched.ClientURL), "wr/", clientv3.WithPrefix())

	base := put(t, writer, "wr/before", "1")
	checkEvents(t, watch, base, "+0 put wr/before=1")
	watched.Stop(t)
	if len(c.Members) > 1 {
		putUntil(t, writer, "wr/while", "2")
	}
	watched.Start(t)
	c.WaitReady(t)
	putUntil(t, writer, "wr/after", "3")

	history := created(t, writer, "wr/", clientv3.WithPrefix(), clientv3.WithRev(base+1))
	want := eventsUntil(t, history, base, "put wr/after=3")
	got := eventsUntil(t, watch, base, "put wr/after=3")
	same(t, "events after the restart", strings.Join(got, "\n"), strings.Join(want, "\n"))
}

// eventsUntil renders all events up to one that ends as given.
func eventsUntil(t testing.TB, watch clientv3.WatchChan, base int64, end string) []string {
	t.Helper()
	var events []string
	for len(events) == 0 || !strings.HasSuffix(events[len(events)-1], end) {
		for _, event := range nextMessage(t, watch).Events {
			events = append(events, showEvent(event, base))
		}
	}
	return events
}

// putUntil puts until a member takes it: the client may still be connected to one that has gone.
func putUntil(t testing.TB, client *clientv3.Client, key, value string) {
	t.Helper()
	ctx := deadline(t)
	for {
		_, err := client.Put(ctx, key, value)
		if err == nil {
			return
		}
		if ctx.Err() != nil {
			t.Fatalf("put %s: %v", key, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func testCompaction(t *testing.T, c *cluster.Cluster) {
	client := oneMember(t, c)
	first := put(t, client, "c/a", "1")
	second := put(t, client, "c/a", "2")
	if _, err := client.Compact(deadline(t), second, clientv3.WithCompactPhysical()); err != nil {
		t.Fatal(err)
	}

	_, err := client.Get(deadline(t), "c/a", clientv3.WithRev(first))
	if !errors.Is(err, rpctypes.ErrCompacted) {
		t.Errorf("a compacted read: %v", err)
	}
	same(t, "at the compacted revision", show(get(t, client, "c/a", clientv3.WithRev(second)).Kvs), "c/a=2")
	if _, err := client.Compact(deadline(t), second); !errors.Is(err, rpctypes.ErrCompacted) {
		t.Errorf("compacting again: %v", err)
	}
	if _, err := client.Compact(deadline(t), second+1000); !errors.Is(err, rpctypes.ErrFutureRev) {
		t.Errorf("compacting the future: %v", err)
	}
}

func testWatchCompacted(t *testing.T, c *cluster.Cluster) {
	client := oneMember(t, c)
	first := put(t, client, "wc/a", "1")
	second := put(t, client, "wc/a", "2")
	if _, err := client.Compact(deadline(t), second); err != nil {
		t.Fatal(err)
	}
	watch := client.Watch(deadline(t), "wc/a", clientv3.WithRev(first))
	message := nextMessage(t, watch)
	same(t, "canceled", message.Canceled, true)
	same(t, "compact revision", message.CompactRevision, second)
	if !errors.Is(message.Err(), rpctypes.ErrCompacted) {
		t.Errorf("the watch ended with %v", message.Err())
	}
	checkEvents(t, created(t, client, "wc/a", clientv3.WithRev(second)), first, "+1 put wc/a=2")
}
