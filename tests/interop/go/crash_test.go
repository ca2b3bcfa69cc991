package interop

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"detcd.dev/interop/cluster"
)

const (
	// defaultRounds is how often each victim is killed; CRASH_ROUNDS overrides it.
	defaultRounds = 20

	// progressPerRound is how many writes must be acknowledged between two kills.
	progressPerRound = 100
)

// TestCrash kills members with SIGKILL while clients write and watch, then compares what was
// acknowledged and what was watched with the history that the members kept.
//
// On three members a round kills the leader, then a follower, then all; each time the victims come
// back before the next kill.
func TestCrash(t *testing.T) {
	for _, size := range sizes {
		t.Run(fmt.Sprintf("members=%d", size), func(t *testing.T) {
			t.Parallel()
			crash(t, size)
		})
	}
}

func crash(t *testing.T, size int) {
	c := cluster.Start(t, size, cluster.Fast...)
	load := startLoad(t, c)
	for round := range rounds(t) {
		for _, victims := range plan(size) {
			load.awaitProgress(t, progressPerRound)
			names := killAndRestart(t, c, victims)
			if testing.Verbose() {
				t.Logf("round %d: killed %s; %s", round+1, names, load)
			}
		}
	}
	load.awaitProgress(t, progressPerRound)
	load.stop()
	load.verify(t, c)
}

// victims picks who is to be killed.
type victims func(t testing.TB, c *cluster.Cluster) []*cluster.Member

func plan(size int) []victims {
	all := func(_ testing.TB, c *cluster.Cluster) []*cluster.Member { return c.Members }
	if size == 1 {
		return []victims{all}
	}
	leader := func(t testing.TB, c *cluster.Cluster) []*cluster.Member {
		return []*cluster.Member{c.Leader(t)}
	}
	follower := func(t testing.TB, c *cluster.Cluster) []*cluster.Member {
		return []*cluster.Member{c.Follower(t)}
	}
	return []victims{leader, follower, all}
}

func killAndRestart(t testing.TB, c *cluster.Cluster, pick victims) string {
	t.Helper()
	killed := pick(t, c)
	cluster.Kill(t, killed...)
	// Long enough for the others to notice and, without a leader, to elect one.
	if len(killed) < len(c.Members) {
		time.Sleep(400 * time.Millisecond)
	}
	var names []string
	for _, m := range killed {
		m.Start(t)
		names = append(names, m.Name)
	}
	c.WaitReady(t)
	return strings.Join(names, " ")
}

func rounds(t testing.TB) int {
	text := os.Getenv("CRASH_ROUNDS")
	if text == "" {
		return defaultRounds
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("CRASH_ROUNDS=%s is not a number of rounds", text)
	}
	return n
}
