// All cases for all servers in one go. The servers run side by side and take turns: what else the machine does, it does
// to all of them alike.

import { CASES } from './cases.mjs';
import { digits, median, provenance, publish, table, versions } from './document.mjs';
import { load } from './generator.mjs';
import { SERVERS, startServer } from './servers.mjs';

/** Measures, and writes the tables. Whether all servers delivered everything that they owed. */
export async function compare(options) {
  if (options.list) {
    for (const { name, transport, title } of CASES) console.log(`${name.padEnd(16)}${transport}: ${title}`);
    return true;
  }
  const names = chosen('server', options.servers, Object.keys(SERVERS));
  const cases = chosen('case', options.cases, CASES.map(({ name }) => name)).map((name) =>
    CASES.find((row) => row.name === name),
  );
  const setting = { ...options, bin: options.binaries() };
  const results = new Results();
  await side(cases.filter(({ memory }) => !memory), names, setting, results);
  for (const row of cases.filter(({ memory }) => memory)) {
    for (let round = 1; round <= setting.runs; round += 1) {
      for (const name of names.filter((name) => speaks(name, row))) {
        note(results, row, name, await memory(row, name, setting));
      }
    }
  }
  publish(options, 'compare', report(options, names, cases, results));
  return results.failures.size === 0;
}

function chosen(what, wanted, all) {
  const unknown = wanted?.find((name) => !all.includes(name));
  if (unknown) throw new Error(`no such ${what}: ${unknown}; there are ${all.join(', ')}`);
  return wanted ? all.filter((name) => wanted.includes(name)) : all;
}

const speaks = (name, { transport }) => SERVERS[name].transports?.includes(transport) ?? true;
const seconds = (millis) => `${millis}ms`;

/** Runs by case and server, and what was wrong with them. */
class Results {
  runs = new Map();
  failures = new Set();
  /** Why figures may not be the server's, and which. */
  doubts = new Map();

  add(row, name, run) {
    const key = `${row.name} ${name}`;
    for (const failure of run.failures) this.failures.add(`${row.name}, ${name}: ${failure}`);
    for (const warning of run.warnings) this.doubt(key, warning);
    if (run.failures.length > 0) return;
    if (!this.runs.has(key)) this.runs.set(key, []);
    this.runs.get(key).push(run);
  }

  doubt(key, warning) {
    // Behind the colon is by how much.
    const [kind] = warning.split(':');
    if (!this.doubts.has(kind)) this.doubts.set(kind, new Set());
    this.doubts.get(kind).add(key);
  }

  doubted(key) {
    return [...this.doubts.values()].some((keys) => keys.has(key));
  }

  median(row, name, figure = row.figure) {
    return median((this.runs.get(`${row.name} ${name}`) ?? []).map(figure));
  }

  cell(row, name) {
    const mark = this.doubted(`${row.name} ${name}`) ? '\\*' : '';
    const value = digits(this.median(row, name));
    return value === '–' ? value : value + mark;
  }
}

/** Cases that take processor time: all servers at once, one of them busy at a time. */
async function side(cases, names, setting, results) {
  if (cases.length === 0) return;
  const servers = new Map();
  try {
    for (const name of names) servers.set(name, await startServer(name, setting));
    for (const row of cases) {
      const able = names.filter((name) => speaks(name, row));
      for (const name of able.filter((name) => SERVERS[name].jvm)) {
        await run(row, servers.get(name), setting, { duration: setting['warm-jvm'] });
      }
      for (let round = 1; round <= setting.runs; round += 1) {
        for (const name of able) note(results, row, name, await run(row, servers.get(name), setting, setting));
      }
    }
  } finally {
    await Promise.all([...servers.values()].map((server) => server.stop()));
  }
}

function run(row, server, { bin, cores, warmup }, { duration }) {
  return load(bin, cores.generator, server, [...row.args, '--duration', seconds(duration), '--warmup', seconds(warmup)]);
}

