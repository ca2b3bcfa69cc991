package interop

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"detcd.dev/interop/cluster"
)

const (
	crashPrefix = "crash/"

	// putters write keys of their own; counters add one to keys that they share.
	putters  = 3
	counters = 2

	// keysPerPutter keeps several generations of each key in a run.
	keysPerPutter = 8

	// requestTimeout is when a client gives up on an answer: the outcome is then unknown.
	requestTimeout = 2 * time.Second

	progressTimeout = 30 * time.Second
)

// write is what one request asked for. Values are unique, so each names the request that wrote it.
type write struct {
	key, value string // value "" is a delete
}

// crashLoad is the clients of one crash test and what they saw.
type crashLoad struct {
	ctx     context.Context
	stop    func() // ends the writers and waits for them
	acks    atomic.Int64
	unknown atomic.Int64

	mutex    sync.Mutex
	acked    map[int64]write // by revision
	problems []string

	watchers []*watcher
	watching sync.WaitGroup
}

func (l *crashLoad) String() string {
	return fmt.Sprintf("%d writes acknowledged, %d unknown", l.acks.Load(), l.unknown.Load())
}

func startLoad(t testing.TB, c *cluster.Cluster) *crashLoad {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	l := &crashLoad{ctx: ctx, acked: map[int64]write{}}
	var group sync.WaitGroup
	l.stop = func() { cancel(); group.Wait() }
	t.Cleanup(l.stop)

	for i := range putters {
		client := c.Client(t)
		group.Go(func() { l.putAndDelete(client, fmt.Sprintf("%sp%d/", crashPrefix, i)) })
	}
	for i := range counters {
		client := c.Client(t)
		group.Go(func() { l.count(client, i) })
	}
	endpoints := c.Endpoints()
	for i := range endpoints {
		// One watch lives through everything by the client's own resumption; the other is opened
		// anew after each interruption, and every second besides, at the next member.
		for _, w := range []*watcher{
			{name: fmt.Sprintf("watch %d, resumed by the client", i)},
			{name: fmt.Sprintf("watch %d, opened anew", i), reopen: time.Second},
		} {
			l.watchers = append(l.watchers, w)
			for j := range endpoints {
				w.clients = append(w.clients, c.Client(t, endpoints[(i+j)%len(endpoints)]))
			}
			if w.reopen == 0 {
				w.clients = []*clientv3.Client{c.Client(t)}
			}
			l.watching.Go(func() { w.run(t.Context()) })
		}
	}
	return l
}

// awaitProgress waits until count more writes are acknowledged.
func (l *crashLoad) awaitProgress(t testing.TB, count int64) {
	t.Helper()
	goal := l.acks.Load() + count
	for began := time.Now(); l.acks.Load() < goal; time.Sleep(5 * time.Millisecond) {
		if time.Since(began) > progressTimeout {
			t.Fatalf("no progress in %s: %s", progressTimeout, l)
		}
	}
}

// putAndDelete writes keys that nobody else writes, so it knows what a read must find.
func (l *crashLoad) putAndDelete(client *clientv3.Client, prefix string) {
	for i := 0; l.ctx.Err() == nil; i++ {
		w := write{key: fmt.Sprintf("%s%d", prefix, i%keysPerPutter), value: fmt.Sprintf("%s#%d", prefix, i)}
		if i%10 == 9 {
			w.value = ""
		}
		revision, done := l.do(client, w)
		if done && i%5 == 0 {
			l.readBack(client, w, revision)
		}
	}
}

// do sends one write and notes its outcome. A delete that found nothing took no revision and is not
// noted; its revision is 0.
func (l *crashLoad) do(client *clientv3.Client, w write) (revision int64, done bool) {
	ctx, cancel := context.WithTimeout(l.ctx, requestTimeout)
	defer cancel()
	if w.value == "" {
		response, err := client.Delete(ctx, w.key)
		if err != nil {
			l.unknown.Add(1)
			return 0, false
		}
		if response.Deleted == 0 {
			return 0, true
		}
		revision = response.Header.Revision
	} else {
		response, err := client.Put(ctx, w.key, w.value)
		if err != nil {
			l.unknown.Add(1)
			return 0, false
		}
		revision = response.Header.Revision
	}
	l.acknowledged(revision, w)
	return revision, true
}

// readBack reads a key whose last write was acknowledged, and whose only writer is the caller: a
// linearizable read finds that write, on any member.
func (l *crashLoad) readBack(client *clientv3.Client, w write, revision int64) {
	ctx, cancel := context.WithTimeout(l.ctx, requestTimeout)
	defer cancel()
	response, err := client.Get(ctx, w.key)
	if err != nil {
		return
	}
	found, foundRevision := "", int64(0)
	for _, kv := range response.Kvs {
		found, foundRevision = string(kv.Value), kv.ModRevision
	}
	switch {
	case w.value == "" && found != "":
		l.problem("%s was deleted at %d, a read after finds %s at %d", w.key, revision, found, foundRevision)
	case w.value != "" && (found != w.value || foundRevision != revision):
		l.problem("%s was put to %s at %d, a read after finds %q at %d", w.key, w.value, revision, found, foundRevision)
	}
}

// count adds to shared counters, each addition a compare-and-swap on the revision read before. The
// values are "count by adder#request".
func (l *crashLoad) count(client *clientv3.Client, adder int) {
	for i := 0; l.ctx.Err() == nil; i++ {
		l.addOne(client, fmt.Sprintf("%scounter/%d", crashPrefix, i%2), fmt.Sprintf("%d#%d", adder, i))
	}
}

func (l *crashLoad) addOne(client *clientv3.Client, key, request string) {
	ctx, cancel := context.WithTimeout(l.ctx, requestTimeout)
	defer cancel()
	now, err := client.Get(ctx, key)
	if err != nil {
		return
	}
	count, modified := 0, int64(0)
	for _, kv := range now.Kvs {
		modified = kv.ModRevision
		if count, err = countOf(string(kv.Value)); err != nil {
			l.problem("%s holds %q", key, kv.Value)
			return
		}
	}
	w := write{key: key, value: fmt.Sprintf("%d by %s", count+1, request)}
	response, err := client.Txn(ctx).
		If(clientv3.Compare(clientv3.ModRevision(key), "=", modified)).
		Then(clientv3.OpPut(w.key, w.value)).
		Commit()
	switch {
	case err != nil:
		l.unknown.Add(1)
	case response.Succeeded:
		l.acknowledged(response.Header.Revision, w)
	}
}

// countOf reads the count from a counter's value.
func countOf(value string) (count int, err error) {
	_, err = fmt.Sscanf(value, "%d by", &count)
	return count, err
}

func (l *crashLoad) acknowledged(revision int64, w write) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	if other, used := l.acked[revision]; used {
		l.problems = append(l.problems, fmt.Sprintf("revision %d was given to %v and to %v", revision, other, w))
	}
	l.acked[revision] = w
	l.acks.Add(1)
}

func (l *crashLoad) problem(format string, args ...any) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	l.problems = append(l.problems, fmt.Sprintf(format, args...))
}
