package interop

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"

	"detcd.dev/interop/cluster"
)

// refusals asks for a path with each request, and compares the errors.
func refusals(t *testing.T, c *cluster.Cluster, path string, tests [][2]string) {
	for _, test := range tests {
		answer := fmt.Sprintf(`{"code":3,"message":%q}`, test[1])
		exchange(t, c.Members[0], path, test[0], 400, answer)
	}
}

// testGatewayMalformed sends what is no JSON, and JSON that is no message.
func testGatewayMalformed(t *testing.T, c *cluster.Cluster) {
	const noKey = "etcdserver: key is not provided"
	refusals(t, c, "kv/range", [][2]string{
		{"", noKey},
		{" \n", noKey},
		{"{}", noKey},
		{"{", "unexpected EOF"},
		{`{"key":`, "unexpected EOF"},
		{"nul", "unexpected EOF"},
		{"-", "unexpected EOF"},
		{"}", "invalid character '}' looking for beginning of value"},
		{"x", "invalid character 'x' looking for beginning of value"},
		{"\xef\xbb\xbf{}", "invalid character 'ï' looking for beginning of value"},
		{`{"key":"Zm9v",}`, "invalid character '}' looking for beginning of object key string"},
		{`{key:1}`, "invalid character 'k' looking for beginning of object key string"},
		{`{"key" 1}`, "invalid character '1' after object key"},
		{`{"key":"Zm9v" "x":1}`, `invalid character '"' after object key:value pair`},
		{`{"a":[1 2]}`, "invalid character '2' after array element"},
		{`{"a":[1,]}`, "invalid character ']' looking for beginning of value"},
		{`{"key":tru}`, "invalid character '}' in literal true (expecting 'e')"},
		{`{"key":-}`, "invalid character '}' in numeric literal"},
		{`{"key":1.}`, "invalid character '}' after decimal point in numeric literal"},
		{`{"key":1e}`, "invalid character '}' in exponent of numeric literal"},
		{`{"key":"\x"}`, "invalid character 'x' in string escape code"},
		{`{"key":"\u12"}`, `invalid character '"' in \u hexadecimal character escape`},
		{"{\"key\":\"a\nb\"}", `invalid character '\n' in string literal`},
		{"{\"a\":\"\x7f\x01\"}", `invalid character '\x01' in string literal`},
		{`{"x":` + strings.Repeat("[", 10001), "invalid character '[' exceeded max depth"},
		{"[]", "proto: syntax error (line 1:1): unexpected token ["},
		{"5", "proto: syntax error (line 1:1): unexpected token 5"},
		{`"x"`, `proto: syntax error (line 1:1): unexpected token "x"`},
		{"null", "proto: syntax error (line 1:1): unexpected token null"},
		{"1x", "proto: syntax error (line 1:1): unexpected token 1"},
		{`{"key":"\ud800"}`, "proto: unexpected EOF"},
		{`{"key":"\ud800\u0041"}`, `proto: syntax error (line 1:8): invalid escape code "\\u0041" in string`},
		{"{\"key\":\"\xff\"}", "proto: syntax error (line 1:8): invalid UTF-8 in string"},
		{"{\"\xff\":1}", "proto: syntax error (line 1:2): invalid UTF-8 in string"},
		{"{\"unknown\":\"\xff\"}", "proto: syntax error (line 1:12): invalid UTF-8 in string"},
		{`{"key":"Zm9v","key":"Zm9v"}`, `proto: (line 1:15): duplicate field "key"`},
		{`{"key":"Zm9v","rangeEnd":"AA==","range_end":null}`, `proto: (line 1:33): duplicate field "range_end"`},
	})
	refusals(t, c, "kv/txn", [][2]string{
		{`{"compare":5}`, "proto: syntax error (line 1:12): unexpected token 5"},
		{`{"compare":{}}`, "proto: syntax error (line 1:12): unexpected token {"},
		{`{"compare":[null]}`, "proto: syntax error (line 1:13): unexpected token null"},
		{`{"success":[{"request_put":{"key":"Zm9v"},"request_range":{"key":"Zm9v"}}]}`,
			`proto: (line 1:43): error parsing "request_range", oneof etcdserverpb.RequestOp.request is already set`},
		{`{"compare":[{"target":"CREATE","key":"Zm9v","createRevision":"2","version":"1"}]}`,
			`proto: (line 1:66): error parsing "version", oneof etcdserverpb.Compare.target_union is already set`},
	})
}

