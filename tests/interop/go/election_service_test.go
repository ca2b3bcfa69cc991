package interop

import (
	"context"
	"errors"
	"io"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3election/v3electionpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"detcd.dev/interop/cluster"
)

// TestElectionService covers the elections that the server holds for clients without a session of
// their own.
func TestElectionService(t *testing.T) {
	runTopics(t, []topic{
		{"campaign and resign", testCampaignAndResign},
		{"proclaim", testProclaim},
		{"refusals", testElectionRefusals},
		{"leases of the server", testElectionLeases},
		{"second campaign of a lease", testCampaignAgain},
		{"order of candidates", testCandidates},
		{"candidate without a lease", testCandidateExpired},
		{"candidate that goes away", testCandidateGone},
		{"observe", testObserve},
		{"observe after the fact", testObserveLate},
	})
}

type (
	campaignResponse = v3electionpb.CampaignResponse
	leaderKey        = v3electionpb.LeaderKey
)

func elections(client *clientv3.Client) v3electionpb.ElectionClient {
	return v3electionpb.NewElectionClient(client.ActiveConnection())
}

func campaign(t testing.TB, client *clientv3.Client, name string, lease int64, value string) *campaignResponse {
	t.Helper()
	won, err := elections(client).Campaign(deadline(t), &v3electionpb.CampaignRequest{Name: []byte(name), Lease: lease, Value: []byte(value)})
	if err != nil {
		t.Fatalf("campaign %s: %v", name, err)
	}
	return won
}

// campaignWaiting stands in an election that somebody has won, and comes back once it stands in line.
func campaignWaiting(t testing.TB, ctx context.Context, client *clientv3.Client, name string, lease int64, value string) <-chan answer[*campaignResponse] {
	t.Helper()
	call := waiting(func() (*campaignResponse, error) {
		return elections(client).Campaign(ctx, &v3electionpb.CampaignRequest{Name: []byte(name), Lease: lease, Value: []byte(value)})
	})
	until(t, "the candidate stands in line", func() bool { return exists(t, client, contenderKey(name, lease)) })
	stillWaiting(t, "an election that is won", call)
	return call
}

func proclaim(t testing.TB, client *clientv3.Client, leader *leaderKey, value string) *v3electionpb.ProclaimResponse {
	t.Helper()
	proclaimed, err := elections(client).Proclaim(deadline(t), &v3electionpb.ProclaimRequest{Leader: leader, Value: []byte(value)})
	if err != nil {
		t.Fatalf("proclaim: %v", err)
	}
	return proclaimed
}

func resign(t testing.TB, client *clientv3.Client, leader *leaderKey) *v3electionpb.ResignResponse {
	t.Helper()
	resigned, err := elections(client).Resign(deadline(t), &v3electionpb.ResignRequest{Leader: leader})
	if err != nil {
		t.Fatalf("resign: %v", err)
	}
	return resigned
}

func leader(t testing.TB, client *clientv3.Client, name string) *v3electionpb.LeaderResponse {
	t.Helper()
	led, err := elections(client).Leader(deadline(t), &v3electionpb.LeaderRequest{Name: []byte(name)})
	if err != nil {
		t.Fatalf("leader of %s: %v", name, err)
	}
	return led
}

func testCampaignAndResign(t *testing.T, c *cluster.Cluster) {
	client := oneMember(t, c)
	lease := granted(t, client, 60)
	for _, name := range []string{"election/plain", "", "election/\x00\xff"} {
		won := campaign(t, client, name, lease, "v1")
		stored := get(t, client, contenderKey(name, lease))
		if stored.Count != 1 {
			t.Fatalf("election %q has no key", name)
		}
		same(t, "name", string(won.Leader.Name), name)
		same(t, "key", string(won.Leader.Key), contenderKey(name, lease))
		same(t, "revision", won.Leader.Rev, stored.Kvs[0].CreateRevision)
		same(t, "lease", won.Leader.Lease, lease)
		same(t, "value", string(stored.Kvs[0].Value), "v1")
		same(t, "lease of the key", stored.Kvs[0].Lease, lease)
		same(t, "header", won.Header.String(), stored.Header.String())

		led := leader(t, client, name)
		same(t, "header", led.Header.String(), stored.Header.String())
		same(t, "leader", proto.Equal(led.Kv, stored.Kvs[0]), true)

		resigned := resign(t, client, won.Leader)
		same(t, "revision", resigned.Header.Revision, won.Header.Revision+1)
		same(t, "member", resigned.Header.MemberId, won.Header.MemberId)
		same(t, "the key is there", exists(t, client, string(won.Leader.Key)), false)
		// Who leads no more may resign once more.
		same(t, "revision", resign(t, client, won.Leader).Header.Revision, resigned.Header.Revision)
	}
}

