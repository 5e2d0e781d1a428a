// Handshake, the first connects, disconnect.

import assert from 'node:assert/strict';
import { it } from 'node:test';
import { ask, connected, EVERYWHERE, fresh, having, jarFor, needs, peerFor } from '../lib/client.mjs';
import { useServer } from '../lib/server.mjs';
import { groups } from '../lib/suite.mjs';
import { sleep, until, within } from '../lib/wait.mjs';

groups('handshake', EVERYWHERE, (kind) => {
  const server = useServer({ args: ['--timeout', '20s'] });
  const socketed = kind.transport === 'websocket';

  it('is answered with everything a client needs', async (t) => {
    const alice = peerFor(t, server.url, kind);
    const reply = await alice.handshake();
    assert.equal(reply.successful, true);
    assert.equal(reply.version, '1.0');
    assert.equal(reply.minimumVersion, '1.0');
    assert.match(reply.clientId, /^[A-Za-z0-9]{20,}$/);
    assert.equal(alice.id, reply.clientId);
    assert.deepEqual(reply.supportedConnectionTypes, ['websocket', 'long-polling']);
    assert.equal(reply.advice.reconnect, 'retry');
    assert.equal(reply.advice.interval, 0);
    assert.equal(reply.advice.timeout, 20_000);
    await until(() => alice.transport === kind.transport, 'the client to take its transport');
  });

  it('gives every client an id of its own', async (t) => {
    const peers = await Promise.all([1, 2, 3].map(() => connected(t, server.url, kind)));
    assert.equal(new Set(peers.map((peer) => peer.id)).size, 3);
  });

  it('is followed by one connect at once and one that is held', async (t) => {
    const alice = await connected(t, server.url, kind);
    const [first] = alice.wire.connects();
    assert.equal(first.reply.id, first.request.id);
    if (!kind.patient) {
      assert.deepEqual(first.request.advice, { timeout: 0 });
      assert.equal(first.reply.advice.timeout, 20_000);
    }
    await until(() => alice.wire.sent('/meta/connect').length === 2, 'the second connect');
    await sleep(500);
    assert.equal(alice.wire.sent('/meta/connect').length, 2);
    assert.equal(alice.wire.received('/meta/connect').length, 1);
    assert.equal(alice.status, 'connected');
  });

  it('puts a client id into no reply but its own', async (t) => {
    const alice = await connected(t, server.url, kind);
    const channel = fresh('ids');
    await alice.subscribe(channel);
    await alice.publish(channel, 1);
    for (const { message } of alice.wire.received()) {
      assert.equal(Object.hasOwn(message, 'clientId'), message.channel === '/meta/handshake');
    }
  });

  it('needs one WebSocket, or one cookie', async (t) => {
    const alice = await connected(t, server.url, kind);
    await alice.publish(fresh('once'), 1);
    if (socketed) {
      assert.equal(alice.wire.sockets.length, 1);
    } else {
      assert.equal(alice.jar.headers.length, 1);
      assert.match(alice.jar.headers[0], /^BAYEUX_BROWSER=[A-Za-z0-9]+/);
    }
  });

  it('works below the path, and with a slash at its end', async (t) => {
    for (const end of ['/', '/below/the/path']) {
      const alice = await connected(t, server.url + end, kind);
      const channel = fresh('path');
      const inbox = await alice.subscribe(channel);
      await alice.publish(channel, end);
      assert.deepEqual(await inbox.takes(1), [end]);
    }
    const config = { appendMessageTypeToURL: false };
    await connected(t, server.url, { ...kind, config });
  });

  it('holds back what is published before it is over', async (t) => {
    const alice = peerFor(t, server.url, kind);
    const channel = fresh('early');
    alice.start();
    const seen = [];
    alice.subscribeNow(channel, (message) => seen.push(message.data));
    const reply = await alice.publish(channel, 'early');
    assert.equal(reply.successful, true);
    await until(() => seen.length === 1, 'the message');
    assert.deepEqual(seen, ['early']);
  });
});

