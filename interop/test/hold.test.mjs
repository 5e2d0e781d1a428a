// How long connects are held, and what ends the hold.

import assert from 'node:assert/strict';
import { it } from 'node:test';
import { connected, fresh, holding, KINDS, needs } from '../lib/client.mjs';
import { useServer } from '../lib/server.mjs';
import { groups } from '../lib/suite.mjs';
import { sleep, until } from '../lib/wait.mjs';

groups('held connects', KINDS, (kind) => {
  const short = useServer({ args: ['--timeout', '2s'] });
  const long = useServer({ args: ['--timeout', '60s'] });
  const pausing = useServer({ args: ['--timeout', '300ms', '--interval', '700ms'] });
  const strict = useServer({ args: ['--timeout', '60s', '--meta-connect-deliver-only'] });
  const socketed = kind.transport === 'websocket';
  const held = (t, { url }) => holding(t, url, kind);

  it('last as long as the server said', async (t) => {
    const alice = await connected(t, short.url, kind);
    assert.equal(alice.handshakes[0].advice.timeout, 2_000);
    await until(() => alice.wire.connects().length >= 4, 'four connects', 30_000);
    const [first, ...others] = alice.wire.connects();
    assert.ok(first.ms < 1_500, `the first took ${first.ms} ms`);
    for (const { ms, reply } of others) {
      assert.equal(reply.successful, true);
      // Those that change the transport after the first connect are told again.
      if (!kind.patient) assert.equal(reply.advice, undefined, 'nothing new to advise');
      assert.ok(ms > 1_800 && ms < 6_000, `a held one took ${ms} ms`);
    }
    assert.equal(alice.handshakes.length, 1);
    const channel = fresh('after');
    const inbox = await alice.subscribe(channel);
    await alice.publish(channel, 'alive');
    assert.deepEqual(await inbox.takes(1), ['alive']);
  });

  it('a message ends the hold over HTTP and passes it by over WebSocket', async (t) => {
    const [alice, bob] = await Promise.all([held(t, long), held(t, long)]);
    const channel = fresh('wake');
    const inbox = await alice.subscribe(channel);
    await bob.publish(channel, 1);
    await inbox.takes(1);
    await sleep(300);
    const [{ entry }] = alice.wire.received(channel);
    if (socketed) {
      assert.equal(alice.wire.connects().length, 1);
    } else {
      const [, second] = alice.wire.connects();
      assert.equal(second.entry, entry, 'the message comes with the connect reply');
      assert.equal(entry.messages.at(-1).channel, '/meta/connect', 'which is last');
      assert.equal(alice.wire.sent('/meta/connect').length, 3, 'and the next one is out');
    }
  });

  it('messages come with connects only, if the server is told so', async (t) => {
    const alice = await held(t, strict);
    const channel = fresh('strict');
    const inbox = await alice.subscribe(channel);
    const reply = await alice.publish(channel, 1);
    await inbox.takes(1);
    const [{ entry }] = alice.wire.received(channel).filter(({ message }) => 'data' in message);
    assert.notEqual(entry, alice.wire.replyTo(reply.id));
    await until(() => alice.wire.connects().length === 2, 'the connect to be answered');
    const [, second] = alice.wire.connects();
    assert.equal(second.entry.via, entry.via);
    assert.equal(second.entry.messages.at(-1).channel, '/meta/connect');
    if (!socketed) assert.equal(second.entry, entry);
  });

  it('clients keep the interval that the server asks for', needs(kind, 'intervals'), async (t) => {
    const alice = await connected(t, pausing.url, kind);
    assert.equal(alice.handshakes[0].advice.interval, 700);
    await until(() => alice.wire.sent('/meta/connect').length >= 4, 'four connects');
    const sent = alice.wire.sent('/meta/connect').map(({ entry }) => entry.at);
    alice.wire.connects().slice(0, 3).forEach(({ entry }, n) => {
      const pause = sent[n + 1] - entry.at;
      assert.ok(pause > 600, `a pause of ${pause} ms`);
    });
    assert.equal(alice.handshakes.length, 1);
  });
});
