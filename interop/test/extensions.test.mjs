// CometD's own client extensions: acknowledged messages, binary data, time.

import assert from 'node:assert/strict';
import { it } from 'node:test';
import { connected, extensionsOf, fresh, KINDS, peerFor } from '../lib/client.mjs';
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
  });
});
