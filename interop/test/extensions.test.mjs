// CometD's own client extensions: acknowledged messages, binary data, time, reload.

import assert from 'node:assert/strict';
import { it } from 'node:test';
import { connected, extensionsOf, fresh, Jar, KINDS, peerFor, VERSIONS } from '../lib/client.mjs';
import { proxyFor } from '../lib/proxy.mjs';
import { useServer } from '../lib/server.mjs';
import { groups } from '../lib/suite.mjs';
import { sleep, until } from '../lib/wait.mjs';

groups('extensions', KINDS, (kind) => {
  const server = useServer({ args: ['--timeout', '20s', '--max-interval', '30s'] });
  const extensions = extensionsOf(kind.library);
  const extended = async (t, url, name) => {
    const peer = peerFor(t, url, kind);
    peer.cometd.registerExtension(name, new extensions[name]());
    await peer.connect();
    return peer;
  };

  /** A client whose clock is off, as far as its extension reads and writes it. */
  const shifted = async (t, off) => {
    const alice = peerFor(t, server.url, kind);
    const extension = new extensions.timesync();
    const otherwise = (call) => (...args) => {
      const Real = globalThis.Date;
      globalThis.Date = class extends Real {
        constructor(...given) {
          super(...(given.length ? given : [Real.now() + off]));
        }
      };
      try {
        return call(...args);
      } finally {
        globalThis.Date = Real;
      }
    };
    extension.incoming = otherwise(extension.incoming.bind(extension));
    extension.outgoing = otherwise(extension.outgoing.bind(extension));
    alice.cometd.registerExtension('timesync', extension);
    await alice.connect();
    return { alice, extension, off };
  };

  it('with acknowledgements nothing is lost while a client is away', async (t) => {
    const proxy = await proxyFor(t, server.server);
    const alice = await extended(t, proxy.url, 'ack');
    assert.ok(alice.handshakes[0].ext.ack, 'the server acknowledges');
    const channel = fresh('ack');
    const inbox = await alice.subscribe(channel);
    const bob = await connected(t, server.url, kind);
    const numbers = [];
    const publish = async () => {
      for (let n = 0; n < 20; n += 1) {
        numbers.push(numbers.length);
        assert.equal((await bob.publish(channel, numbers.at(-1))).successful, true);
      }
    };
    await publish();
    await inbox.takes(20);
    for (const round of [1, 2]) {
      proxy.down = true;
      proxy.cut();
      await publish();
      await sleep(500);
      proxy.down = false;
      await inbox.takes(20 * (round + 1));
    }
    await publish();
    await inbox.takes(80);
    await sleep(300);
    assert.deepEqual(inbox.data, numbers);
    assert.equal(alice.handshakes.length, 1);
  });

  it('with acknowledgements nothing is lost or doubled while the network breaks in mid-stream', async (t) => {
    const proxy = await proxyFor(t, server.server);
    const alice = await extended(t, proxy.url, 'ack');
    const channel = fresh('burst');
    const inbox = await alice.subscribe(channel);
    const bob = await connected(t, server.url, kind);
    const count = 600;
    let published = 0;
    const publishing = (async () => {
      for (; published < count; published += 1) {
        const reply = await bob.publish(channel, published);
        assert.equal(reply.successful, true);
      }
    })();
    for (const after of [60, 150, 240, 400, 520]) {
      await until(() => published >= after, `publish ${after}`);
      await proxy.outage();
    }
    await publishing;
    await inbox.takes(count, 30_000);
    await sleep(300);
    assert.deepEqual(inbox.data, Array.from({ length: count }, (_, n) => n));
    assert.equal(alice.handshakes.length, 1);
  });

  it('with acknowledgements messages come with connects', async (t) => {
    const alice = await extended(t, server.url, 'ack');
    const channel = fresh('ack');
    const inbox = await alice.subscribe(channel);
    for (const n of [0, 1, 2, 3, 4]) await alice.publish(channel, n);
    assert.deepEqual(await inbox.takes(5), [0, 1, 2, 3, 4]);
    await until(() => alice.wire.connects().at(-1).reply.ext?.ack > 0, 'a batch number');
    const connects = alice.wire.sent('/meta/connect').map(({ message }) => message.ext.ack);
    assert.ok(connects.every((ack, n) => n === 0 || ack >= connects[n - 1]), `acks ${connects}`);
  });

  it('binary data arrives byte for byte', async (t) => {
    const [alice, bob] = await Promise.all([1, 2].map(() => extended(t, server.url, 'binary')));
    const channel = fresh('binary');
    const inbox = await alice.subscribe(channel);
    const arrays = [0, 1, 2, 3, 4, 5, 257, 1_024].map((length) =>
      Uint8Array.from({ length }, (_, n) => (n * 151) % 256),
    );
    for (const [n, bytes] of arrays.entries()) bob.cometd.publishBinary(channel, bytes, n % 2 === 0, { n });
    const data = await inbox.takes(arrays.length);
    data.forEach(({ data: bytes, last, meta }, n) => {
      assert.deepEqual(new Uint8Array(bytes), arrays[n]);
      assert.equal(last, n % 2 === 0);
      assert.deepEqual(meta, { n });
    });
  });

  it('the client learns the time of the server', async (t) => {
    const alice = await extended(t, server.url, 'timesync');
    const extension = alice.cometd.getExtension('timesync');
    assert.ok(alice.handshakes[0].ext.timesync, 'the server answers');
    assert.ok(Math.abs(extension.getTimeOffset()) < 5_000, 'two clocks of one machine');
    assert.ok(extension.getNetworkLag() >= 0);
  });

  it('and tells its own', async (t) => {
    const alice = await extended(t, server.url, 'timestamp');
    const channel = fresh('time');
    const inbox = await alice.subscribe(channel);
    await alice.publish(channel, 1);
    assert.deepEqual(await inbox.takes(1), [1]);
    assert.ok(alice.wire.sent(channel)[0].message.timestamp);
    // And so does the server, on every message.
    for (const { message } of alice.wire.received()) assert.match(message.timestamp, / GMT$/);
  });

  it('even if its own clock is far off', async (t) => {
    const off = 90_000;
    const { alice, extension } = await shifted(t, -off);
    for (const name of ['a', 'b', 'c']) await alice.subscribe(fresh(name));
    const offset = extension.getTimeOffset();
    assert.ok(Math.abs(offset - off) < 50, `offset ${offset}`);
  });

  it('two clients with different clocks agree on a moment', async (t) => {
    const clients = await Promise.all([-90_000, 45_000].map((off) => shifted(t, off)));
    for (const { alice } of clients) for (const name of ['a', 'b', 'c']) await alice.subscribe(fresh(name));
    // The time of the server as each believes it to be, at one moment.
    const now = Date.now();
    const [one, other] = clients.map(({ extension, off }) => now + off + extension.getTimeOffset());
    assert.ok(Math.abs(one - other) < 100, `${one - other} ms apart`);
    assert.ok(Math.abs(one - now) < 100, 'and it is the time');
  });

  it('a page that reloads keeps its session', async (t) => {
    const jar = new Jar();
    const storage = new Map();
    window.sessionStorage ??= {
      values: storage,
      getItem(key) { return this.values.get(key) ?? null; },
      setItem(key, value) { this.values.set(key, value); },
      removeItem(key) { this.values.delete(key); },
    };
    const page = () => {
      const peer = peerFor(t, server.url, { ...kind, jar });
      peer.cometd.registerExtension('reload', new extensions.reload({ name: reloads }));
      return peer;
    };
    const reloads = fresh('reload');
    const channel = fresh('reloaded');
    const before = page();
    let after = before;
    await before.connect();
    await before.subscribe(channel);
    const bob = await connected(t, server.url, kind);
    for (let round = 0; round < 2; round += 1) {
      after.cometd.reload();
      // What is pushed into a WebSocket that is closing is lost, without acknowledgements.
      await sleep(200);
      await bob.publish(channel, `while it was away ${round}`);
      after = page();
      const inbox = after.collect(channel);
      await after.connect();
      assert.equal(after.id, before.id);
      assert.deepEqual(after.wire.sent('/meta/handshake'), [], 'no handshake');
      await bob.publish(channel, `here again ${round}`);
      assert.deepEqual(await inbox.takes(2), [`while it was away ${round}`, `here again ${round}`]);
    }
  });
});

