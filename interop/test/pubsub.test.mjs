// Subscriptions, publishing, batches.

import assert from 'node:assert/strict';
import { it } from 'node:test';
import { connected, EVERYWHERE, fresh, needs } from '../lib/client.mjs';
import { useServer } from '../lib/server.mjs';
import { groups } from '../lib/suite.mjs';
import { until } from '../lib/wait.mjs';

groups('publish and subscribe', EVERYWHERE, (kind) => {
  const server = useServer();
  const pair = (t) => Promise.all([1, 2].map(() => connected(t, server.url, kind)));

  /** Publishes to each channel in turn and then says so to `inbox`. */
  const publishAll = async (peer, channels) => {
    for (const channel of channels) {
      assert.equal((await peer.publish(channel, channel)).successful, true, channel);
    }
  };

  it('what one publishes the other receives', async (t) => {
    const [alice, bob] = await pair(t);
    const channel = fresh('news');
    const inbox = await alice.subscribe(channel);
    assert.equal(inbox.reply.successful, true);
    assert.equal(inbox.reply.subscription, channel);

    const data = { text: 'hi', list: [1, { deep: true }], nothing: null };
    const reply = await bob.publish(channel, data);
    assert.equal(reply.successful, true);
    assert.equal(reply.channel, channel);
    assert.equal(Object.hasOwn(reply, 'data'), false);

    assert.deepEqual(await inbox.takes(1), [data]);
    const [message] = inbox.messages;
    assert.equal(message.channel, channel);
    assert.equal(Object.hasOwn(message, 'id'), false, 'a delivery has no id');
    assert.equal(Object.hasOwn(message, 'clientId'), false, 'a delivery has no client id');
    assert.equal(Object.hasOwn(message, 'successful'), false);
  });

  it('fields beside the data travel with it', needs(kind, 'fields'), async (t) => {
    const [alice, bob] = await pair(t);
    const channel = fresh('extra');
    const inbox = await alice.subscribe(channel);
    await bob.publish(channel, 1, { ext: { mine: { a: [1] } }, custom: 'kept' });
    await inbox.takes(1);
    assert.deepEqual(inbox.messages[0].ext?.mine, { a: [1] });
    assert.equal(inbox.messages[0].custom, 'kept');
  });

  it('/a/* matches one more segment', async (t) => {
    const [alice, bob] = await pair(t);
    const a = fresh('star');
    const inbox = await alice.subscribe(`${a}/*`);
    const end = await alice.subscribe(`${a}/end`);
    await publishAll(bob, [a, `${a}/b`, `${a}/b/c`, `${a}x/b`, `${a}/c`, `${a}/end`]);
    await end.takes(1);
    // The last event is for both, and either may hear of it first.
    await inbox.takes(3);
    assert.deepEqual(inbox.data, [`${a}/b`, `${a}/c`, `${a}/end`]);
  });

  it('/a/** matches any number of further segments', async (t) => {
    const [alice, bob] = await pair(t);
    const a = fresh('deep');
    const inbox = await alice.subscribe(`${a}/**`);
    await publishAll(bob, [a, `${a}/b`, `${a}/b/c`, `${a}x/b`, `${a}/b/c/d`, `${a}/end`]);
    assert.deepEqual(await inbox.takes(4), [`${a}/b`, `${a}/b/c`, `${a}/b/c/d`, `${a}/end`]);
  });

  it('several matching patterns are one delivery', async (t) => {
    const [alice, bob] = await pair(t);
    const a = fresh('many');
    const inboxes = [];
    for (const pattern of [`${a}/b`, `${a}/*`, `${a}/**`]) inboxes.push(await alice.subscribe(pattern));
    await publishAll(bob, [`${a}/b`, `${a}/end`]);
    assert.deepEqual(await inboxes[2].takes(2), [`${a}/b`, `${a}/end`]);
    // The client hands one delivery to each of its three callbacks.
    assert.deepEqual(inboxes[0].data, [`${a}/b`]);
    assert.deepEqual(inboxes[1].data, [`${a}/b`, `${a}/end`]);
    assert.equal(alice.wire.received(`${a}/b`).length, 1);
  });

  it('/** matches neither meta nor service channels', async (t) => {
    const [alice, bob] = await pair(t);
    const inbox = await alice.subscribe('/**');
    assert.equal(inbox.reply.successful, true);
    const end = fresh('end');
    const service = await alice.subscribe(`/service${end}`);
    assert.equal(service.reply.successful, true);
    assert.equal((await bob.publish(`/service${end}`, 'secret')).successful, true);
    await bob.publish(end, 'open');
    await until(() => inbox.messages.some((message) => message.channel === end), 'the message');
    assert.deepEqual(service.data, []);
    // The library itself shows replies on meta channels to such a subscription; the server does not.
    for (const { message } of alice.wire.received()) {
      if (/^\/(meta|service)\//.test(message.channel)) assert.notEqual(message.id, undefined);
      assert.notEqual(message.data, 'secret');
    }
  });

  it('nothing arrives after an unsubscription', async (t) => {
    const [alice, bob] = await pair(t);
    const channel = fresh('until');
    const end = fresh('end');
    const inbox = await alice.subscribe(channel);
    const others = await alice.subscribe(end);
    await bob.publish(channel, 'before');
    await inbox.takes(1);
    const reply = await alice.unsubscribe(inbox);
    assert.equal(reply.successful, true);
    assert.equal(reply.subscription, channel);
    assert.equal((await bob.publish(channel, 'after')).successful, true);
    await bob.publish(end, 'end');
    await others.takes(1);
    assert.equal(alice.wire.received(channel).length, 1);
    const again = await alice.subscribe(channel);
    await bob.publish(channel, 'again');
    assert.deepEqual(await again.takes(1), ['again']);
    assert.deepEqual(inbox.data, ['before']);
  });

  it('meta channels cannot be subscribed', async (t) => {
    const alice = await connected(t, server.url, kind);
    const inbox = await alice.subscribe('/meta/unsubscribe');
    assert.equal(inbox.reply.successful, false);
    assert.match(inbox.reply.error, /^403:.*:subscribe_denied$/);
    assert.equal(inbox.reply.subscription, '/meta/unsubscribe');
    const channel = fresh('alive');
    assert.equal((await alice.publish(channel, 1)).successful, true);
  });

  it('falsy data is data', async (t) => {
    const [alice, bob] = await pair(t);
    const channel = fresh('falsy');
    const inbox = await alice.subscribe(channel);
    const values = ['', 0, false, null, {}, [], [null], -0.5];
    for (const value of values) assert.equal((await bob.publish(channel, value)).successful, true);
    assert.deepEqual(await inbox.takes(values.length), values);
    for (const { message } of alice.wire.received(channel)) assert.ok(Object.hasOwn(message, 'data'));
  });

  it('a publisher receives its own message before the reply', async (t) => {
    const alice = await connected(t, server.url, kind);
    const channel = fresh('own');
    const inbox = await alice.subscribe(channel);
    const reply = await alice.publish(channel, 'mine');
    assert.deepEqual(await inbox.takes(1), ['mine']);
    const [delivery, answer] = alice.wire.received(channel);
    assert.equal(delivery.message.data, 'mine');
    assert.equal(answer.message.id, reply.id);
    // One response over HTTP; over WebSocket two frames of one connection.
    assert.equal(delivery.entry.via, answer.entry.via);
  });

  it('a batch is one envelope, answered in order', needs(kind, 'batches'), async (t) => {
    const alice = await connected(t, server.url, kind);
    const channel = fresh('batch');
    const seen = [];
    const results = alice.batch(() => [
      alice.subscribe(channel, (message) => seen.push(message.data)),
      ...[1, 2, 3].map((n) => alice.publish(channel, n)),
    ]);
    const [{ reply }, ...others] = await Promise.all(results);
    await until(() => seen.length === 3, 'three messages');
    const replies = [reply, ...others];
    assert.ok(replies.every(({ successful }) => successful));
    assert.deepEqual(seen, [1, 2, 3]);
    const ids = replies.map(({ id }) => id);
    const inOrder = alice.wire.received().map(({ message }) => message.id);
    assert.deepEqual(inOrder.filter((id) => ids.includes(id)), ids);
    const [{ entry }] = alice.wire.sent('/meta/subscribe');
    assert.deepEqual(entry.messages.map((message) => message.id), ids);
    const answers = new Set(ids.map((id) => alice.wire.replyTo(id)));
    assert.equal(answers.size, 1, 'the replies come together');
  });

  it('a batch of two hundred messages arrives whole', needs(kind, 'batches'), async (t) => {
    const [alice, bob] = await pair(t);
    const channel = fresh('big');
    const inbox = await alice.subscribe(channel);
    const numbers = Array.from({ length: 200 }, (_, n) => n);
    bob.batch(() => numbers.forEach((n) => bob.publishNow(channel, n)));
    assert.deepEqual(await inbox.takes(200), numbers);
  });

  it('everybody who subscribed receives', async (t) => {
    const peers = await Promise.all(Array.from({ length: 8 }, () => connected(t, server.url, kind)));
    const channel = fresh('crowd');
    const inboxes = await Promise.all(peers.map((peer) => peer.subscribe(channel)));
    await Promise.all(peers.map((peer, n) => peer.publish(channel, n)));
    for (const inbox of inboxes) {
      const data = await inbox.takes(8);
      assert.deepEqual([...data].sort(), [0, 1, 2, 3, 4, 5, 6, 7]);
    }
  });
});
