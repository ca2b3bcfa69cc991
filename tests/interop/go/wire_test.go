package interop

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"detcd.dev/interop/cluster"
)

// TestWire speaks HTTP/2 by hand, for what no client library would send, and for what a library
// keeps to itself.
func TestWire(t *testing.T) {
	c := cluster.Start(t, 1, "--grpc-keepalive-min-time=300ms", "--max-concurrent-streams=3")
	for _, topic := range []topic{
		{"heads of calls", testWireHeads},
		{"messages of calls", testWireMessages},
		{"refused by the library", testWireRefused},
		{"requests that stay open", testWireOpenRequests},
		{"pings", testWirePings},
		{"streams at once", testWireStreams},
		// The end of the member comes last.
		{"shutdown", testWireShutdown},
	} {
		t.Run(topic.name, func(t *testing.T) { topic.run(t, c) })
	}
}

// A wire is a connection whose frames a test writes and reads.
type wire struct {
	t      testing.TB
	socket net.Conn
	framer *http2.Framer
	next   uint32
	// told is what the server said of the connection as a whole.
	settings map[http2.SettingID]uint32
}

// dialWire opens a connection and says the preface.
func dialWire(t testing.TB, m *cluster.Member) *wire {
	t.Helper()
	address, err := url.Parse(m.ClientURL)
	if err != nil {
		t.Fatal(err)
	}
	socket, err := net.Dial("tcp", address.Host)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { socket.Close() })
	if err := socket.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	w := &wire{t: t, socket: socket, framer: http2.NewFramer(socket, socket), next: 1, settings: map[http2.SettingID]uint32{}}
	w.framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	if _, err := io.WriteString(socket, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	w.must(w.framer.WriteSettings())
	return w
}

func (w *wire) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// wireHeaders are those of a call, changed by name=value, separated by blanks; a name alone takes a
// header away.
func wireHeaders(path, changes string) [][2]string {
	headers := [][2]string{
		{":method", "POST"}, {":scheme", "http"}, {":path", path}, {":authority", "127.0.0.1"},
		{"content-type", "application/grpc"}, {"te", "trailers"},
	}
	for _, change := range strings.Fields(changes) {
		name, value, given := strings.Cut(change, "=")
		var changed [][2]string
		for _, header := range headers {
			switch {
			case header[0] != name:
				changed = append(changed, header)
			case given:
				changed, given = append(changed, [2]string{name, value}), false
			}
		}
		if given {
			changed = append(changed, [2]string{name, value})
		}
		headers = changed
	}
	return headers
}

// open begins a call, and ends its requests with the body if there is one to be sent at once.
func (w *wire) open(headers [][2]string, body []byte, end bool) uint32 {
	w.t.Helper()
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	for _, header := range headers {
		w.must(encoder.WriteField(hpack.HeaderField{Name: header[0], Value: header[1]}))
	}
	stream := w.next
	w.next += 2
	first, rest := block.Bytes(), []byte(nil)
	if len(first) > 16<<10 {
		first, rest = first[:16<<10], first[16<<10:]
	}
	w.must(w.framer.WriteHeaders(http2.HeadersFrameParam{
		StreamID: stream, BlockFragment: first, EndHeaders: rest == nil, EndStream: body == nil,
	}))
	if rest != nil {
		w.must(w.framer.WriteContinuation(stream, true, rest))
	}
	if body != nil {
		w.must(w.framer.WriteData(stream, end, body))
	}
	return stream
}

// call makes one call on a connection of its own, and shows what came of it.
func call(t testing.TB, m *cluster.Member, headers [][2]string, body []byte) string {
	t.Helper()
	w := dialWire(t, m)
	defer w.socket.Close()
	return strings.Join(w.until(w.open(headers, body, true), ""), " | ")
}

// until reads until a stream, or the connection, has ended, or until something was heard that begins
// with a text. It gives what was heard; stream 0 is the connection alone.
func (w *wire) until(stream uint32, text string) (heard []string) {
	w.t.Helper()
	for text == "" || len(heard) == 0 || !strings.HasPrefix(heard[len(heard)-1], text) {
		frame, err := w.framer.ReadFrame()
		var timeout net.Error
		switch {
		case errors.As(err, &timeout) && timeout.Timeout():
			return append(heard, "silence")
		case err != nil:
			return append(heard, "closed")
		}
		switch frame := frame.(type) {
		case *http2.GoAwayFrame:
			heard = append(heard, fmt.Sprintf("GOAWAY %v %q", frame.ErrCode, frame.DebugData()))
			continue
		case *http2.SettingsFrame:
			if !frame.IsAck() {
				w.must(frame.ForeachSetting(func(s http2.Setting) error { w.settings[s.ID] = s.Val; return nil }))
				w.must(w.framer.WriteSettingsAck())
			}
			continue
		case *http2.PingFrame:
			if !frame.IsAck() {
				w.must(w.framer.WritePing(true, frame.Data))
			}
			continue
		}
		if frame.Header().StreamID != stream || stream == 0 {
			continue
		}
		switch frame := frame.(type) {
		case *http2.MetaHeadersFrame:
			heard = append(heard, shown(frame)...)
		case *http2.DataFrame:
			if len(frame.Data()) > 0 {
				heard = append(heard, "data")
			}
		case *http2.RSTStreamFrame:
			return append(heard, fmt.Sprintf("RST_STREAM %v", frame.ErrCode))
		}
		if frame.Header().Flags.Has(http2.FlagDataEndStream) {
			return heard
		}
	}
	return heard
}

