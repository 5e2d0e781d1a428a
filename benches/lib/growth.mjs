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
  publish_shards: 'publish to a room of 10 in the same shard',
  publish_everywhere: 'the same, if every other shard had somebody',
  unwanted: 'publish of another shard, wanted by nobody here',
  publish_deep: 'the same, among as many /a/b/c/d/e/**',
};
const SESSIONS = [100, 1000, 10_000, 50_000];
/** Descriptors beside those of sessions. */
const SPARE = 200;
/** Where connections start: each address has some 28,000 ports. */
const ADDRESSES = '127.0.0.2,127.0.0.3,127.0.0.4,127.0.0.5';
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
  const byShards = sized('publish_shards', 'publish_everywhere', 'unwanted');
  if (!options.dry) writeFileSync(join(options.root, 'docs/growth.svg'), picture(bySessions, byChannels));
  // The first curve has all the sizes that there are.
  const lines = (curves) =>
    curves.map(([title, rows]) => {
      const cells = curves[0][1].map(({ size }) => digits(rows.find((row) => row.size === size)?.ns));
      return [title, ...cells];
    });
  const sizes = (curves) => ['', ...curves[0][1].map(({ size }) => size.toLocaleString('en'))];
  publish(
    options,
    'growth',
    `${provenance(options.root, 'growth')}![Cost by number of sessions and channels](growth.svg)\n\n` +
      'Nanoseconds of processor time in the engine, by sessions:\n\n' +
      `${table(sizes(bySessions), lines(bySessions))}\nand by channels, each with a subscriber:\n\n` +
      `${table(sizes(byChannels), lines(byChannels))}\nand by shards:\n\n${table(sizes(byShards), lines(byShards))}\nOver sockets, WebSocket, the whole server (a dash: a process may not open as many here):\n\n` +
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
  const rows = [['µs per delivery, fan-out to all, 20,000 a second'], ['KiB per idle session']];
  for (const size of SESSIONS) {
    const figures = size + SPARE > descriptors() ? [] : await atSize(size, options, bin);
    rows.forEach((row, n) => row.push(digits(figures[n])));
    console.error(`${size} sessions: ${rows.map((row) => row.at(-1)).join(' µs, ')} KiB`);
  }
  return rows;
}

async function atSize(size, { cores, duration }, bin) {
  const server = await listening(cores.server, serve(bin, '--shards', '1'));
  const run = (clients, ...args) =>
    verified(bin, cores.generator, server, ['--clients', clients, '--bind', ADDRESSES, '--warmup', '1s', ...args]);
  const idle = (clients) => run(clients, '--mode', 'idle', '--duration', '100ms');
  try {
    // What a server sets up once is there by then.
    await idle(10);
    const { kib_per_session: kib } = (await idle(size)).server;
    // A publish a second is the least.
    const rate = Math.max(1, Math.floor(RATE / size));
    const fanOut = await run(size, '--mode', 'fanout', '--rate', rate, '--duration', `${duration}ms`);
    return [fanOut.server.cpu_us_per_delivery, kib];
  } finally {
    await server.stop();
  }
}

/** How many a process may have open: servers and generators inherit it. */
function descriptors() {
  const limit = execFileSync('bash', ['-c', 'ulimit -n'], { encoding: 'utf8' }).trim();
  return limit === 'unlimited' ? Infinity : Number(limit);
}
