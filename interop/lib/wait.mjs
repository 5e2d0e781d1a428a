// Waiting with a limit, and with a name in the error when the limit is reached.

import { setTimeout as delay } from 'node:timers/promises';

/** Long enough for a busy machine; a passing test never waits this long. */
export const PATIENCE = 40_000;

export const sleep = (ms) => delay(ms);

/** The result of `promise`, or an error that names `what` after `ms`. */
export async function within(promise, what, ms = PATIENCE) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`timed out after ${ms} ms waiting for ${what}`)), ms);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Polls until `check` returns something truthy, which is the result. */
export async function until(check, what, ms = PATIENCE) {
  const deadline = Date.now() + ms;
  for (;;) {
    const value = check();
    if (value) return value;
    if (Date.now() > deadline) throw new Error(`timed out after ${ms} ms waiting for ${what}`);
    await sleep(10);
  }
}
