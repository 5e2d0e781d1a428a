// Writes docs/interop.md from what `reporter.mjs` noted: `node lib/table.mjs REPORT COMMIT`.

import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { type } from 'node:os';

/** Counts by row and column, both in the order in which they first appear. */
class Table {
  columns = [];
  rows = new Map();

  add(row, column, { passed, skipped }) {
    if (!this.columns.includes(column)) this.columns.push(column);
    if (!this.rows.has(row)) this.rows.set(row, new Map());
    const cells = this.rows.get(row);
    const cell = cells.get(column) ?? { passed: 0, failed: 0, skipped: new Set() };
    cells.set(column, cell);
    if (skipped) cell.skipped.add(skipped);
    else if (passed) cell.passed += 1;
    else cell.failed += 1;
  }

  /** Markdown; `heads` are the titles of what a row's name is split into. */
  markdown(heads, split) {
    const line = (cells) => `| ${cells.join(' | ')} |\n`;
    const rows = [...this.rows].map(([name, cells]) =>
      line([...split(name), ...this.columns.map((column) => textOf(cells.get(column)))]),
    );
    return line([...heads, ...this.columns]) + line([...heads, ...this.columns].map(() => '---')) + rows.join('');
  }
}

function textOf(cell) {
  if (!cell || cell.passed + cell.failed === 0) return 'n/a';
  if (cell.failed > 0) return `**${cell.failed} of ${cell.passed + cell.failed} FAIL**`;
  return cell.skipped.size > 0 ? `${cell.passed} (*)` : `${cell.passed}`;
}

/** What tests were skipped for, by client. */
function reasons(tables) {
  const byClient = new Map();
  for (const [name, cells] of tables.flatMap(({ rows }) => [...rows])) {
    const client = name.split(' over ')[0];
    const all = byClient.get(client) ?? new Set();
    byClient.set(client, all);
    for (const { skipped } of cells.values()) for (const reason of skipped) all.add(reason);
  }
  return [...byClient]
    .filter(([, all]) => all.size > 0)
    .map(([client, all]) => `- ${client}: ${[...all].sort().join('; ')}.\n`)
    .join('');
}

function versionOf(command, ...args) {
  try {
    return execFileSync(command, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).split('\n')[0].trim();
  } catch {
    return `no ${command}`;
  }
}

const [report, commit] = process.argv.slice(2);
const overOne = new Table();
const overSeveral = new Table();
const between = new Table();
for (const line of readFileSync(report, 'utf8').split('\n').filter(Boolean)) {
  const { feature, rest, ...result } = JSON.parse(line);
  if (rest.length < 2) between.add(rest[0], feature, result);
  else if (rest[0].includes(' over ')) overOne.add(rest[0], feature, result);
  else overSeveral.add(rest[0], feature, result);
}

process.stdout.write(`# Interoperability

Which clients were tested against this server, over which transports, and what of: the number of tests that passed.
\`n/a\` is what a client does not have, or what needs another transport. A \`(*)\` says that some tests were skipped,
for reasons that are below.

Written by \`interop/table\` on ${new Date().toISOString().slice(0, 10)}, at commit ${commit}, on ${type()} with
Node.js ${process.version.slice(1)}, ${versionOf('java', '--version')} and ${versionOf('python3', '--version')}.
[interop](../interop) has the tests and says how to run them.

## Over one transport

${overOne.markdown(['client', 'transport'], (name) => name.split(' over '))}
## With all the transports that a client has

${overSeveral.markdown(['client'], (name) => [name])}
## Other tests

${between.markdown(['test'], (name) => [name])}
## Skipped tests

${reasons([overOne, overSeveral])}`);
