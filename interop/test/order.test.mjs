// Many messages: all of them, once each, in order.

import assert from 'node:assert/strict';
import { it } from 'node:test';
import { connected, fresh, having, KINDS } from '../lib/client.mjs';
import { useServer } from '../lib/server.mjs';
import { group, groups } from '../lib/suite.mjs';

const upTo = (count) => Array.from({ length: count }, (_, n) => n);

/** Publishes 0, 1, 2, ... partly one by one, partly in batches of 50, as far as the kind of client can. */
async function publishNumbers(peer, kind, channel, count, wrap = (n) => n) {
  const publish = (n) => peer.publishNow(channel, wrap(n));
  const inTurn = async (numbers) => {
    for (const n of numbers) await peer.publish(channel, wrap(n));
  };
  for (let hundred = 0; hundred < count; hundred += 100) {
    const numbers = upTo(100).map((n) => hundred + n);
    const [some, others] = [numbers.slice(0, 50), numbers.slice(50)];
    if (having('order')(kind)) some.forEach(publish);
    else await inTurn(some);
    if (!having('batches')(kind)) await inTurn(others);
    else if (having('order')(kind)) peer.batch(() => others.forEach(publish));
    else await Promise.all(peer.batch(() => others.map((n) => peer.publish(channel, wrap(n)))));
  }
}

groups(
  'order',
  KINDS,
  (kind) => {
    const server = useServer();

    it('many messages between two clients', async (t) => {
      const [alice, bob] = await Promise.all([1, 2].map(() => connected(t, server.url, kind)));
      const channel = fresh('many');
      // One by one they take their time.
      const count = having('order', 'batches')(kind) ? 1_000 : 300;
      const inbox = await alice.subscribe(channel);
      await publishNumbers(bob, kind, channel, count);
      assert.deepEqual(await inbox.takes(count, 60_000), upTo(count));
      assert.equal(alice.wire.received(channel).length, count);
    });

    it('several publishers, each in its own order', async (t) => {
      const [alice, ...others] = await Promise.all(
        upTo(5).map(() => connected(t, server.url, kind)),
      );
      const channel = fresh('several');
      const inbox = await alice.subscribe(channel);
      await Promise.all(
        others.map((peer, from) => publishNumbers(peer, kind, channel, 200, (n) => ({ from, n }))),
      );
      const data = await inbox.takes(800, 60_000);
      assert.equal(data.length, 800);
      others.forEach((_, from) => {
        const mine = data.filter((item) => item.from === from).map((item) => item.n);
        assert.deepEqual(mine, upTo(200));
      });
    });
  },
  { serial: true },
);

group('different clients, several shards', () => {
  const server = useServer({ args: ['--shards', '3'] });

  it('every client talks to every other', async (t) => {
    const peers = await Promise.all(KINDS.map((kind) => connected(t, server.url, kind)));
    const channel = fresh('mixed');
    const inboxes = await Promise.all(peers.map((peer) => peer.subscribe(channel)));
    await Promise.all(
      peers.map((peer, from) => publishNumbers(peer, KINDS[from], channel, 100, (n) => ({ from, n }))),
    );
    for (const [reader, inbox] of inboxes.entries()) {
      const data = await inbox.takes(100 * peers.length);
      assert.equal(data.length, 100 * peers.length);
      peers.forEach((_, from) => {
        // A long-polling client receives over two connections, its own messages mostly over the
        // one and those of others over the other; the order is that of each sender to each reader
        // only where one connection carries them.
        const mine = data.filter((item) => item.from === from).map((item) => item.n);
        if (KINDS[reader].transport === 'websocket') assert.deepEqual(mine, upTo(100));
        else assert.deepEqual(mine.sort((a, b) => a - b), upTo(100));
      });
    }
  });

  it('one message each way between every two clients', async (t) => {
    const peers = await Promise.all(KINDS.map((kind) => connected(t, server.url, kind)));
    const home = fresh('home');
    const inboxes = await Promise.all(peers.map((peer, n) => peer.subscribe(`${home}/${n}/*`)));
    await Promise.all(
      peers.flatMap((peer, from) => peers.map((_, to) => peer.publish(`${home}/${to}/x`, from))),
    );
    for (const inbox of inboxes) {
      const data = await inbox.takes(peers.length);
      assert.deepEqual([...data].sort((a, b) => a - b), upTo(peers.length));
    }
  });
});
