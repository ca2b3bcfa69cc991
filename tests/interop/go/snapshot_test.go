package interop

import (
	"fmt"
	"strings"
	"testing"

	"detcd.dev/interop/cluster"
)

// TestLaggingMemberGetsSnapshot lets a member miss more of the log than the others keep, so that it can
// only catch up with a copy of the database; then it is killed once more, to see that what was installed
// is what it starts from.
func TestLaggingMemberGetsSnapshot(t *testing.T) {
	c := cluster.Start(t, 3, "--snapshot-catchup-entries=10", "--snapshot-count=50")
	lagging := c.Follower(t)
	cluster.Kill(t, lagging)
	client := c.Client(t, c.Leader(t).ClientURL)
	value := strings.Repeat("v", 64<<10)
	var revision int64
	for i := range 400 {
		revision = put(t, client, fmt.Sprintf("snapshot/%03d", i), value)
	}
	for range 2 {
		lagging.Start(t)
		lagging.WaitReady(t)
		got := get(t, c.Client(t, lagging.ClientURL), "snapshot/399")
		same(t, "revision of the last key", got.Kvs[0].ModRevision, revision)
		checkHashes(t, c, revision)
		cluster.Kill(t, lagging)
	}
}
