package interop

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"detcd.dev/interop/cluster"
)

// lines is a running stream of the gateway, line by line.
type lines struct {
	response *http.Response
	read     chan string // closed at the end
}

// watchLines opens a watch whose requests are all there at once.
func watchLines(t testing.TB, m *cluster.Member, requests string) *lines {
	t.Helper()
	return follow(open(t, m, "POST", "/v3/watch", strings.NewReader(requests)))
}

func follow(response *http.Response) *lines {
	l := &lines{response, make(chan string, 1000)}
	go func() {
		defer close(l.read)
		scanner := bufio.NewScanner(response.Body)
		scanner.Buffer(nil, 16<<20)
		for scanner.Scan() {
			l.read <- normal(scanner.Bytes())
		}
	}()
	return l
}

// next is the next line, which must be this one.
func (l *lines) next(t testing.TB, want string) {
	t.Helper()
	select {
	case line, there := <-l.read:
		if !there {
			t.Fatalf("the stream ended before %s", want)
		}
		same(t, "line", line, want)
	case <-time.After(patience):
		t.Fatalf("no line came: %s", want)
	}
}

func (l *lines) ended(t testing.TB) {
	t.Helper()
	select {
	case line, there := <-l.read:
		if there {
			t.Fatalf("the stream goes on: %s", line)
		}
	case <-time.After(patience):
		t.Fatal("the stream does not end")
	}
}

func (l *lines) silent(t testing.TB) {
	t.Helper()
	select {
	case line, there := <-l.read:
		t.Fatalf("line %s (ended: %v)", line, !there)
	case <-time.After(100 * time.Millisecond):
	}
}

func event(revision int64, kind, record string) string {
	return fmt.Sprintf(`{"result":{"header":H%d,"events":[{%s"kv":%s}]}}`, revision, kind, record)
}

// testGatewayWatch reads the events of a watch whose request has ended: it goes on.
func testGatewayWatch(t *testing.T, c *cluster.Cluster) {
	client := c.Client(t)
	base := put(t, client, "gw/watch", "0")
	key := b64("gw/watch")
	watch := watchLines(t, c.Members[0], fmt.Sprintf(`{"create_request":{"key":%q,"start_revision":"%d","prev_kv":true}}`, key, base))
	same(t, "status", watch.response.StatusCode, 200)
	same(t, "content type", watch.response.Header.Get("Content-Type"), "application/json")
	same(t, "of the call", watch.response.Header.Get("Grpc-Metadata-Content-Type"), "application/grpc")
	watch.next(t, fmt.Sprintf(`{"result":{"header":H%d,"created":true}}`, base))
	first := fmt.Sprintf(`{"key":%q,"create_revision":"%d","mod_revision":"%d","version":"1","value":"MA=="}`, key, base, base)
	watch.next(t, event(base, "", first))
	put(t, client, "gw/watch", "1")
	second := fmt.Sprintf(`{"key":%q,"create_revision":"%d","mod_revision":"%d","version":"2","value":"MQ=="}`, key, base, base+1)
	watch.next(t, event(base+1, "", second+`,"prev_kv":`+first))
	if _, err := client.Delete(deadline(t), "gw/watch"); err != nil {
		t.Fatal(err)
	}
	deleted := fmt.Sprintf(`{"key":%q,"mod_revision":"%d"}`, key, base+2)
	watch.next(t, event(base+2, `"type":"DELETE",`, deleted+`,"prev_kv":`+second))
	watch.silent(t)
}

