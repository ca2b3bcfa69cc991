"""Python's asynchronous `aetcd` 1.0.0 on three members, one of which is killed and started again."""

import asyncio
import itertools
import unittest

import aetcd

import interop
from interop import PATIENCE

# What a client raises that does not reach its member, or whose member has no leader.
UNREACHABLE = (aetcd.ConnectionFailedError, aetcd.ConnectionTimeoutError)


async def take(watch, count):
    """The next events of a watch. It fails, and does not hang, when they do not come."""
    found = []
    async with asyncio.timeout(PATIENCE):
        async for event in watch:
            found.append(event)
            if len(found) == count:
                return found
    raise AssertionError(f"the watch ended after {len(found)} of {count} events")


def seen(event):
    """An event in short."""
    return str(event.kind), event.kv.key.decode(), event.kv.value.decode()


class Aetcd(unittest.IsolatedAsyncioTestCase):
    async def asyncSetUp(self):
        self.client = self.connect("m3")
        self.prefix = self.id().rpartition(".")[2].encode() + b"/"

    def connect(self, name):
        """A client of one member: this library knows no second endpoint."""
        host, port = interop.address(name)
        client = aetcd.Client(host, port, timeout=PATIENCE, options=interop.CHANNEL)
        self.addAsyncCleanup(client.close)
        return client

    def key(self, name):
        return self.prefix + name.encode()

    async def test_put_get_delete(self):
        client, key = self.client, self.key("a")
        self.assertIsNone(await client.get(key))
        first = (await client.put(key, b"one")).header.revision
        second = await client.put(key, b"\x00\xff", prev_kv=True)
        self.assertEqual((second.prev_kv.value, second.header.revision), (b"one", first + 1))
        kv = await client.get(key)
        self.assertEqual((kv.key, kv.value), (key, b"\x00\xff"))
        self.assertEqual((kv.create_revision, kv.mod_revision, kv.version, kv.lease), (first, first + 1, 2, 0))
        self.assertEqual((await client.get(key, serializable=True)).value, b"\x00\xff")
        gone = await client.delete(key, prev_kv=True)
        self.assertEqual(gone.prev_kv.value, b"\x00\xff")
        self.assertIsNone(await client.get(key))

    async def test_prefix_and_range(self):
        client, prefix = self.client, self.prefix
        await asyncio.gather(*(client.put(self.key(name), value)
                               for name, value in (("a", b"3"), ("b", b"1"), ("c", b"2"))))

        def listed(found):
            return [(kv.key[len(prefix):].decode(), kv.value.decode()) for kv in found]

        self.assertEqual(listed(await client.get_prefix(prefix)), [("a", "3"), ("b", "1"), ("c", "2")])
        by_value = await client.get_prefix(prefix, sort_order="descend", sort_target="value")
        self.assertEqual(listed(by_value), [("a", "3"), ("c", "2"), ("b", "1")])
        self.assertEqual(by_value.count, 3)
        half = await client.get_range(self.key("a"), self.key("c"))
        self.assertEqual(listed(half), [("a", "3"), ("b", "1")])
        everything = {kv.key: kv.value for kv in await client.get_all()}
        self.assertEqual(everything[self.key("c")], b"2")
        gone = await client.delete_range(self.key("a"), self.key("b"), prev_kv=True)
        self.assertEqual((gone.deleted, listed(gone)), (1, [("a", "3")]))
        self.assertEqual((await client.delete_prefix(prefix)).deleted, 2)
        self.assertFalse(await client.get_prefix(prefix))

    async def test_transactions(self):
        client, at, key, other = self.client, self.client.transactions, self.key("a"), self.key("b")
        self.assertFalse(await client.replace(key, b"0", b"1"))
        revision = (await client.put(key, b"0")).header.revision
        self.assertTrue(await client.replace(key, b"0", b"1"))
        succeeded, answers = await client.transaction(
            compare=[
                at.value(key) == b"1",
                at.version(key) > 1,
                at.create(key) == revision,
                at.mod(key) < revision + 2,
                at.version(other) == 0,
            ],
            success=[
                at.put(other, b"2"),
                at.get(other),
                at.txn(compare=[at.value(key) == b"1"], success=[at.delete(key)], failure=[at.put(key, b"never")]),
            ],
            failure=[at.put(key, b"never")],
        )
        self.assertTrue(succeeded)
        self.assertEqual(answers[0].response_put.header.revision, revision + 2)
        self.assertEqual(answers[1][0][0], b"2")
        self.assertEqual(answers[2].response_txn.responses[0].response_delete_range.deleted, 1)
        succeeded, answers = await client.transaction(
            compare=[at.version(key) > 0], success=[], failure=[at.get(key), at.get(other)]
        )
        self.assertFalse(succeeded)
        self.assertEqual((answers[0], answers[1][0][0]), ([], b"2"))

    async def test_lease(self):
        client, key = self.client, self.key("a")
        lease = await client.lease(2)
        self.assertEqual(lease.ttl, 2)
        await client.put(key, b"1", lease=lease)
        self.assertEqual((await client.get(key)).lease, lease.id)
        self.assertEqual((await lease.granted_ttl(), list(await lease.keys())), (2, [key]))

        # Kept alive for longer than it lives, through other members as well.
        watch = await client.watch(key)
        clients = itertools.cycle([client, self.connect("m1"), self.connect("m2")])
        for _ in range(7):
            answer = await next(clients).refresh_lease(lease.id)
            self.assertEqual((answer.ID, answer.TTL), (lease.id, 2))
            await asyncio.sleep(0.5)
        self.assertEqual((await client.get(key)).value, b"1")

        # Left alone it ends, and takes its key along.
        self.assertEqual([seen(event) for event in await take(watch, 1)], [("DELETE", key.decode(), "")])
        self.assertEqual(await lease.remaining_ttl(), -1)

        revoked = await client.lease(60)
        await client.put(key, b"1", lease=revoked)
        with self.assertRaises(aetcd.DuplicateLeaseError):
            await client.lease(60, lease_id=revoked.id)
        await revoked.revoke()
        self.assertIsNone(await client.get(key))

    async def test_watch(self):
        client, key = self.client, self.key("a")
        first = (await client.put(key, b"1")).header.revision
        watch = await client.watch_prefix(self.prefix, start_revision=first, prev_kv=True)
        await client.put(key, b"2")
        await client.delete(key)
        found = await take(watch, 3)
        name = key.decode()
        self.assertEqual([seen(event) for event in found], [("PUT", name, "1"), ("PUT", name, "2"), ("DELETE", name, "")])
        self.assertEqual([event.kv.mod_revision for event in found], [first, first + 1, first + 2])
        self.assertEqual([event.prev_kv.value for event in found], [b"", b"1", b"2"])
        await watch.cancel()

        deletions = await client.watch(key, start_revision=first, kind=aetcd.EventKind.DELETE)
        self.assertEqual([seen(event) for event in await take(deletions, 1)], [("DELETE", name, "")])
        await deletions.cancel()
        once = await client.watch_once(key, timeout=PATIENCE, start_revision=first)
        self.assertEqual(once.kv.value, b"1")
        with self.assertRaises(aetcd.WatchTimeoutError):
            await client.watch_once(key, timeout=0.2)

    async def test_watch_of_compacted_history(self):
        first = (await self.client.put(self.key("a"), b"1")).header.revision
        last = (await self.client.put(self.key("a"), b"2")).header.revision
        await self.client.compact(last, physical=True)
        watch = await self.client.watch(self.key("a"), start_revision=first)
        with self.assertRaises(aetcd.RevisionCompactedError) as raised:
            await take(watch, 1)
        self.assertEqual(raised.exception.compacted_revision, last)

    async def test_lock(self):
        name = self.key("lock")
        other = self.connect("m1").lock(name, ttl=60)
        async with self.client.lock(name, ttl=60) as lock:
            self.assertTrue(await lock.is_acquired())
            self.assertEqual((await lock.refresh()).TTL, 60)
            self.assertFalse(await other.acquire(timeout=0.3))
            self.assertFalse(await other.is_acquired())
            waiter = asyncio.create_task(other.acquire(timeout=PATIENCE))
        self.assertTrue(await waiter)
        self.assertTrue(await other.is_acquired())
        self.assertTrue(await other.release())
        self.assertFalse(await other.release())

        # A holder that is gone loses the lock with its lease.
        self.assertTrue(await self.client.lock(name, ttl=1).acquire())
        self.assertTrue(await other.acquire(timeout=PATIENCE))

    async def test_members_and_maintenance(self):
        members = {member.name: list(member.client_urls) async for member in self.client.members()}
        self.assertEqual(members, {name: [url] for name, url in zip(interop.NAMES, interop.ENDPOINTS)})
        status = await self.client.status()
        self.assertEqual((status.version, status.leader.name), ("3.7.1", interop.leader()))
        self.assertEqual([alarm.member_id for alarm in await self.client.create_alarm(42)], [42])
        with self.assertRaisesRegex(aetcd.ClientError, "etcdserver: mvcc: database space exceeded"):
            await self.client.put(self.key("a"), b"1")
        self.assertEqual([alarm.member_id async for alarm in self.client.list_alarms()], [42])
        self.assertEqual([alarm.member_id for alarm in await self.client.disarm_alarm(42)], [42])
        await self.client.put(self.key("a"), b"1")

    async def test_errors(self):
        with self.assertRaisesRegex(aetcd.ClientError, "^etcdserver: requested lease not found$"):
            await self.client.put(self.key("a"), b"1", lease=123)
        with self.assertRaisesRegex(aetcd.InvalidArgumentError, "^etcdserver: key is not provided$"):
            await self.client.put(b"", b"1")

    async def test_member_restart(self):
        """The leader is killed under writes; a watch on it goes on where it ended, without a gap."""
        victim = interop.leader()
        writers = itertools.cycle([self.connect(name) for name in interop.others(victim)])
        writer = next(writers)

        async def write(number):
            nonlocal writer
            deadline = interop.Deadline()
            while True:
                try:
                    return await writer.put(self.key(f"{number:02}"), str(number).encode())
                except UNREACHABLE as failure:
                    deadline.check(failure)
                    writer = next(writers)

        lease = await writer.lease(60)
        watch = await self.connect(victim).watch_prefix(self.prefix)
        for number in range(10):
            await write(number)
        found = await take(watch, 10)
        await asyncio.to_thread(interop.kill, victim)
        with self.assertRaises(aetcd.ConnectionFailedError):
            await take(watch, 1)
        for number in range(10, 20):
            await write(number)
        await asyncio.to_thread(interop.start, victim)
        for number in range(20, 30):
            await write(number)

        # Watches of a client that has lost one do not work again: that is the library's.
        restarted = self.connect(victim)
        watch = await restarted.watch_prefix(self.prefix, start_revision=found[-1].kv.mod_revision + 1)
        # A write whose answer was lost was made again: its key may be seen twice.
        while found[-1].kv.value != b"29":
            found += await take(watch, 1)
        revisions = [event.kv.mod_revision for event in found]
        self.assertEqual(revisions, sorted(set(revisions)))
        wanted = {self.key(f"{number:02}"): str(number).encode() for number in range(30)}
        self.assertEqual({event.kv.key: event.kv.value for event in found}, wanted)
        self.assertEqual({kv.key: kv.value for kv in await restarted.get_prefix(self.prefix)}, wanted)
        self.assertEqual((await restarted.refresh_lease(lease.id)).TTL, 60)


if __name__ == "__main__":
    unittest.main(verbosity=2)