func testProclaim(t *testing.T, c *cluster.Cluster) {
	client := oneMember(t, c)
	won := campaign(t, client, "proclaim", granted(t, client, 60), "v1")
	proclaimed := proclaim(t, client, won.Leader, "v2")
	same(t, "revision", proclaimed.Header.Revision, won.Header.Revision+1)
	led := leader(t, client, "proclaim")
	same(t, "value", string(led.Kv.Value), "v2")
	same(t, "version", led.Kv.Version, 2)
	same(t, "lease", led.Kv.Lease, won.Leader.Lease)
	same(t, "created", led.Kv.CreateRevision, won.Leader.Rev)
	same(t, "header", proclaimed.Header.String(), led.Header.String())
	// The name is not looked at, the key is.
	won.Leader.Name = []byte("another")
	proclaim(t, client, won.Leader, "")
	same(t, "value", string(leader(t, client, "proclaim").Kv.Value), "")
	resign(t, client, won.Leader)
}

func testElectionRefusals(t *testing.T, c *cluster.Cluster) {
	client := oneMember(t, c)
	stub := elections(client)
	_, err := stub.Leader(deadline(t), &v3electionpb.LeaderRequest{Name: []byte("refused")})
	sends(t, "an election that nobody stands in", err, codes.Unknown, "election: no leader")
	_, err = stub.Proclaim(deadline(t), &v3electionpb.ProclaimRequest{Value: []byte("v")})
	sends(t, "a word of nobody", err, codes.Unknown, `"leader" field must be provided`)
	_, err = stub.Resign(deadline(t), &v3electionpb.ResignRequest{})
	sends(t, "the end of nobody", err, codes.Unknown, `"leader" field must be provided`)
	_, err = stub.Campaign(deadline(t), &v3electionpb.CampaignRequest{Name: []byte("refused"), Lease: 12345})
	sends(t, "a lease that is not there", err, codes.Unknown, "etcdserver: requested lease not found")

	won := campaign(t, client, "refused", granted(t, client, 60), "v1")
	for what, leader := range map[string]*leaderKey{
		"another revision": {Name: won.Leader.Name, Key: won.Leader.Key, Rev: won.Leader.Rev - 1, Lease: won.Leader.Lease},
		"no revision":      {Name: won.Leader.Name, Key: won.Leader.Key, Lease: won.Leader.Lease},
		"another key":      {Name: won.Leader.Name, Key: []byte("refused/none"), Rev: won.Leader.Rev, Lease: won.Leader.Lease},
	} {
		_, err := stub.Proclaim(deadline(t), &v3electionpb.ProclaimRequest{Leader: leader, Value: []byte("v2")})
		sends(t, "proclaim with "+what, err, codes.Unknown, "election: not leader")
		// The same is nothing to resign from, and no error.
		same(t, "revision", resign(t, client, leader).Header.Revision, won.Header.Revision)
	}
	nothing := &leaderKey{Lease: won.Leader.Lease}
	_, err = stub.Proclaim(deadline(t), &v3electionpb.ProclaimRequest{Leader: nothing})
	sends(t, "proclaim without a key", err, codes.Unknown, "etcdserver: key is not provided")
	_, err = stub.Resign(deadline(t), &v3electionpb.ResignRequest{Leader: nothing})
	sends(t, "resign without a key", err, codes.Unknown, "etcdserver: key is not provided")

	gone := &leaderKey{Name: won.Leader.Name, Key: won.Leader.Key, Rev: won.Leader.Rev, Lease: 12345}
	_, err = stub.Proclaim(deadline(t), &v3electionpb.ProclaimRequest{Leader: gone})
	sends(t, "proclaim with a lease that is not there", err, codes.Unknown, "etcdserver: requested lease not found")
	same(t, "value", string(leader(t, client, "refused").Kv.Value), "v1")
	resign(t, client, won.Leader)
}

