// Memory of the server while sessions come and go: it has to return to where it was.

import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { digits, provenance, publish, table } from './document.mjs';
import { verified } from './generator.mjs';
import { listening, serve } from './servers.mjs';

const AT_ONCE = 5000;
/** Reports in the table. */
const STEPS = 10;
/** By then what lingers of disconnected sessions is gone. */
const LINGER = 12_000;

/** From the middle of the run to its end, at most. */
const GROWTH = 1.1;

/** Measures, and writes the table. Whether memory stopped growing. */
export async function turnover(options) {
  const { cores, sessions } = options;
  const bin = options.binaries();
  const server = await listening(cores.server, serve(bin, '--shards', '1'));
  const rows = [];
  try {
    const rounds = Math.max(STEPS, Math.ceil(sessions / AT_ONCE));
    const before = resident(server);
    rows.push(['0', digits(before)]);
    for (let round = 1; round <= rounds; round += 1) {
      await verified(bin, cores.generator, server, wave(round));
      if (round % Math.ceil(rounds / STEPS) !== 0 && round !== rounds && round !== 1) continue;
      await sleep(LINGER);
      rows.push([(round * AT_ONCE).toLocaleString('en'), digits(resident(server))]);
      console.error(rows.at(-1).join(': '));
    }
  } finally {
    await server.stop();
  }
  publish(
    options,
    'turnover',
    `${provenance(options.root, 'turnover')}Sessions over WebSocket and long-polling in turn, each with a subscription ` +
      `and a held connect, ${AT_ONCE.toLocaleString('en')} at once; KiB of the server in RAM when they have gone.\n\n` +
      table(['sessions so far', 'KiB'], rows),
  );
  // The allocator keeps what it had to get for the first waves; later ones must do with that.
  const kib = rows.map(([, text]) => Number(text.replaceAll(',', '')));
  return kib.at(-1) <= kib[kib.length >> 1] * GROWTH;
}

/** Both transports; ports of several addresses, as closed connections keep theirs for a minute. */
function wave(round) {
  const transport = round % 2 ? 'websocket' : 'long-polling';
  const bind = [2, 3, 4, 5, 6, 7, 8, 9].map((n) => `127.0.${round % 16}.${n}`).join(',');
  return [
    ...['--mode', 'idle', '--clients', AT_ONCE, '--transport', transport, '--bind', bind],
    ...['--duration', '100ms', '--warmup', '0', '--settle', '0'],
  ];
}

function resident({ pid }) {
  return Number(/^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))[1]);
}
