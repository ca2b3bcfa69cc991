package interop

import (
	"context"
	"fmt"
	"math"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"detcd.dev/interop/cluster"
)

// loadPatience is how long one step of the load may take.
const loadPatience = 2 * time.Minute

// rawWatch is a watch stream on a connection of its own, read only when asked to.
type rawWatch struct {
	connection *grpc.ClientConn
	stream     pb.Watch_WatchClient
}

// openWatch connects to a member and waits until it has a watcher of each prefix or key.
func openWatch(ctx context.Context, m *cluster.Member, requests []*pb.WatchCreateRequest, options ...grpc.DialOption) (*rawWatch, error) {
	options = append(options,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithNoProxy(),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(math.MaxInt32)))
	connection, err := grpc.NewClient("passthrough:///"+strings.TrimPrefix(m.ClientURL, "http://"), options...)
	if err != nil {
		return nil, err
	}
	stream, err := pb.NewWatchClient(connection).Watch(ctx)
	if err != nil {
		return nil, err
	}
	for _, request := range requests {
		if err := stream.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: request}}); err != nil {
			return nil, err
		}
	}
	for range requests {
		message, err := stream.Recv()
		if err != nil {
			return nil, err
		}
		if !message.Created || message.Canceled {
			return nil, fmt.Errorf("not created: %v", message)
		}
	}
	return &rawWatch{connection, stream}, nil
}

// openWatches opens a watch on each of 1,000 connections, spread over the members; one that fails ends
// the test.
func openWatches(ctx context.Context, t *testing.T, c *cluster.Cluster, requests func(n int) []*pb.WatchCreateRequest) []*rawWatch {
	t.Helper()
	watches := make([]*rawWatch, connections)
	inParallel(connections, func(n int) {
		watch, err := openWatch(ctx, c.Members[n%len(c.Members)], requests(n))
		if err != nil {
			t.Errorf("connection %d: %v", n, err)
			return
		}
		watches[n] = watch
	})
	if t.Failed() {
		t.FailNow()
	}
	return watches
}

// revisions reads count events and gives their revisions.
func (w *rawWatch) revisions(count int) ([]int64, error) {
	var revisions []int64
	for len(revisions) < count {
		message, err := w.stream.Recv()
		if err != nil {
			return revisions, err
		}
		for _, event := range message.Events {
			revisions = append(revisions, event.Kv.ModRevision)
		}
	}
	return revisions, nil
}

func ownKey(connection, i int) string {
	return fmt.Sprintf("load/own/%d/%d", connection, i)
}

// manyWatchers opens 1,000 connections with 10 watchers each: one of a prefix that all watch, the
// others of keys of their own. Every watcher gets what is its own, and nothing else.
func manyWatchers(t *testing.T, c *cluster.Cluster) {
	ctx, cancel := context.WithTimeout(t.Context(), loadPatience)
	defer cancel()
	watches := openWatches(ctx, t, c, func(n int) []*pb.WatchCreateRequest {
		requests := []*pb.WatchCreateRequest{{Key: []byte("load/shared/"), RangeEnd: []byte("load/shared0")}}
		for i := 1; i < watchersPerConnection; i++ {
			requests = append(requests, &pb.WatchCreateRequest{Key: []byte(ownKey(n, i))})
		}
		return requests
	})

	// Three revisions for all, and one more for each connection.
	client := oneMember(t, c)
	want := make([][]int64, connections)
	share := func() {
		revision := put(t, client, "load/shared/x", "for all")
		for n := range want {
			want[n] = append(want[n], revision)
		}
	}
	share()
	const together = 100
	for first := 0; first < connections; first += together {
		var puts []clientv3.Op
		for n := first; n < first+together; n++ {
			puts = append(puts, clientv3.OpPut(ownKey(n, 1+n%(watchersPerConnection-1)), "for one"))
		}
		revision := commit(t, client.Txn(ctx).Then(puts...)).Header.Revision
		for n := first; n < first+together; n++ {
			want[n] = append(want[n], revision)
		}
	}
	share()
	share()

	inParallel(connections, func(n int) {
		got, err := watches[n].revisions(len(want[n]))
		if err != nil {
			t.Errorf("connection %d: %v after %v of %v", n, err, got, want[n])
			return
		}
		// Watchers of one stream are not ordered among each other.
		slices.Sort(got)
		if !slices.Equal(got, want[n]) {
			t.Errorf("connection %d: revisions %v, want %v", n, got, want[n])
		}
		watches[n].connection.Close()
	})
}

