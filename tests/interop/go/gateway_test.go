package interop

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"detcd.dev/interop/cluster"
)

// TestGateway drives the JSON gateway with plain HTTP. The answers that are written down here are etcd's:
// the same test runs against it.
func TestGateway(t *testing.T) {
	c := cluster.Start(t, 1, cluster.Fast...)
	t.Cleanup(plain.CloseIdleConnections)
	for _, topic := range []topic{
		// First: its answers name revisions of a new store.
		{"every route", testRoutes},
		{"examples of the documentation", testGatewayExamples},
		{"what cannot be read", testGatewayMalformed},
		{"what has the wrong type", testGatewayWrongTypes},
		{"forms of a value", testGatewayForms},
		{"methods and paths", testGatewayPaths},
		{"headers", testGatewayHeaders},
		{"sizes", testGatewaySizes},
		{"watch", testGatewayWatch},
		{"watch, requests while it runs", testGatewayWatchDuplex},
		{"watch, what cannot be read", testGatewayWatchMalformed},
		{"clients that go away", testGatewayGone},
		{"keep-alive", testGatewayKeepAlive},
		{"observe", testGatewayObserve},
		{"calls are counted", testGatewayMetrics},
		{"latency of a watch", testGatewayLatency},
		{"many bad requests", testGatewayBadRequests},
	} {
		t.Run(topic.name, func(t *testing.T) { topic.run(t, c) })
	}
}

// TestGatewayOnFollower asks a member that does not lead.
func TestGatewayOnFollower(t *testing.T) {
	c := cluster.Start(t, 3, cluster.Fast...)
	m := c.Follower(t)
	exchange(t, m, "kv/put", `{"key":"Zg==","value":"YmFy"}`, 200, `{"header":H2}`)
	exchange(t, m, "kv/range", `{"key":"Zg=="}`, 200,
		`{"header":H2,"kvs":[{"key":"Zg==","create_revision":"2","mod_revision":"2","version":"1","value":"YmFy"}],"count":"1"}`)
	exchange(t, m, "lease/grant", `{"TTL":600,"ID":77}`, 200, `{"header":H2,"ID":"77","TTL":"600"}`)
	exchange(t, m, "lease/keepalive", `{"ID":"77"}`, 200, `{"result":{"header":H2,"ID":"77","TTL":"600"}}`)

	for _, other := range c.Members {
		if other != m {
			cluster.Kill(t, other)
		}
	}
	until(t, "the member sees no leader", func() bool {
		answer := ask(t, m, "POST", "/v3/maintenance/status", "{}")
		return !strings.Contains(answer.body, `"leader"`)
	})
	// Where nobody leads, who needs a leader hears so at once.
	for _, test := range []struct{ path, request, answer string }{
		{"/v3/kv/range", `{"key":"Zg==","serializable":true}`, `{"code":14,"message":"etcdserver: no leader"}`},
		{"/v3/watch", `{"create_request":{"key":"Zg=="}}`, `{"error":{"code":14,"message":"etcdserver: no leader"}}`},
	} {
		answer := ask(t, m, "POST", test.path, test.request, "Grpc-Metadata-Hasleader", "true")
		same(t, test.path, answer.status, 503)
		same(t, test.path, answer.body, test.answer)
	}
	exchange(t, m, "kv/range", `{"key":"Zg==","serializable":true,"keysOnly":true}`, 200,
		`{"header":H2,"kvs":[{"key":"Zg==","create_revision":"2","mod_revision":"2","version":"1"}],"count":"1"}`)
}

// TestGatewayTurnedOff has a member without the gateway.
func TestGatewayTurnedOff(t *testing.T) {
	m := cluster.Start(t, 1, append([]string{"--enable-grpc-gateway=false"}, cluster.Fast...)...).Members[0]
	for _, path := range []string{"/v3/kv/range", "/v3/", "/v3beta/kv/range", "/v3"} {
		answer := ask(t, m, "POST", path, `{"key":"Zg=="}`)
		same(t, path, answer.status, 404)
		same(t, path, answer.body, "404 page not found")
	}
}

// httpAnswer is a whole answer.
type httpAnswer struct {
	status int
	header http.Header
	body   string // each line in the form of normal
}

