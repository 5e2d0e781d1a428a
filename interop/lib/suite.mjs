// The frame of every test file.

import { after, before, describe } from 'node:test';

/** No test of this suite takes this long unless something hangs. */
const LIMIT = 90_000;

/** A test file that is done ends within this time, or it left something open. */
const GRACE = 10_000;

let unfinished = 0;
const endings = [];

/** Calls `close` after the last group of the file. */
export function atTheEnd(close) {
  endings.push(close);
}

/**
 * Groups tests. The tests of a group, and groups within it, run side by side unless `serial`, and no more than
 * `atOnce`: each has its own clients and channels, and most of them wait more than they work.
 */
export function group(name, body, { serial = false, atOnce } = {}) {
  unfinished += 1;
  describe(name, { concurrency: serial ? 1 : (atOnce ?? true), timeout: 3 * LIMIT }, () => {
    body();
    after(finish);
  });
}

/** One group per client, all side by side; those of which there cannot be many at once, after the others. */
export function groups(name, kinds, body, options) {
  for (const atOnce of new Set(kinds.map((kind) => kind.peer.atOnce))) {
    const some = kinds.filter((kind) => kind.peer.atOnce === atOnce);
    group(name, () => {
      before(() => Promise.all(some.map((kind) => kind.peer.prepare?.())));
      for (const kind of some) group(kind.label, () => body(kind), { atOnce, ...options });
    }, { atOnce });
  }
}

/** After the last group: the process ends by itself, or says what keeps it and fails. */
async function finish() {
  unfinished -= 1;
  if (unfinished > 0) return;
  await Promise.all(endings.map((close) => close()));
  setTimeout(() => {
    const open = process.getActiveResourcesInfo?.().join(', ');
    console.error(`still open after the tests: ${open}`);
    process.exit(1);
  }, GRACE).unref();
}
