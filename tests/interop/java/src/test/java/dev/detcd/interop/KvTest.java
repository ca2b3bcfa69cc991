package dev.detcd.interop;

import static dev.detcd.interop.Cluster.await;
import static dev.detcd.interop.Cluster.bytes;
import static dev.detcd.interop.Cluster.error;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.etcd.jetcd.Client;
import io.etcd.jetcd.KeyValue;
import io.etcd.jetcd.kv.GetResponse;
import io.etcd.jetcd.op.Cmp;
import io.etcd.jetcd.op.CmpTarget;
import io.etcd.jetcd.op.Op;
import io.etcd.jetcd.options.DeleteOption;
import io.etcd.jetcd.options.GetOption;
import io.etcd.jetcd.options.GetOption.SortOrder;
import io.etcd.jetcd.options.GetOption.SortTarget;
import io.etcd.jetcd.options.PutOption;
import java.util.List;
import org.junit.jupiter.api.Test;

/** Put, get, delete and transactions. */
class KvTest extends Connected {
    @Test
    void putGetDelete() throws Exception {
        var key = bytes("kv/greeting");
        var first = await(kv.put(key, bytes("hello")));
        assertFalse(first.hasPrevKv());
        var second = await(kv.put(key, bytes("hello again"), PutOption.builder().withPrevKV().build()));
        assertEquals("hello", second.getPrevKv().getValue().toString());
        assertEquals(first.getHeader().getRevision() + 1, second.getHeader().getRevision());

        var found = await(kv.get(key));
        assertEquals(1, found.getCount());
        KeyValue only = found.getKvs().get(0);
        assertEquals("hello again", only.getValue().toString());
        assertEquals(2, only.getVersion());
        assertEquals(first.getHeader().getRevision(), only.getCreateRevision());
        assertEquals(second.getHeader().getRevision(), only.getModRevision());
        assertEquals(0, only.getLease());

        var before = GetOption.builder().withRevision(first.getHeader().getRevision()).build();
        assertEquals(List.of("kv/greeting=hello"), contents(await(kv.get(key, before))));

        var deleted = await(kv.delete(key, DeleteOption.builder().withPrevKV(true).build()));
        assertEquals(1, deleted.getDeleted());
        assertEquals("hello again", deleted.getPrevKvs().get(0).getValue().toString());
        assertEquals(List.of(), contents(await(kv.get(key))));
        assertEquals(0, await(kv.delete(key)).getDeleted());
    }

    @Test
    void ranges() throws Exception {
        for (String name : List.of("b", "a", "d", "c")) {
            await(kv.put(bytes("kv/range/" + name), bytes(name.toUpperCase())));
        }
        var all = bytes("kv/range/");
        var prefix = GetOption.builder().isPrefix(true);
        var ascending = List.of("kv/range/a=A", "kv/range/b=B", "kv/range/c=C", "kv/range/d=D");
        assertEquals(ascending, contents(await(kv.get(all, prefix.build()))));

        var half = GetOption.builder().withRange(bytes("kv/range/c")).build();
        assertEquals(ascending.subList(0, 2), contents(await(kv.get(all, half))));

        var newest = GetOption.builder().isPrefix(true).withLimit(2)
            .withSortField(SortTarget.MOD).withSortOrder(SortOrder.DESCEND).build();
        var page = await(kv.get(all, newest));
        assertEquals(List.of("kv/range/c=C", "kv/range/d=D"), contents(page));
        assertEquals(4, page.getCount());
        assertTrue(page.isMore());

        var keys = GetOption.builder().isPrefix(true).withKeysOnly(true).withSerializable(true).build();
        try (Client one = Cluster.clientOf(1)) {
            // A serializable read is up to its member: one that wrote has seen what it wrote.
            await(one.getKVClient().put(bytes("kv/range/e"), bytes("E")));
            var names = contents(await(one.getKVClient().get(all, keys)));
            assertEquals(List.of("kv/range/a=", "kv/range/b=", "kv/range/c=", "kv/range/d=", "kv/range/e="), names);
        }

        var count = await(kv.get(all, GetOption.builder().isPrefix(true).withCountOnly(true).build()));
        assertEquals(5, count.getCount());
        assertEquals(List.of(), count.getKvs());

        assertEquals(5, await(kv.delete(all, DeleteOption.builder().isPrefix(true).build())).getDeleted());
    }

