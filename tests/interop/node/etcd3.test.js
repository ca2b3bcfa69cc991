'use strict';

// Node's `etcd3` 1.1.2 on three members, one of which is killed and started again.

const assert = require('node:assert/strict');
const { test, after } = require('node:test');
const { setTimeout: pause } = require('node:timers/promises');
const { Etcd3, EtcdLockFailedError, EtcdLeaseInvalidError, STMConflictError } = require('etcd3');

const cluster = require('./cluster');
const { Recorder, seen, event } = cluster;

const clients = [];

// A client of the given members, all when none is given.
function connect(hosts = cluster.endpoints) {
  const client = new Etcd3({
    hosts,
    grpcOptions: { 'grpc.enable_http_proxy': 0, 'grpc.initial_reconnect_backoff_ms': 100, 'grpc.max_reconnect_backoff_ms': 250 },
  });
  clients.push(client);
  return client;
}

after(() => {
  clients.forEach(client => client.close());
  // The library leaves timers of leases behind. The runner has set the exit code by then.
  setTimeout(() => process.exit(), 500).unref();
});

// One member, a follower as often as not: what it answered it has applied, so that a watch right behind a
// write is no race.
const client = connect(cluster.endpoints[2]);

test('put, get, delete', async () => {
  const keys = client.namespace('kv/');
  assert.equal(await keys.get('a'), null);
  const first = await keys.put('a').value('one');
  const second = await keys.put('a').value('2').getPrevious();
  assert.equal(second.value.toString(), 'one');
  assert.equal(await keys.get('a').string(), '2');
  assert.equal(await keys.get('a').number(), 2);
  assert.equal(await keys.get('a').exists(), true);
  assert.equal(await keys.get('a').revision(first.header.revision), 'one');
  const bytes = Buffer.from([0, 255]);
  await keys.put('b').value(bytes);
  assert.deepEqual(await keys.get('b').buffer(), bytes);
  await keys.put('c').value(JSON.stringify({ of: [1, 2] }));
  assert.deepEqual(await keys.get('c').json(), { of: [1, 2] });

  const { kvs, header } = await keys.get('a').exec();
  assert.equal(kvs[0].version, '2');
  assert.equal(kvs[0].create_revision, first.header.revision);
  assert.ok(Number(header.revision) >= Number(kvs[0].mod_revision));

  const [gone] = await keys.delete().key('a').getPrevious();
  assert.equal(gone.value.toString(), '2');
  assert.equal((await keys.delete().key('a')).deleted, '0');
});

test('prefix, range, sort', async () => {
  const keys = client.namespace('range/');
  await Promise.all(Object.entries({ a: 3, b: 1, c: 2 }).map(([key, value]) => keys.put(key).value(value)));
  assert.deepEqual(await keys.getAll().strings(), { a: '3', b: '1', c: '2' });
  assert.deepEqual(await client.getAll().prefix('range/').numbers(), { 'range/a': 3, 'range/b': 1, 'range/c': 2 });
  assert.deepEqual(await keys.getAll().sort('Value', 'Ascend').keys(), ['b', 'c', 'a']);
  assert.deepEqual(await keys.getAll().sort('Key', 'Descend').limit(2).keys(), ['c', 'b']);
  assert.deepEqual(await keys.getAll().inRange({ start: 'a', end: 'c' }).keys(), ['a', 'b']);
  assert.equal(await keys.getAll().count(), 3);
  assert.deepEqual(await keys.getAll().serializable(true).keys(), ['a', 'b', 'c']);
  assert.equal((await keys.delete().prefix('b')).deleted, '1');
  assert.equal((await keys.delete().all()).deleted, '2');
  assert.deepEqual(await keys.getAll(), {});
});

test('namespaces hide what is not theirs', async () => {
  const outer = client.namespace('outer/');
  const inner = outer.namespace('inner/');
  await outer.put('a').value('outside');
  await inner.put('a').value('inside');
  assert.equal(await client.get('outer/inner/a'), 'inside');
  assert.deepEqual(await inner.getAll(), { a: 'inside' });
  assert.deepEqual(await outer.getAll(), { a: 'outside', 'inner/a': 'inside' });
  assert.equal((await inner.delete().all()).deleted, '1');
  assert.deepEqual(await outer.getAll(), { a: 'outside' });
});

