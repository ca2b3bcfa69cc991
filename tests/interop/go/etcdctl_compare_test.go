package interop

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/protobuf/proto"

	"detcd.dev/interop/cluster"
)

// etcdctls are the versions that people have: today's, an older one, and the one of Debian's
// package etcd-client.
var etcdctls = []struct{ name, path string }{
	{"3.7", filepath.Join("bin", "etcdctl")},
	{"3.5", filepath.Join("..", "etcdctl35", "bin", "etcdctl")},
	{"3.4", "/usr/bin/etcdctl"},
}

// TestEtcdctlCompared runs the same commands of etcdctl, of each version and with each format of its
// output, on the server under test and on etcd: what they print, what they complain and their exit codes
// are the same. Only what must differ is made equal before: ids, terms, sizes, times, ports.
func TestEtcdctlCompared(t *testing.T) {
	// Patient members: the leader that the comparison chose must stay it, also on a busy machine.
	flags := []string{"--heartbeat-interval=100", "--election-timeout=2000"}
	servers := []*comparedServer{{name: "the server", cluster: cluster.Start(t, 3, flags...)}}
	t.Setenv("DETCD_BIN", filepath.Join("bin", "server"))
	servers = append(servers, &comparedServer{name: "etcd", cluster: cluster.Start(t, 3, flags...)})
	for _, s := range servers {
		awaitStorageVersion(t, s.cluster)
		s.learn(t)
	}
	for _, ctl := range etcdctls {
		t.Run(ctl.name, func(t *testing.T) {
			version := cluster.Run(deadline(t), t, "", ctl.path, "version").Stdout
			if !strings.HasPrefix(version, "etcdctl version: "+ctl.name+".") {
				t.Fatalf("%s is not %s: %q", ctl.path, ctl.name, version)
			}
			for _, s := range servers {
				s.leadFromFirst(t)
				s.revision = get(t, s.cluster.Client(t), "any").Header.Revision
			}
			same(t, "revision", servers[0].revision, servers[1].revision)
			for _, command := range comparedCommands {
				if slices.Contains(command.notIn, ctl.name) {
					continue
				}
				compare(t, ctl.path, ctl.name, command, servers)
			}
			t.Run("make-mirror", func(t *testing.T) { compareMirrors(t, ctl.path, ctl.name, servers) })
		})
	}
}

// comparedServer is one of the two clusters. Every command goes to its first member, which leads, so that
// revisions and the member that answers are the same in both.
type comparedServer struct {
	name     string
	cluster  *cluster.Cluster
	names    *strings.Replacer // from this cluster's ids and addresses to names that both have
	members  map[string]string // from a member's name to its id in hex
	revision int64             // before the first command
	lease    string            // the last lease that was granted, in hex
}

func (s *comparedServer) learn(t testing.TB) {
	t.Helper()
	list, err := oneMember(t, s.cluster).MemberList(deadline(t))
	if err != nil {
		t.Fatal(err)
	}
	var pairs []string
	id := func(id uint64, name string) {
		pairs = append(pairs, fmt.Sprint(id), "<"+name+">", fmt.Sprintf("%x", id), "<"+name+">")
	}
	id(list.Header.ClusterId, "cluster")
	s.members = map[string]string{}
	for _, m := range list.Members {
		id(m.ID, m.Name)
		s.members[m.Name] = fmt.Sprintf("%x", m.ID)
	}
	for _, m := range s.cluster.Members {
		pairs = append(pairs, strings.TrimPrefix(m.ClientURL, "http://"), "<client "+m.Name+">")
		pairs = append(pairs, strings.TrimPrefix(m.PeerURL, "http://"), "<peer "+m.Name+">")
	}
	s.names = strings.NewReplacer(pairs...)
}

// leadFromFirst makes the first member the leader.
func (s *comparedServer) leadFromFirst(t testing.TB) {
	t.Helper()
	leader, first := s.cluster.Leader(t), s.cluster.Members[0]
	if leader == first {
		return
	}
	client := s.cluster.Client(t, leader.ClientURL)
	var id uint64
	fmt.Sscanf(s.members[first.Name], "%x", &id)
	if _, err := client.MoveLeader(deadline(t), id); err != nil {
		t.Fatal(err)
	}
	for began := time.Now(); s.cluster.Leader(t) != first; {
		if time.Since(began) > patience {
			t.Fatal("the first member does not lead")
		}
	}
}

// arguments puts this cluster's ids in the place of their names.
func (s *comparedServer) arguments(c comparedCommand, version string) []string {
	endpoints := s.cluster.Endpoints()[:1]
	if c.everywhere {
		endpoints = s.cluster.Endpoints()
	}
	words := []string{"--endpoints", strings.Join(endpoints, ",")}
	for _, word := range c.args {
		word = strings.NewReplacer("$v", version, "$lease", s.lease,
			"$rev1", fmt.Sprint(s.revision+1), "$rev5", fmt.Sprint(s.revision+5), "$rev9", fmt.Sprint(s.revision+9),
			"$m1", s.members["m1"], "$m2", s.members["m2"]).Replace(word)
		words = append(words, word)
	}
	return words
}

