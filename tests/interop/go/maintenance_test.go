package interop

import (
	"fmt"
	"slices"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"detcd.dev/interop/cluster"
)

func testStatusAndMembers(t *testing.T, c *cluster.Cluster) {
	client := oneMember(t, c)
	members, err := client.MemberList(deadline(t))
	if err != nil {
		t.Fatal(err)
	}
	var listed, want []string
	ids := map[string]uint64{}
	for _, m := range members.Members {
		listed = append(listed, fmt.Sprint(m.Name, m.ClientURLs, m.PeerURLs, m.IsLearner))
		ids[m.Name] = m.ID
	}
	for _, m := range c.Members {
		want = append(want, fmt.Sprint(m.Name, []string{m.ClientURL}, []string{m.PeerURL}, false))
	}
	slices.Sort(listed)
	same(t, "members", fmt.Sprint(listed), fmt.Sprint(want))

	revision := put(t, client, "m/a", "1")
	leader := ids[c.Leader(t).Name]
	for _, m := range c.Members {
		// A linearizable read waits until this member has applied the put.
		get(t, c.Client(t, m.ClientURL), "m/a")
		status, err := client.Status(deadline(t), m.ClientURL)
		if err != nil {
			t.Fatal(err)
		}
		same(t, "version", status.Version, "3.7.1")
		same(t, "leader", status.Leader, leader)
		same(t, "member id", status.Header.MemberId, ids[m.Name])
		same(t, "cluster id", status.Header.ClusterId, members.Header.ClusterId)
		same(t, "revision", status.Header.Revision, revision)
		same(t, "learner", status.IsLearner, false)
		same(t, "errors", fmt.Sprint(status.Errors), "[]")
		if status.DbSize <= 0 || status.RaftTerm == 0 || status.RaftIndex == 0 || status.RaftAppliedIndex == 0 {
			t.Errorf("%s: %+v", m.Name, status)
		}
	}
	checkHashes(t, c, revision)
}

// checkHashes compares the hash of the history up to revision on all members.
func checkHashes(t testing.TB, c *cluster.Cluster, revision int64) {
	t.Helper()
	client := oneMember(t, c)
	var first *clientv3.HashKVResponse
	for _, m := range c.Members {
		hash := hashWhenCompacted(t, client, m, revision, first)
		same(t, m.Name+" hash revision", hash.HashRevision, revision)
		if first == nil {
			first = hash
		}
		same(t, m.Name+" compacted", hash.CompactRevision, first.CompactRevision)
		same(t, m.Name+" hash", hash.Hash, first.Hash)
	}
}

// hashWhenCompacted asks until the member has applied what the hash of another already covers.
func hashWhenCompacted(t testing.TB, client *clientv3.Client, m *cluster.Member, revision int64, other *clientv3.HashKVResponse) *clientv3.HashKVResponse {
	t.Helper()
	for asked := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		hash, err := client.HashKV(deadline(t), m.ClientURL, revision)
		if err == nil && (other == nil || hash.CompactRevision == other.CompactRevision) {
			return hash
		}
		if time.Since(asked) > patience {
			t.Fatalf("%s: hash %v, error %v", m.Name, hash, err)
		}
	}
}

func testAlarms(t *testing.T, c *cluster.Cluster) {
	client := oneMember(t, c)
	none, err := client.AlarmList(deadline(t))
	if err != nil {
		t.Fatal(err)
	}
	same(t, "alarms", len(none.Alarms), 0)

	status, err := client.Status(deadline(t), c.Endpoints()[0])
	if err != nil {
		t.Fatal(err)
	}
	member := status.Header.MemberId
	maintenance := pb.NewMaintenanceClient(client.ActiveConnection())
	raise := &pb.AlarmRequest{Action: pb.AlarmRequest_ACTIVATE, MemberID: member, Alarm: pb.AlarmType_NOSPACE}
	if _, err := maintenance.Alarm(deadline(t), raise); err != nil {
		t.Fatal(err)
	}
	raised, err := client.AlarmList(deadline(t))
	if err != nil {
		t.Fatal(err)
	}
	if len(raised.Alarms) != 1 || raised.Alarms[0].MemberID != member || raised.Alarms[0].Alarm != pb.AlarmType_NOSPACE {
		t.Errorf("alarms: %v", raised.Alarms)
	}
	_, err = client.Put(deadline(t), "alarm/a", "1")
	wantError(t, err, "etcdserver: mvcc: database space exceeded")

	if _, err := client.AlarmDisarm(deadline(t), &clientv3.AlarmMember{}); err != nil {
		t.Fatal(err)
	}
	put(t, client, "alarm/a", "2")
	same(t, "after the alarm", value(t, client, "alarm/a"), "2")
}