test('transactions', async () => {
  const keys = client.namespace('txn/');
  const { header } = await keys.put('a').value('1');
  const won = await keys
    .if('a', 'Value', '==', '1')
    .and('a', 'Value', '!=', '2')
    .and('a', 'Version', '==', 1)
    .and('a', 'Create', '==', Number(header.revision))
    .and('a', 'Mod', '<', Number(header.revision) + 1)
    .and('b', 'Create', '===', 0)
    .then(keys.put('b').value('2'), keys.get('b'), keys.delete().key('a'))
    .else(keys.put('b').value('never'))
    .commit();
  assert.equal(won.succeeded, true);
  assert.equal(won.responses[1].response_range.kvs[0].value.toString(), '2');
  assert.equal(won.responses[2].response_delete_range.deleted, '1');
  // A key that is not there has no value: neither this nor another.
  const lost = await keys.if('a', 'Value', '!=', 'x').then(keys.put('b').value('never')).else(keys.get('b')).commit();
  assert.equal(lost.succeeded, false);
  assert.equal(lost.responses[0].response_range.kvs[0].value.toString(), '2');
  assert.equal(await keys.get('a'), null);
});

test('software transactions', async () => {
  const keys = client.namespace('stm/');
  await keys.put('count').value(0);
  const add = from => from.namespace('stm/').stm({ retries: 50 }).transact(async tx => {
    const count = await tx.get('count').number();
    await tx.put('count').value(count + 1);
  });
  const members = cluster.endpoints.map(endpoint => connect(endpoint));
  await Promise.all([...members, ...members].map(add));
  assert.equal(await keys.get('count').number(), 6);

  await assert.rejects(
    keys.stm({ retries: 0 }).transact(async tx => {
      const count = await tx.get('count').number();
      await keys.put('count').value(100);
      await tx.put('count').value(count + 1);
    }),
    STMConflictError,
  );
  assert.equal(await keys.get('count').number(), 100);
});

test('watch', async () => {
  const keys = client.namespace('watch/');
  const { header } = await keys.put('a').value('1');
  const watcher = await keys.watch().prefix('').withPreviousKV().startRevision(header.revision).create();
  const recorder = new Recorder(watcher);
  await keys.put('a').value('2');
  await keys.delete().key('a');
  const found = await recorder.until(3);
  assert.deepEqual(found.map(seen), ['put a 1', 'put a 2', 'delete a ']);
  assert.deepEqual(found.map(one => one.previous?.value?.toString()), [undefined, '1', '2']);
  const at = Number(header.revision);
  assert.deepEqual(found.map(one => Number(one.kv.mod_revision)), [at, at + 1, at + 2]);
  await watcher.cancel();

  const deletions = await keys.watch().key('a').only('delete').startRevision(header.revision).create();
  assert.deepEqual((await new Recorder(deletions).until(1)).map(seen), ['delete a ']);
  await deletions.cancel();
});

test('watch of compacted history', async () => {
  const { header } = await client.put('compacted/a').value('1');
  const { header: last } = await client.put('compacted/a').value('2');
  await client.kv.compact({ revision: last.revision, physical: true });
  const watcher = client.watch().key('compacted/a').startRevision(header.revision).watcher();
  const [error] = await event(watcher, 'error');
  // The library says no more; another reason would follow the colon.
  assert.equal(error.message, 'Watcher canceled: ');
});

test('lease', async () => {
  const keys = client.namespace('lease/');
  const lease = client.lease(2);
  await lease.put('lease/a').value('1');
  const id = await lease.grant();
  const left = await client.leaseClient.leaseTimeToLive({ ID: id, keys: true });
  assert.equal(left.grantedTTL, '2');
  assert.deepEqual(left.keys.map(String), ['lease/a']);
  // The library keeps it alive by itself, for longer than it lives.
  await pause(4000);
  assert.equal(await keys.get('a'), '1');
  assert.equal((await lease.keepaliveOnce()).TTL, '2');

  // Left alone it ends, and takes its key along.
  const recorder = new Recorder(await keys.watch().key('a').create());
  lease.release();
  assert.deepEqual((await recorder.until(1)).map(seen), ['delete a ']);

  const revoked = client.lease(60);
  await revoked.put('lease/b').value('1');
  await revoked.revoke();
  assert.equal(await keys.get('b'), null);

  const lost = client.lease(60);
  const lostID = await lost.grant();
  await client.leaseClient.leaseRevoke({ ID: lostID });
  await assert.rejects(lost.keepaliveOnce(), EtcdLeaseInvalidError);
});

