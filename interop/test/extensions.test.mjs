// CometD's own client extensions: acknowledged messages, binary data, time, reload.

import assert from 'node:assert/strict';
import { it } from 'node:test';
import { connected, EVERYWHERE, fresh, having, KINDS, needs, peerFor, VERSIONS } from '../lib/client.mjs';
import { proxyFor } from '../lib/proxy.mjs';
import { useServer } from '../lib/server.mjs';
import { groups } from '../lib/suite.mjs';
import { sleep, until } from '../lib/wait.mjs';

const LASTING = ['--timeout', '20s', '--max-interval', '30s'];

/** For a stream of messages on a busy machine, in milliseconds. */
const LONG = 40_000;

/** Publishes 0, 1, 2, ... until it is told to stop, which yields them all. */
function streamFrom(peer, channel) {
  const numbers = [];
  let going = true;
  const done = (async () => {
    while (going) {
      numbers.push(numbers.length);
      const reply = await peer.publish(channel, numbers.at(-1));
      assert.equal(reply.successful, true);
      await sleep(1);
    }
  })();
  // Whoever stops it is told.
  done.catch(() => {});
  return {
    numbers,
    async stop() {
      going = false;
      await done;
      return numbers;
    },
  };
}

/** Stops a stream: all of it has arrived, once and in order. */
async function arrivedWhole(inbox, stream) {
  const numbers = await stream.stop();
  await inbox.takes(numbers.length, LONG);
  await sleep(300);
  assert.deepEqual(inbox.data, numbers);
}

groups('acknowledged messages', EVERYWHERE.filter(having('ack')), (kind) => {
  const server = useServer({ args: LASTING });
  const acknowledging = (t, url) => connected(t, url, { ...kind, extensions: ['ack'] });

  it('with acknowledgements nothing is lost while a client is away', async (t) => {
    const proxy = await proxyFor(t, server.server);
    const alice = await acknowledging(t, proxy.url);
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
    const alice = await acknowledging(t, proxy.url);
    const channel = fresh('burst');
    const inbox = await alice.subscribe(channel);
    const stream = streamFrom(await connected(t, server.url, kind), channel);
    const breaks = [
      () => proxy.outage(),
      // A response that is lost as a whole, and responses that break off: in the headers, in the messages.
      ...[0, 1, 90, 350, 700, 2_000].map((bytes) => () => proxy.cutAfter(bytes)),
      // A server that goes on writing to nobody.
      () => proxy.orphan(),
      () => proxy.outage(),
      () => proxy.orphan(),
    ];
    for (const [n, strike] of breaks.entries()) {
      await inbox.takes(inbox.messages.length + 20, 30_000);
      const connects = alice.wire.connects().length;
      await strike();
      await until(() => alice.wire.connects().length > connects, `a connect after break ${n}`);
    }
    await arrivedWhole(inbox, stream);
    assert.equal(alice.handshakes.length, 1);
  });

  it('a reply that was lost is repeated at once, with a higher number', async (t) => {
    const proxy = await proxyFor(t, server.server);
    const alice = await acknowledging(t, proxy.url);
    const channel = fresh('repeated');
    const inbox = await alice.subscribe(channel);
    const bob = await connected(t, server.url, kind);
    await until(() => alice.wire.sent('/meta/connect').length >= 2, 'the held connect');
    const known = alice.wire.sent('/meta/connect').at(-1).message.ext.ack;
    const lost = proxy.cutAfter(0);
    await bob.publish(channel, 'once');
    await lost;
    assert.deepEqual(await inbox.takes(1), ['once']);
    const again = alice.wire.connects().find(({ reply }) => reply.ext?.ack > known + 1);
    assert.equal(again.request.ext.ack, known, 'the client says what it has');
    assert.ok(again.entry.messages.some((message) => message.channel === channel), 'what it misses is there');
    await sleep(300);
    assert.deepEqual(inbox.data, ['once']);
  });

  it('with acknowledgements messages come with connects', async (t) => {
    const alice = await acknowledging(t, server.url);
    const channel = fresh('ack');
    const inbox = await alice.subscribe(channel);
    for (const n of [0, 1, 2, 3, 4]) await alice.publish(channel, n);
    assert.deepEqual(await inbox.takes(5), [0, 1, 2, 3, 4]);
    await until(() => alice.wire.connects().at(-1).reply.ext?.ack > 0, 'a batch number');
    const connects = alice.wire.sent('/meta/connect').map(({ message }) => message.ext.ack);
    assert.ok(connects.every((ack, n) => n === 0 || ack >= connects[n - 1]), `acks ${connects}`);
  });
});