// plain follows no redirects, and sends what it is given.
var plain = &http.Client{
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	Transport:     &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 16},
}

// ask sends a request as curl would, with further headers in pairs, and gives the whole answer.
func ask(t testing.TB, m *cluster.Member, method, path, body string, headers ...string) httpAnswer {
	t.Helper()
	response := open(t, m, method, path, strings.NewReader(body), headers...)
	defer response.Body.Close()
	answered, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	return httpAnswer{response.StatusCode, response.Header, normal(answered)}
}

// open sends a request and gives the answer as soon as it begins.
func open(t testing.TB, m *cluster.Member, method, path string, body io.Reader, headers ...string) *http.Response {
	t.Helper()
	request, err := http.NewRequestWithContext(deadline(t), method, m.ClientURL+path, body)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	for i := 0; i < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	response, err := plain.Do(request)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	t.Cleanup(func() { response.Body.Close() })
	return response
}

// volatile is what differs from run to run, and what stands for it.
var volatile = []struct {
	pattern *regexp.Regexp
	stands  string
}{
	{regexp.MustCompile(`\{"cluster_id":"\d+","member_id":"\d+",(?:"revision":"(\d+)",)?"raft_term":"\d+"\}`), "H$1"},
	{regexp.MustCompile(`"(ID|memberID|leader)":"\d{7,}"`), `"$1":"N"`},
	{regexp.MustCompile(`"(raftIndex|raftTerm|raftAppliedIndex|dbSize|dbSizeInUse)":"\d+"`), `"$1":"N"`},
	// A new cluster finds out about its versions after a while.
	{regexp.MustCompile(`"storageVersion":"3.[57].0"`), `"storageVersion":"N"`},
	// protobuf for Go varies this blank from build to build, so that nobody compares its texts.
	{regexp.MustCompile("\"proto:\u00a0"), `"proto: `},
	{regexp.MustCompile(`"hash":\d+`), `"hash":N`},
	{regexp.MustCompile(`"http://[\d.:]+"`), `"URL"`},
	// Granted 600 seconds, and asked a moment later.
	{regexp.MustCompile(`"TTL":"59\d"`), `"TTL":"600"`},
}

// normal is an answer without the blanks in its lines, which mean nothing, and without what is volatile.
func normal(body []byte) string {
	var lines []string
	for line := range bytes.Lines(bytes.TrimRight(body, "\n")) {
		var compact bytes.Buffer
		if json.Compact(&compact, line) != nil {
			compact.Write(bytes.TrimRight(line, "\n"))
		}
		text := compact.String()
		for _, v := range volatile {
			text = v.pattern.ReplaceAllString(text, v.stands)
		}
		lines = append(lines, text)
	}
	return strings.Join(lines, "\n")
}

// exchange asks for a path below /v3/ and compares the answer.
func exchange(t testing.TB, m *cluster.Member, path, request string, status int, answer string) {
	t.Helper()
	got := ask(t, m, "POST", "/v3/"+path, request)
	if !cluster.IsEtcd() && got.status == 501 && strings.Contains(got.body, unbuilt) {
		t.Logf("%s: %s", path, got.body)
		return
	}
	if got.status != status || got.body != answer {
		t.Errorf("%s %s:\n got %d %s\nwant %d %s", path, request, got.status, got.body, status, answer)
	}
	same(t, path+": content type", got.header.Get("Content-Type"), "application/json")
}

// b64 is a text in the form of a field of bytes.
func b64(text string) string {
	return base64.StdEncoding.EncodeToString([]byte(text))
}

