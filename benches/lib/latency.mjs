// Latencies at parts of the highest rate, and beside what must not move them: lazy broadcasts, and readers that do not
// read.

import { digits, provenance, publish, table } from './document.mjs';
import { generate, verified } from './generator.mjs';
import { listening, serve } from './servers.mjs';
import { SlowReader } from './slow.mjs';

const SUBSCRIBERS = 100;
const SHARES = [25, 50, 75];
const LAZY_SESSIONS = 10_000;
/** Milliseconds: the server's default. */
const LAZY_WINDOW = 5000;
/** The ordinary traffic beside the rest: fan-outs to 100 per second. */
const ORDINARY = 100;
const SLOW_READERS = 10;

/** Measures, and writes the tables. */
export async function latency(options) {
  const setting = { ...options, bin: options.binaries() };
  const rates = await atRates(setting);
  const lazy = await besideLazy(setting);
  const slow = await besideSlow(setting);
  const heads = ['', 'p50', 'p99', 'p99.9', 'max'];
  publish(
    options,
    'latency',
    `${provenance(options.root, 'latency')}Milliseconds from when a message was due to its delivery, over WebSocket, ` +
      `to ${SUBSCRIBERS} subscribers of one channel; phases of ${options.duration / 1000} s. The generator is in the ` +
      `figures: all subscribers are on its one core.\n\n${table(heads, rates)}\n` +
      `Beside lazy broadcasts to ${LAZY_SESSIONS.toLocaleString('en')} sessions, one a second, that wait ${LAZY_WINDOW / 1000} s at most:\n\n` +
      `${table(heads, lazy)}\nBeside ${SLOW_READERS} subscribers of everything that do not read:\n\n` +
      table(heads, slow),
  );
  return true;
}

function cells({ latency_us: { delivery } }) {
  return ['p50', 'p99', 'p999', 'max'].map((name) => digits(delivery[name] / 1000));
}

function fanOut(setting, server, more) {
  const { bin, cores, duration, warmup } = setting;
  const args = ['--mode', 'fanout', '--clients', SUBSCRIBERS, '--duration', `${duration}ms`, '--warmup', `${warmup}ms`];
  return verified(bin, cores.generator, server, [...args, ...more]);
}

/** Runs `work` with a server that ends then. */
async function withServer({ cores }, command, work) {
  const server = await listening(cores.server, command);
  try {
    return await work(server);
  } finally {
    await server.stop();
  }
}

async function atRates(setting) {
  return withServer(setting, serve(setting.bin, '--shards', '1'), async (server) => {
    const closed = await fanOut(setting, server, ['--window', 10]);
    const highest = closed.measured.published_per_second;
    const rows = [];
    for (const share of SHARES) {
      const rate = Math.max(1, Math.round((highest * share) / 100));
      const run = await fanOut(setting, server, ['--rate', rate]);
      const deliveries = digits(run.measured.delivered_per_second);
      rows.push([`${share} % of the highest rate: ${deliveries} deliveries/s`, ...cells(run)]);
    }
    return rows;
  });
}

async function besideLazy(setting) {
  const command = [`${setting.bin}/mounted`, '127.0.0.1:0', 'lazy=/lazy', `lazy-timeout=${LAZY_WINDOW}`];
  return withServer(setting, command, async (server) => {
    const rows = [['nothing else', ...cells(await fanOut(setting, server, ['--rate', ORDINARY]))]];
    for (const [channel, name] of [['/lazy', 'lazy broadcasts'], ['/load', 'the same, not lazy']]) {
      const args = ['--mode', 'fanout', '--clients', LAZY_SESSIONS, '--rate', 1, '--channel', channel];
      rows.push([name, ...cells(await beside(setting, server, args))]);
    }
    return rows;
  });
}

/** Ordinary traffic while another generator, which runs only when the first has nothing to do, does `args`. */
async function beside(setting, server, args) {
  const all = [...args, '--duration', '10m', '--warmup', '0', '--tolerate-breaks'];
  const other = generate(setting.bin, setting.cores.generator, server, all, { idle: true });
  try {
    // Its sessions are there by then, and deliveries under way.
    const joined = new Promise((resolve) => setTimeout(resolve, 8000));
    const early = await Promise.race([joined, other.result]);
    if (early) throw new Error(`the other generator ended: ${early.failures.join('; ')}`);
    return await fanOut(setting, server, ['--rate', ORDINARY]);
  } finally {
    await other.stop();
  }
}

async function besideSlow(setting) {
  return withServer(setting, serve(setting.bin, '--shards', '1'), async (server) => {
    const rows = [['nothing else', ...cells(await fanOut(setting, server, ['--rate', ORDINARY]))]];
    const readers = [];
    try {
      for (let n = 0; n < SLOW_READERS; n += 1) readers.push(await SlowReader.subscribe(server.url, '/load/**'));
      rows.push([`${SLOW_READERS} that do not read`, ...cells(await fanOut(setting, server, ['--rate', ORDINARY]))]);
    } finally {
      for (const reader of readers) reader.close();
    }
    return rows;
  });
}
