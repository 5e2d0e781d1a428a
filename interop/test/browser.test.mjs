// What only a browser has: origins, tabs with the same cookies, a network that is gone.

import assert from 'node:assert/strict';
import { it } from 'node:test';
import { siteOrigin } from '../lib/browser/chromium.mjs';
import { BROWSERS, connected, fresh, holding, jarFor, KINDS, peerFor } from '../lib/client.mjs';
import { serverFor, useServer } from '../lib/server.mjs';
import { groups } from '../lib/suite.mjs';
import { sleep, until } from '../lib/wait.mjs';

const LASTING = ['--timeout', '20s', '--max-interval', '30s'];

/** Publishes and receives. */
async function works(peer) {
  const channel = fresh('works');
  const inbox = await peer.subscribe(channel);
  assert.equal((await peer.publish(channel, 'it does')).successful, true);
  assert.deepEqual(await inbox.takes(1), ['it does']);
}

groups('origins', BROWSERS, (version) => {
  const any = useServer({ args: LASTING });
  const none = useServer({ args: [...LASTING, '--callback-polling'], allow: '' });
  const over = (transport) => ({ ...version, transport, origin: 'cross' });

  /** A client that the browser does not let through. */
  const stopped = async (t, url, kind) => {
    const alice = peerFor(t, url, { ...kind, config: { backoffIncrement: 60_000 } });
    const reply = await alice.handshake();
    assert.equal(reply.successful, false);
    assert.deepEqual(alice.wire.received(), []);
    return reply;
  };

  it('pages of other origins cannot use long-polling, unless the server allows it', async (t) => {
    const other = await serverFor(t, { allow: 'http://somewhere.test' });
    for (const { url } of [none, other]) {
      const reply = await stopped(t, url, over('long-polling'));
      assert.equal(reply.failure.httpCode, 0, 'a page is not told why');
    }
    await works(await connected(t, none.url, { ...over('long-polling'), origin: 'same' }));
  });

  it('a page of another site can, where it is the one that is allowed, but has no cookie', async (t) => {
    const { url } = await serverFor(t, { allow: await siteOrigin(), args: ['--trust-client-session'] });
    const jar = jarFor(version, { keep: false });
    const alice = await connected(t, url, { ...over('long-polling'), jar });
    await works(alice);
    assert.equal(alice.handshakes.length, 1);
    assert.equal(await jar.cookieFor(url), '');
    assert.ok(jar.headers.length > 0, 'which it was offered');
  });

  it('callback-polling needs no permission', async (t) => {
    const alice = await connected(t, none.url, over('callback-polling'));
    assert.equal(alice.transport, 'callback-polling');
    await works(alice);
    assert.notEqual(await alice.jar.cookieFor(none.url), '');
  });

  it('WebSockets of pages that the server does not want are refused, and the client falls back', async (t) => {
    const { url } = await serverFor(t, { args: ['--ws-allow-origin', 'http://somewhere.test'] });
    await stopped(t, url, over('websocket'));
    const alice = await connected(t, url, over(undefined));
    assert.equal(alice.transport, 'long-polling');
    await works(alice);
  });

  it('the browser asks for permission once for each address', async (t) => {
    const alice = peerFor(t, any.url, over('long-polling'));
    const { devtools } = await alice.tab();
    const asked = [];
    devtools.on('Network.requestWillBeSent', ({ request }) => {
      if (request.method === 'OPTIONS') asked.push(request.url);
    });
    await alice.connect();
    for (let n = 0; n < 3; n += 1) await works(alice);
    const addresses = new Set(alice.wire.sent().map(({ entry }) => entry.url));
    assert.ok(addresses.size >= 3, `${[...addresses]}`);
    assert.deepEqual([...asked].sort(), [...addresses].sort());
  });
});

groups('tabs', BROWSERS, (version) => {
  const one = useServer({ args: LASTING });
  const three = useServer({ args: [...LASTING, '--max-sessions-per-browser', '3'] });

  const warned = (peer) => peer.wire.connects().some(({ reply }) => reply.advice?.['multiple-clients']);
  /** Whether a connect is being held, as none is of a client that polls. */
  const held = (peer) => {
    const { message, entry } = peer.wire.sent('/meta/connect').at(-1);
    return !peer.wire.replyTo(message.id) && Date.now() - entry.at > 1_500;
  };
  /** So many tabs of one browser, one after the other. */
  const tabsOf = async (t, { url }, count, transport) => {
    const jar = jarFor(version);
    const peers = [];
    for (let n = 0; n < count; n += 1) peers.push(await holding(t, url, { ...version, transport, jar }));
    return { jar, peers };
  };

  it('the second tab polls, and is held when the first one is gone', async (t) => {
    const { jar, peers: [first] } = await tabsOf(t, one, 1, 'long-polling');
    const second = await connected(t, one.url, { ...version, transport: 'long-polling', jar });
    assert.equal(jar.headers.length, 1, 'one cookie for both');
    await until(() => warned(second), 'the second tab to be told of the first');
    await sleep(3_000);
    assert.equal(held(second), false);
    assert.equal(held(first), true);
    first.leave();
    await until(() => held(second), 'the second tab to be held');
    await works(second);
    assert.equal(second.handshakes.length, 1);
  });

  it('as many are held as the server allows', async (t) => {
    const { jar, peers } = await tabsOf(t, three, 3, 'long-polling');
    const fourth = await connected(t, three.url, { ...version, transport: 'long-polling', jar });
    await until(() => warned(fourth), 'the fourth tab to be told of the others');
    for (const peer of peers) assert.equal(warned(peer), false);
    await until(() => peers.every(held), 'three tabs to be held');
    const channel = fresh('tabs');
    const inboxes = await Promise.all([...peers, fourth].map((peer) => peer.subscribe(channel)));
    await fourth.publish(channel, 'all');
    for (const inbox of inboxes) assert.deepEqual(await inbox.takes(1), ['all']);
  });

  it('WebSockets do not count', async (t) => {
    const { peers } = await tabsOf(t, one, 3, 'websocket');
    await until(() => peers.every(held), 'three tabs to be held');
    for (const peer of peers) {
      assert.equal(warned(peer), false);
      await works(peer);
    }
  });
});

groups('offline', KINDS.filter(({ chromium }) => chromium), (kind) => {
  const server = useServer({ args: LASTING });

  it('a computer that was without network goes on with its session', async (t) => {
    const alice = await holding(t, server.url, { ...kind, extensions: ['ack'] });
    const channel = fresh('offline');
    const inbox = await alice.subscribe(channel);
    const bob = await connected(t, server.url, kind);
    const tab = await alice.tab();
    const failures = alice.collect('/meta/unsuccessful');
    const { id } = alice;
    await tab.setOffline(true);
    for (const n of [1, 2, 3]) await bob.publish(channel, n);
    if (kind.transport === 'long-polling') await until(() => failures.messages.length > 0, 'a connect to fail');
    await sleep(1_000);
    // The answer that was under way may have arrived.
    assert.ok(inbox.messages.length < 3, 'it is without network');
    await tab.setOffline(false);
    assert.deepEqual(await inbox.takes(3), [1, 2, 3]);
    await bob.publish(channel, 4);
    assert.deepEqual(await inbox.takes(4), [1, 2, 3, 4]);
    await works(alice);
    assert.equal(alice.id, id);
    assert.equal(alice.handshakes.length, 1);
  });
});
