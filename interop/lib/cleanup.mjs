// What a test opened is closed when it ends: clients first, while their servers still answer.

export const CLIENT = 0;
export const NETWORK = 1;
export const SERVER = 2;

const lists = new WeakMap();

/** Calls `close` at the end of test `t`, after everything of an earlier `turn`. */
export function atEnd(t, turn, close) {
  if (!lists.has(t)) {
    const list = [];
    lists.set(t, list);
    t.after(() => closeAll(list));
  }
  lists.get(t).push({ turn, close });
}

async function closeAll(list) {
  for (const turn of [CLIENT, NETWORK, SERVER]) {
    const closings = list.filter((item) => item.turn === turn).map(async (item) => item.close());
    const results = await Promise.allSettled(closings);
    const failed = results.find((result) => result.status === 'rejected');
    if (failed) console.error('while closing:', failed.reason);
  }
}