// testGatewayWrongTypes sends values that their fields do not take.
func testGatewayWrongTypes(t *testing.T, c *cluster.Cluster) {
	var tests [][2]string
	wrong := func(before, name, field, value, shown string) {
		request := before + fmt.Sprintf(`"%s":%s}`, name, value)
		column := len(before) + len(name) + 4
		tests = append(tests, [2]string{request, fmt.Sprintf("proto: (line 1:%d): invalid value for %s: %s", column, field, shown)})
	}
	for _, value := range []string{`"Zm9v!"`, `"Z"`, `"Zm8=="`, `"_/8="`, `"😀"`, "5", "true"} {
		wrong("{", "key", "bytes field key", value, value)
	}
	wrong("{", "key", "bytes field key", `{"a":[1]}`, "{")
	wrong("{", "range_end", "bytes field rangeEnd", "[]", "[")
	for _, value := range []string{`" 5"`, "5.5", "9223372036854775808", "-9223372036854775809", "true", `"x"`, `""`, "1e99", `"1e99999999999"`} {
		wrong("{", "limit", "int64 field limit", value, value)
	}
	wrong("{", "limit", "int64 field limit", "{}", "{")
	for _, value := range []string{"1.5", "4294967296", "true"} {
		wrong("{", "sort_order", "enum field sortOrder", value, value)
	}
	for _, value := range []string{`"true"`, "1", `""`} {
		wrong(`{"key":"Zm9v",`, "serializable", "bool field serializable", value, value)
	}
	tests = append(tests,
		[2]string{"{\n \"key\" : \"Zm9v\",\n  \"limit\": \"é\"}", "proto: (line 3:12): invalid value for int64 field limit: \"é\""},
		[2]string{` {"é":1,"limit":"é"}`, `proto: (line 1:16): invalid value for int64 field limit: "é"`},
		[2]string{`{"key":"Zm9v","sort_order":7}`, "etcdserver: invalid sort option"})
	refusals(t, c, "kv/range", tests)
	refusals(t, c, "cluster/member/list", [][2]string{{`{"linearizable":"x"}`, `proto: (line 1:17): invalid value for bool field linearizable: "x"`}})
	refusals(t, c, "cluster/member/remove", [][2]string{{`{"ID":-1}`, "proto: (line 1:7): invalid value for uint64 field ID: -1"}})
	refusals(t, c, "auth/user/get", [][2]string{{`{"name":5}`, "proto: (line 1:9): invalid value for string field name: 5"}})
}

// testGatewayForms sends one request in all forms that it may have.
func testGatewayForms(t *testing.T, c *cluster.Cluster) {
	m := c.Members[0]
	client := c.Client(t)
	for _, key := range []string{"forms/a", "forms/b", "forms/c", "\xfb\xff\x00"} {
		put(t, client, key, "v")
	}
	prefix, end := b64("forms/"), b64("forms0")
	want := ask(t, m, "POST", "/v3/kv/range", fmt.Sprintf(`{"key":%q,"range_end":%q,"limit":"2","sort_order":"DESCEND","keys_only":true}`, prefix, end))
	same(t, "status", want.status, 200)
	same(t, "keys", strings.Count(want.body, `"key":`), 2)
	for _, form := range []string{
		`{"key":%q,"rangeEnd":%q,"limit":2,"sortOrder":2,"keysOnly":true}`,
		`{"key":%q,"rangeEnd":%q,"limit":2.0,"sortOrder":2.0,"keysOnly":true,"revision":null,"sort_target":"NONE"}`,
		`{"key":%q,"range_end":%q,"limit":"0.2e1","sort_order":20e-1,"keys_only":true,"unknown":[{"a":null}],"[a.b]":1,"LIMIT":"x"}`,
		" \t\r\n{ \"key\" :%q ,\"range_end\":%q,\"limit\":\"2\",\"sort_order\":\"DESCEND\",\"keys_only\":true}x{",
		`{"\u006bey":%q,"range_end":%q,"limit":"2 x","sort_order":"DESCEND","keys_only":true}`,
	} {
		same(t, form, ask(t, m, "POST", "/v3/kv/range", fmt.Sprintf(form, prefix, end)).body, want.body)
	}
	for _, key := range []string{`+/8A`, `-_8A`, `+\/8A`, `+/8\nA`, `\u002b/8A`} {
		answer := ask(t, m, "POST", "/v3/kv/range", fmt.Sprintf(`{"key":"%s"}`, key))
		same(t, key, strings.Contains(answer.body, `"key":"+/8A"`), true)
	}
	for _, key := range []string{b64("forms/a"), strings.TrimRight(b64("forms/a"), "="), "Zm9ybXMvYR=="} {
		answer := ask(t, m, "POST", "/v3/kv/range", fmt.Sprintf(`{"key":%q}`, key))
		same(t, key, strings.Contains(answer.body, `"count":"1"`), true)
	}
}

