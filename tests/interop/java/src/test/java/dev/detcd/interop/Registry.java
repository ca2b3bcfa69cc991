package dev.detcd.interop;

import static java.nio.charset.StandardCharsets.UTF_8;

import io.etcd.jetcd.ByteSequence;
import io.etcd.jetcd.Client;
import io.etcd.jetcd.KeyValue;
import io.etcd.jetcd.Watch.Watcher;
import io.etcd.jetcd.common.exception.ErrorCode;
import io.etcd.jetcd.common.exception.EtcdException;
import io.etcd.jetcd.kv.GetResponse;
import io.etcd.jetcd.options.GetOption;
import io.etcd.jetcd.options.PutOption;
import io.etcd.jetcd.options.WatchOption;
import io.etcd.jetcd.support.CloseableClient;
import io.etcd.jetcd.support.Observers;
import io.etcd.jetcd.watch.WatchEvent;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.ExecutionException;
import java.util.function.Consumer;

/**
 * Where the instances of a service are. Each is a key with its address as the value, on a lease that the
 * instance renews: when it dies, the lease runs out and the key is gone.
 */
final class Registry {
    /** Hears who comes and goes. */
    interface Listener {
        void arrived(String name, String address);

        void departed(String name);

        /** Nothing more is heard, for example as the history that was to be read is gone. Follow again. */
        void failed(Throwable error);
    }

    private final Client client;
    private final ByteSequence prefix;

    Registry(Client client, String service) {
        this.client = client;
        this.prefix = bytes("services/" + service + "/");
    }

    /** Registers an instance, which is forgotten {@code ttl} seconds after its last sign of life. */
    Instance register(String name, String address, long ttl) throws InterruptedException, ExecutionException {
        long lease = client.getLeaseClient().grant(ttl).get().getID();
        var options = PutOption.builder().withLeaseId(lease).build();
        client.getKVClient().put(prefix.concat(bytes(name)), bytes(address), options).get();
        return new Instance(lease, client.getLeaseClient().keepAlive(lease, Observers.observer(renewed -> {})));
    }

    /** The address of each instance by its name. */
    Map<String, String> instances() throws InterruptedException, ExecutionException {
        return addresses(read());
    }

    /** Tells who is there, and then whatever changes, without a gap, until the watcher is closed. */
    Watcher follow(Listener listener) throws InterruptedException, ExecutionException {
        GetResponse now = read();
        addresses(now).forEach(listener::arrived);
        var options = WatchOption.builder().isPrefix(true).withRevision(now.getHeader().getRevision() + 1).build();
        Consumer<WatchEvent> tell = event -> {
            String name = name(event.getKeyValue());
            switch (event.getEventType()) {
                case PUT -> listener.arrived(name, event.getKeyValue().getValue().toString(UTF_8));
                case DELETE -> listener.departed(name);
                default -> listener.failed(new IllegalStateException("an event of an unknown kind: " + event));
            }
        };
        return client.getWatchClient().watch(prefix, options, response -> response.getEvents().forEach(tell), error -> {
            if (!goesOn(error)) {
                listener.failed(error);
            }
        });
    }

    /** Whether the watch, when it has told this error, is set up again by jetcd and misses nothing. */
    private static boolean goesOn(Throwable error) {
        return error instanceof EtcdException broken
            && (broken.getErrorCode() == ErrorCode.UNAVAILABLE || broken.getErrorCode() == ErrorCode.INTERNAL);
    }

    private GetResponse read() throws InterruptedException, ExecutionException {
        return client.getKVClient().get(prefix, GetOption.builder().isPrefix(true).build()).get();
    }

    private Map<String, String> addresses(GetResponse found) {
        Map<String, String> addresses = new TreeMap<>();
        found.getKvs().forEach(kv -> addresses.put(name(kv), kv.getValue().toString(UTF_8)));
        return addresses;
    }

    private String name(KeyValue kv) {
        return kv.getKey().substring(prefix.size()).toString(UTF_8);
    }

    private static ByteSequence bytes(String text) {
        return ByteSequence.from(text, UTF_8);
    }

    /** An instance that is registered. */
    final class Instance {
        /** For what else lives as long as the instance: a candidacy, a lock. */
        final long lease;

        private final CloseableClient renewal;

        private Instance(long lease, CloseableClient renewal) {
            this.lease = lease;
            this.renewal = renewal;
        }

        /** Goes in order: everybody knows at once. */
        void leave() throws InterruptedException, ExecutionException {
            renewal.close();
            client.getLeaseClient().revoke(lease).get();
        }

        /** Gives no sign of life any more, as if the process had been killed. */
        void die() {
            renewal.close();
        }
    }
}
