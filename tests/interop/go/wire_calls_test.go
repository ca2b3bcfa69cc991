package interop

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"strings"
	"testing"

	"detcd.dev/interop/cluster"
)

// framed is a message as gRPC sends it.
func framed(format byte, message string) []byte {
	out := append([]byte{format}, 0, 0, 0, 0)
	binary.BigEndian.PutUint32(out[1:], uint32(len(message)))
	return append(out, message...)
}

func zipped(message string) string {
	var out bytes.Buffer
	writer := gzip.NewWriter(&out)
	writer.Write([]byte(message))
	writer.Close()
	return out.String()
}

// Answers, and how they begin.
const (
	answered = ":status: 200 | content-type: application/grpc"
	found    = answered + " | data | grpc-status: 0"
	ended    = answered + " | grpc-status: 0"
	internal = answered + " | grpc-status: 13 | grpc-message: "
	unknown  = answered + " | grpc-status: 2 | grpc-message: "
	unbuiltM = answered + " | grpc-status: 12 | grpc-message: "
	wrongBin = ":status: 400 | content-type: application/grpc | grpc-status: 13 | grpc-message: malformed "
	notPost  = ":status: 405 | content-type: application/grpc | grpc-status: 13 | grpc-message: Received a HEADERS frame with :method "
	wrongCT  = ":status: 415 | content-type: application/grpc | grpc-status: 3 | grpc-message: invalid gRPC request content-type "
	refused  = "RST_STREAM PROTOCOL_ERROR"
	badWire  = "proto: cannot parse invalid wire-format data"
)

// testWireHeads sends calls whose headers are unusual, or wrong.
func testWireHeads(t *testing.T, c *cluster.Cluster) {
	put(t, c.Client(t), "wire", "v")
	get := framed(0, "\x0a\x04wire")
	for _, test := range []struct {
		headers string // name=value, separated by blanks; no value for none
		want    string
	}{
		{"", found},
		{"content-type=application/grpc+proto", strings.Replace(found, "grpc |", "grpc+proto |", 1)},
		{"content-type=application/grpc+JSON", strings.Replace(found, "grpc |", "grpc+JSON |", 1)},
		{"content-type=application/grpc;charset=x", strings.Replace(found, "grpc |", "grpc+charset=x |", 1)},
		{"content-type=application/grpc+", found},
		{"content-type=application/grpcx", wrongCT + `"application/grpcx"`},
		{"content-type=application/grpc-web", wrongCT + `"application/grpc-web"`},
		{"content-type=Application/grpc", wrongCT + `"Application/grpc"`},
		{"content-type=application/json", wrongCT + `"application/json"`},
		{"content-type", wrongCT + `""`},
		{":method=GET", notPost + `"GET" which should be POST`},
		{":method=OPTIONS", notPost + `"OPTIONS" which should be POST`},
		{":method=GET content-type=text/html", wrongCT + `"text/html"`},
		{":method=GET grpc-timeout=x", wrongBin + `grpc-timeout: transport: timeout string is too short: "x"`},
		{":method=GET :path=/health content-type", wrongCT + `""`},
		{":path=/etcdserverpb.KV/Nope", unbuiltM + "unknown method Nope for service etcdserverpb.KV"},
		{":path=/etcdserverpb.KV/Range?x=1", unbuiltM + "unknown method Range?x=1 for service etcdserverpb.KV"},
		{":path=/nope.KV/Nope", unbuiltM + "unknown service nope.KV"},
		{":path=/nope.KV/Nope content-type=application/grpc+proto",
			strings.Replace(unbuiltM, "grpc |", "grpc+proto |", 1) + "unknown service nope.KV"},
		{":path=/nope", unbuiltM + `malformed method name: "/nope"`},
		{":path=/etcdserverpb.KV/Nope grpc-encoding=snappy", unbuiltM + "unknown method Nope for service etcdserverpb.KV"},
		{"x-bin=Zm9v", found},
		{"x-bin=Zm8", found},
		{"x-bin=Zh", found},
		{"x-bin=!!!", wrongBin + `binary metadata "!!!" in header "x-bin": illegal base64 data at input byte 0`},
		{"x-bin=Zm9vZ", wrongBin + `binary metadata "Zm9vZ" in header "x-bin": illegal base64 data at input byte 4`},
		{"x-bin=!! grpc-timeout=x", wrongBin + `grpc-timeout: transport: timeout string is too short: "x"`},
		{"grpc-timeout=soon", wrongBin + `grpc-timeout: strconv.ParseUint: parsing "soo": invalid syntax`},
		{"grpc-timeout=0n", answered + " | grpc-status: 4 | grpc-message: context deadline exceeded"},
		{"grpc-encoding=", found},
		{"grpc-encoding=identity", found},
		{"grpc-encoding=snappy", unbuiltM + `grpc: Decompressor is not installed for grpc-encoding "snappy"`},
		{"grpc-accept-encoding=gzip", found},
		{"hasleader=true", found},
		{"te", found},
		{"connection=close", refused},
		{":authority", found},
		{":authority host=x", found},
		{":authority=http://127.0.0.1:2379", found},
		{":authority=%2Fetcd%2F", found},
		{":authority=" + strings.Repeat("/", 300), found},
		{":scheme=https", found},
		{"x-y=é", found},
		{"x=" + strings.Repeat("a", 20_000), found},
	} {
		name := test.headers[:min(len(test.headers), 60)]
		same(t, name, call(t, c.Members[0], wireHeaders("/etcdserverpb.KV/Range", test.headers), get), test.want)
	}
}

