// Lost connections, lost sessions, lost servers: clients come back by themselves.

import assert from 'node:assert/strict';
import { it } from 'node:test';
import { connected, EVERYWHERE, fresh, needs } from '../lib/client.mjs';
import { proxyFor } from '../lib/proxy.mjs';
import { serverFor } from '../lib/server.mjs';
import { groups } from '../lib/suite.mjs';
import { sleep, until } from '../lib/wait.mjs';

groups('recovery', EVERYWHERE, (kind) => {
  /** A client behind a proxy that subscribes after each handshake, as libraries or applications do. */
  const application = async (t, args) => {
    const server = await serverFor(t, { args });
    const proxy = await proxyFor(t, server);
    const alice = await connected(t, proxy.url, kind);
    const channel = fresh('recovered');
    const subscriptions = alice.collect('/meta/subscribe');
    const data = [];
    const subscribe = () => alice.subscribeNow(channel, (message) => data.push(message.data));
    subscribe();
    await until(() => subscriptions.messages.length === 1, 'the subscription');
    alice.listen('/meta/handshake', (reply) => {
      if (reply.successful && !kind.resubscribes) subscribe();
    });
    await until(() => alice.wire.sent('/meta/connect').length >= 2, 'the held connect');
    return { server, proxy, alice, channel, data, subscriptions };
  };

  /** Waits for a session that is not `before`, subscribed and connected. */
  const renewed = async ({ alice, subscriptions }, before) => {
    await until(() => alice.handshakes.some((reply) => reply.successful && reply.clientId !== before), 'a new session', 30_000);
    await until(() => subscriptions.messages.filter((reply) => reply.successful).length === 2, 'the new subscription');
    const last = alice.handshakes.at(-1);
    assert.equal(last.successful, true);
    assert.equal(alice.id, last.clientId);
  };

  /** Waits for the connect that a client sends after a strike of the network. */
  const reconnected = async (alice, strike) => {
    const sent = () => alice.wire.sent('/meta/connect');
    const [out, answered] = [sent().length, alice.wire.connects().length];
    await strike();
    if (kind.patient) {
      // It is held; one that fails is repeated sooner.
      const last = () => sent().slice(out).at(-1);
      await until(() => Date.now() - last()?.entry.at > 1_500, 'a connect on a new connection');
      return;
    }
    const [{ request, reply }] = await until(() => {
      const news = alice.wire.connects().slice(answered);
      return news.length > 0 && news;
    }, 'a connect on a new connection');
    assert.deepEqual(request.advice, { timeout: 0 });
    assert.equal(reply.successful, true);
    await sleep(100);
  };

  it('a cut connection does not cost the session', async (t) => {
    const it = await application(t, ['--timeout', '20s', '--max-interval', '30s']);
    const { alice, proxy, server, channel, data } = it;
    const bob = await connected(t, server.url, kind);
    const { id } = alice;
    const sent = [];
    for (const round of [1, 2, 3]) {
      await reconnected(alice, () => proxy.outage());
      for (const n of [0, 1, 2, 3, 4]) {
        sent.push(`${round}.${n}`);
        await bob.publish(channel, sent.at(-1));
      }
      await until(() => data.length >= sent.length, `the messages of round ${round}`);
    }
    assert.deepEqual(data, sent);
    assert.equal(alice.id, id);
    assert.equal(alice.handshakes.length, 1);
    if (kind.transport === 'websocket') assert.ok(alice.wire.sockets.length >= 4);
    assert.equal((await alice.publish(channel, 'own')).successful, true);
    await until(() => data.at(-1) === 'own', 'its own message');
  });

  it('a session that expired meanwhile is replaced', async (t) => {
    const it = await application(t, ['--timeout', '1s', '--max-interval', '1s']);
    const { alice, proxy, server, channel, data } = it;
    const before = alice.id;
    proxy.down = true;
    proxy.cut();
    // The timeout of the held connect, the maximal interval, and one sweep, with time to spare.
    await sleep(6_000);
    proxy.down = false;
    await renewed(it, before);
    const refusal = alice.wire.received('/meta/connect').find(({ message }) => !message.successful);
    assert.match(refusal.message.error, /^402:/);
    assert.equal(refusal.message.advice.reconnect, 'handshake');

    const bob = await connected(t, server.url, kind);
    await bob.publish(channel, 'welcome back');
    await until(() => data.length === 1, 'the message');
    assert.deepEqual(data, ['welcome back']);
  });

  for (const [how, end, means] of [
    ['crashed', 'kill', 'crashes'],
    // The last thing it says is how long to wait.
    ['was stopped', 'stop', 'intervals'],
  ]) {
    it(`a server that ${how} and came back is found again`, needs(kind, means), async (t) => {
      const it = await application(t, ['--timeout', '20s']);
      const { alice, proxy, server, channel, data } = it;
      const before = alice.id;
      proxy.down = true;
      await server[end]();
      await sleep(500);
      assert.equal(alice.disconnected, false, 'the client has not given up');
      const successor = await serverFor(t, { args: ['--timeout', '20s'] });
      proxy.target = successor;
      proxy.down = false;
      await renewed(it, before);

      const bob = await connected(t, successor.url, kind);
      await bob.publish(channel, 'welcome back');
      await until(() => data.length === 1, 'the message');
      assert.deepEqual(data, ['welcome back']);
    });
  }
});
