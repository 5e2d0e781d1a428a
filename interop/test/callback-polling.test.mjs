// callback-polling: CometD's own transport, with as much of a browser as it needs.

import assert from 'node:assert/strict';
import { it } from 'node:test';
import { connected, fresh, having, holding, KINDS, peerFor, VERSIONS } from '../lib/client.mjs';
import { proxyFor } from '../lib/proxy.mjs';
import { useServer } from '../lib/server.mjs';
import { groups } from '../lib/suite.mjs';
import { sleep, until } from '../lib/wait.mjs';

const TRANSPORT = 'callback-polling';

groups(TRANSPORT, VERSIONS.filter(having('callback-polling')), (version) => {
  const server = useServer({ args: ['--callback-polling', '--timeout', '20s', '--max-interval', '30s'] });
  const short = useServer({ args: ['--callback-polling', '--timeout', '1s'] });
  const services = useServer({ program: 'interop', args: ['--callback-polling'] });
  const plain = useServer();
  const kind = { ...version, transport: TRANSPORT };
  const held = (t, { url }) => holding(t, url, kind);

  it('is agreed on, with addresses that call functions', async (t) => {
    const alice = await connected(t, server.url, kind);
    const [reply] = alice.handshakes;
    assert.ok(reply.supportedConnectionTypes.includes(TRANSPORT));
    assert.equal(alice.transport, TRANSPORT);
    assert.equal(alice.jar.headers.length, 1, 'one browser cookie');
    const [asked, answered] = alice.wire.entries;
    const url = new URL(asked.url);
    assert.deepEqual([...url.searchParams.keys()], ['jsonp', 'message']);
    assert.equal(answered.status, 200);
    assert.ok(answered.text.startsWith(`${url.searchParams.get('jsonp')}([{`), answered.text);
    assert.ok(answered.text.endsWith('}])'), answered.text);
    const [first] = alice.wire.connects();
    assert.deepEqual(first.request.advice, { timeout: 0 });
    assert.equal(first.request.connectionType, TRANSPORT);
    assert.equal(first.reply.successful, true);
  });

  it('publishes, and is woken for what others publish', async (t) => {
    const [alice, bob] = await Promise.all([held(t, server), held(t, server)]);
    const channel = fresh('jsonp');
    const inbox = await alice.subscribe(channel);
    assert.equal(inbox.reply.successful, true);
    const reply = await bob.publish(channel, 'from bob');
    assert.equal(reply.successful, true);
    assert.deepEqual(await inbox.takes(1), ['from bob']);
    await until(() => alice.wire.sent('/meta/connect').length === 3, 'the next connect');
    const [, second] = alice.wire.connects();
    const [{ entry }] = alice.wire.received(channel);
    assert.equal(second.entry, entry, 'the message comes with the connect reply');
    assert.equal(entry.messages.at(-1).channel, '/meta/connect', 'which is last');
    assert.ok(second.ms < 10_000, `held for ${second.ms} ms`);

    assert.equal((await alice.publish(channel, 'its own')).successful, true);
    assert.deepEqual(await inbox.takes(2), ['from bob', 'its own']);
    // Nothing but connects brings messages (rule TJ-7).
    const deliveries = alice.wire.received(channel).filter(({ message }) => message.data !== undefined);
    assert.equal(deliveries.length, 2);
    for (const { entry: { messages } } of deliveries) {
      assert.equal(messages.at(-1).channel, '/meta/connect');
    }
    await alice.unsubscribe(inbox);
    await bob.publish(channel, 'too late');
    await sleep(300);
    assert.equal(inbox.messages.length, 2);
  });

  it('connects are held as long as the server says', async (t) => {
    const alice = await connected(t, short.url, kind);
    await until(() => alice.wire.connects().length >= 4, 'four connects');
    const [first, ...others] = alice.wire.connects();
    assert.ok(first.ms < 800, `the first took ${first.ms} ms`);
    for (const { ms, reply } of others) {
      assert.equal(reply.successful, true);
      assert.ok(ms > 900 && ms < 5_000, `a held one took ${ms} ms`);
    }
    assert.equal(alice.handshakes.length, 1);
  });

  it('disconnects, and its held connect ends', async (t) => {
    const alice = await held(t, server);
    const { id } = alice;
    const reply = await alice.disconnect();
    assert.equal(reply.successful, true);
    await until(() => alice.wire.connects().length === 2, 'the end of the held connect');
    assert.equal(alice.disconnected, true);
    await sleep(300);
    assert.equal(alice.wire.sent('/meta/connect').length, 2, 'it asks for no more');
    assert.equal(alice.wire.sent('/meta/disconnect')[0].message.clientId, id);
  });

  it('a batch is split into addresses that are short enough', async (t) => {
    const [alice, bob] = await Promise.all([held(t, server), held(t, server)]);
    const channel = fresh('long');
    const inbox = await alice.subscribe(channel);
    // A quotation mark takes three characters of an address, an umlaut six.
    const texts = Array.from({ length: 40 }, (_, n) => `${n} "ä" `.padEnd(30 + 7 * n, 'x'));
    bob.batch(() => texts.forEach((text) => bob.publishNow(channel, text)));
    assert.deepEqual(await inbox.takes(texts.length), texts, 'all of it, in order');
    const batches = new Set(bob.wire.sent(channel).map(({ entry }) => entry));
    assert.ok(batches.size > 5, `${batches.size} addresses`);
    assert.ok([...batches].some(({ messages }) => messages.length > 1));
    // As the client counts them; it forgets the name of the function, and some escapes.
    for (const { url } of batches) {
      const [address] = url.split('?');
      const message = new URL(url).searchParams.get('message');
      assert.ok(address.length + encodeURI(message).length <= 2_000);
    }
  });

  it('a message that fits into no address is not sent', async (t) => {
    const alice = await held(t, server);
    const channel = fresh('large');
    const inbox = await alice.subscribe(channel);
    const reply = await alice.publish(channel, 'x'.repeat(2_000));
    assert.equal(reply.successful, false);
    assert.deepEqual(alice.wire.sent(channel), []);
    await alice.publish(channel, 'small');
    assert.deepEqual(await inbox.takes(1), ['small']);
  });

  it('any text passes through addresses and scripts', async (t) => {
    const alice = await held(t, server);
    const bob = await connected(t, server.url, { ...version, transport: 'long-polling' });
    const channel = fresh('text');
    const inboxes = await Promise.all([alice.subscribe(channel), bob.subscribe(channel)]);
    const texts = ['line\u2028separators\u2029', '</script><!--', '%41+&jsonp=x#', '\\"\'`', '\u0000\u001f', '日本 😀'];
    for (const [n, text] of texts.entries()) {
      await [alice, bob][n % 2].publish(channel, { [text]: text });
      // One at a time: a message and a reply on two connections may overtake each other (rule Q-22).
      for (const inbox of inboxes) await inbox.takes(n + 1);
    }
    const expected = texts.map((text) => ({ [text]: text }));
    for (const inbox of inboxes) assert.deepEqual(inbox.data, expected);
    for (const { text } of alice.wire.entries.filter(({ sent }) => !sent)) {
      assert.doesNotMatch(text, /[\u2028\u2029]/, 'which end a line of a script');
    }
  });

  it('clients of all transports talk to each other', async (t) => {
    const kinds = KINDS.filter(({ name }) => name === version.name);
    const peers = await Promise.all([kind, ...kinds].map((other) => connected(t, server.url, other)));
    const channel = fresh('mixed');
    const inboxes = await Promise.all(peers.map((peer) => peer.subscribe(channel)));
    for (const [n, peer] of peers.entries()) {
      assert.equal((await peer.publish(channel, n)).successful, true);
      for (const inbox of inboxes) await inbox.takes(n + 1);
    }
    for (const inbox of inboxes) assert.deepEqual(inbox.data, [...peers.keys()]);
  });

  it('services are called', async (t) => {
    const alice = await held(t, services);
    const result = await alice.call('/echo', { question: 'ä?' });
    assert.equal(result.successful, true);
    assert.deepEqual(result.data, { question: 'ä?' });
  });

  it('a cut connection does not cost the session, nor a message with acknowledgements', async (t) => {
    const proxy = await proxyFor(t, short.server);
    // A browser takes a script that breaks off in its headers for an empty one: that nothing comes, the client
    // notices only after this time beyond the timeout.
    const config = { maxNetworkDelay: 2_000 };
    const alice = await connected(t, proxy.url, { ...kind, extensions: ['ack'], config });
    const channel = fresh('cut');
    const inbox = await alice.subscribe(channel);
    const bob = await connected(t, short.url, kind);
    const numbers = [];
    const strikes = [() => proxy.outage(), () => proxy.cutAfter(0), () => proxy.cutAfter(500), () => proxy.orphan()];
    for (const strike of strikes) {
      const connects = alice.wire.connects().length;
      const struck = strike();
      for (let n = 0; n < 20; n += 1) {
        numbers.push(numbers.length);
        await bob.publish(channel, numbers.at(-1));
      }
      await struck;
      await until(() => alice.wire.connects().length > connects, 'a connect on a new connection');
      await inbox.takes(numbers.length);
    }
    await sleep(300);
    assert.deepEqual(inbox.data, numbers);
    // On a busy machine the first one may fail: it has no more than the delay that the client allows.
    assert.equal(alice.handshakes.filter((reply) => reply.successful).length, 1);
  });

  it('is refused where it is not offered', async (t) => {
    // It tries again at once, and then after a long time: one that is closed while it is about to, does so forever.
    const alice = peerFor(t, plain.url, { ...kind, config: { backoffIncrement: 60_000 } });
    const reply = await alice.handshake();
    await until(() => alice.handshakes.length === 2, 'the second attempt');
    assert.equal(reply.successful, false);
    assert.match(reply.failure.reason, /^jsonp/);
    const [, answered] = alice.wire.entries;
    assert.equal(answered.status, 400);
    assert.doesNotMatch(answered.text, /_cometd_jsonp_/);
  });
});