/** A server of its own, that has had a few sessions before: what it sets up once is there by then. */
async function memory(row, name, setting) {
  const server = await startServer(name, setting);
  try {
    const idle = (...more) =>
      load(setting.bin, setting.cores.generator, server, [...row.args, '--duration', '100ms', '--warmup', '0', ...more]);
    await idle('--clients', 100);
    return await idle();
  } finally {
    await server.stop();
  }
}

function note(results, row, name, run) {
  results.add(row, name, run);
  const what = run.failures[0] ?? `${digits(row.figure(run))}${run.warnings.length > 0 ? ` (${run.warnings[0]})` : ''}`;
  console.error(`${row.name.padEnd(16)}${name.padEnd(9)}${what}`);
}

function report(options, names, cases, results) {
  const heads = names.map((name) => SERVERS[name].title);
  const cells = (rows, cell) => rows.map((row) => [`${label(row)}`, ...names.map((name) => cell(row, name))]);
  const label = ({ transport, title }) => `${transport === 'websocket' ? 'WebSocket' : 'long-polling'}, ${title}`;
  const parts = [`${provenance(options.root, 'compare')}${versions(options.root)}${settings(options)}`];
  const section = (rows, text, cell) => {
    if (rows.length > 0) parts.push(`${text}\n\n${table(['', ...heads], cells(rows, cell))}`);
  };
  section(
    cases.filter(({ memory }) => !memory),
    "Processor time of the server, user and system, in microseconds per delivery (where it says so, per publish):",
    (row, name) => results.cell(row, name),
  );
  section(
    cases.filter(({ closed }) => closed),
    'Deliveries per second on that one core, in the closed loops, and how many came in a response or a message:',
    (row, name) => {
      const rate = results.median(row, name, ({ measured }) => measured.delivered_per_second);
      const together = results.median(row, name, ({ measured }) => measured.deliveries_per_body);
      return rate === undefined ? '–' : `${digits(rate)}, ${together.toFixed(1)} each`;
    },
  );
  section(
    cases.filter(({ scheduled }) => scheduled),
    'Milliseconds from when a message was due to its delivery, half of them and 99 of a hundred, by schedule:',
    (row, name) => {
      const at = (percentile) => results.median(row, name, (run) => run.latency_us.delivery[percentile] / 1000);
      return at('p50') === undefined ? '–' : `${digits(at('p50'))} / ${digits(at('p99'))}`;
    },
  );
  section(
    cases.filter(({ memory }) => memory),
    'Memory of the server in RAM, a session subscribed to one channel with a connect held:',
    (row, name) => results.cell(row, name),
  );
  if (results.doubts.size > 0) {
    const lines = [...results.doubts].map(([kind, keys]) => `${kind}: ${[...keys].join(', ')}`);
    const why = 'the generator had doubts in a run: something else kept its core busy, or it was too slow itself.';
    parts.push(`\\*: ${why}\n\n${bullets(lines)}`);
  }
  if (results.failures.size > 0) parts.push(`Not delivered as owed:\n\n${bullets([...results.failures])}`);
  return parts.join('\n');
}

const bullets = (lines) => lines.map((line) => `- ${line}\n`).join('');

/** Below this, V8 and the JVM have not compiled what is hot, and ticks of 10 ms are too coarse. */
const SHORT = 5000;

function settings({ runs, duration, warmup, 'warm-jvm': warmJvm }) {
  const rounds = runs === 1 ? 'One run' : `Medians of ${runs} runs`;
  return (
    `${rounds} of ${duration / 1000} s, after ${warmup / 1000} s of the same; server on one core, generator on ` +
    'another; text of 50 bytes in each message. Every delivery was verified. CometD Java was busy with each case for ' +
    `${warmJvm / 1000} s before.${duration < SHORT ? ' **Short phases: for a look, not for conclusions.**' : ''}\n`
  );
}
