// Writes what was measured between marks of docs/performance.md, with all that somebody needs to judge it.

import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { cpus, loadavg, release, type } from 'node:os';
import { join } from 'node:path';

const PAGE = 'docs/performance.md';

function firstLine(root, command, ...args) {
  try {
    const stdio = ['ignore', 'pipe', 'ignore'];
    return execFileSync(command, args, { cwd: root, encoding: 'utf8', stdio }).split('\n')[0].trim();
  } catch {
    return `no ${command}`;
  }
}

/** A sentence about machine, commit and date. */
export function provenance(root, subject) {
  const dirty = firstLine(root, 'git', 'status', '--porcelain', '--untracked-files=no') === '' ? '' : ' and changes';
  const commit = firstLine(root, 'git', 'rev-parse', '--short', 'HEAD') + dirty;
  const { length, [0]: cpu } = cpus();
  const date = new Date().toISOString().slice(0, 10);
  const load = loadavg()[0].toFixed(1);
  return (
    `Written by \`benches/measure ${subject}\` on ${date}, at commit ${commit}: ${length} × ${cpu.model.trim()}, ` +
    `${type()} ${release()}, ${firstLine(root, 'rustc', '--version')}; load average ${load}.\n`
  );
}

/** What the peers run on, and which they are. */
export function versions(root) {
  const { devDependencies } = JSON.parse(readFileSync(join(root, 'interop/package.json'), 'utf8'));
  const pom = readFileSync(join(root, 'interop/peers/java/pom.xml'), 'utf8');
  const version = (property) => new RegExp(`<${property}>(.*?)<`).exec(pom)?.[1] ?? '?';
  return (
    `CometD Java ${version('cometd.version')} on Jetty ${version('jetty.version')} and ` +
    `${firstLine(root, 'java', '--version')}; cometd-nodejs-server ${devDependencies['cometd-nodejs-server']} and ` +
    `Faye ${devDependencies.faye} on Node.js ${process.version.slice(1)}.\n`
  );
}

/** A Markdown table. */
export function table(heads, rows) {
  const line = (cells) => `| ${cells.join(' | ')} |\n`;
  return line(heads) + line(heads.map((_, n) => (n === 0 ? '---' : '---:'))) + rows.map(line).join('');
}

/** A number as far as it means something, or a dash. */
export function digits(value) {
  if (!Number.isFinite(value)) return '–';
  if (value < 10) return value.toFixed(2);
  return value < 100 ? value.toFixed(1) : Math.round(value).toLocaleString('en');
}

export function median(values) {
  const sorted = values.filter((value) => typeof value === 'number').sort((a, b) => a - b);
  if (sorted.length === 0) return undefined;
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/** Prints `text`; and puts it into the page where `subject` has its place, unless it is a `dry` run. */
export function publish({ root, dry }, subject, text) {
  console.log(`\n${text}`);
  if (dry) return;
  const path = join(root, PAGE);
  const page = readFileSync(path, 'utf8');
  const [begin, end] = [`<!-- ${subject}: begin -->\n`, `<!-- ${subject}: end -->`];
  const [from, to] = [page.indexOf(begin), page.indexOf(end)];
  if (from < 0 || to < from) throw new Error(`${PAGE} has no place for ${subject}`);
  writeFileSync(path, `${page.slice(0, from)}${begin}\n${text}\n${page.slice(to)}`);
}
