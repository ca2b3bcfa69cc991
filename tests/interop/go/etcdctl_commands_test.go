package interop

import (
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"
)

// comparedCommand is a command that TestEtcdctlCompared runs. In its words $v is the version of
// etcdctl, $lease the last lease that was
// granted, $m1 and $m2 are ids of members, $rev1 is the first revision that the version writes, $rev5 the fifth.
type comparedCommand struct {
	args       []string
	input      string               // for stdin
	formats    []string             // of the output: none is the default alone
	message    func() proto.Message // what protobuf output holds; without it that format is left out
	everywhere bool                 // asks all members, not the first alone
	numbers    bool                 // no number in the output need be the same
	unordered  bool                 // the order, of members by their ids, need not be the same
	until      string               // goes on for ever: it is interrupted after the line with this text
	notIn      []string             // the versions without the command or a flag of it, or where it is known to differ
}

var allFormats = []string{"simple", "json", "fields", "table", "protobuf"}

func words(args ...string) []string { return args }

func rangeMessage() proto.Message { return &pb.RangeResponse{} }

// read is a command that reads, in all formats.
func read(args ...string) comparedCommand {
	return comparedCommand{args: args, formats: allFormats, message: rangeMessage}
}

// once is a command in its default format.
func once(args ...string) comparedCommand { return comparedCommand{args: args} }

