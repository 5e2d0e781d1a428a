// Faye's client, which shares the protocol and little else with CometD's.
//
// It handshakes over long-polling and takes the session to a WebSocket afterwards, if the server has
// one; its first connect carries no advice; and it sends one frame per message.

import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { it } from 'node:test';
import { atEnd, CLIENT } from '../lib/cleanup.mjs';
import { connected, fresh, KINDS } from '../lib/client.mjs';
import { proxyFor } from '../lib/proxy.mjs';
import { serverFor, useServer } from '../lib/server.mjs';
import { group } from '../lib/suite.mjs';
import { sleep, until, within } from '../lib/wait.mjs';

const require = createRequire(import.meta.url);
const faye = require('faye');
const { version } = require('faye/package.json');

// The client's timers are set by this, and keep the process alive after a disconnect.
const SHORT = ['--timeout', '4s'];

/** A Faye client over `transport`, connected, with every message it receives from the server. */
async function connect(t, url, transport) {
  const client = new faye.Client(url, { retry: 2 });
  if (transport === 'long-polling') client.disable('websocket');
  const sent = [];
  const received = [];
  client.addExtension({
    outgoing: (message, done) => {
      sent.push(message);
      done(message);
    },
    incoming: (message, done) => {
      received.push(message);
      done(message);
    },
  });
  atEnd(t, CLIENT, () => within(Promise.resolve(client.disconnect()), 'the disconnection'));
  await within(new Promise((resolve) => client.connect(resolve)), 'the connection');
  const replies = (channel) => received.filter((message) => message.channel === channel);
  await until(() => sent.some((message) => message.channel === '/meta/connect'), 'the first connect');

  return {
    client,
    sent,
    replies,
    get id() {
      return replies('/meta/handshake').at(-1).clientId;
    },
    async subscribe(channel) {
      const data = [];
      await within(
        client.subscribe(channel, (message) => data.push(message)),
        `the subscription of ${channel}`,
      );
      return data;
    },
    publish: (channel, data) => within(client.publish(channel, data), `the publish on ${channel}`),
  };
}

group(`faye ${version}`, () => {
  for (const transport of ['websocket', 'long-polling']) {
    group(`over ${transport}`, () => {
      const server = useServer({ args: [...SHORT, '--shards', '3'] });
      const short = useServer({ args: ['--timeout', '1s'] });
      const pair = (t) => Promise.all([1, 2].map(() => connect(t, server.url, transport)));

      it('handshakes and connects over the transport it chose', async (t) => {
        const alice = await connect(t, short.url, transport);
        const [reply] = alice.replies('/meta/handshake');
        assert.equal(reply.successful, true);
        assert.deepEqual(reply.supportedConnectionTypes, ['websocket', 'long-polling']);
        await until(() => alice.replies('/meta/connect').length >= 3, 'three connects');
        for (const connect of alice.replies('/meta/connect')) assert.equal(connect.successful, true);
        for (const message of alice.sent) {
          if (message.channel === '/meta/connect') assert.equal(message.connectionType, transport);
        }
        assert.equal(alice.replies('/meta/handshake').length, 1);
      });

      it('subscribes and publishes', async (t) => {
        const [alice, bob] = await pair(t);
        const channel = fresh('faye');
        const seen = await alice.subscribe(channel);
        const own = await bob.subscribe(channel);
        const values = [{ text: 'hi 😀 \u2028 שלום' }, 'text', 0, false, [1, { two: 2 }]];
        for (const value of values) await bob.publish(channel, value);
        await until(() => seen.length === values.length, 'the messages');
        await until(() => own.length === values.length, 'its own messages');
        assert.deepEqual(seen, values);
        assert.deepEqual(own, values);
      });

      it('subscribes to wildcards', async (t) => {
        const [alice, bob] = await pair(t);
        const a = fresh('faye');
        const star = await alice.subscribe(`${a}/*`);
        const deep = await alice.subscribe(`${a}/**`);
        for (const channel of [a, `${a}/b`, `${a}/b/c`, `${a}/end`]) await bob.publish(channel, channel);
        await until(() => deep.length === 3, 'the messages');
        assert.deepEqual(deep, [`${a}/b`, `${a}/b/c`, `${a}/end`]);
        assert.deepEqual(star, [`${a}/b`, `${a}/end`]);
      });

      it('unsubscribes', async (t) => {
        const [alice, bob] = await pair(t);
        const channel = fresh('faye');
        const end = fresh('end');
        const seen = [];
        const subscription = alice.client.subscribe(channel, (message) => seen.push(message));
        await within(subscription, 'the subscription');
        const last = await alice.subscribe(end);
        await bob.publish(channel, 1);
        await until(() => seen.length === 1, 'the message');
        subscription.cancel();
        await until(() => alice.replies('/meta/unsubscribe').length === 1, 'the unsubscription');
        assert.equal(alice.replies('/meta/unsubscribe')[0].successful, true);
        await bob.publish(channel, 2);
        await bob.publish(end, 'end');
        await until(() => last.length === 1, 'the last message');
        assert.deepEqual(seen, [1]);
      });

      it('receives many messages, all and in order', async (t) => {
        const [alice, bob] = await pair(t);
        const channel = fresh('faye');
        const seen = await alice.subscribe(channel);
        const numbers = Array.from({ length: 300 }, (_, n) => n);
        for (const n of numbers) await bob.publish(channel, n);
        await until(() => seen.length === numbers.length, 'the messages');
        assert.deepEqual(seen, numbers);
      });

      it('is told when a subscription is refused', async (t) => {
        const alice = await connect(t, server.url, transport);
        await assert.rejects(alice.subscribe('/meta/connect'), /subscribe_denied|denied/);
      });

      it('talks to CometD clients', async (t) => {
        const alice = await connect(t, server.url, transport);
        const channel = fresh('faye');
        const seen = await alice.subscribe(channel);
        const peers = await Promise.all(KINDS.map((kind) => connected(t, server.url, kind)));
        const inboxes = await Promise.all(peers.map((peer) => peer.subscribe(channel)));
        await alice.publish(channel, 'from faye');
        for (const [n, peer] of peers.entries()) await peer.publish(channel, n);
        await until(() => seen.length === peers.length + 1, 'all messages');
        assert.deepEqual(seen, ['from faye', ...peers.keys()]);
        for (const inbox of inboxes) {
          const data = await inbox.takes(peers.length + 1);
          assert.deepEqual(new Set(data), new Set(seen));
        }
      });

      it('comes back with a new session and its subscriptions when the server restarts', async (t) => {
        const first = await serverFor(t, { args: SHORT });
        const proxy = await proxyFor(t, first);
        const alice = await connect(t, proxy.url, transport);
        const channel = fresh('faye');
        const other = fresh('faye');
        const seen = await alice.subscribe(channel);
        await alice.subscribe(other);
        const before = alice.id;
        proxy.down = true;
        await first.kill();
        await sleep(500);
        proxy.target = await serverFor(t, { args: SHORT });
        proxy.down = false;
        await until(() => alice.id !== before, 'the new session', 30_000);
        await until(() => alice.replies('/meta/subscribe').length === 4, 'the new subscriptions');
        const bob = await connect(t, proxy.target.url, transport);
        await bob.publish(channel, 'welcome back');
        await until(() => seen.length === 1, 'the message');
        assert.deepEqual(seen, ['welcome back']);
      });
    });
  }
});