// testGatewayWatchDuplex sends requests while answers come. In etcd, Go's server holds the first answer
// back until a request over HTTP/1.1 has ended.
func testGatewayWatchDuplex(t *testing.T, c *cluster.Cluster) {
	if cluster.IsEtcd() {
		t.Skip("etcd answers when the requests have ended")
	}
	client := c.Client(t)
	base := put(t, client, "gw/other", "0")
	body, requests := io.Pipe()
	say := func(request string) {
		t.Helper()
		if _, err := io.WriteString(requests, request); err != nil {
			t.Fatal(err)
		}
	}
	// Nothing is said before there is something to say, and so the first request comes first.
	go io.WriteString(requests, fmt.Sprintf(`{"create_request":{"key":%q}}`, b64("gw/duplex")))
	watch := follow(open(t, c.Members[0], "POST", "/v3/watch", body))
	created := func(more string) string { return fmt.Sprintf(`{"result":{"header":H%d,%s}}`, base, more) }
	watch.next(t, created(`"created":true`))
	say(fmt.Sprintf("\n{\"create_request\":{\"key\":%q,\"watchId\":\"7\"}}", b64("gw/duplex")))
	watch.next(t, created(`"watch_id":"7","created":true`))
	// A request in pieces.
	say(`{"cancel_request":{"wat`)
	watch.silent(t)
	say(`ch_id":7}}{}`)
	watch.next(t, created(`"watch_id":"7","canceled":true`))
	say(` {"progress_request":{}}`)
	watch.next(t, created(`"watch_id":"-1"`))
	say(fmt.Sprintf(`{"create_request":{"key":%q,"filters":["NOPUT"]}}`, b64("gw/duplex")))
	watch.next(t, created(`"watch_id":"1","created":true`))
	put(t, client, "gw/duplex", "x")
	watch.next(t, event(base+1, "", fmt.Sprintf(`{"key":%q,"create_revision":"%d","mod_revision":"%d","version":"1","value":"eA=="}`,
		b64("gw/duplex"), base+1, base+1)))
	// The end of the requests is not that of the watch.
	requests.Close()
	watch.silent(t)
	if _, err := client.Delete(deadline(t), "gw/duplex"); err != nil {
		t.Fatal(err)
	}
	select {
	case line := <-watch.read:
		same(t, "goes on", strings.Contains(line, `"type":"DELETE"`), true)
	case <-time.After(patience):
		t.Fatal("the watch ended with its requests")
	}
}

// testGatewayWatchMalformed ends the requests with what cannot be read: the watch goes on with those before.
func testGatewayWatchMalformed(t *testing.T, c *cluster.Cluster) {
	client := c.Client(t)
	base := put(t, client, "gw/malformed", "0")
	create := fmt.Sprintf(`{"create_request":{"key":%q}}`, b64("gw/malformed"))
	for i, end := range []string{"x", `{"create_request":5}`, `{"create_request":`, "[]"} {
		watch := watchLines(t, c.Members[0], create+end+create)
		watch.next(t, fmt.Sprintf(`{"result":{"header":H%d,"created":true}}`, base+int64(i)))
		put(t, client, "gw/malformed", "1")
		select {
		case line := <-watch.read:
			same(t, "event after "+end, strings.Contains(line, `"value":"MQ=="`), true)
		case <-time.After(patience):
			t.Fatalf("no event after %s", end)
		}
		watch.silent(t)
	}
	// Without any request that can be read there is nothing to say until the time is over.
	answer := ask(t, c.Members[0], "POST", "/v3/watch", "x"+create, "Grpc-Timeout", "200m")
	same(t, "status", answer.status, 504)
	isLate(t, answer.body)
	answer = ask(t, c.Members[0], "POST", "/v3/watch", create, "Grpc-Timeout", "200m")
	same(t, "status", answer.status, 200)
	created, late, _ := strings.Cut(answer.body, "\n")
	same(t, "created", created, fmt.Sprintf(`{"result":{"header":H%d,"created":true}}`, base+4))
	isLate(t, late)
}

// isLate expects the line of a stream whose time is over. etcd's says at times what became of the stream.
func isLate(t testing.TB, line string) {
	t.Helper()
	if cluster.IsEtcd() && line == `{"error":{"code":4,"message":"stream terminated by RST_STREAM with error code: CANCEL"}}` {
		return
	}
	same(t, "late", line, `{"error":{"code":4,"message":"context deadline exceeded"}}`)
}

