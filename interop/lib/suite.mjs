// The frame of every test file.

import { after, describe } from 'node:test';

/** No test of this suite takes this long unless something hangs. */
const LIMIT = 90_000;

/** A test file that is done ends within this time, or it left something open. */
const GRACE = 10_000;

let unfinished = 0;

/**
 * Groups tests. The tests of a group, and groups within it, run side by side unless `serial`: each
 * has its own clients and channels, and most of them wait more than they work.
 */
export function group(name, body, { serial = false } = {}) {
  unfinished += 1;
  describe(name, { concurrency: !serial, timeout: 3 * LIMIT }, () => {
    body();
    after(finish);
  });
}

/** One group per client, all side by side. */
export function groups(name, kinds, body, options) {
  group(name, () => {
    for (const kind of kinds) group(kind.label, () => body(kind), options);
  });
}

/** After the last group: the process ends by itself, or says what keeps it and fails. */
function finish() {
  unfinished -= 1;
  if (unfinished > 0) return;
  setTimeout(() => {
    const open = process.getActiveResourcesInfo?.().join(', ');
    console.error(`still open after the tests: ${open}`);
    process.exit(1);
  }, GRACE).unref();
}
