package dev.detcd.interop;

import static java.nio.charset.StandardCharsets.UTF_8;

import io.etcd.jetcd.ByteSequence;
import io.etcd.jetcd.Client;
import io.etcd.jetcd.common.exception.EtcdException;
import io.grpc.Status;
import java.io.IOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse.BodyHandlers;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;

/** The cluster of three members that the launcher runs, and small words for what every test does. */
final class Cluster {
    /** Longer than any answer takes, in seconds. */
    static final long PATIENCE = 15;

    private static final HttpClient HTTP = HttpClient.newHttpClient();

    private Cluster() {}

    /** The client URLs of m1, m2 and m3. */
    static List<String> endpoints() {
        return Arrays.asList(variable("ENDPOINTS").split(","));
    }

    /** A client as every tutorial makes it, with all members. */
    static Client client() {
        return Client.builder().endpoints(endpoints().toArray(String[]::new)).build();
    }

    /** A client of one member: 0, 1 or 2. */
    static Client clientOf(int member) {
        return Client.builder().endpoints(endpoints().get(member)).build();
    }

    /** The name of the member that leads. */
    static String leader() throws Exception {
        return control(HttpRequest.newBuilder().GET(), "leader");
    }

    /** Ends a member with SIGKILL. */
    static void kill(String member) throws Exception {
        control(HttpRequest.newBuilder().POST(BodyPublishers.noBody()), "kill/" + member);
    }

    /** Starts a member again and waits until it serves. */
    static void start(String member) throws Exception {
        control(HttpRequest.newBuilder().POST(BodyPublishers.noBody()), "start/" + member);
    }

    static ByteSequence bytes(String text) {
        return ByteSequence.from(text, UTF_8);
    }

    /** What an answer holds, which must come in time. */
    static <T> T await(CompletableFuture<T> answer) throws Exception {
        return answer.get(PATIENCE, TimeUnit.SECONDS);
    }

    /** The error that an answer must be. */
    static Throwable failure(CompletableFuture<?> answer) throws InterruptedException, TimeoutException {
        try {
            Object value = answer.get(PATIENCE, TimeUnit.SECONDS);
            throw new AssertionError("an error was due, not " + value);
        } catch (ExecutionException error) {
            return error.getCause();
        }
    }

    /** The text of the error that an answer must be. Some calls give the client's own kind of error. */
    static String error(CompletableFuture<?> answer) throws InterruptedException, TimeoutException {
        Throwable failure = failure(answer);
        return failure instanceof EtcdException ? failure.getMessage() : Status.fromThrowable(failure).getDescription();
    }

    private static String control(HttpRequest.Builder request, String path) throws Exception {
        URI uri = URI.create(variable("CONTROL") + "/" + path);
        var response = HTTP.send(request.uri(uri).build(), BodyHandlers.ofString());
        if (response.statusCode() != 200) {
            throw new IOException(path + ": " + response.body());
        }
        return response.body();
    }

    private static String variable(String name) {
        String value = System.getenv(name);
        if (value == null) {
            throw new IllegalStateException(name + " is not set: run this with the launcher");
        }
        return value;
    }
}