// watchStreams is the number of watch streams that a member counts as open.
func watchStreams(t testing.TB, m *cluster.Member) string {
	t.Helper()
	for line := range strings.Lines(ask(t, m, "GET", "/metrics", "").body) {
		if value, found := strings.CutPrefix(line, "etcd_debugging_mvcc_watch_stream_total "); found {
			return strings.TrimSpace(value)
		}
	}
	t.Fatal("the number of watch streams is not on the metrics page")
	return ""
}

// cancelled opens a call of the gateway that its client gives up when told to.
func cancelled(t testing.TB, m *cluster.Member, path, body string) (giveUp func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	request, err := http.NewRequestWithContext(ctx, "POST", m.ClientURL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if response, err := plain.Do(request); err == nil {
			io.Copy(io.Discard, response.Body)
			response.Body.Close()
		}
	}()
	giveUp = func() { cancel(); <-ended }
	t.Cleanup(giveUp)
	return giveUp
}

// testGatewayGone closes the connections of a watch and of a call that waits: the member lets go of both.
func testGatewayGone(t *testing.T, c *cluster.Cluster) {
	m := c.Members[0]
	until(t, "the watches of other tests end", func() bool { return watchStreams(t, m) == "0" })
	giveUp := cancelled(t, m, "/v3/watch", fmt.Sprintf(`{"create_request":{"key":%q}}`, b64("gw/gone")))
	until(t, "the stream is counted", func() bool { return watchStreams(t, m) == "1" })
	giveUp()
	until(t, "the stream is gone", func() bool { return watchStreams(t, m) == "0" })

	client := c.Client(t)
	lock(t, client, "gw/held", granted(t, client, 600))
	lease := granted(t, client, 600)
	giveUp = cancelled(t, m, "/v3/lock/lock", fmt.Sprintf(`{"name":%q,"lease":"%d"}`, b64("gw/held"), lease))
	waiter := contenderKey("gw/held", lease)
	until(t, "the call waits in line", func() bool { return exists(t, client, waiter) })
	giveUp()
	until(t, "the call leaves the line", func() bool { return !exists(t, client, waiter) })
}

// testGatewayKeepAlive keeps leases alive, answer by answer; the end of the requests ends the stream.
func testGatewayKeepAlive(t *testing.T, c *cluster.Cluster) {
	m := c.Members[0]
	client := c.Client(t)
	revision := put(t, client, "gw/keepalive", "")
	lease := granted(t, client, 600)
	alive := fmt.Sprintf(`{"result":{"header":H%d,"ID":"N","TTL":"600"}}`, revision)
	gone := fmt.Sprintf(`{"result":{"header":H%d,"ID":"5"}}`, revision)
	all := follow(open(t, m, "POST", "/v3/lease/keepalive", strings.NewReader(fmt.Sprintf(`{"ID":"%d"}{"ID":%d}{"ID":"5"} x`, lease, lease))))
	all.next(t, alive)
	all.next(t, alive)
	all.next(t, gone)
	all.ended(t)
	for _, nothing := range []string{"", "x"} {
		answer := ask(t, m, "POST", "/v3/lease/keepalive", nothing)
		same(t, "status", answer.status, 200)
		same(t, "body", answer.body, "")
		same(t, "content type", answer.header.Get("Content-Type"), "")
	}

	if cluster.IsEtcd() {
		return // As above.
	}
	body, requests := io.Pipe()
	go fmt.Fprintf(requests, `{"ID":"%d"}`, lease)
	stream := follow(open(t, m, "POST", "/v3/lease/keepalive", body))
	stream.next(t, alive)
	stream.silent(t)
	fmt.Fprintf(requests, `{"ID":"%d"}`, lease)
	stream.next(t, alive)
	requests.Close()
	stream.ended(t)
}