// comparedCommands have the parts of the server that are built. Not in it: check, which measures for a
// minute and writes thousands of keys.
var comparedCommands = []comparedCommand{
	{args: words("put", "$v/a", "1"), formats: allFormats, message: func() proto.Message { return &pb.PutResponse{} }},
	{args: words("put", "$v/a", "2", "--prev-kv"), formats: allFormats, message: func() proto.Message { return &pb.PutResponse{} }},
	{args: words("put", "$v/b"), input: "from\nstdin"},
	once("put", "$v/c", "with \"quotes\" and \xff"),
	once("put", "$v/d", ""),
	once("put", "$v/a", "3", "--ignore-lease"),
	once("put", "$v/a", "--ignore-value"),
	once("put", "$v/none", "--ignore-value"),
	once("put", "--", "$v/-dash", "-1"),

	read("get", "$v/a"),
	read("get", "$v/none"),
	read("get", "$v/", "--prefix"),
	{args: words("get", "$v/", "--prefix", "--count-only"), formats: allFormats, message: rangeMessage, notIn: words("3.4")},
	read("get", "$v/", "--prefix", "--keys-only"),
	once("get", "$v/", "--prefix", "--print-value-only"),
	once("get", "$v/", "--prefix", "--order=DESCEND", "--limit=2"),
	once("get", "$v/", "--prefix", "--sort-by=MODIFY", "--order=ASCEND"),
	once("get", "$v/", "--prefix", "--sort-by=VALUE"),
	once("get", "$v/", "--prefix", "--sort-by=VERSION", "--order=DESCEND"),
	once("get", "$v/", "--prefix", "--sort-by=CREATE", "--order=DESCEND"),
	once("get", "$v/a", "$v/c"),
	once("get", "$v/b", "--from-key", "--limit=1"),
	once("get", "", "--prefix", "--limit=1"),
	once("get", "$v/a", "--consistency=s"),
	{args: words("get", "$v/a", "--hex"), formats: words("simple", "json")},
	once("get", "$v/a", "--rev=$rev1"),
	once("get", "$v/a", "--rev=1000000"),
	once("get"),
	once("get", "$v/a", "--order=sideways"),
	once("put", "", "x"),
	once("put", "$v/a", "1", "--lease=123"),

	{args: words("txn"), formats: words("simple", "json", "protobuf"), message: func() proto.Message { return &pb.TxnResponse{} },
		input: "value(\"$v/a\") = \"3\"\nversion(\"$v/none\") = \"0\"\nmod(\"$v/a\") > \"1\"\ncreate(\"$v/a\") < \"1000000\"\n\n" +
			"put $v/t 1\nget $v/a $v/c\ndel $v/none\n\nget $v/a\n\n"},
	{args: words("txn"), formats: words("simple", "json", "table", "fields"),
		input: "value(\"$v/a\") = \"no\"\n\nput $v/t 2\n\nget $v/t\nget $v/none\n\n"},
	{args: words("txn"), input: "\nput $v/t 1\nput $v/t 2\n\n\n"},

	{args: words("put", "$v/w/a", "1")}, {args: words("put", "$v/w/a", "2")}, {args: words("del", "$v/w/a")},
	{args: words("put", "$v/w/z", "the end")},
	{args: words("watch", "$v/w/", "--prefix", "--rev=$rev1"), until: "the end"},
	{args: words("watch", "$v/w/", "--prefix", "--rev=$rev1", "--prev-kv"), until: "the end"},
	{args: words("watch", "$v/w/", "--prefix", "--rev=$rev1"), formats: words("json"), until: "dGhlIGVuZA=="},
	{args: words("watch", "$v/w/", "--prefix", "--rev=$rev1"), formats: words("fields"), until: "the end"},
	{args: words("watch", "$v/w/a", "--rev=$rev1", "--", "sh", "-c", "echo $ETCD_WATCH_EVENT_TYPE $ETCD_WATCH_KEY $ETCD_WATCH_VALUE"), until: "DELETE"},
	{args: words("watch", "$v/w/z", "--rev=$rev1", "--hex"), until: `\x74\x68\x65`},

	{args: words("lease", "grant", "100"), formats: words("simple", "json", "fields", "table")},
	{args: words("put", "$v/l", "1", "--lease=$lease")},
	read("get", "$v/l"),
	{args: words("lease", "timetolive", "$lease"), formats: words("simple", "json", "fields", "table"), numbers: true},
	{args: words("lease", "timetolive", "$lease", "--keys"), formats: words("simple", "json", "fields", "table"), numbers: true},
	{args: words("lease", "keep-alive", "--once", "$lease"), formats: words("simple", "json", "fields", "table")},
	{args: words("lease", "keep-alive", "$lease"), until: "keepalived"},
	{args: words("lease", "list"), formats: words("simple", "json", "fields", "table")},
	{args: words("lease", "revoke", "$lease"), formats: words("simple")},
	{args: words("lease", "timetolive", "$lease"), formats: words("simple", "json", "fields", "table")},
	{args: words("lease", "keep-alive", "--once", "$lease")},
	once("lease", "revoke", "$lease"),
	once("lease", "revoke", "no number"),
	once("get", "$v/l"),

	{args: words("lock", "$v-lock", "sh", "-c", "echo $ETCD_LOCK_KEY; echo $ETCD_LOCK_REV")},
	{args: words("lock", "$v-lock", "sh", "-c", "exit 7")},
	{args: words("elect", "$v-elect", "the chief"), until: "the chief"},
	once("get", "$v-", "--prefix"),

	{args: words("del", "$v/a"), formats: allFormats, message: func() proto.Message { return &pb.DeleteRangeResponse{} }},
	{args: words("del", "$v/b", "--prev-kv"), formats: words("json", "simple")},
	{args: words("put", "$v/b", "1")}, {args: words("del", "$v/b", "$v/d", "--prev-kv")},
	once("del", "$v/w", "--prefix", "--prev-kv"),
	once("del", "$v/zz", "--prefix"),

	once("compaction", "$rev5"),
	once("compaction", "$rev5"),
	once("compaction", "1000000"),
	once("compaction", "$rev9", "--physical"),
	once("get", "$v/a", "--rev=$rev1"),
	once("watch", "$v/a", "--rev=$rev1"),

	{args: words("member", "list"), formats: allFormats, message: func() proto.Message { return &pb.MemberListResponse{} }, unordered: true},
	{args: words("member", "list", "--hex"), formats: words("json"), unordered: true},
	{args: words("endpoint", "health"), formats: words("simple", "json", "table"), everywhere: true, unordered: true},
	{args: words("endpoint", "status"), formats: words("simple", "json", "fields", "table"), everywhere: true, numbers: true},
	{args: words("endpoint", "status", "--cluster"), numbers: true, unordered: true},
	{args: words("endpoint", "hashkv"), formats: words("simple", "json", "fields", "table"), everywhere: true, numbers: true},
	{args: words("move-leader", "$m2"), everywhere: true},
	{args: words("move-leader", "$m1"), everywhere: true},
	{args: words("move-leader", "123"), everywhere: true},
	{args: words("alarm", "list"), formats: words("simple", "json", "fields", "table")},
	{args: words("alarm", "disarm"), formats: words("simple", "json")},
	{args: words("auth", "status"), formats: words("simple", "json", "fields"), notIn: words("3.4")},
}
