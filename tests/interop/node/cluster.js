'use strict';

// The cluster that the launcher (../go/launcher) runs for this program: it gives the members' URLs in
// ENDPOINTS, and in CONTROL the URL under which it kills and starts them.

const assert = require('node:assert/strict');
const { once } = require('node:events');

const endpoints = process.env.ENDPOINTS.split(',');
const names = ['m1', 'm2', 'm3'];

// Longer than any answer takes, in milliseconds; a test that waits this long has failed.
const patience = 15_000;

async function control(method, path) {
  const answer = await fetch(process.env.CONTROL + path, { method });
  const text = await answer.text();
  assert.equal(answer.status, 200, text);
  return text;
}

// Ends a member with SIGKILL.
const kill = name => control('POST', `/kill/${name}`);

// Starts a member again, and waits until it serves.
const start = name => control('POST', `/start/${name}`);

// The name of the leader.
const leader = () => control('GET', '/leader');

// Waits for an event of an emitter, and fails when it does not come.
async function event(emitter, name) {
  return once(emitter, name, { signal: AbortSignal.timeout(patience) });
}

// A watcher's events in the order in which they came, to be waited for.
class Recorder {
  #found = [];
  #waiting = () => {};

  constructor(watcher) {
    const record = kind => (kv, previous) => {
      this.#found.push({ kind, kv, previous });
      this.#waiting();
    };
    watcher.on('put', record('put'));
    watcher.on('delete', record('delete'));
  }

  // All events so far, once they are as many or once `enough` says so of the last.
  async until(enough) {
    const done = () => (typeof enough === 'number' ? this.#found.length >= enough : enough(this.#found.at(-1)));
    const late = AbortSignal.timeout(patience);
    while (this.#found.length === 0 || !done()) {
      await new Promise((resolve, reject) => {
        this.#waiting = resolve;
        late.addEventListener('abort', () => reject(new Error(`only ${this.#found.length} events came`)));
      });
    }
    return this.#found;
  }
}

// An event in short.
const seen = ({ kind, kv }) => `${kind} ${kv.key} ${kv.value}`;

module.exports = { endpoints, names, kill, start, leader, event, Recorder, seen };