// inParallel runs do(0) to do(count-1), many at once.
func inParallel(count int, do func(n int)) {
	var group sync.WaitGroup
	limit := make(chan struct{}, 64)
	for n := range count {
		limit <- struct{}{}
		group.Go(func() {
			do(n)
			<-limit
		})
	}
	group.Wait()
}

// unreadWatches writes 200 MB past two clients that watch and do not read: one whose gRPC stream
// is not read, so that flow control stops the server, and one whose socket is not read. Another
// watcher of the same keys gets all as it happens. When the two read on, they too get all.
func unreadWatches(t *testing.T, c *cluster.Cluster) {
	ctx, cancel := context.WithTimeout(t.Context(), loadPatience)
	defer cancel()
	request := []*pb.WatchCreateRequest{{Key: []byte("load/unread/"), RangeEnd: []byte("load/unread0")}}
	member := c.Members[0]

	healthy, err := openWatch(ctx, member, request)
	if err != nil {
		t.Fatal(err)
	}
	defer healthy.connection.Close()
	unreadStream, err := openWatch(ctx, member, request, grpc.WithStaticStreamWindowSize(1<<16), grpc.WithStaticConnWindowSize(1<<16))
	if err != nil {
		t.Fatal(err)
	}
	defer unreadStream.connection.Close()
	socket := &stallingSocket{}
	unreadSocket, err := openWatch(ctx, member, request, grpc.WithContextDialer(socket.dial))
	if err != nil {
		t.Fatal(err)
	}
	defer unreadSocket.connection.Close()
	socket.stall()
	defer socket.release()

	type result struct {
		revisions []int64
		err       error
	}
	seen := make(chan result, 1)
	go func() {
		revisions, err := healthy.revisions(unreadWrites)
		seen <- result{revisions, err}
	}()
	written := writeUnread(ctx, t, c)
	if t.Failed() {
		return
	}
	during := <-seen
	checkRevisionList(t, "the watcher that reads", during.revisions, during.err, written)

	// Give the server time to gather what it can for the two.
	time.Sleep(time.Second)
	late, err := unreadStream.revisions(unreadWrites)
	checkRevisionList(t, "the unread stream, read at last", late, err, written)
	socket.release()
	late, err = unreadSocket.revisions(unreadWrites)
	checkRevisionList(t, "the unread socket, read at last", late, err, written)
}

// writeUnread writes from two clients and gives the revisions in order.
func writeUnread(ctx context.Context, t *testing.T, c *cluster.Cluster) []int64 {
	const writers = 2
	value := strings.Repeat("v", unreadValue)
	var mutex sync.Mutex
	var written []int64
	var group sync.WaitGroup
	for writer := range writers {
		client := c.Client(t)
		group.Go(func() {
			for i := range unreadWrites / writers {
				response, err := client.Put(ctx, fmt.Sprintf("load/unread/%d/%d", writer, i%unreadKeys), value)
				if err != nil {
					t.Errorf("a large write: %v", err)
					return
				}
				mutex.Lock()
				written = append(written, response.Header.Revision)
				mutex.Unlock()
			}
		})
	}
	group.Wait()
	slices.Sort(written)
	return written
}

func checkRevisionList(t testing.TB, who string, got []int64, err error, want []int64) {
	t.Helper()
	if err != nil {
		t.Errorf("%s: %v after %d events", who, err, len(got))
		return
	}
	if !slices.Equal(got, want) {
		t.Errorf("%s: %d events that are not the %d written, in order", who, len(got), len(want))
	}
}

// stallingSocket is a connection that stops reading what arrives, from stall to release.
type stallingSocket struct {
	net.Conn

	mutex    sync.Mutex
	released chan struct{} // nil: not stalled
}

func (s *stallingSocket) dial(ctx context.Context, address string) (net.Conn, error) {
	connection, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	s.Conn = connection
	return s, err
}

func (s *stallingSocket) stall() {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.released = make(chan struct{})
}

func (s *stallingSocket) release() {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if s.released != nil {
		close(s.released)
		s.released = nil
	}
}

func (s *stallingSocket) Read(buffer []byte) (int, error) {
	s.mutex.Lock()
	released := s.released
	s.mutex.Unlock()
	if released != nil {
		<-released
	}
	return s.Conn.Read(buffer)
}