var (
	aGrant   = regexp.MustCompile(`lease ([0-9a-f]+) granted`)
	aLease   = regexp.MustCompile(`\b[0-9a-f]{14,16}\b|\b[0-9]{17,19}\b`)
	aTerm    = regexp.MustCompile(`(?i)("raft_?term" ?: ?)\d+`)
	aTime    = regexp.MustCompile(`\b\d+(\.\d+)?(ns|µs|ms|s)\b|"[Tt]ook" ?: ?"?[^",}]*"?`)
	aSize    = regexp.MustCompile(`\b\d+(\.\d+)? [kMG]?B\b|\b\d+%`)
	aWord    = regexp.MustCompile(`[0-9A-Za-z.-]+`)
	padding  = regexp.MustCompile(`[ \t]+|[-─]{2,}`)
	aPiece   = regexp.MustCompile(`[\[\]{},]*\n|\]?\},\{|[\[{]+|[\]}]+`)
	aWarning = regexp.MustCompile(`(?m)^\{"level":"(warn|info)".*\n`)
)

// equal is a text without what must differ between two clusters.
func (s *comparedServer) equal(text string, c comparedCommand) string {
	text = s.names.Replace(text)
	text = aLease.ReplaceAllString(text, "<lease>")
	text = aTerm.ReplaceAllString(text, "${1}T")
	text = aTime.ReplaceAllString(text, "<time>")
	if c.numbers {
		text = aSize.ReplaceAllString(text, "<size>")
		text = aWord.ReplaceAllStringFunc(text, func(word string) string {
			if strings.Trim(word, "0123456789") == "" {
				return "N"
			}
			return word
		})
	}
	text = padding.ReplaceAllString(text, " ")
	if c.unordered {
		pieces := aPiece.Split(text, -1)
		slices.Sort(pieces)
		text = strings.Join(pieces, "\n")
	}
	return text
}

// run runs one command on this server, and gives all that it left in one text.
func (s *comparedServer) run(t testing.TB, path, version, format string, c comparedCommand) string {
	args := s.arguments(c, version)
	if format != "" {
		args = append([]string{"--write-out", format}, args...)
	}
	input := strings.ReplaceAll(c.input, "$v", version)
	if c.until != "" {
		return s.equal(runUntil(t, path, strings.ReplaceAll(c.until, "$v", version), args), c)
	}
	output := cluster.Run(deadline(t), t, input, path, args...)
	if granted := aGrant.FindStringSubmatch(output.Stdout); granted != nil {
		s.lease = granted[1]
	}
	stdout := output.Stdout
	if format == "protobuf" && output.Code == 0 && c.message != nil {
		stdout = decoded(t, stdout, c.message())
	}
	stderr := aWarning.ReplaceAllString(output.Stderr, "")
	return s.equal(fmt.Sprintf("exit code %d\n%s--- stderr\n%s", output.Code, stdout, stderr), c)
}

// decoded is a message, in bytes, as JSON.
func decoded(t testing.TB, bytes string, message proto.Message) string {
	t.Helper()
	if err := proto.Unmarshal([]byte(bytes), message); err != nil {
		t.Errorf("%v in %q", err, bytes)
		return bytes
	}
	text, err := json.Marshal(message)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// runUntil runs a command that goes on until it is interrupted, up to the line that has the text.
func runUntil(t testing.TB, path, text string, args []string) string {
	running := startProgram(t, path, args...)
	var lines []string
	for {
		line := running.lines(t, 1)[0]
		lines = append(lines, line)
		if strings.Contains(line, text) {
			running.end(t, os.Interrupt)
			return strings.Join(lines, "\n")
		}
	}
}

func compare(t *testing.T, path, version string, c comparedCommand, servers []*comparedServer) {
	formats := c.formats
	if formats == nil {
		formats = []string{""}
	}
	for _, format := range formats {
		if format == "protobuf" && c.message == nil {
			continue
		}
		t.Run(strings.Join(append(slices.Clone(c.args), format), " "), func(t *testing.T) {
			var printed [2]string
			var group sync.WaitGroup
			for i, s := range servers {
				group.Go(func() { printed[i] = s.run(t, path, version, format, c) })
			}
			group.Wait()
			if printed[0] != printed[1] {
				t.Errorf("%s:\n%s\n%s:\n%s", servers[0].name, printed[0], servers[1].name, printed[1])
			}
			if strings.Contains(printed[1], "unknown flag") || strings.Contains(printed[1], "unknown command") {
				t.Errorf("nothing was compared: %s", lastLine(printed[1]))
			}
		})
	}
}

// compareMirrors has both clusters mirror a prefix of their own into another.
func compareMirrors(t *testing.T, path, version string, servers []*comparedServer) {
	for _, s := range servers {
		client := oneMember(t, s.cluster)
		source, target := "mirror"+version+"/", "mirrored"+version+"/"
		revision := put(t, client, source+"a", "before")
		watch := client.Watch(deadline(t), target, clientv3.WithPrefix(), clientv3.WithRev(revision))
		mirror := startProgram(t, path, "--endpoints", s.cluster.Endpoints()[0], "make-mirror",
			"--prefix", source, "--dest-prefix", target, s.cluster.Endpoints()[1])
		var seen []string
		for response := range watch {
			for _, event := range response.Events {
				seen = append(seen, fmt.Sprintf("%s %s=%s", event.Type, event.Kv.Key, event.Kv.Value))
			}
			switch len(seen) {
			case 1:
				put(t, client, source+"b", "after")
			case 2:
				if _, err := client.Delete(deadline(t), source+"a"); err != nil {
					t.Fatal(err)
				}
			}
			if len(seen) >= 3 {
				break
			}
		}
		mirror.end(t, os.Interrupt)
		want := fmt.Sprintf("[PUT %[1]sa=before PUT %[1]sb=after DELETE %[1]sa=]", target)
		same(t, s.name, fmt.Sprint(seen), want)
	}
}