// testRoutes asks for each path once, in an order in which each has something to answer.
func testRoutes(t *testing.T, c *cluster.Cluster) {
	for _, test := range []struct {
		path, request string
		status        int
		answer        string
	}{
		{"kv/put", `{"key":"Zm9v","value":"YmFy"}`, 200, `{"header":H2}`},
		{"kv/put", `{"key":"Zm9v","value":"YmF6","prev_kv":true}`, 200,
			`{"header":H3,"prev_kv":{"key":"Zm9v","create_revision":"2","mod_revision":"2","version":"1","value":"YmFy"}}`},
		{"kv/range", `{"key":"Zm9v"}`, 200,
			`{"header":H3,"kvs":[{"key":"Zm9v","create_revision":"2","mod_revision":"3","version":"2","value":"YmF6"}],"count":"1"}`},
		{"kv/range", `{"key":"AA==","rangeEnd":"AA==","countOnly":true}`, 200, `{"header":H3,"count":"1"}`},
		{"kv/range", `{"key":"bm9uZQ=="}`, 200, `{"header":H3}`},
		{"kv/range", `{"key":"Zm9v","revision":"99"}`, 400, `{"code":11,"message":"etcdserver: mvcc: required revision is a future revision"}`},
		{"kv/txn", `{"compare":[{"target":"CREATE","key":"Zm9v","createRevision":"2"}],
			"success":[{"requestPut":{"key":"Zm9v","value":"MQ=="}},{"request_range":{"key":"Zm9v"}}]}`, 200,
			`{"header":H4,"succeeded":true,"responses":[{"response_put":{"header":{"revision":"4"}}},` +
				`{"response_range":{"header":{"revision":"4"},"kvs":[{"key":"Zm9v","create_revision":"2","mod_revision":"4","version":"3","value":"MQ=="}],"count":"1"}}]}`},
		{"kv/txn", `{"compare":[{"result":"NOT_EQUAL","target":3,"key":"Zm9v","value":"MQ=="}],
			"failure":[{"requestTxn":{"success":[{"requestDeleteRange":{"key":"Zm9v","prevKv":true}}]}}]}`, 200,
			`{"header":H5,"responses":[{"response_txn":{"header":{},"succeeded":true,"responses":[{"response_delete_range":` +
				`{"header":{"revision":"5"},"deleted":"1","prev_kvs":[{"key":"Zm9v","create_revision":"2","mod_revision":"4","version":"3","value":"MQ=="}]}}]}}]}`},
		{"kv/deleterange", `{"key":"Zm9v"}`, 200, `{"header":H5}`},
		{"kv/compaction", `{"revision":"4","physical":true}`, 200, `{"header":H5}`},
		{"kv/compaction", `{"revision":4}`, 400, `{"code":11,"message":"etcdserver: mvcc: required revision has been compacted"}`},

		{"lease/grant", `{"TTL":"600","ID":"77"}`, 200, `{"header":H5,"ID":"77","TTL":"600"}`},
		{"lease/grant", `{"TTL":"600","ID":"78"}`, 200, `{"header":H5,"ID":"78","TTL":"600"}`},
		{"lease/grant", `{"TTL":600,"ID":77}`, 400, `{"code":9,"message":"etcdserver: lease already exists"}`},
		{"kv/put", `{"key":"bA==","lease":77}`, 200, `{"header":H6}`},
		{"lease/timetolive", `{"ID":"77","keys":true}`, 200, `{"header":H6,"ID":"77","TTL":"600","grantedTTL":"600","keys":["bA=="]}`},
		{"kv/lease/timetolive", `{"ID":"79"}`, 200, `{"header":H6,"ID":"79","TTL":"-1"}`},
		{"lease/leases", "", 200, `{"header":H6,"leases":[{"ID":"77"},{"ID":"78"}]}`},
		{"kv/lease/leases", "{}", 200, `{"header":H6,"leases":[{"ID":"77"},{"ID":"78"}]}`},
		{"lease/keepalive", `{"ID":"77"}`, 200, `{"result":{"header":H6,"ID":"77","TTL":"600"}}`},
		{"lease/revoke", `{"ID":"79"}`, 404, `{"code":5,"message":"etcdserver: requested lease not found"}`},
		{"kv/lease/revoke", `{"ID":"77"}`, 200, `{"header":H7}`},

		{"lock/lock", `{"name":"bA==","lease":78}`, 200, `{"header":H8,"key":"` + b64("l/4e") + `"}`},
		{"lock/unlock", `{"key":"` + b64("l/4e") + `"}`, 200, `{"header":H9}`},
		{"election/campaign", `{"name":"ZQ==","lease":78,"value":"djE="}`, 200,
			`{"header":H10,"leader":{"name":"ZQ==","key":"` + b64("e/4e") + `","rev":"10","lease":"78"}}`},
		{"election/leader", `{"name":"ZQ=="}`, 200,
			`{"header":H10,"kv":{"key":"` + b64("e/4e") + `","create_revision":"10","mod_revision":"10","version":"1","value":"djE=","lease":"78"}}`},
		{"election/leader", `{"name":"eA=="}`, 500, `{"code":2,"message":"election: no leader"}`},
		{"election/proclaim", `{"leader":{"name":"ZQ==","key":"` + b64("e/4e") + `","rev":"10","lease":"78"},"value":"djI="}`, 200, `{"header":H11}`},
		{"election/proclaim", `{}`, 500, `{"code":2,"message":"\"leader\" field must be provided"}`},
		{"election/resign", `{"leader":{"name":"ZQ==","key":"` + b64("e/4e") + `","rev":"10","lease":"78"}}`, 200, `{"header":H12}`},
		{"lease/revoke", `{"ID":78}`, 200, `{"header":H12}`},

		{"cluster/member/list", `{"linearizable":true}`, 200,
			`{"header":H,"members":[{"ID":"N","name":"m1","peerURLs":["URL"],"clientURLs":["URL"]}]}`},
		{"cluster/member/add", `{}`, 400, `{"code":3,"message":"etcdserver: given member URLs are invalid"}`},
		{"cluster/member/remove", `{"ID":"1"}`, 404, `{"code":5,"message":"etcdserver: member not found"}`},
		{"cluster/member/update", `{"ID":"1","peerURLs":["http://127.0.0.2:1"]}`, 404, `{"code":5,"message":"etcdserver: member not found"}`},
		{"cluster/member/promote", `{"ID":"1"}`, 404, `{"code":5,"message":"etcdserver: member not found"}`},

		{"maintenance/alarm", `{"action":"ACTIVATE","memberID":"5","alarm":"NOSPACE"}`, 200,
			`{"header":H12,"alarms":[{"memberID":"5","alarm":"NOSPACE"}]}`},
		{"maintenance/alarm", `{"action":2,"memberID":5,"alarm":1}`, 200, `{"header":H12,"alarms":[{"memberID":"5","alarm":"NOSPACE"}]}`},
		{"maintenance/alarm", ``, 200, `{"header":H12}`},
		{"maintenance/status", ``, 200,
			`{"header":H12,"version":"3.7.1","dbSize":"N","leader":"N","raftIndex":"N","raftTerm":"N","raftAppliedIndex":"N",` +
				`"dbSizeInUse":"N","storageVersion":"N","dbSizeQuota":"2147483648","downgradeInfo":{}}`},
		{"maintenance/hash", `{}`, 200, `{"header":H12,"hash":N}`},
		{"maintenance/hashkv", `{"revision":0}`, 200, `{"header":H12,"hash":N,"compact_revision":"4","hash_revision":"12"}`},
		{"maintenance/transfer-leadership", `{}`, 400, `{"code":9,"message":"etcdserver: bad leader transferee"}`},
		{"maintenance/downgrade", `{}`, 400, `{"code":3,"message":"etcdserver: wrong downgrade target version format"}`},
		{"maintenance/defragment", ``, 200, `{}`},

		{"auth/status", `{}`, 200, `{"header":H12,"authRevision":"1"}`},
		{"auth/authenticate", `{"name":"a","password":"b"}`, 400, `{"code":9,"message":"etcdserver: authentication is not enabled"}`},
		{"auth/disable", ``, 200, `{"header":H12}`},
		{"auth/enable", `{}`, 400, `{"code":9,"message":"etcdserver: root user does not exist"}`},
		{"auth/user/add", `{"name":"u","password":"p"}`, 200, `{"header":H12}`},
		{"auth/user/get", `{"name":"u"}`, 200, `{"header":H12}`},
		{"auth/user/list", `{}`, 200, `{"header":H12,"users":["u"]}`},
		{"auth/user/changepw", `{"name":"u","password":"q"}`, 200, `{"header":H12}`},
		{"auth/role/add", `{"name":"r"}`, 200, `{"header":H12}`},
		{"auth/role/grant", `{"name":"r","perm":{"permType":"READWRITE","key":"Zm9v","range_end":"AA=="}}`, 200, `{"header":H12}`},
		{"auth/role/get", `{"role":"r"}`, 200, `{"header":H12,"perm":[{"permType":"READWRITE","key":"Zm9v","range_end":"AA=="}]}`},
		{"auth/role/list", ``, 200, `{"header":H12,"roles":["r"]}`},
		{"auth/user/grant", `{"user":"u","role":"r"}`, 200, `{"header":H12}`},
		{"auth/user/revoke", `{"name":"u","role":"r"}`, 200, `{"header":H12}`},
		{"auth/role/revoke", `{"role":"r","key":"Zm9v","rangeEnd":"AA=="}`, 200, `{"header":H12}`},
		{"auth/role/delete", `{"role":"r"}`, 200, `{"header":H12}`},
		{"auth/user/delete", `{"name":"u"}`, 200, `{"header":H12}`},
	} {
		exchange(t, c.Members[0], test.path, test.request, test.status, test.answer)
	}

	snapshot := open(t, c.Members[0], "POST", "/v3/maintenance/snapshot", strings.NewReader("{}"))
	var line struct {
		Result struct {
			Blob []byte `json:"blob"`
		} `json:"result"`
		Error struct {
			Message string `json:"message"`
		} `json:"error"`
	}
	if err := json.NewDecoder(snapshot.Body).Decode(&line); err != nil {
		t.Fatal(err)
	}
	if cluster.IsEtcd() || snapshot.StatusCode != 501 || !strings.Contains(line.Error.Message, unbuilt) {
		same(t, "snapshot", snapshot.StatusCode, 200)
		same(t, "the snapshot begins with data", len(line.Result.Blob) > 0, true)
	}
}

