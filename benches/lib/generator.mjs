// Runs `bayeux load`, which verifies every delivery, and reads its result.

import { readFileSync } from 'node:fs';
import { scratch, start } from './processes.mjs';

/**
 * A generator at work: `result` resolves to what it measured, with `failures` where a delivery was wrong; `stop` ends
 * it before.
 */
export function generate(bin, core, server, args, { idle = false } = {}) {
  const file = scratch();
  const command = [`${bin}/bayeux`, 'load', server.url, ...args, '--pid', server.pid, '--json', file, '--quiet'];
  const process = start(core, command.map(String), { idle });
  const result = process.exited.then((outcome) => {
    try {
      return JSON.parse(readFileSync(file, 'utf8'));
    } catch {
      return { failures: [`the generator ended with ${outcome}: ${process.log.trim().split('\n').at(-1)}`], warnings: [] };
    }
  });
  return { result, stop: process.stop };
}

/** What a generator measured. */
export const load = (...args) => generate(...args).result;

/** Throws what the generator found wrong. */
export async function verified(...args) {
  const result = await load(...args);
  if (result.failures.length > 0) throw new Error(`${args[3].join(' ')}: ${result.failures.join('; ')}`);
  return result;
}
