package interop

import (
	"slices"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"detcd.dev/interop/cluster"
)

// lastKey is written once the load has stopped: whoever has seen it has seen all.
const lastKey = crashPrefix + "end"

// verify compares what the clients of a stopped load saw with what the members kept.
func (l *crashLoad) verify(t *testing.T, c *cluster.Cluster) {
	for _, problem := range l.problems {
		t.Error(problem)
	}
	client := c.Client(t)
	last := put(t, client, lastKey, "end")
	l.acked[last] = write{lastKey, "end"}
	l.awaitWatchers(t)

	var kept []change
	for _, m := range c.Members {
		found := history(t, c.Client(t, m.ClientURL), last)
		if kept == nil {
			kept = found
			t.Logf("%s, %d changes kept", l, len(kept))
		}
		compareChanges(t, m.Name, found, kept)
	}
	checkRevisions(t, kept)
	checkAcknowledged(t, l.acked, kept)
	checkCounters(t, kept)
	checkLatest(t, client, kept)
	for _, w := range l.watchers {
		if w.problem != "" {
			t.Errorf("%s: %s", w.name, w.problem)
		}
		compareChanges(t, w.name, w.changes, kept)
	}

	checkHashes(t, c, last)
	if _, err := client.Compact(deadline(t), last/2, clientv3.WithCompactPhysical()); err != nil {
		t.Fatal(err)
	}
	checkHashes(t, c, last)
}

// awaitWatchers waits until every watcher has seen the last write.
func (l *crashLoad) awaitWatchers(t testing.TB) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		l.watching.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(progressTimeout):
		t.Fatal("a watcher does not see the last write")
	}
}

// compareChanges reports the first difference between what was seen and what was kept.
func compareChanges(t testing.TB, who string, seen, kept []change) {
	t.Helper()
	for i := range min(len(seen), len(kept)) {
		if seen[i] != kept[i] {
			t.Errorf("%s: change %d is %v, kept is %v", who, i, seen[i], kept[i])
			return
		}
	}
	if len(seen) != len(kept) {
		t.Errorf("%s: %d changes, kept are %d", who, len(seen), len(kept))
	}
}

// checkRevisions: every write of this test takes one revision and nobody else writes, so the
// revisions count up from 2 without a gap, and no value was written twice.
func checkRevisions(t testing.TB, kept []change) {
	t.Helper()
	values := map[string]int64{}
	for i, change := range kept {
		if change.revision != int64(i)+2 {
			t.Errorf("change %d has revision %d: %v", i, change.revision, change)
			return
		}
		if before, twice := values[change.value]; twice && change.value != "" {
			t.Errorf("%v was written before, at %d", change, before)
		}
		values[change.value] = change.revision
	}
}

// checkAcknowledged: every acknowledged write is there, with its revision.
func checkAcknowledged(t testing.TB, acked map[int64]write, kept []change) {
	t.Helper()
	byRevision := map[int64]write{}
	for _, change := range kept {
		byRevision[change.revision] = change.write
	}
	lost := 0
	for revision, w := range acked {
		if found, there := byRevision[revision]; there && found == w {
			continue
		}
		if lost++; lost <= 5 {
			t.Errorf("acknowledged and not kept: %v", change{revision, w})
		}
	}
	if lost > 0 {
		t.Errorf("%d of %d acknowledged writes are not kept", lost, len(acked))
	}
}

// checkCounters: compare-and-swap counts 1, 2, 3, … whatever the clients knew of the outcomes.
func checkCounters(t testing.TB, kept []change) {
	t.Helper()
	counts := map[string]int{}
	for _, change := range kept {
		if !strings.HasPrefix(change.key, crashPrefix+"counter/") {
			continue
		}
		count, err := countOf(change.value)
		if err != nil || count != counts[change.key]+1 {
			t.Errorf("%v follows %d", change, counts[change.key])
		}
		counts[change.key] = count
	}
}

// checkLatest: a range answers what the history adds up to.
func checkLatest(t testing.TB, client *clientv3.Client, kept []change) {
	t.Helper()
	latest := map[string]change{}
	for _, change := range kept {
		latest[change.key] = change
		if change.value == "" {
			delete(latest, change.key)
		}
	}
	var want []change
	for _, change := range latest {
		want = append(want, change)
	}
	slices.SortFunc(want, func(a, b change) int { return strings.Compare(a.key, b.key) })
	var got []change
	for _, kv := range get(t, client, crashPrefix, clientv3.WithPrefix()).Kvs {
		got = append(got, change{kv.ModRevision, write{string(kv.Key), string(kv.Value)}})
	}
	compareChanges(t, "the range over all keys", got, want)
}
