// What an application on the server does: remote calls, deliveries, vetoes, kicks.

import assert from 'node:assert/strict';
import { it } from 'node:test';
import { ask, connected, fresh, KINDS, needs } from '../lib/client.mjs';
import { useServer } from '../lib/server.mjs';
import { groups } from '../lib/suite.mjs';
import { sleep, until } from '../lib/wait.mjs';

groups('services', KINDS, (kind) => {
  const server = useServer({ program: 'interop', args: ['--timeout', '20s'] });
  const alone = (t) => connected(t, server.url, kind);

  it('a remote call returns its result', needs(kind, 'calls'), async (t) => {
    const alice = await alone(t);
    for (const data of [{ text: 'hi', list: [1, null, 'ü'] }, 'text', 0, false, []]) {
      const result = await alice.call('echo', data);
      assert.equal(result.successful, true);
      assert.deepEqual(result.data, data);
    }
  });

  it('a remote call can fail', needs(kind, 'calls'), async (t) => {
    const alice = await alone(t);
    const result = await alice.call('/fail', { why: '?' });
    assert.equal(result.successful, false);
    assert.deepEqual(result.data, { reason: 'no' });
  });

  it('a remote call that nobody answers times out in the client', needs(kind, 'call timeouts'), async (t) => {
    const alice = await alone(t);
    const result = await alice.call('/nobody', {}, 700);
    assert.equal(result.successful, false);
    assert.equal(result.error, '406::timeout');
    assert.equal((await alice.call('echo', 'alive')).data, 'alive');
  });

  it('remote calls in flight are told apart', needs(kind, 'calls'), async (t) => {
    const alice = await alone(t);
    const targets = ['slow', 'echo', 'slow', 'echo', 'fail'];
    const results = await Promise.all(targets.map((target, n) => alice.call(target, { n })));
    results.forEach((result, n) => {
      assert.equal(result.channel, `/service/${targets[n]}`);
      if (targets[n] === 'fail') assert.equal(result.successful, false);
      else assert.deepEqual(result.data, { n });
    });
  });

  it('remote calls in one batch are told apart', needs(kind, 'calls'), async (t) => {
    const alice = await alone(t);
    const calls = alice.batch(() => ['echo', 'slow', 'echo'].map((target, n) => alice.call(target, n)));
    assert.deepEqual((await Promise.all(calls)).map((result) => result.data), [0, 1, 2]);
  });

  it('a service delivers to its caller, without a subscription', async (t) => {
    const [alice, bob] = await Promise.all([alone(t), alone(t)]);
    const mine = alice.collect('/service/deliver');
    const others = bob.collect('/service/deliver');
    assert.equal((await alice.publish('/service/deliver', { n: 1 })).successful, true);
    assert.deepEqual(await mine.takes(1), [{ echo: { n: 1 } }]);
    assert.equal(Object.hasOwn(mine.messages[0], 'id'), false);
    assert.equal((await bob.publish(fresh('end'), 'still here')).successful, true);
    assert.deepEqual(others.data, []);
  });

  it('a vetoed publish is refused and reaches nobody', async (t) => {
    const [alice, bob] = await Promise.all([alone(t), alone(t)]);
    const end = fresh('end');
    const inbox = await alice.subscribe('/vetoed');
    const others = await alice.subscribe(end);
    const reply = await bob.publish('/vetoed', 'no');
    assert.equal(reply.successful, false);
    assert.equal(reply.error, '404::message_deleted');
    await bob.publish(end, 'end');
    await others.takes(1);
    assert.deepEqual(inbox.data, []);
  });

  it('a kicked client stays away', needs(kind, 'goodbyes'), async (t) => {
    const alice = await alone(t);
    await until(() => alice.wire.sent('/meta/connect').length === 2, 'the held connect');
    await sleep(200);
    const { id } = alice;
    const goodbyes = alice.collect('/meta/disconnect');
    alice.publishNow('/service/kick', {});
    await until(() => goodbyes.messages.length > 0, 'the disconnect of the server');
    assert.equal(goodbyes.messages[0].successful, true);
    assert.equal(goodbyes.messages[0].id, undefined);
    await until(() => alice.disconnected, 'the client to go');

    const connect = { channel: '/meta/connect', connectionType: kind.transport };
    const refused = await ask(t, alice, kind.transport, server.url, id, connect);
    assert.match(refused.error, /^402:/);

    const sent = alice.wire.sent().length;
    await sleep(1_500);
    assert.equal(alice.wire.sent().length, sent, 'the client tries nothing on its own');
    assert.equal(alice.handshakes.length, 1);
    assert.equal((await alice.handshake()).successful, true);
    assert.equal((await alice.call('echo', 'back')).data, 'back');
  });
});