// testWireMessages sends bodies that are not one whole message each.
func testWireMessages(t *testing.T, c *cluster.Cluster) {
	put(t, c.Client(t), "wire", "v")
	const (
		unary     = "/etcdserverpb.KV/Range"
		stream    = "/etcdserverpb.KV/RangeStream"
		both      = "/etcdserverpb.Lease/LeaseKeepAlive"
		check     = "/grpc.health.v1.Health/Check"
		watch     = "/grpc.health.v1.Health/Watch"
		inGzip    = "grpc-encoding=gzip"
		ofUnary   = "grpc: error unmarshalling request: "
		ofStream  = "grpc: failed to unmarshal the received message: "
		cannot    = "grpc: failed to decompress the message: "
		broken    = "grpc: failed to read decompressed data: "
		noMessage = "cardinality violation: received no request message from non-client-streaming RPC"
		several   = "cardinality violation: received multiple request messages for non-client-streaming RPC"
	)
	get, renew := framed(0, "\x0a\x04wire"), framed(0, "\x08\x05")
	twice := func(message []byte) []byte { return append(append([]byte{}, message...), message...) }
	renewals := strings.Replace(found, "data", "data | data", 1)
	packed := zipped("\x0a\x04wire")
	for _, test := range []struct {
		name, path, headers string
		body                []byte
		want                string
	}{
		{"nothing", unary, "", []byte{}, unknown + "EOF"},
		{"a part of a head", unary, "", get[:3], unknown + "EOF"},
		{"a part of a message", unary, "", get[:7], unknown + "unexpected EOF"},
		{"two messages", unary, "", twice(get), found},
		{"a byte more", unary, "", append(get, 0), found},
		{"a format that is none", unary, "", framed(2, "\x0a\x04wire"), internal + "grpc: received unexpected payload format 2"},
		{"a message that is too large", unary, "", append([]byte{0, 0, 0x20, 0, 1}, 1, 2, 3),
			answered + " | grpc-status: 8 | grpc-message: grpc: received message larger than max (2097153 vs. 2097152)"},
		{"a length beyond the end", unary, "", framed(0, "\x0a\xffk"), internal + ofUnary + badWire},
		{"a tag that is none", "/etcdserverpb.KV/Put", "", framed(0, "\xff"), internal + ofUnary + badWire},
		{"field 0", unary, "", framed(0, "\x00\x01"), internal + ofUnary + badWire},
		{"a text that is none", check, "", framed(0, "\x0a\x01\xff"), internal + ofUnary + "string field contains invalid UTF-8"},

		{"nothing", stream, "", []byte{}, internal + noMessage},
		{"a part of a head", stream, "", get[:3], internal + noMessage},
		{"a part of a message", stream, "", get[:7], internal + "unexpected EOF"},
		{"two messages", stream, "", twice(get), internal + several},
		{"a byte more", stream, "", append(get, 0), found},
		{"a tag that is none", stream, "", framed(0, "\xff"), internal + ofStream + badWire},
		{"a text that is none", watch, "", framed(0, "\x0a\x01\xff"), internal + ofStream + "string field contains invalid UTF-8"},

		{"nothing", both, "", []byte{}, ended},
		{"a part of a head", both, "", renew[:3], ended},
		{"a part of a message", both, "", renew[:6], internal + "unexpected EOF"},
		{"two messages", both, "", twice(renew), renewals},
		{"a tag that is none", both, "", framed(0, "\xff"), internal + ofStream + badWire},
		{"an encoding that is none", both, "grpc-encoding=snappy", renew,
			unbuiltM + `grpc: Decompressor is not installed for grpc-encoding "snappy"`},

		{"a flag without encoding", unary, "", framed(1, "x"), internal + "grpc: compressed flag set with identity or empty encoding"},
		{"a flag without encoding", unary, "grpc-encoding=identity", framed(1, "x"), internal + "grpc: compressed flag set with identity or empty encoding"},
		{"gzip", unary, inGzip, framed(1, packed), found},
		{"gzip and plain", both, inGzip, append(framed(1, zipped("\x08\x05")), renew...), renewals},
		{"gzip of nothing", unary, inGzip, framed(1, ""), internal + cannot + "EOF"},
		{"gzip cut in its head", unary, inGzip, framed(1, packed[:4]), internal + cannot + "unexpected EOF"},
		{"gzip cut", unary, inGzip, framed(1, packed[:len(packed)-3]), internal + broken + "unexpected EOF"},
		{"no gzip", unary, inGzip, framed(1, strings.Repeat("0123456789", 4)), internal + cannot + "gzip: invalid header"},
		{"gzip that is too large", unary, inGzip, framed(1, zipped(strings.Repeat("\x00", 5<<20))),
			answered + " | grpc-status: 8 | grpc-message: grpc: received message after decompression larger than max 2097152"},
	} {
		got := call(t, c.Members[0], wireHeaders(test.path, test.headers), test.body)
		// etcd answers in gzip who asks in gzip.
		got = strings.Replace(got, " | grpc-encoding: gzip", "", 1)
		same(t, test.name+" to "+test.path, got, test.want)
	}
}

// testWireRefused sends what ends the stream before the server sees a call. etcd is not asked: it
// looks at less.
func testWireRefused(t *testing.T, c *cluster.Cluster) {
	if cluster.IsEtcd() {
		t.Skip("docs/differences.md says what etcd does")
	}
	get := framed(0, "\x0a\x04wire")
	for _, headers := range []string{
		":path=nope", ":path", ":method", ":scheme",
	} {
		same(t, headers, call(t, c.Members[0], wireHeaders("/etcdserverpb.KV/Range", headers), get), refused)
	}
	for _, headers := range []string{"X-Y=a", "x-y=a\x01"} {
		same(t, headers, call(t, c.Members[0], wireHeaders("/etcdserverpb.KV/Range", headers), get), `GOAWAY PROTOCOL_ERROR "" | closed`)
	}
	same(t, "no body", call(t, c.Members[0], wireHeaders("/etcdserverpb.KV/Range", ""), nil), unknown+"EOF")
	wrongType := framed(0, "\x08\x01")
	same(t, "a field of another type", call(t, c.Members[0], wireHeaders("/etcdserverpb.KV/Range", ""), wrongType),
		internal+"grpc: error unmarshalling request: "+badWire)
}