groups('extensions across transports', VERSIONS, (version) => {
  // A session from WebSocket has no browser cookie, which HTTP requests otherwise need.
  const server = useServer({ args: ['--timeout', '20s', '--max-interval', '30s', '--trust-client-session'] });

  it('acknowledged messages survive the change from WebSocket to long-polling', async (t) => {
    const proxy = await proxyFor(t, server.server);
    const alice = peerFor(t, proxy.url, version);
    // The client changes its transport for an application that says so.
    const { cometd } = alice;
    const decide = cometd.onTransportFailure.bind(cometd);
    cometd.onTransportFailure = (message, info, handle) =>
      decide(message, info, (decided) => {
        if (message.channel === '/meta/connect') decided.transport = cometd.findTransport('long-polling');
        handle(decided);
      });
    cometd.registerExtension('ack', new (extensionsOf(version.library).ack)());
    await alice.connect();
    assert.equal(alice.transport, 'websocket');
    const channel = fresh('change');
    const inbox = await alice.subscribe(channel);
    const bob = await connected(t, server.url, version);
    const count = 300;
    let published = 0;
    const publishing = (async () => {
      for (; published < count; published += 1) await bob.publish(channel, published);
    })();
    await until(() => published >= 100, 'a third of them');
    // From now on nothing but ordinary HTTP gets through.
    proxy.refuses = /upgrade: websocket/i;
    proxy.cut();
    await publishing;
    await inbox.takes(count, 40_000);
    await sleep(300);
    assert.deepEqual(inbox.data, Array.from({ length: count }, (_, n) => n));
    assert.equal(alice.transport, 'long-polling');
  });
});
