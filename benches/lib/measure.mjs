// The command line of `benches/measure`.

import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { compare } from './compare.mjs';
import { growth } from './growth.mjs';
import { instructions } from './instructions.mjs';
import { latency } from './latency.mjs';
import { shards } from './shards.mjs';
import { turnover } from './turnover.mjs';

const SUBJECTS = { compare, growth, instructions, latency, shards, turnover };
const FLAGS = ['dry', 'list', 'record'];

const root = fileURLToPath(new URL('../..', import.meta.url));

function fail(message) {
  console.error(`measure: ${message}`);
  process.exit(2);
}

/** Milliseconds of a time with a unit, or of a bare number. */
function millis(name, text) {
  const [, number, unit] = /^(\d+(?:\.\d+)?)(ms|s|m)?$/.exec(text) ?? fail(`--${name} is not a time: ${text}`);
  return Number(number) * { ms: 1, s: 1000, m: 60_000 }[unit ?? 'ms'];
}

function count(name, text) {
  if (!/^[1-9]\d*$/.test(text)) fail(`--${name} is not a count: ${text}`);
  return Number(text);
}

const list = (name, text) => text.split(',').filter(Boolean);

function cores(name, text) {
  if (!/^\d+,\d+$/.test(text)) fail(`--${name} takes two: 0,1`);
  const [server, generator] = text.split(',').map(Number);
  return { server, generator };
}

const VALUES = {
  servers: [list, undefined],
  cases: [list, undefined],
  runs: [count, '3'],
  duration: [millis, '5s'],
  warmup: [millis, '1s'],
  'warm-jvm': [millis, '20s'],
  sessions: [count, '1000000'],
  cores: [cores, '0,1'],
  bin: [(_, text) => text, undefined],
};

function parse(args) {
  const texts = Object.fromEntries(Object.entries(VALUES).map(([name, [, usual]]) => [name, usual]));
  const options = {};
  for (let n = 0; n < args.length; n += 1) {
    const name = args[n].replace(/^--/, '');
    if (FLAGS.includes(name)) {
      options[name] = true;
    } else if (name in VALUES && args[n + 1] !== undefined) {
      texts[name] = args[(n += 1)];
    } else {
      fail(`no such option, or no value: ${args[n]}`);
    }
  }
  for (const [name, text] of Object.entries(texts)) {
    if (text !== undefined) options[name] = VALUES[name][0](name, text);
  }
  return options;
}

/** Where the binaries are; builds them unless that is said. */
function binaries({ bin }) {
  if (bin) return bin;
  const cargo = (...args) =>
    execFileSync('cargo', args, { cwd: root, encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'], maxBuffer: 1e8 });
  cargo('build', '--release', '--locked', '-p', 'bayeux-cli', '-p', 'bayeux-benches', '--bins');
  return `${JSON.parse(cargo('metadata', '--no-deps', '--format-version', '1')).target_directory}/release`;
}

const [subject, ...args] = process.argv.slice(2);
if (!Object.hasOwn(SUBJECTS, subject)) fail(`measures ${Object.keys(SUBJECTS).join(', ')}; not ${subject}`);
const options = parse(args);
try {
  const ok = await SUBJECTS[subject]({ ...options, root, binaries: () => binaries(options) });
  // Sockets and timers of what was stopped do not keep it running.
  process.exit(ok ? 0 : 1);
} catch (error) {
  console.error(`measure: ${error.message}`);
  process.exit(1);
}