// testElectionLeases sends no lease: the server grants one, wherever one is asked for.
func testElectionLeases(t *testing.T, c *cluster.Cluster) {
	client := oneMember(t, c)
	leases := func() int {
		t.Helper()
		all, err := client.Leases(deadline(t))
		if err != nil {
			t.Fatal(err)
		}
		return len(all.Leases)
	}
	before := leases()
	won := campaign(t, client, "granted", 0, "v1")
	same(t, "key", string(won.Leader.Key), contenderKey("granted", won.Leader.Lease))
	left, err := client.TimeToLive(deadline(t), clientv3.LeaseID(won.Leader.Lease))
	if err != nil {
		t.Fatal(err)
	}
	same(t, "granted", left.GrantedTTL, 60)

	first := won.Leader.Lease
	won.Leader.Lease = 0
	proclaim(t, client, won.Leader, "v2")
	if lease := leader(t, client, "granted").Kv.Lease; lease == 0 || lease == first {
		t.Errorf("the key has lease %x, and %x before", lease, first)
	}
	resign(t, client, won.Leader)
	_, err = elections(client).Leader(deadline(t), &v3electionpb.LeaderRequest{Name: []byte("granted")})
	sends(t, "leader", err, codes.Unknown, "election: no leader")
	same(t, "leases granted", leases()-before, 3)
}

// testCampaignAgain has who leads stand again: a new value is proclaimed.
func testCampaignAgain(t *testing.T, c *cluster.Cluster) {
	client := oneMember(t, c)
	lease := granted(t, client, 60)
	won := campaign(t, client, "again", lease, "v1")
	unchanged := campaign(t, client, "again", lease, "v1")
	same(t, "leader", proto.Equal(unchanged.Leader, won.Leader), true)
	same(t, "revision", unchanged.Header.Revision, won.Header.Revision)
	changed := campaign(t, client, "again", lease, "v2")
	same(t, "leader", proto.Equal(changed.Leader, won.Leader), true)
	// The header is that of the first step, before the value is written.
	same(t, "revision", changed.Header.Revision, won.Header.Revision)
	led := leader(t, client, "again")
	same(t, "value", string(led.Kv.Value), "v2")
	same(t, "revision", led.Kv.ModRevision, won.Header.Revision+1)
	resign(t, client, won.Leader)
}

func testCandidates(t *testing.T, c *cluster.Cluster) {
	client := oneMember(t, c)
	leads := campaign(t, client, "order", granted(t, client, 60), "0").Leader
	var candidates []<-chan answer[*campaignResponse]
	for _, value := range []string{"1", "2", "3"} {
		candidates = append(candidates, campaignWaiting(t, deadline(t), client, "order", granted(t, client, 60), value))
	}
	same(t, "leader", string(leader(t, client, "order").Kv.Value), "0")
	for i, candidate := range candidates {
		resign(t, client, leads)
		next := comesBack(t, "the next in line", candidate)
		if next.err != nil {
			t.Fatal(next.err)
		}
		// The header is that of the moment when the candidate stood up.
		same(t, "revision", next.value.Header.Revision, next.value.Leader.Rev)
		for _, other := range candidates[i+1:] {
			stillWaiting(t, "one further back", other)
		}
		leads = next.value.Leader
		same(t, "leader", string(leader(t, client, "order").Kv.Key), string(leads.Key))
	}
	resign(t, client, leads)
}

// testCandidateExpired has a candidate lose its lease. A campaign, unlike a lock, does not look again at
// the end: what is won that way shows with the first word of the winner.
func testCandidateExpired(t *testing.T, c *cluster.Cluster) {
	client := oneMember(t, c)
	first := campaign(t, client, "expired", granted(t, client, 60), "v1")
	lease := granted(t, client, 60)
	candidate := campaignWaiting(t, deadline(t), client, "expired", lease, "v2")
	if _, err := client.Revoke(deadline(t), clientv3.LeaseID(lease)); err != nil {
		t.Fatal(err)
	}
	stillWaiting(t, "a candidate without a lease", candidate)
	resign(t, client, first.Leader)
	won := comesBack(t, "the candidate", candidate)
	if won.err != nil {
		t.Fatal(won.err)
	}
	_, err := elections(client).Proclaim(deadline(t), &v3electionpb.ProclaimRequest{Leader: won.value.Leader})
	sends(t, "proclaim", err, codes.Unknown, "election: not leader")
}

func testCandidateGone(t *testing.T, c *cluster.Cluster) {
	client := oneMember(t, c)
	first := campaign(t, client, "gone", granted(t, client, 60), "v1")
	lease := granted(t, client, 60)
	freed := func() bool { return !exists(t, client, contenderKey("gone", lease)) }

	ctx, cancel := context.WithCancel(t.Context())
	candidate := campaignWaiting(t, ctx, client, "gone", lease, "v2")
	cancel()
	sends(t, "cancelled", comesBack(t, "a cancelled call", candidate).err, codes.Canceled, "context canceled")
	until(t, "a cancelled call frees its key", freed)

	ctx, cancel = context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	candidate = campaignWaiting(t, ctx, client, "gone", lease, "v2")
	comesBack(t, "a late call", candidate)
	until(t, "a late call frees its key", freed)
	resign(t, client, first.Leader)
}

