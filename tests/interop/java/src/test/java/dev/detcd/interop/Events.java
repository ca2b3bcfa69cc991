package dev.detcd.interop;

import static org.junit.jupiter.api.Assertions.assertNotNull;

import io.etcd.jetcd.Watch;
import io.etcd.jetcd.watch.WatchEvent;
import io.etcd.jetcd.watch.WatchResponse;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;

/** Collects what a watch says, event by event, for a test that waits for it. */
final class Events implements Watch.Listener {
    private final BlockingQueue<WatchEvent> events = new LinkedBlockingQueue<>();
    private final BlockingQueue<Throwable> errors = new LinkedBlockingQueue<>();

    @Override
    public void onNext(WatchResponse response) {
        events.addAll(response.getEvents());
    }

    @Override
    public void onError(Throwable error) {
        errors.add(error);
    }

    @Override
    public void onCompleted() {}

    /** The next event. */
    WatchEvent next() throws InterruptedException {
        WatchEvent event = events.poll(Cluster.PATIENCE, TimeUnit.SECONDS);
        assertNotNull(event, () -> "no event came; errors: " + errors);
        return event;
    }

    /** The next events as "PUT key=value" and "DELETE key=". */
    List<String> next(int count) throws InterruptedException {
        List<String> all = new ArrayList<>();
        for (int i = 0; i < count; i++) {
            all.add(text(next()));
        }
        return all;
    }

    /** The error that the watch must end with. */
    Throwable error() throws InterruptedException {
        Throwable error = errors.poll(Cluster.PATIENCE, TimeUnit.SECONDS);
        assertNotNull(error, "the watch goes on");
        return error;
    }

    /** How many events wait to be taken. */
    int waiting() {
        return events.size();
    }

    static String text(WatchEvent event) {
        return event.getEventType() + " " + event.getKeyValue().getKey() + "=" + event.getKeyValue().getValue();
    }
}
