// Instructions of the hot paths, counted by callgrind: a number that neither the machine's other work nor its clock
// moves, so that a regression shows.

import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { table } from './document.mjs';
import { output, scratch, start } from './processes.mjs';

/** More than this is a regression. */
const TOLERANCE = 0.03;
/** Units that are counted of each path: deliveries, messages. */
const UNITS = 4000;

const run = (program, ...args) => execFileSync(program, args, { encoding: 'utf8' });

/** Counts, and compares with what was recorded; or records. Whether nothing has become more. */
export async function instructions(options) {
  const file = join(options.root, 'benches/instructions.json');
  installValgrind();
  const compiler = run('rustc', '--version').trim();
  const counted = await count(options);
  if (options.record) {
    writeFileSync(file, `${JSON.stringify({ compiler, instructions: counted }, null, 2)}\n`);
    for (const [name, figure] of Object.entries(counted)) console.log(`${name.padEnd(22)}${figure}`);
    return true;
  }
  const recorded = JSON.parse(readFileSync(file, 'utf8'));
  if (recorded.compiler !== compiler) {
    console.log(`recorded with ${recorded.compiler}, counted with ${compiler}: differences may be the compiler's, and do not fail`);
  }
  const rows = Object.entries(counted).map(([name, now]) => ({ name, now, before: recorded.instructions[name] }));
  const change = ({ now, before }) => (now - before) / before;
  const text = (row) => (row.before ? `${(change(row) * 100).toFixed(1)} %` : 'new');
  console.log(table(['instructions', 'recorded', 'now', ''], rows.map((row) => [row.name, row.before ?? '–', row.now, text(row)])));
  const worse = rows.filter((row) => !row.before || change(row) > TOLERANCE);
  if (recorded.compiler !== compiler) return true;
  if (worse.length > 0) {
    const names = worse.map(({ name }) => name).join(', ');
    console.log(`more than recorded, or not recorded: ${names}. If that is meant: benches/measure instructions --record`);
  }
  return worse.length === 0;
}

function installValgrind() {
  try {
    run('valgrind', '--version');
  } catch {
    if (process.getuid() !== 0) throw new Error('please install valgrind');
    run('apt-get', 'update', '-qq');
    run('apt-get', 'install', '-y', '-qq', '--no-install-recommends', 'valgrind');
  }
}

async function count(options) {
  const program = `${options.binaries()}/paths`;
  const core = options.cores.server;
  const paths = (await output(core, [program])).trim().split('\n').map((line) => line.split(' '));
  const counted = {};
  for (const [name, units] of paths) {
    const times = Math.max(1, UNITS / units);
    counted[name] = Math.round((await callgrind(core, [program, name, times])) / (times * units));
  }
  return counted;
}

/** Instructions below `measured` in a run of the program. */
async function callgrind(core, command) {
  const file = `--callgrind-out-file=${scratch()}`;
  const tool = ['valgrind', '--tool=callgrind', file, '--toggle-collect=*paths*measured*', ...command.map(String)];
  const process = start(core, tool);
  const outcome = await process.exited;
  const collected = /Collected : (\d+)/.exec(process.log);
  if (outcome !== 0 || !collected || collected[1] === '0') {
    throw new Error(`${tool.join(' ')}: ${outcome}\n${process.log}`);
  }
  return Number(collected[1]);
}