test('lock', async () => {
  const lock = client.lock('lock').ttl(5);
  await lock.acquire();
  const other = connect(cluster.endpoints[0]).lock('lock');
  await assert.rejects(other.acquire(), EtcdLockFailedError);
  await lock.release();
  assert.equal(await other.do(async () => {
    await assert.rejects(lock.acquire(), EtcdLockFailedError);
    return 'held';
  }), 'held');
  await lock.acquire();
  await lock.release();
  assert.equal(await client.get('lock'), null);
});

test('election', async () => {
  const election = client.election('chief', 2);
  const second = connect(cluster.endpoints[1]).election('chief', 2);
  const one = election.campaign('one');
  await event(one, 'elected');
  assert.equal(await second.leader(), 'one');
  const observer = await second.observe();
  assert.equal(observer.leader(), 'one');
  const changed = event(observer, 'change');
  await one.proclaim('one again');
  assert.deepEqual(await changed, ['one again']);

  const two = second.campaign('two');
  two.on('error', error => assert.fail(error));
  await two.getCampaignKey();
  assert.equal(await election.leader(), 'one again');
  const elected = event(two, 'elected');
  await one.resign();
  await elected;
  assert.equal(await election.leader(), 'two');
  await two.resign();
  assert.equal(await election.leader(), undefined);
  await observer.cancel();
});

test('members, status, alarms', async () => {
  const { members } = await client.cluster.memberList({});
  const urls = Object.fromEntries(members.map(({ name, clientURLs }) => [name, clientURLs[0]]));
  assert.deepEqual(cluster.names.map(name => urls[name]), cluster.endpoints);
  const status = await client.maintenance.status();
  assert.equal(status.version, '3.7.1');
  assert.equal(members.find(member => member.ID === status.leader).name, await cluster.leader());
  await client.maintenance.alarm({ action: 'Activate', memberID: '42', alarm: 'Nospace' });
  // The library takes this answer for a broken member and leaves it alone for a while: a client of its own.
  const other = connect(cluster.endpoints[2]);
  await assert.rejects(other.put('alarm/a').value('1').exec(), /etcdserver: mvcc: database space exceeded/);
  const { alarms } = await client.maintenance.alarm({ action: 'Deactivate', memberID: '42', alarm: 'Nospace' });
  assert.deepEqual(alarms.map(({ memberID, alarm }) => [memberID, alarm]), [['42', 'Nospace']]);
  await client.put('alarm/a').value('1');
});

test('errors', async () => {
  await assert.rejects(client.put('error/a').value('1').lease('123').exec(), /etcdserver: requested lease not found/);
  await assert.rejects(client.put('').value('1').exec(), /etcdserver: key is not provided/);
  await assert.rejects(client.get('error/a').revision(1_000_000_000).exec(), /required revision is a future revision/);
});

// The leader is killed under writes: watch, lease and lock of a client that was connected to it go on.
test('a member is killed and comes back', async () => {
  const victim = await cluster.leader();
  const all = connect();
  const watching = connect(cluster.endpoints[cluster.names.indexOf(victim)]);
  const watcher = await watching.namespace('restart/').watch().prefix('').create();
  const recorder = new Recorder(watcher);
  const lease = all.lease(5);
  lease.on('lost', error => assert.fail(error));
  await lease.put('restarted').value('alive');

  const name = number => String(number).padStart(2, '0');
  // A write that was not acknowledged is made again: the client gives up after some attempts.
  const write = async number => {
    for (const end = Date.now() + 15_000; ;) {
      try {
        return await all.put(`restart/${name(number)}`).value(number);
      } catch (error) {
        if (Date.now() > end) throw error;
        await pause(50);
      }
    }
  };
  for (let number = 0; number < 10; number++) await write(number);
  await recorder.until(10);
  await cluster.kill(victim);
  for (let number = 10; number < 20; number++) await write(number);
  await cluster.start(victim);
  for (let number = 20; number < 30; number++) await write(number);

  const found = await recorder.until(({ kv }) => kv.key.toString() === '29');
  const revisions = found.map(({ kv }) => Number(kv.mod_revision));
  assert.deepEqual(revisions, [...new Set(revisions)].sort((a, b) => a - b), 'each event once, in order');
  const wanted = Object.fromEntries(Array.from({ length: 30 }, (_, number) => [name(number), String(number)]));
  assert.deepEqual(Object.fromEntries(found.map(({ kv }) => [kv.key.toString(), kv.value.toString()])), wanted);
  assert.deepEqual(await watching.namespace('restart/').getAll(), wanted);
  await watcher.cancel();
  // Longer than the lease lives without the library's keep-alive.
  await pause(6000);
  assert.equal(await all.get('restarted'), 'alive');
  await lease.revoke();
  assert.equal(await all.get('restarted'), null);
});