groups('binary data', KINDS.filter(having('binary')), (kind) => {
  const server = useServer({ args: LASTING });
  const binary = (t, url, ...more) => connected(t, url, { ...kind, extensions: ['binary', ...more] });
  const bytesOf = (length) => Uint8Array.from({ length }, (_, n) => (n * 151) % 256);

  it('binary data arrives byte for byte', async (t) => {
    const [alice, bob] = await Promise.all([1, 2].map(() => binary(t, server.url)));
    const channel = fresh('binary');
    const inbox = await alice.subscribe(channel);
    const arrays = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 257, 1_024, 64 * 1_024].map(bytesOf);
    for (const [n, bytes] of arrays.entries()) {
      const reply = await bob.publishBinary(channel, bytes, n % 2 === 0, { n, length: bytes.length });
      assert.equal(reply.successful, true, `${bytes.length} bytes`);
    }
    const data = await inbox.takes(arrays.length);
    data.forEach(({ data: bytes, last, meta }, n) => {
      assert.deepEqual(new Uint8Array(bytes), arrays[n]);
      assert.equal(last, n % 2 === 0);
      assert.deepEqual(meta, { n, length: arrays[n].length });
    });
  });

  it('is text on the way, which those without the extension can read and write', async (t) => {
    const [alice, bob] = await Promise.all([binary(t, server.url), connected(t, server.url, kind)]);
    const channel = fresh('text');
    const [decoded, plain] = await Promise.all([alice.subscribe(channel), bob.subscribe(channel)]);
    const bytes = Uint8Array.from([0x86, 0x4f, 0xd2, 0x6f, 0xb5, 0x59, 0xf7, 0x5b]);
    const encoded = { data: 'HelloWorld', last: true };
    await alice.publishBinary(channel, bytes, true);
    await plain.takes(1);
    await bob.publish(channel, encoded, { ext: { binary: {} } });
    assert.deepEqual(await plain.takes(2), [encoded, encoded]);
    for (const message of plain.messages) assert.deepEqual(message.ext.binary, {});
    for (const { data } of await decoded.takes(2)) assert.deepEqual(new Uint8Array(data), bytes);

    const reply = await bob.publish(channel, { data: 'x', last: true }, { ext: { binary: {} } });
    assert.equal(reply.successful, false, 'one letter stands for no bytes');
    assert.match(reply.error, /^400:/);
  });

  it('that breaks off on the way is sent again, once acknowledgements are there', async (t) => {
    const proxy = await proxyFor(t, server.server);
    const [alice, bob] = await Promise.all([binary(t, proxy.url, 'ack'), binary(t, server.url)]);
    const channel = fresh('broken');
    const inbox = await alice.subscribe(channel);
    const chunks = [64 * 1_024, 5, 40_001].map(bytesOf);
    for (const [n, bytes] of chunks.entries()) {
      const cut = proxy.cutAfter(Math.floor(bytes.length / 2));
      await bob.publishBinary(channel, bytes, n === chunks.length - 1, { n });
      await cut;
      await inbox.takes(n + 1);
    }
    await sleep(300);
    const received = inbox.data.map(({ data, last, meta }) => ({ bytes: new Uint8Array(data), last, meta }));
    assert.deepEqual(received, chunks.map((bytes, n) => ({ bytes, last: n === 2, meta: { n } })));
    assert.equal(alice.handshakes.length, 1);
  });
});

