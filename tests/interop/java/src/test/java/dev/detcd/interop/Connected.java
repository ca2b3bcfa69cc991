package dev.detcd.interop;

import io.etcd.jetcd.Client;
import io.etcd.jetcd.KV;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;

/** What tests of one topic share: a client of all members, from the first to the last of them. */
abstract class Connected {
    static Client client;
    static KV kv;

    @BeforeAll
    static void connect() {
        client = Cluster.client();
        kv = client.getKVClient();
    }

    @AfterAll
    static void close() {
        client.close();
    }
}