// testGatewayObserve follows an election.
func testGatewayObserve(t *testing.T, c *cluster.Cluster) {
	m := c.Members[0]
	client := c.Client(t)
	answer := ask(t, m, "POST", "/v3/election/observe", `{"name":"bm9uZQ=="}`, "Grpc-Timeout", "200m")
	same(t, "status", answer.status, 504)
	isLate(t, answer.body)
	answer = ask(t, m, "POST", "/v3/election/observe", `{"name":5}`)
	same(t, "status", answer.status, 400)
	same(t, "malformed", answer.body, `{"code":3,"message":"proto: (line 1:9): invalid value for bytes field name: 5"}`)

	lease := granted(t, client, 600)
	won := campaign(t, client, "gw/election", lease, "one")
	key := b64(contenderKey("gw/election", lease))
	observed := follow(open(t, m, "POST", "/v3/election/observe", strings.NewReader(fmt.Sprintf(`{"name":%q}{"name":5}`, b64("gw/election")))))
	word := func(version int64, value string) string {
		created := won.Leader.Rev
		return fmt.Sprintf(`{"result":{"header":H%d,"kv":{"key":%q,"create_revision":"%d","mod_revision":"%d","version":"%d","value":%q,"lease":"%d"}}}`,
			created+version-1, key, created, created+version-1, version, b64(value), lease)
	}
	observed.next(t, word(1, "one"))
	proclaim(t, client, won.Leader, "two")
	observed.next(t, word(2, "two"))
	observed.silent(t)
}

// testGatewayLatency compares how long after a put its event arrives by HTTP and by gRPC, side by side, on
// a connection each and with nothing else going on.
func testGatewayLatency(t *testing.T, c *cluster.Cluster) {
	const rounds, warmUp = 500, 50
	client := c.Client(t)
	base := put(t, client, "gw/latency", "")
	native := created(t, c.Client(t), "gw/latency")
	watch := follow(open(t, c.Members[0], "POST", "/v3/watch", strings.NewReader(fmt.Sprintf(`{"create_request":{"key":%q}}`, b64("gw/latency")))))
	watch.next(t, fmt.Sprintf(`{"result":{"header":H%d,"created":true}}`, base))

	// The clocks stop where the event arrives: each stream has a reader of its own.
	nativeAt, httpAt := make(chan time.Time, 1), make(chan time.Time, 1)
	go func() {
		for range native {
			nativeAt <- time.Now()
		}
	}()
	go func() {
		for range watch.read {
			httpAt <- time.Now()
		}
	}()
	var byGRPC, byHTTP []time.Duration
	for i := range rounds {
		if _, err := client.Put(deadline(t), "gw/latency", "v"); err != nil {
			t.Fatal(err)
		}
		// What comes before is the disk's time.
		acknowledged := time.Now()
		for _, path := range []struct {
			at   chan time.Time
			took *[]time.Duration
		}{{nativeAt, &byGRPC}, {httpAt, &byHTTP}} {
			select {
			case at := <-path.at:
				if i >= warmUp {
					*path.took = append(*path.took, max(0, at.Sub(acknowledged)))
				}
			case <-time.After(patience):
				t.Fatal("an event did not arrive")
			}
		}
		time.Sleep(time.Millisecond)
	}
	summary := func(took []time.Duration) latencies {
		slices.Sort(took)
		return latencies{len(took), took[len(took)/2], took[len(took)*99/100], took[len(took)-1]}
	}
	grpc, http := summary(byGRPC), summary(byHTTP)
	t.Logf("from the end of a put to its event, by gRPC: %s", grpc)
	t.Logf("from the end of a put to its event, by HTTP: %s", http)
	// Loose: other processes share the machine.
	if limit := 2*grpc.p99 + 20*time.Millisecond; http.p99 > limit {
		t.Errorf("p99 by HTTP is %v, the limit is %v", http.p99, limit)
	}
}