// observed is a running Observe call.
type observed struct {
	messages chan *v3electionpb.LeaderResponse
	end      chan error
}

func observe(t testing.TB, ctx context.Context, client *clientv3.Client, name string) *observed {
	t.Helper()
	stream, err := elections(client).Observe(ctx, &v3electionpb.LeaderRequest{Name: []byte(name)})
	if err != nil {
		t.Fatal(err)
	}
	o := &observed{make(chan *v3electionpb.LeaderResponse, 100), make(chan error, 1)}
	go func() {
		for {
			message, err := stream.Recv()
			if err != nil {
				o.end <- err
				return
			}
			o.messages <- message
		}
	}()
	return o
}

// next is the next message, which must be of this value.
func (o *observed) next(t testing.TB, value string) *v3electionpb.LeaderResponse {
	t.Helper()
	select {
	case message := <-o.messages:
		same(t, "observed", string(message.Kv.Value), value)
		return message
	case err := <-o.end:
		t.Fatalf("the stream ended before %s: %v", value, err)
	case <-time.After(patience):
		t.Fatalf("%s was not observed", value)
	}
	panic("unreachable")
}

func (o *observed) silent(t testing.TB) {
	t.Helper()
	select {
	case message := <-o.messages:
		t.Fatalf("observed %v", message)
	case err := <-o.end:
		t.Fatalf("the stream ended: %v", err)
	case <-time.After(100 * time.Millisecond):
	}
}

func testObserve(t *testing.T, c *cluster.Cluster) {
	client := oneMember(t, c)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	watched := observe(t, ctx, client, "observe")
	watched.silent(t)

	one := campaign(t, client, "observe", granted(t, client, 60), "1a")
	// The first word after silence has the header of its own revision.
	first := watched.next(t, "1a")
	same(t, "header", first.Header.String(), one.Header.String())
	same(t, "created", first.Kv.CreateRevision, one.Leader.Rev)
	same(t, "lease", first.Kv.Lease, one.Leader.Lease)
	proclaimed := proclaim(t, client, one.Leader, "1b")
	second := watched.next(t, "1b")
	same(t, "revision", second.Kv.ModRevision, proclaimed.Header.Revision)
	same(t, "header", second.Header.String(), proclaimed.Header.String())

	// Those in line are not seen, whatever they say, until their turn comes.
	lease := granted(t, client, 60)
	candidate := campaignWaiting(t, deadline(t), client, "observe", lease, "2a")
	put(t, client, contenderKey("observe", lease), "2b", clientv3.WithLease(clientv3.LeaseID(lease)))
	watched.silent(t)
	resigned := resign(t, client, one.Leader)
	same(t, "revision", watched.next(t, "2b").Header.Revision, resigned.Header.Revision)
	two := comesBack(t, "the next in line", candidate).value

	resign(t, client, two.Leader)
	watched.silent(t)
	three := campaign(t, client, "observe", granted(t, client, 60), "3")
	watched.next(t, "3")
	if _, err := client.Revoke(deadline(t), clientv3.LeaseID(three.Leader.Lease)); err != nil {
		t.Fatal(err)
	}
	watched.silent(t)
	cancel()
	sends(t, "cancelled", <-watched.end, codes.Canceled, "context canceled")
}

// testObserveLate begins to observe when there is a leader already, from several members.
func testObserveLate(t *testing.T, c *cluster.Cluster) {
	client := oneMember(t, c)
	won := campaign(t, client, "late", granted(t, client, 60), "1")
	var all []*observed
	for _, endpoint := range c.Endpoints() {
		all = append(all, observe(t, t.Context(), c.Client(t, endpoint), "late"))
	}
	for _, watched := range all {
		same(t, "revision", watched.next(t, "1").Header.Revision, won.Header.Revision)
	}
	for _, value := range []string{"2", "3", "4"} {
		proclaim(t, client, won.Leader, value)
		for _, watched := range all {
			watched.next(t, value)
		}
	}
	resign(t, client, won.Leader)
	for _, watched := range all {
		watched.silent(t)
	}
}

// ended is how a stream that nobody cancelled ended.
func (o *observed) ended(t testing.TB) error {
	t.Helper()
	select {
	case err := <-o.end:
		if errors.Is(err, io.EOF) {
			return nil
		}
		return err
	case <-time.After(2 * patience):
		t.Fatal("the stream does not end")
		panic("unreachable")
	}
}
