// Starts and stops the servers under test, each a child process of its own.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { after, before } from 'node:test';
import { atEnd, SERVER } from './cleanup.mjs';
import { within } from './wait.mjs';

const release = (path) => fileURLToPath(new URL(`../../target/release/${path}`, import.meta.url));

const PROGRAMS = {
  serve: { path: process.env.BAYEUX_BIN || release('bayeux'), args: ['serve'] },
  interop: {
    path: process.env.BAYEUX_INTEROP_SERVER || release('examples/interop_server'),
    args: [],
  },
};

// The server takes options from BAYEUX_* too; here the command line alone decides.
const env = Object.fromEntries(
  Object.entries(process.env).filter(([name]) => !name.startsWith('BAYEUX_')),
);

const running = new Set();
process.on('exit', () => {
  for (const child of running) child.kill('SIGKILL');
});
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.once(signal, () => process.exit(1));

/** Starts `program` on a free port and waits until it listens. Pages of the origins that it allows may use it. */
export async function startServer({ program = 'serve', args = [], allow = '*' } = {}) {
  const { path, args: first } = PROGRAMS[program];
  const origins = allow ? ['--allow-origin', allow] : [];
  const child = spawn(path, [...first, '--listen', '127.0.0.1:0', ...origins, ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env,
  });
  running.add(child);
  const exited = once(child, 'exit').then(([code, signal]) => {
    running.delete(child);
    return { code, signal };
  });
  let log = '';
  child.stderr.setEncoding('utf8').on('data', (text) => {
    log = (log + text).slice(-64 * 1024);
  });

  const ready = new Promise((resolve, reject) => {
    let out = '';
    child.stdout.setEncoding('utf8').on('data', (text) => {
      out += text;
      const line = /^listening on (http:\/\/\S+)$/m.exec(out);
      if (line) resolve(new URL(line[1]));
    });
    child.once('error', reject);
    exited.then(({ code, signal }) =>
      reject(new Error(`${path} ended before it listened (${signal ?? code}):\n${log}`)),
    );
  });
  let url;
  try {
    url = await within(ready, `the ready line of ${path}`);
  } catch (error) {
    child.kill('SIGKILL');
    throw error;
  }

  return {
    url: url.href,
    port: Number(url.port),
    path: url.pathname,
    /** What the server wrote to its standard error so far. */
    get log() {
      return log;
    },
    /** Ends the server as an operator does: it must drain and report success. */
    async stop() {
      child.kill('SIGTERM');
      const end = await within(exited, `the server to end after SIGTERM; its log:\n${log}`);
      assert.deepEqual(end, { code: 0, signal: null }, `the server's exit; its log:\n${log}`);
    },
    /** Ends the server as a crash does. */
    async kill() {
      child.kill('SIGKILL');
      await within(exited, 'the server to end after SIGKILL');
    },
  };
}

/** A server for all tests of the surrounding `describe`. */
export function useServer(options) {
  const holder = {};
  before(async () => {
    holder.server = await startServer(options);
    holder.url = holder.server.url;
    holder.port = holder.server.port;
  });
  after(() => holder.server?.stop());
  return holder;
}

/** A server for one test; one that the test ended already is left alone. */
export async function serverFor(t, options) {
  const server = await startServer(options);
  atEnd(t, SERVER, () => server.kill());
  return server;
}