groups('time', KINDS.filter(having('timesync')), (kind) => {
  const server = useServer({ args: LASTING });
  const exact = useServer({ args: ['--timeout', '2s', '--max-interval', '30s', '--timesync-accuracy', '0s'] });
  const unstamped = useServer({ args: ['--no-timestamp-extension'] });

  /** A client whose clock is ahead, as far as its extension reads and writes it. */
  const shifted = async (t, ahead, { url } = server) => {
    const alice = await connected(t, url, { ...kind, extensions: ['timesync'], ahead });
    return { alice, ahead };
  };
  /** The estimate is right, or becomes right soon: a busy machine can spoil single exchanges. */
  const knows = async ({ alice, ahead }) => {
    const error = async () => Math.abs((await alice.timesync()).offset + ahead);
    for (let n = 0; n < 30 && (await error()) >= 50; n += 1) await alice.subscribe(fresh('time'));
    assert.ok((await error()) < 50, `${await error()} ms off`);
  };

  it('the client learns the time of the server', async (t) => {
    const { alice } = await shifted(t, 0);
    assert.ok(alice.handshakes[0].ext.timesync, 'the server answers');
    const { offset, lag } = await alice.timesync();
    assert.ok(Math.abs(offset) < 5_000, 'two clocks of one machine');
    assert.ok(lag >= 0);
  });

  it('and tells its own', async (t) => {
    const alice = await connected(t, server.url, { ...kind, extensions: ['timestamp'] });
    const channel = fresh('time');
    const inbox = await alice.subscribe(channel);
    await alice.publish(channel, 1);
    assert.deepEqual(await inbox.takes(1), [1]);
    const near = (text) => Math.abs(Date.parse(text) - Date.now()) < 60_000;
    for (const { message } of alice.wire.sent()) assert.ok(near(message.timestamp), message.channel);
    // And so does the server, on every message.
    for (const { message } of alice.wire.received()) {
      assert.match(message.timestamp, / GMT$/);
      assert.ok(near(message.timestamp), message.channel);
    }
  });

  it('which subscribers see where the server does not tell the time', needs(kind, 'clock'), async (t) => {
    const proxy = await proxyFor(t, unstamped.server);
    const extensions = ['timestamp'];
    const alice = await connected(t, proxy.url, { ...kind, extensions, ahead: 3_600_000 });
    const bob = await connected(t, unstamped.url, kind);
    const channel = fresh('time');
    const inbox = await bob.subscribe(channel);
    await alice.publish(channel, 1);
    const connects = alice.wire.connects().length;
    await proxy.outage();
    await until(() => alice.wire.connects().length > connects, 'a connect on a new connection');
    await alice.publish(channel, 2);
    assert.deepEqual(await inbox.takes(2), [1, 2]);
    const sent = alice.wire.sent(channel).map(({ message }) => message.timestamp);
    assert.deepEqual(inbox.messages.map((message) => message.timestamp), sent);
    for (const text of sent) assert.ok(Date.parse(text) - Date.now() > 3_500_000, 'the clock of the sender');
    for (const { message } of bob.wire.received()) assert.equal(message.timestamp, sent[message.data - 1]);
  });

  it('even if its own clock is far off', needs(kind, 'clock'), async (t) => {
    const client = await shifted(t, -90_000);
    for (const name of ['a', 'b', 'c']) await client.alice.subscribe(fresh(name));
    await knows(client);
  });

  it('the time that a connect is held is no lag, nor is an outage', needs(kind, 'clock'), async (t) => {
    const proxy = await proxyFor(t, exact.server);
    const client = await shifted(t, 3_600_000, proxy);
    const { alice } = client;
    const held = () => alice.wire.connects().filter(({ reply }) => reply.ext.timesync.p > 1_900);
    await until(() => held().length >= 2, 'two held connects');
    await proxy.outage();
    await until(() => held().length >= 4, 'two more');
    const { lag } = await alice.timesync();
    assert.ok(lag < 900, `a lag of ${lag} ms`);
    await knows(client);
    assert.equal(alice.handshakes.length, 1);
    // From its first estimate on, the client says what it believes.
    const { message } = alice.wire.sent('/meta/connect').at(-1);
    assert.ok(Math.abs(message.ext.timesync.o + 3_600_000) < 500, `${message.ext.timesync.o}`);
  });

  it('two clients with different clocks agree on a moment', needs(kind, 'clock'), async (t) => {
    const clients = await Promise.all([-90_000, 45_000].map((ahead) => shifted(t, ahead)));
    for (const client of clients) await knows(client);
    // The time of the server as each believes it to be, at one moment.
    const now = Date.now();
    const offsets = await Promise.all(clients.map(async ({ alice }) => (await alice.timesync()).offset));
    const [one, other] = clients.map(({ ahead }, n) => now + ahead + offsets[n]);
    assert.ok(Math.abs(one - other) < 100, `${one - other} ms apart`);
    assert.ok(Math.abs(one - now) < 100, 'and it is the time');
  });
});

