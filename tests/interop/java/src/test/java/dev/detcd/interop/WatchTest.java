package dev.detcd.interop;

import static dev.detcd.interop.Cluster.await;
import static dev.detcd.interop.Cluster.bytes;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.etcd.jetcd.Client;
import io.etcd.jetcd.common.exception.CompactedException;
import io.etcd.jetcd.options.WatchOption;
import io.etcd.jetcd.watch.WatchResponse;
import java.util.List;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.Test;

/** Watches: the past, the present, filters, progress, and history that is gone. */
class WatchTest extends Connected {
    @Test
    void pastAndPresent() throws Exception {
        long first = await(kv.put(bytes("watch/a"), bytes("1"))).getHeader().getRevision();
        await(kv.put(bytes("watch/b"), bytes("2")));
        var options = WatchOption.builder().isPrefix(true).withRevision(first).withPrevKV(true).build();
        var events = new Events();
        try (var watcher = client.getWatchClient().watch(bytes("watch/"), options, events)) {
            assertEquals(List.of("PUT watch/a=1", "PUT watch/b=2"), events.next(2));
            await(kv.put(bytes("watch/a"), bytes("3")));
            await(kv.delete(bytes("watch/a")));
            var changed = events.next();
            assertEquals("PUT watch/a=3", Events.text(changed));
            assertEquals("1", changed.getPrevKV().getValue().toString());
            assertEquals(first + 2, changed.getKeyValue().getModRevision());
            var deleted = events.next();
            assertEquals("DELETE watch/a=", Events.text(deleted));
            assertEquals("3", deleted.getPrevKV().getValue().toString());
            assertEquals(0, events.waiting());
        }
    }

    @Test
    void filters() throws Exception {
        long revision = await(kv.put(bytes("filter/a"), bytes("1"))).getHeader().getRevision();
        await(kv.delete(bytes("filter/a")));
        await(kv.put(bytes("filter/a"), bytes("2")));
        await(kv.delete(bytes("filter/a")));
        var puts = new Events();
        var deletes = new Events();
        var noDelete = WatchOption.builder().withRevision(revision).withNoDelete(true).build();
        var noPut = WatchOption.builder().withRevision(revision).withNoPut(true).build();
        try (var one = client.getWatchClient().watch(bytes("filter/a"), noDelete, puts);
            var two = client.getWatchClient().watch(bytes("filter/a"), noPut, deletes)) {
            assertEquals(List.of("PUT filter/a=1", "PUT filter/a=2"), puts.next(2));
            assertEquals(List.of("DELETE filter/a=", "DELETE filter/a="), deletes.next(2));
            assertEquals(0, puts.waiting() + deletes.waiting());
        }
    }

    @Test
    void progress() throws Exception {
        try (Client one = Cluster.clientOf(0)) {
            var answers = new LinkedBlockingQueue<WatchResponse>();
            var options = WatchOption.builder().withCreateNotify(true).build();
            try (var watcher = one.getWatchClient().watch(bytes("progress/none"), options, answers::add)) {
                assertTrue(answers.poll(Cluster.PATIENCE, TimeUnit.SECONDS).isCreatedNotify());
                long revision = await(one.getKVClient().put(bytes("progress/a"), bytes("1"))).getHeader().getRevision();
                one.getWatchClient().requestProgress();
                var progress = answers.poll(Cluster.PATIENCE, TimeUnit.SECONDS);
                assertTrue(progress.isProgressNotify());
                assertTrue(progress.getHeader().getRevision() >= revision, progress.toString());
            }
        }
    }

    @Test
    void compactedHistory() throws Exception {
        long old = await(kv.put(bytes("compact/a"), bytes("1"))).getHeader().getRevision();
        long now = await(kv.put(bytes("compact/a"), bytes("2"))).getHeader().getRevision();
        await(kv.compact(now));
        var events = new Events();
        var options = WatchOption.builder().withRevision(old).build();
        try (var watcher = client.getWatchClient().watch(bytes("compact/a"), options, events)) {
            var compacted = assertInstanceOf(CompactedException.class, events.error());
            assertEquals(now, compacted.getCompactedRevision());
        }
        assertEquals("etcdserver: mvcc: required revision has been compacted", Cluster.error(kv.compact(now)));
    }
}