// shown are headers as texts, without an empty message, which says no more than none.
func shown(frame *http2.MetaHeadersFrame) (fields []string) {
	for _, field := range frame.Fields {
		value, err := url.PathUnescape(field.Value)
		if err != nil {
			value = field.Value
		}
		if field.Name != "grpc-message" || value != "" {
			// Go's protobuf writes one blank or the other, so that nobody relies on its texts.
			fields = append(fields, field.Name+": "+strings.ReplaceAll(value, "\u00a0", " "))
		}
	}
	return fields
}

// watching opens a watch and waits until it is there.
func (w *wire) watching() uint32 {
	w.t.Helper()
	create := framed(0, "\x0a\x03\x0a\x01k")
	stream := w.open(wireHeaders("/etcdserverpb.Watch/Watch", ""), create, false)
	w.until(stream, "data")
	return stream
}

// testWirePings probes more often than a server allows, and as often as it does.
func testWirePings(t *testing.T, c *cluster.Cluster) {
	const toldOff = `GOAWAY ENHANCE_YOUR_CALM "too_many_pings" | closed`
	// The third ping that comes too early is one too many.
	tests := []struct {
		name  string
		watch bool
		pings int
		pause time.Duration
		off   bool
	}{
		{"without a request", false, 4, 0, true},
		{"without a request, some", false, 3, 0, false},
		// A watch's first answer makes one ping free.
		{"with a request", true, 4, 0, true},
		{"with a request, some", true, 3, 0, false},
		{"in their time", true, 6, 400 * time.Millisecond, false},
		{"in their time, but without a request", false, 4, 400 * time.Millisecond, true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := dialWire(t, c.Members[0])
			if test.watch {
				w.watching()
			}
			for n := range test.pings {
				time.Sleep(test.pause)
				w.must(w.framer.WritePing(false, [8]byte{byte(n)}))
			}
			if test.off {
				same(t, "heard", strings.Join(w.until(0, ""), " | "), toldOff)
				return
			}
			// The connection is as good as before.
			stream := w.open(wireHeaders("/etcdserverpb.KV/Range", ""), framed(0, "\x0a\x04wire"), true)
			same(t, "heard", strings.Join(w.until(stream, ""), " | "), found)
		})
	}
}

// testWireStreams opens more streams than the server allows on one connection.
func testWireStreams(t *testing.T, c *cluster.Cluster) {
	w := dialWire(t, c.Members[0])
	first := w.watching()
	w.watching()
	w.watching()
	same(t, "the limit that was told", w.settings[http2.SettingMaxConcurrentStreams], 3)
	get := func() string {
		stream := w.open(wireHeaders("/etcdserverpb.KV/Range", ""), framed(0, "\x0a\x04wire"), true)
		return strings.Join(w.until(stream, ""), " | ")
	}
	same(t, "a fourth", get(), "RST_STREAM REFUSED_STREAM")
	w.must(w.framer.WriteRSTStream(first, http2.ErrCodeCancel))
	same(t, "a fourth, after the first", get(), found)
}

// testWireOpenRequests leaves the requests of calls open that take one message.
func testWireOpenRequests(t *testing.T, c *cluster.Cluster) {
	put(t, c.Client(t), "wire", "v")
	get := framed(0, "\x0a\x04wire")
	w := dialWire(t, c.Members[0])
	unary := w.open(wireHeaders("/etcdserverpb.KV/Range", ""), get, false)
	same(t, "a unary call", strings.Join(w.until(unary, ""), " | "), found)
	// The end that comes late is no fault of the client's.
	w.must(w.framer.WriteData(unary, true, nil))
	stream := w.open(wireHeaders("/etcdserverpb.KV/RangeStream", ""), get, false)
	w.must(w.framer.WriteData(stream, true, nil))
	same(t, "a stream", strings.Join(w.until(stream, ""), " | "), found)
}

// testWireShutdown ends a member while a client watches: the client is told to go elsewhere before
// its stream ends.
func testWireShutdown(t *testing.T, c *cluster.Cluster) {
	idle, w := dialWire(t, c.Members[0]), dialWire(t, c.Members[0])
	stream := w.watching()
	var ends sync.WaitGroup
	for name, end := range map[string]func() []string{
		"idle":     func() []string { return idle.until(0, "") },
		"watching": func() []string { return w.until(stream, "") },
	} {
		ends.Go(func() {
			heard := end()
			t.Logf("%s: %s", name, strings.Join(heard, " | "))
			if len(heard) == 0 || !strings.HasPrefix(heard[0], "GOAWAY NO_ERROR") {
				t.Errorf("%s: heard %q, and no GOAWAY first", name, heard)
			}
		})
	}
	c.Members[0].Stop(t)
	ends.Wait()
}