groups('reload', EVERYWHERE.filter(having('reload')), (kind) => {
  const server = useServer({ args: LASTING });
  const hasty = useServer({ args: ['--timeout', '1s', '--max-interval', '500ms'] });

  /** A page of a tab, which takes the place of the page `before`. */
  const pageFor = (t, url, { jar, storage } = {}, extensions = ['reload']) =>
    peerFor(t, url, { ...kind, jar, storage, extensions });
  /** A page that listens on `channel` and did not handshake for it. */
  const reloaded = async (t, url, before, channel, extensions) => {
    const page = pageFor(t, url, before, extensions);
    const inbox = page.collect(channel);
    const reply = await page.connect();
    assert.equal(reply.ext.reload, true, 'the handshake is the one of before');
    assert.equal(page.id, before.id);
    assert.equal(page.transport, kind.transport);
    assert.deepEqual(page.wire.sent('/meta/handshake'), [], 'no handshake');
    const [first] = page.wire.connects();
    assert.deepEqual(first.request.advice, { timeout: 0 });
    return { page, inbox };
  };

  it('a page that reloads keeps its session', async (t) => {
    const first = pageFor(t, server.url);
    await first.connect();
    const channel = fresh('reloaded');
    await first.subscribe(channel);
    const bob = await connected(t, server.url, kind);
    let before = first;
    for (const round of [1, 2, 3]) {
      await before.leave();
      // What is pushed into a WebSocket that is closing is lost, without acknowledgements.
      await sleep(200);
      await bob.publish(channel, `while it was away ${round}`);
      const { page, inbox } = await reloaded(t, server.url, before, channel);
      assert.equal(page.id, first.id);
      await bob.publish(channel, `here again ${round}`);
      await inbox.takes(2);
      await page.publish(channel, `its own ${round}`);
      const expected = ['while it was away', 'here again', 'its own'].map((text) => `${text} ${round}`);
      assert.deepEqual(await inbox.takes(3), expected);
      before = page;
    }
    const last = await before.disconnect();
    assert.equal(last.successful, true);
    const [{ message }] = before.wire.sent('/meta/disconnect');
    assert.equal(message.clientId, first.id);
  });

  it('sends nothing else before its first connect is answered', async (t) => {
    const before = await connected(t, server.url, { ...kind, extensions: ['reload'] });
    before.leave();
    const page = pageFor(t, server.url, before);
    const channel = fresh('early');
    const connecting = page.connect();
    await until(() => page.handshakes.length === 1, 'the handshake');
    const inbox = await page.subscribe(channel);
    await connecting;
    await page.publish(channel, 'hello');
    assert.deepEqual(await inbox.takes(1), ['hello']);
    const channels = page.wire.entries.flatMap(({ sent, messages }) =>
      messages.map((message) => `${sent ? 'sent' : 'received'} ${message.channel}`),
    );
    assert.deepEqual(channels.slice(0, 2), ['sent /meta/connect', 'received /meta/connect']);
  });

  it('works while the server still holds the connect of before', async (t) => {
    const proxy = await proxyFor(t, server.server);
    const first = pageFor(t, proxy.url);
    await first.connect();
    const channel = fresh('unnoticed');
    await first.subscribe(channel);
    await until(() => first.wire.sent('/meta/connect').length >= 2, 'the held connect');
    // The server never learns that the connections of the first page ended.
    proxy.orphan();
    first.leave();
    const { page, inbox } = await reloaded(t, proxy.url, first, channel);
    const bob = await connected(t, server.url, kind);
    for (const n of [1, 2, 3]) await bob.publish(channel, n);
    assert.deepEqual(await inbox.takes(3), [1, 2, 3]);
    await proxy.outage();
    const connects = page.wire.connects().length;
    await until(() => page.wire.connects().length > connects, 'a connect on a new connection');
    await sleep(100);
    await bob.publish(channel, 4);
    assert.deepEqual(await inbox.takes(4), [1, 2, 3, 4]);
    assert.equal(page.handshakes.length, 1);
  });

  it('loses nothing with acknowledgements, not even in mid-stream', async (t) => {
    const extensions = ['ack', 'reload'];
    const proxy = await proxyFor(t, server.server);
    const first = pageFor(t, proxy.url, {}, extensions);
    await first.connect();
    const channel = fresh('stream');
    const inboxes = [await first.subscribe(channel)];
    const stream = streamFrom(await connected(t, server.url, kind), channel);
    let before = first;
    for (const strike of [() => {}, () => proxy.orphan(), () => proxy.cutAfter(500)]) {
      await inboxes.at(-1).takes(40);
      await strike();
      before.leave();
      await sleep(100);
      const { page, inbox } = await reloaded(t, proxy.url, before, channel, extensions);
      inboxes.push(inbox);
      before = page;
    }
    await inboxes.at(-1).takes(40);
    const numbers = await stream.stop();
    await until(() => inboxes.at(-1).data.at(-1) === numbers.at(-1), 'the last message', 30_000);
    await sleep(300);
    // A page does not know what the one before it acknowledged (rule XR-4): it may receive that again, in order.
    let next = 0;
    for (const { data } of inboxes) {
      assert.ok(data[0] <= next, `${data[0]} comes after ${next - 1}`);
      assert.deepEqual(data, numbers.slice(data[0], data.at(-1) + 1));
      next = data.at(-1) + 1;
    }
    assert.equal(next, numbers.length);
  });

  it('begins anew where the session is gone', async (t) => {
    const before = await connected(t, hasty.url, { ...kind, extensions: ['reload'] });
    before.leave();
    // The maximal interval and one sweep, with time to spare.
    await sleep(4_000);
    const page = pageFor(t, hasty.url, before);
    await page.connect();
    await until(() => page.wire.sent('/meta/handshake').length === 1, 'a handshake');
    await until(() => page.handshakes.length === 2, 'its reply');
    assert.match(page.wire.received('/meta/connect')[0].message.error, /^402:/);
    assert.notEqual(page.id, before.id);
    const channel = fresh('anew');
    const inbox = await page.subscribe(channel);
    await page.publish(channel, 'hello');
    assert.deepEqual(await inbox.takes(1), ['hello']);
  });
});