// testGatewayPaths asks with other methods, and for what is not there.
func testGatewayPaths(t *testing.T, c *cluster.Cluster) {
	m := c.Members[0]
	const good = `{"key":"Zm9v","countOnly":true}`
	const notFound = `{"code":5,"message":"Not Found"}`
	const wrongMethod = `{"code":12,"message":"Method Not Allowed"}`
	for _, test := range []struct {
		method, path string
		status       int
		body         string
	}{
		{"GET", "/v3/kv/range", 501, wrongMethod},
		{"PUT", "/v3/kv/range", 501, wrongMethod},
		{"DELETE", "/v3/watch", 501, wrongMethod},
		{"FOO", "/v3/kv/range", 501, wrongMethod},
		{"HEAD", "/v3/kv/range", 501, ""},
		{"GET", "/v3/nope", 404, notFound},
		{"POST", "/v3/nope", 404, notFound},
		{"POST", "/v3/", 404, notFound},
		{"POST", "/v3/kv/range/", 404, notFound},
		{"POST", "/v3/kv/range:", 404, notFound},
		{"POST", "/v3/KV/range", 404, notFound},
		{"POST", "/v3/kv/range/stream", 404, notFound},
		{"POST", "/v3/swagger.json", 404, notFound},
		{"POST", "/v3beta/", 404, notFound},
		{"POST", "/v3beta/v3beta/kv/range", 404, notFound},
		{"POST", "/v3beta", 404, "404 page not found"},
		{"POST", "/v3alpha/kv/range", 404, "404 page not found"},
		{"POST", "/v3%2Fkv/range", 404, "404 page not found"},
		{"POST", "/livez%2Fserializable_read", 404, "404 page not found"},
		{"POST", "/v3x", 404, "404 page not found"},
		{"GET", "/swagger.json", 404, "404 page not found"},
		{"OPTIONS", "/v3/kv/range", 200, ""},
		{"OPTIONS", "//v3/nope", 200, ""},
	} {
		answer := ask(t, m, test.method, test.path, good)
		same(t, test.method+" "+test.path, answer.status, test.status)
		same(t, test.method+" "+test.path, answer.body, test.body)
		same(t, "allowed origin", answer.header.Get("Access-Control-Allow-Origin"), "*")
	}
	want := ask(t, m, "POST", "/v3/kv/range", good)
	same(t, "good", want.status, 200)
	for _, path := range []string{"/v3beta/kv/range", "/%763/kv/%72ange", "/v3/kv%2Frange", "/v3/kv/range?key=eA%3d%3d&x=%zz"} {
		same(t, path, ask(t, m, "POST", path, good).body, want.body)
	}
	for _, test := range []struct{ method, path, location, body string }{
		{"POST", "/v3", "/v3/", ""},
		{"GET", "/v3?a=b", "/v3/?a=b", `<a href="/v3/?a=b">Temporary Redirect</a>.`},
		{"POST", "//v3/kv/range", "/v3/kv/range", ""},
		{"POST", "/v3//kv/./x/../range", "/v3/kv/range", ""},
		{"POST", "/v3beta//kv/range", "/v3/kv/range", ""},
		{"GET", "/nope//a%20b", "/nope/a%2520b", `<a href="/nope/a%2520b">Temporary Redirect</a>.`},
	} {
		answer := ask(t, m, test.method, test.path, good)
		same(t, test.path, answer.status, 307)
		same(t, test.path, answer.header.Get("Location"), test.location)
		same(t, test.path, answer.body, test.body)
	}
}