    @Test
    void transactions() throws Exception {
        var key = bytes("kv/txn/a");
        var put = await(kv.put(key, bytes("1")));
        long revision = put.getHeader().getRevision();

        var swapped = await(kv.txn()
            .If(
                new Cmp(key, Cmp.Op.EQUAL, CmpTarget.value(bytes("1"))),
                new Cmp(key, Cmp.Op.EQUAL, CmpTarget.version(1)),
                new Cmp(key, Cmp.Op.LESS, CmpTarget.createRevision(revision + 1)),
                new Cmp(key, Cmp.Op.GREATER, CmpTarget.modRevision(revision - 1)))
            .Then(
                Op.put(key, bytes("2"), PutOption.builder().withPrevKV().build()),
                Op.get(key, GetOption.DEFAULT),
                Op.delete(bytes("kv/txn/none"), DeleteOption.DEFAULT))
            .Else(Op.get(key, GetOption.DEFAULT))
            .commit());
        assertTrue(swapped.isSucceeded());
        assertEquals("1", swapped.getPutResponses().get(0).getPrevKv().getValue().toString());
        assertEquals(List.of("kv/txn/a=2"), contents(swapped.getGetResponses().get(0)));
        assertEquals(0, swapped.getDeleteResponses().get(0).getDeleted());
        assertEquals(revision + 1, swapped.getHeader().getRevision());

        Op nested = Op.txn(
            new Cmp[] {new Cmp(key, Cmp.Op.EQUAL, CmpTarget.version(7))},
            new Op[] {Op.put(key, bytes("wrong"), PutOption.DEFAULT)},
            new Op[] {Op.put(bytes("kv/txn/b"), bytes("nested"), PutOption.DEFAULT)});
        var other = await(kv.txn()
            .If(new Cmp(key, Cmp.Op.EQUAL, CmpTarget.value(bytes("1"))))
            .Then(Op.put(key, bytes("wrong"), PutOption.DEFAULT))
            .Else(Op.get(key, GetOption.DEFAULT), nested)
            .commit());
        assertFalse(other.isSucceeded());
        assertEquals(List.of("kv/txn/a=2"), contents(other.getGetResponses().get(0)));
        assertFalse(other.getTxnResponses().get(0).isSucceeded());
        assertEquals(List.of("kv/txn/b=nested"), contents(await(kv.get(bytes("kv/txn/b")))));
    }

    @Test
    void namespace() throws Exception {
        String[] endpoints = Cluster.endpoints().toArray(String[]::new);
        try (Client inside = Client.builder().endpoints(endpoints).namespace(bytes("kv/ns/")).build()) {
            await(inside.getKVClient().put(bytes("a"), bytes("1")));
            assertEquals(List.of("a=1"), contents(await(inside.getKVClient().get(bytes("a")))));
            assertEquals(List.of("kv/ns/a=1"), contents(await(kv.get(bytes("kv/ns/a")))));
            // Everything, which is everything inside of it.
            var all = GetOption.builder().withRange(bytes("\0")).build();
            assertEquals(List.of("a=1"), contents(await(inside.getKVClient().get(bytes("\0"), all))));
        }
    }

    @Test
    void errors() throws Exception {
        var future = GetOption.builder().withRevision(1L << 40).build();
        assertEquals("etcdserver: mvcc: required revision is a future revision", error(kv.get(bytes("kv/a"), future)));
        var lost = PutOption.builder().withLeaseId(7).build();
        assertEquals("etcdserver: requested lease not found", error(kv.put(bytes("kv/a"), bytes("x"), lost)));
        assertEquals("etcdserver: key is not provided", error(kv.put(bytes(""), bytes("x"))));
    }

    private static List<String> contents(GetResponse response) {
        return response.getKvs().stream().map(one -> one.getKey() + "=" + one.getValue()).toList();
    }
}