groups('extensions across transports', VERSIONS.filter(having('changes')), (version) => {
  // A session from WebSocket has no browser cookie, which HTTP requests otherwise need (rule L-42).
  const trusting = useServer({ args: [...LASTING, '--trust-client-session'] });
  const strict = useServer({ args: LASTING });

  /** A client with both transports, which a failed connect lets go on with long-polling. */
  const changing = async (t, url) => {
    const alice = peerFor(t, url, { ...version, extensions: ['ack'] });
    await alice.changeTo('long-polling');
    await alice.connect();
    assert.equal(alice.transport, 'websocket');
    return alice;
  };

  it('acknowledged messages survive the change from WebSocket to long-polling', async (t) => {
    const proxy = await proxyFor(t, trusting.server);
    const alice = await changing(t, proxy.url);
    const channel = fresh('change');
    const inbox = await alice.subscribe(channel);
    const stream = streamFrom(await connected(t, trusting.url, version), channel);
    await inbox.takes(100, LONG);
    // From now on nothing but ordinary HTTP gets through.
    proxy.refuses = /upgrade: websocket/i;
    proxy.cut();
    await inbox.takes(stream.numbers.length + 100, LONG);
    await arrivedWhole(inbox, stream);
    assert.equal(alice.transport, 'long-polling');
    assert.equal(alice.handshakes.length, 1);
  });

  it('and changes to and fro that the server does not notice', async (t) => {
    const proxy = await proxyFor(t, trusting.server);
    const alice = await changing(t, proxy.url);
    const channel = fresh('fro');
    const inbox = await alice.subscribe(channel);
    const stream = streamFrom(await connected(t, trusting.url, version), channel);
    for (const name of ['long-polling', 'websocket', 'long-polling', 'websocket']) {
      await inbox.takes(inbox.messages.length + 50, LONG);
      await alice.changeTo(name);
      // A break between two connects makes none of them fail. Nor does one that a browser makes good by itself, on
      // another connection: that one fails too.
      for (let n = 0; n < 20 && alice.transport !== name; n += 1) {
        proxy.down = true;
        proxy.orphan();
        await sleep(100);
        proxy.down = false;
        await sleep(300);
      }
      assert.equal(alice.transport, name);
      const connects = alice.wire.connects().length;
      await until(() => alice.wire.connects().length > connects, `a connect over ${name}`);
    }
    await inbox.takes(inbox.messages.length + 50, LONG);
    await arrivedWhole(inbox, stream);
    assert.equal(alice.handshakes.length, 1);
  });

  it('without trust in client ids the change costs the session', async (t) => {
    const proxy = await proxyFor(t, strict.server);
    const alice = await changing(t, proxy.url);
    const before = alice.id;
    await until(() => alice.wire.sent('/meta/connect').length >= 2, 'the held connect');
    proxy.refuses = /upgrade: websocket/i;
    proxy.cut();
    const renewed = ({ request, reply }) => reply.successful && request.clientId !== before;
    await until(() => alice.wire.connects().some(renewed), 'a new session');
    const refusal = alice.wire.received('/meta/connect').find(({ message }) => !message.successful);
    assert.match(refusal.message.error, /^402:/);
    assert.equal(alice.transport, 'long-polling');
    const channel = fresh('new');
    const inbox = await alice.subscribe(channel);
    await alice.publish(channel, 'hello');
    assert.deepEqual(await inbox.takes(1), ['hello']);
  });
});