// testGatewayHeaders sends and reads what goes beside the body.
func testGatewayHeaders(t *testing.T, c *cluster.Cluster) {
	m := c.Members[0]
	const good = `{"key":"Zm9v","countOnly":true}`
	answer := ask(t, m, "POST", "/v3/kv/range", good)
	want := answer.body
	for name, value := range map[string]string{
		"Content-Type":                 "application/json",
		"Grpc-Metadata-Content-Type":   "application/grpc",
		"Access-Control-Allow-Origin":  "*",
		"Access-Control-Allow-Methods": "POST, GET, OPTIONS, PUT, DELETE",
		"Access-Control-Allow-Headers": "accept, content-type, authorization",
	} {
		same(t, name, answer.header.Get(name), value)
	}
	refused := ask(t, m, "POST", "/v3/kv/range", "{}")
	same(t, "Content-Type", refused.header.Get("Content-Type"), "application/json")
	same(t, "Grpc-Metadata-Content-Type", refused.header.Get("Grpc-Metadata-Content-Type"), "")

	for _, test := range []struct {
		name, value string
		status      int
		body        string
	}{
		{"Content-Type", "text/plain", 200, want},
		{"Content-Type", "application/x-protobuf", 200, want},
		{"Accept", "text/html", 200, want},
		{"Authorization", "whatever", 200, want},
		{"Grpc-Metadata-Hasleader", "true", 200, want},
		{"Grpc-Metadata-Client-Api-Version", "\xff", 200, want},
		{"Grpc-Metadata-Grpc-Timeout", "1n", 200, want},
		{"Grpc-Metadata-Te", "x", 200, want},
		{"Grpc-Metadata-Foo-Bin", "aGk=", 200, want},
		{"Grpc-Metadata-Foo-Bin", "aGk", 200, want},
		{"Grpc-Metadata-Foo-Bin", "!!!", 400, `{"code":3,"message":"invalid binary header Grpc-Metadata-Foo-Bin: illegal base64 data at input byte 0"}`},
		{"Grpc-Metadata-", "foo", 500, `{"code":13,"message":"there is an empty key in the header"}`},
		{"Grpc-Timeout", "5S", 200, want},
		{"Grpc-Timeout", "0S", 200, want},
		{"Grpc-Timeout", "99999999999m", 200, want},
		{"Grpc-Timeout", "5x", 400, `{"code":3,"message":"invalid grpc-timeout: 5x"}`},
		{"Grpc-Timeout", "S", 400, `{"code":3,"message":"invalid grpc-timeout: S"}`},
		{"Grpc-Timeout", "5.5S", 400, `{"code":3,"message":"invalid grpc-timeout: 5.5S"}`},
	} {
		answer := ask(t, m, "POST", "/v3/kv/range", good, test.name, test.value)
		same(t, test.name+": "+test.value, answer.status, test.status)
		same(t, test.name+": "+test.value, answer.body, test.body)
	}
	// A deadline ends a call that waits: nobody gives up the lock.
	client := c.Client(t)
	lock(t, client, "gateway/held", granted(t, client, 600))
	waits := fmt.Sprintf(`{"name":%q,"lease":%q}`, b64("gateway/held"), fmt.Sprint(granted(t, client, 600)))
	answer = ask(t, m, "POST", "/v3/lock/lock", waits, "Grpc-Timeout", "100m")
	same(t, "late", answer.status, 504)
	same(t, "late", answer.body, `{"code":4,"message":"context deadline exceeded"}`)
}

