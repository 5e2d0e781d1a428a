// A reporter of node:test: one line of JSON for each test, for `table.mjs`.

export default async function* report(events) {
  // The names of the groups that are being reported, from the outermost.
  const path = [];
  for await (const { type, data } of events) {
    if (type === 'test:start') path.splice(data.nesting, Infinity, data.name);
    const ended = type === 'test:pass' || type === 'test:fail';
    if (!ended || data.details?.type === 'suite') continue;
    // A file without tests for the clients at hand.
    if (data.nesting === 0) continue;
    const [feature, ...rest] = [...path.slice(0, data.nesting), data.name];
    const skipped = data.skip ? String(data.skip) : undefined;
    yield `${JSON.stringify({ feature, rest, passed: type === 'test:pass', skipped })}\n`;
  }
}
