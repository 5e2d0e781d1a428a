// Cost as sessions and channels grow in number: in the engine alone, and of the server over sockets.

import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { chart } from './chart.mjs';
import { digits, provenance, publish, table } from './document.mjs';
import { verified } from './generator.mjs';
import { output } from './processes.mjs';
import { listening, serve } from './servers.mjs';

const ENGINE = {
  delivery: 'delivery, of a fan-out to all',
  meta_connect: 'meta connect, answered at once',
  timer: 'held connect that times out, and the next',
  publish: 'publish to one of many channels',
  publish_deep: 'the same, among as many /a/b/c/d/e/**',
};
const SESSIONS = [100, 1000, 10_000, 50_000];
/** Descriptors beside those of sessions. */
const SPARE = 200;
/** Deliveries per second over sockets: what one core manages at every size. */
const RATE = 20_000;

/** Measures, and writes tables and chart. */
export async function growth(options) {
  const bin = options.binaries();
  const engine = JSON.parse(await output(options.cores.server, [`${bin}/growth`]));
  const sockets = await overSockets(options, bin);
  const sized = (...kinds) => kinds.map((what) => [ENGINE[what], engine.filter((row) => row.what === what)]);
  const bySessions = sized('delivery', 'meta_connect', 'timer');
  const byChannels = sized('publish', 'publish_deep');
  if (!options.dry) writeFileSync(join(options.root, 'docs/growth.svg'), picture(bySessions, byChannels));
  const lines = (curves) => curves.map(([title, rows]) => [title, ...rows.map(({ ns }) => digits(ns))]);
  const sizes = (curves) => ['', ...curves[0][1].map(({ size }) => size.toLocaleString('en'))];
  publish(
    options,
    'growth',
    `${provenance(options.root, 'growth')}![Cost by number of sessions and channels](growth.svg)\n\n` +
      'Nanoseconds of processor time in the engine, by sessions:\n\n' +
      `${table(sizes(bySessions), lines(bySessions))}\nand by channels, each with a subscriber:\n\n` +
      `${table(sizes(byChannels), lines(byChannels))}\nOver sockets, WebSocket, the server's processor time:\n\n` +
      table(['', ...SESSIONS.map((size) => size.toLocaleString('en'))], sockets),
  );
  return true;
}

function picture(bySessions, byChannels) {
  const curve = ([title, rows]) => ({ title, points: rows.map(({ size, ns }) => [size, ns]) });
  return chart({
    title: 'Processor time by size, in the engine',
    x: 'sessions; channels where it says so',
    y: 'ns',
    curves: [...bySessions, ...byChannels].map(curve),
  });
}

/** Rows of µs per delivery and KiB per session. */
async function overSockets(options, bin) {
  const server = await listening(options.cores.server, serve(bin, '--shards', '1'));
  const rows = [['µs per delivery, fan-out to all, 20,000 a second or one publish'], ['KiB per idle session']];
  try {
    for (const size of SESSIONS) {
      if (size + SPARE > descriptors()) {
        for (const row of rows) row.push(`needs ${(size + SPARE).toLocaleString('en')} descriptors`);
        continue;
      }
      const rate = Math.max(1, RATE / size);
      const fanOut = ['--mode', 'fanout', '--rate', Math.floor(rate), '--duration', `${options.duration}ms`];
      const idle = ['--mode', 'idle', '--duration', '100ms'];
      const each = ['--clients', size, '--warmup', '1s', '--bind', '127.0.0.2,127.0.0.3,127.0.0.4,127.0.0.5'];
      const run = (args) => verified(bin, options.cores.generator, server, [...args, ...each]);
      rows[0].push(digits((await run(fanOut)).server.cpu_us_per_delivery));
      rows[1].push(digits((await run(idle)).server.kib_per_session));
      console.error(`${size} sessions: ${rows.map((row) => row.at(-1)).join(' µs, ')} KiB`);
    }
  } finally {
    await server.stop();
  }
  return rows;
}

/** How many a process may have open: servers and generators inherit it. */
function descriptors() {
  const limit = execFileSync('bash', ['-c', 'ulimit -n'], { encoding: 'utf8' }).trim();
  return limit === 'unlimited' ? Infinity : Number(limit);
}
