// The other servers that `peers/run` starts: they run, and CometD's client talks to them.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { atEnd, SERVER } from '../lib/cleanup.mjs';
import { connected, fresh, KINDS } from '../lib/client.mjs';
import { group } from '../lib/suite.mjs';
import { within } from '../lib/wait.mjs';

const run = fileURLToPath(new URL('../peers/run', import.meta.url));

/** A Java program may have to be compiled first. */
const START = 60_000;

const PEERS = {
  java: { transports: ['websocket', 'long-polling'], extensions: ['ack'] },
  nodejs: { transports: ['long-polling'], extensions: ['ack'] },
  faye: { transports: ['websocket', 'long-polling'], extensions: [] },
};

const missing = (process.env.INTEROP_WITHOUT ?? '').split(' ');
const kinds = KINDS.filter(({ name }) => name === 'cometd9');

/** Starts another server, which ends with the test unless it is stopped before. */
async function startPeer(t, name) {
  const child = spawn(run, [name, '--timeout', '20s'], { stdio: ['ignore', 'pipe', 'inherit'] });
  const exited = once(child, 'exit');
  atEnd(t, SERVER, () => child.kill('SIGKILL'));
  const ready = Promise.race([once(createInterface(child.stdout), 'line'), exited]);
  const [line] = await within(ready, `${name} to listen`, START);
  const [, url] = /^listening on (http:\/\/127\.0\.0\.1:\d+\/\w+)$/.exec(line) ?? assert.fail(`${name}: ${line}`);
  return {
    url,
    async stop() {
      child.kill('SIGTERM');
      assert.deepEqual(await within(exited, `${name} to end`), [0, null]);
    },
  };
}

group('other servers', () => {
  for (const [name, { transports, extensions }] of Object.entries(PEERS)) {
    it(`${name} serves clients`, { skip: missing.includes(name) && 'it is not among the clients' }, async (t) => {
      const server = await startPeer(t, name);
      for (const kind of kinds.filter(({ transport }) => transports.includes(transport))) {
        const [alice, bob] = await Promise.all([1, 2].map(() => connected(t, server.url, { ...kind, extensions })));
        const [handshake] = alice.handshakes;
        assert.equal(handshake.advice.timeout, 20_000);
        assert.equal(Boolean(handshake.ext?.ack), extensions.includes('ack'));
        const channel = fresh('peer');
        const inbox = await alice.subscribe(channel);
        assert.equal((await bob.publish(channel, kind.transport)).successful, true);
        assert.deepEqual(await inbox.takes(1), [kind.transport]);
        await Promise.all([alice.disconnect(), bob.disconnect()]);
      }
      await server.stop();
    });
  }
});