// testGatewaySizes sends more than the largest request, and than the largest message.
func testGatewaySizes(t *testing.T, c *cluster.Cluster) {
	put := func(size, status int, answer string) {
		t.Helper()
		exchange(t, c.Members[0], "kv/put", fmt.Sprintf(`{"key":"Zm9v","value":%q}`, b64(strings.Repeat("x", size))), status, answer)
	}
	put(1_600_000, 400, `{"code":3,"message":"etcdserver: request is too large"}`)
	put(2_200_000, 429, `{"code":8,"message":"grpc: received message larger than max (2200010 vs. 2097152)"}`)
	put(5_000_000, 429, `{"code":8,"message":"grpc: received message larger than max (5000010 vs. 2097152)"}`)
	// A large answer, of many values.
	client := c.Client(t)
	for i := range 8 {
		if _, err := client.Put(deadline(t), fmt.Sprint("sizes/", i), strings.Repeat("y", 1<<20)); err != nil {
			t.Fatal(err)
		}
	}
	answer := ask(t, c.Members[0], "POST", "/v3/kv/range", fmt.Sprintf(`{"key":%q,"range_end":%q}`, b64("sizes/"), b64("sizes0")))
	same(t, "status", answer.status, 200)
	value := b64(strings.Repeat("y", 1<<20))
	same(t, "values", strings.Count(answer.body, `"value":"`+value+`"`), 8)
}

// testGatewayMetrics looks for a call of the gateway among those of gRPC.
func testGatewayMetrics(t *testing.T, c *cluster.Cluster) {
	count := func() (sample string) {
		t.Helper()
		page := ask(t, c.Members[0], "GET", "/metrics", "").body
		for line := range strings.Lines(page) {
			if strings.HasPrefix(line, `grpc_server_handled_total{grpc_code="Unknown",grpc_method="Unlock"`) {
				sample = line[strings.LastIndex(line, " ")+1:]
			}
		}
		return sample
	}
	before := count()
	exchange(t, c.Members[0], "lock/unlock", `{}`, 500, `{"code":2,"message":"etcdserver: key is not provided"}`)
	if after := count(); after == before {
		t.Errorf("a call was not counted: %s before, %s after", before, after)
	}
}

// testGatewayBadRequests sends thousands of requests that are refused, and looks for what they leave.
func testGatewayBadRequests(t *testing.T, c *cluster.Cluster) {
	m := c.Members[0]
	bad := []struct{ method, path, body string }{
		{"POST", "/v3/kv/put", `{"key":`},
		{"POST", "/v3/kv/put", `{"key":5}`},
		{"POST", "/v3/kv/put", `{"nobody":"knows"}`},
		{"POST", "/v3/kv/put", `{"key":"Zm9v!"}`},
		{"POST", "/v3/kv/put", strings.Repeat("[", 20_000)},
		{"POST", "/v3/kv/put", `{"key":"` + strings.Repeat("A", 30_000) + `!"}`},
		{"GET", "/v3/kv/put", `{}`},
		{"POST", "/v3/kv/nope", `{}`},
		{"POST", "/v3/lease/keepalive", `x`},
		{"POST", "/v3/election/observe", `{"name":5}`},
		{"POST", "/v3//kv/put", `{}`},
	}
	send := func(count int) {
		var group sync.WaitGroup
		for client := range 4 {
			group.Go(func() {
				for i := client; i < count; i += 4 {
					request := bad[i%len(bad)]
					status := ask(t, m, request.method, request.path, request.body).status
					if status == http.StatusOK && request.path != "/v3/lease/keepalive" {
						t.Errorf("%s %s was answered", request.path, request.body)
					}
				}
			})
		}
		group.Wait()
	}
	measure := func() (memory, log int64) {
		memory, err := m.ResidentBytes()
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(m.LogFile)
		if err != nil {
			t.Fatal(err)
		}
		return memory, info.Size()
	}
	send(2_000)
	memory, log := measure()
	send(10_000)
	memoryAfter, logAfter := measure()
	t.Logf("10,000 bad requests: memory %d KiB before, %d KiB after; %d bytes of log", memory>>10, memoryAfter>>10, logAfter-log)
	if cluster.IsEtcd() {
		return
	}
	if grown := memoryAfter - memory; grown > 4<<20 {
		t.Errorf("memory has grown by %d KiB", grown>>10)
	}
	if logAfter-log > 4096 {
		t.Errorf("the log has grown by %d bytes", logAfter-log)
	}
}
