// What the payload is must not matter: any text, any number, any size below the limit.

import assert from 'node:assert/strict';
import { it } from 'node:test';
import { connected, fresh, KINDS, needs } from '../lib/client.mjs';
import { publisher } from '../lib/raw.mjs';
import { useServer } from '../lib/server.mjs';
import { groups } from '../lib/suite.mjs';
import { until, within } from '../lib/wait.mjs';

const KIB = 1024;
const MIB = 1024 * KIB;

const TEXTS = {
  emoji: '😀 👩‍👩‍👧‍👦 🏳️‍🌈',
  'right to left': 'שלום مرحبا \u202eabc\u202c',
  'line separators': 'a\u2028b\u2029c\u0085d',
  controls: Array.from({ length: 0x20 }, (_, n) => String.fromCharCode(n)).join('') + '\u007f',
  escapes: '\\ " / \b \f \n \r \t \\u0041 \\\\ </script> ]]>',
  'beyond the basic plane': '𝄞𐍈\u{10ffff}',
  'byte order mark': '\ufeffx\ufeff',
  noncharacters: '\ufffe\uffff\ufffd',
  combining: 'e\u0301 é 각',
  'every width': 'aé日😀'.repeat(100),
};

/** Text of exactly `length` characters, all ASCII, without runs that compress to nothing. */
function filler(length) {
  let state = 1;
  let text = '';
  while (text.length < length) {
    state = (state * 48271) % 2147483647;
    text += state.toString(36);
  }
  return text.slice(0, length);
}

groups('payload', KINDS, (kind) => {
  const server = useServer();
  const roomy = useServer({ args: ['--max-message-size', String(4 * MIB)] });
  const tight = useServer({ args: ['--max-message-size', String(2 * KIB)] });
  const socketed = kind.transport === 'websocket';
  const pair = (t, { url } = server) => Promise.all([1, 2].map(() => connected(t, url, kind)));

  it('any text, in keys and in values', async (t) => {
    const [alice, bob] = await pair(t);
    const channel = fresh('text');
    const inbox = await alice.subscribe(channel);
    const texts = Object.entries(TEXTS);
    for (const [, text] of texts) await bob.publish(channel, { [text]: text, list: [text] });
    const data = await inbox.takes(texts.length);
    texts.forEach(([name, text], n) => {
      assert.deepEqual(data[n], { [text]: text, list: [text] }, name);
    });
  });

  it('escaped text means what it means', async (t) => {
    const alice = await connected(t, server.url, kind);
    const channel = fresh('escaped');
    const inbox = await alice.subscribe(channel);
    const publish = await publisher(t, server.url, kind.transport);
    const json = String.raw`{"\u0061":"\ud83d\ude00\u2028\u0041\/\u0000\"\\"}`;
    assert.equal((await publish(channel, json, '1')).successful, true);
    assert.deepEqual(await inbox.takes(1), [{ a: '😀\u2028A/\0"\\' }]);
  });

  it('numbers and the order of keys are not touched', async (t) => {
    const alice = await connected(t, server.url, kind);
    const channel = fresh('exact');
    const inbox = await alice.subscribe(channel);
    const publish = await publisher(t, server.url, kind.transport);
    const texts = [
      '9007199254740993',
      '[12345678901234567890,-9223372036854775809,1.10,1e2,-0,0.1000]',
      '{"z":1,"a":{"10":1,"2":2,"b":9007199254740993},"m":[3.0,3]}',
    ];
    for (const [n, json] of texts.entries()) {
      assert.equal((await publish(channel, json, `${n}`)).successful, true);
    }
    await inbox.takes(texts.length);
    const raw = alice.wire.received(channel).map(({ entry }) => entry.text);
    for (const json of texts) {
      assert.ok(raw.some((text) => text.includes(`"data":${json}`)), `${json} in ${raw.join('\n')}`);
    }
  });

  it('64 KiB', async (t) => {
    const [alice, bob] = await pair(t);
    const channel = fresh('large');
    const inbox = await alice.subscribe(channel);
    // Over WebSocket the whole frame is that long: no server may have a lower limit by default.
    const sent = () => bob.wire.sent(channel).at(-1).entry.text.length;
    await bob.publish(channel, '');
    const overhead = socketed ? sent() + 2 : 0;
    const data = filler(64 * KIB - overhead);
    const reply = await bob.publish(channel, data);
    assert.equal(reply.successful, true);
    if (socketed) assert.ok(sent() > 64 * KIB - 8 && sent() <= 64 * KIB);
    const [, received] = await inbox.takes(2);
    assert.ok(received === data);
  });

  it('64 KiB of text that is not ASCII', needs(kind, 'wide text'), async (t) => {
    const [alice, bob] = await pair(t, roomy);
    const channel = fresh('wide');
    const inbox = await alice.subscribe(channel);
    const data = 'aé日😀'.repeat(6_554);
    await bob.publish(channel, data);
    const [received] = await inbox.takes(1);
    assert.ok(received === data);
  });

  it('1 MiB', async (t) => {
    // Over HTTP by default, over WebSocket where the server is told to.
    const [alice, bob] = await pair(t, socketed ? roomy : server);
    const channel = fresh('huge');
    const inbox = await alice.subscribe(channel);
    const data = filler(MIB);
    const reply = await bob.publish(channel, data);
    assert.equal(reply.successful, true);
    const [received] = await inbox.takes(1);
    assert.ok(received === data);
  });

  it('a message beyond the limit fails, and the client goes on', needs(kind, 'limits'), async (t) => {
    const [alice, bob] = await pair(t, tight);
    const channel = fresh('limit');
    const inbox = await alice.subscribe(channel);
    const own = await bob.subscribe(channel);
    const { id } = bob;
    const reply = await bob.publish(channel, filler(4 * KIB));
    assert.equal(reply.successful, false);
    if (socketed) {
      await within(bob.wire.sockets[0].closed, 'the WebSocket to close');
      assert.match(JSON.stringify(reply.failure), /\b1009\b/);
      await until(() => bob.wire.sockets.length === 2, 'a new WebSocket');
      await until(() => bob.wire.connects().length === 2, 'a connect over it');
    } else {
      assert.match(JSON.stringify(reply.failure), /\b413\b/);
    }
    assert.equal((await bob.publish(channel, 'small')).successful, true);
    assert.deepEqual(await inbox.takes(1), ['small']);
    assert.deepEqual(await own.takes(1), ['small']);
    assert.equal(bob.id, id);
    assert.equal(bob.handshakes.length, 1);
  });
});