// testGatewayExamples are the commands of etcd's page about the gateway, in their order.
func testGatewayExamples(t *testing.T, c *cluster.Cluster) {
	m := c.Members[0]
	base := ask(t, m, "POST", "/v3/kv/put", `{"key": "Zm9v", "value": "YmFy"}`)
	var revision int
	if _, err := fmt.Sscanf(base.body, `{"header":H%d}`, &revision); err != nil {
		t.Fatalf("%s: %v", base.body, err)
	}
	record := fmt.Sprintf(`{"key":"Zm9v","create_revision":"%d","mod_revision":"%d","version":"1","value":"YmFy"}`, revision, revision)
	found := fmt.Sprintf(`{"header":H%d,"kvs":[%s],"count":"1"}`, revision, record)
	exchange(t, m, "kv/range", `{"key": "Zm9v"}`, 200, found)
	// All keys prefixed with "foo".
	exchange(t, m, "kv/range", `{"key": "Zm9v", "range_end": "Zm9w"}`, 200, found)

	watch := watchLines(t, m, `{"create_request": {"key":"Zm9v"} }`)
	watch.next(t, fmt.Sprintf(`{"result":{"header":H%d,"created":true}}`, revision))
	put := fmt.Sprintf(`{"header":H%d}`, revision+1)
	exchange(t, m, "kv/put", `{"key": "Zm9v", "value": "YmFy"}`, 200, put)
	watch.next(t, fmt.Sprintf(`{"result":{"header":H%d,"events":[{"kv":{"key":"Zm9v","create_revision":"%d","mod_revision":"%d","version":"2","value":"YmFy"}}]}}`,
		revision+1, revision, revision+1))

	put = fmt.Sprintf(`{"response_put":{"header":{"revision":"%d"}}}`, revision+2)
	exchange(t, m, "kv/txn", fmt.Sprintf(`{"compare":[{"target":"CREATE","key":"Zm9v","createRevision":"%d"}],"success":[{"requestPut":{"key":"Zm9v","value":"YmFy"}}]}`, revision),
		200, fmt.Sprintf(`{"header":H%d,"succeeded":true,"responses":[%s]}`, revision+2, put))
	exchange(t, m, "kv/txn", `{"compare":[{"version":"3","result":"EQUAL","target":"VERSION","key":"Zm9v"}],"success":[{"requestRange":{"key":"Zm9v","keysOnly":true}}]}`,
		200, fmt.Sprintf(`{"header":H%d,"succeeded":true,"responses":[{"response_range":{"header":{"revision":"%d"},"kvs":[{"key":"Zm9v","create_revision":"%d","mod_revision":"%d","version":"3"}],"count":"1"}}]}`,
			revision+2, revision+2, revision, revision+2))
}