groups('disconnect', EVERYWHERE, (kind) => {
  const server = useServer({ args: ['--timeout', '60s'] });

  it('ends the session', async (t) => {
    const alice = await connected(t, server.url, kind);
    const { id } = alice;
    await until(() => alice.wire.sent('/meta/connect').length === 2, 'the held connect');
    const reply = await alice.disconnect();
    assert.equal(reply.successful, true);
    await until(() => alice.status === 'disconnected', 'the client to be done');

    const connect = { channel: '/meta/connect', connectionType: kind.transport };
    const refused = await ask(t, alice, kind.transport, server.url, id, connect);
    assert.equal(refused.successful, false);
    assert.match(refused.error, /^402:/);
    assert.equal(refused.advice.reconnect, 'handshake');
    const publish = { channel: fresh('gone'), data: 1 };
    const lost = await ask(t, alice, kind.transport, server.url, id, publish);
    assert.equal(lost.successful, false);
    assert.match(lost.error, /^402:/);
    assert.equal(lost.advice, undefined);
  });

  it('answers the held connect and closes the WebSocket', needs(kind, 'last connects'), async (t) => {
    const alice = await connected(t, server.url, kind);
    await until(() => alice.wire.sent('/meta/connect').length === 2, 'the held connect');
    await alice.disconnect();
    await until(() => alice.wire.received('/meta/connect').length === 2, 'the held connect to be answered');
    const { reply } = alice.wire.connects()[1];
    assert.equal(reply.successful, true);
    assert.equal(reply.advice.reconnect, 'none');
    for (const socket of alice.wire.sockets) await within(socket.closed, 'the WebSocket to close');
    await sleep(300);
    assert.equal(alice.wire.sent('/meta/connect').length, 2, 'no connect after a disconnect');
  });

  it('takes the subscriptions away', async (t) => {
    const [alice, bob] = await Promise.all([1, 2].map(() => connected(t, server.url, kind)));
    const channel = fresh('left');
    const inbox = await alice.subscribe(channel);
    await alice.disconnect();
    await bob.publish(channel, 'late');
    assert.equal((await bob.publish(channel, 'later')).successful, true);
    assert.deepEqual(inbox.data, []);
  });

  it('can be followed by another handshake of the same client', needs(kind, 'second lives'), async (t) => {
    const alice = await connected(t, server.url, kind);
    const before = alice.id;
    await alice.disconnect();
    assert.equal((await alice.handshake()).successful, true);
    assert.notEqual(alice.id, before);
    const channel = fresh('again');
    const inbox = await alice.subscribe(channel);
    await alice.publish(channel, 'back');
    assert.deepEqual(await inbox.takes(1), ['back']);
  });
});

const BROWSERS = EVERYWHERE.filter((kind) => kind.transport === 'long-polling').filter(having('jar'));

groups('long-polling and cookies', BROWSERS, (kind) => {
  const server = useServer({ args: ['--timeout', '20s'] });
  const trusting = useServer({ args: ['--timeout', '20s', '--trust-client-session'] });

  it('a client that drops its cookie is told to handshake again', async (t) => {
    const alice = peerFor(t, server.url, { ...kind, jar: jarFor(kind, { keep: false }) });
    const connects = alice.collect('/meta/connect');
    alice.start();
    await until(() => connects.messages.length > 0, 'a connect reply');
    assert.equal(connects.messages[0].successful, false);
    assert.match(connects.messages[0].error, /^402:/);
    await until(() => alice.handshakes.length > 1, 'the second handshake');
  });

  it('unless the server trusts client ids', async (t) => {
    const alice = await connected(t, trusting.url, { ...kind, jar: jarFor(kind, { keep: false }) });
    const channel = fresh('trusted');
    const inbox = await alice.subscribe(channel);
    await alice.publish(channel, 1);
    assert.deepEqual(await inbox.takes(1), [1]);
    assert.equal(alice.handshakes.length, 1);
  });

  it('of two tabs of one browser the second polls, and both receive', async (t) => {
    const jar = jarFor(kind);
    const alice = await connected(t, server.url, { ...kind, jar });
    await until(() => alice.wire.sent('/meta/connect').length === 2, 'the first tab to be held');
    await sleep(300);
    const bob = await connected(t, server.url, { ...kind, jar });
    assert.equal(jar.headers.length, 1);
    const told = () => bob.wire.connects().find(({ reply }) => reply.advice?.['multiple-clients']);
    const { reply } = await until(told, 'the second tab to be told of the first');
    assert.equal(reply.successful, true);
    assert.equal(reply.advice.reconnect, 'retry');
    assert.ok(reply.advice.interval > 0);
    const channel = fresh('tabs');
    const inboxes = [await alice.subscribe(channel), await bob.subscribe(channel)];
    await alice.publish(channel, 'both');
    for (const inbox of inboxes) assert.deepEqual(await inbox.takes(1), ['both']);
  });
});
