// Processes and files that end with this one, however it ends.

import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const running = new Set();

// Each has a process group of its own, so that what it started ends with it.
function kill(child, signal) {
  try {
    process.kill(-child.pid, signal);
  } catch (error) {
    if (error.code !== 'ESRCH') throw error;
  }
}

let directory;
let files = 0;

/** A path for a file that is removed when this process ends. */
export function scratch() {
  directory ??= mkdtempSync(join(tmpdir(), 'bayeux-measure-'));
  return join(directory, String((files += 1)));
}

process.on('exit', () => {
  for (const child of running) kill(child, 'SIGKILL');
  if (directory) rmSync(directory, { recursive: true, force: true });
});
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.once(signal, () => process.exit(1));

/** A process on these cores. `idle`: it runs only while nothing else wants to. */
export function start(cores, [program, ...args], { idle = false } = {}) {
  const pinned = ['taskset', '-c', String(cores), program, ...args];
  const [first, ...rest] = idle ? ['chrt', '--idle', '0', ...pinned] : pinned;
  const child = spawn(first, rest, { detached: true, stdio: ['ignore', 'pipe', 'pipe'], env: environment() });
  running.add(child);
  const process = { pid: child.pid, out: '', log: '' };
  child.stdout.setEncoding('utf8').on('data', (text) => (process.out += text));
  child.stderr.setEncoding('utf8').on('data', (text) => (process.log = (process.log + text).slice(-16_384)));
  process.exited = new Promise((resolve) => {
    // The pipes close after the exit: by then all was read.
    child.once('close', (code, signal) => resolve(code ?? signal));
    child.once('error', (error) => resolve(error.message));
  });
  process.exited.then(() => running.delete(child));
  process.on = (stream, listener) => child[stream].on('data', listener);
  process.stop = async () => {
    kill(child, 'SIGTERM');
    const late = setTimeout(() => kill(child, 'SIGKILL'), 8000);
    await process.exited;
    clearTimeout(late);
  };
  return process;
}

/** What it wrote to its standard output, once it has succeeded. */
export async function output(cores, command) {
  const process = start(cores, command);
  const outcome = await process.exited;
  if (outcome !== 0) throw new Error(`${command.join(' ')}: ${outcome}\n${process.log}`);
  return process.out;
}

/** The servers' options are those on their command lines. */
function environment() {
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('BAYEUX_')));
}
