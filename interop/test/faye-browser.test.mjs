// Faye's client as it is for browsers, which has other transports than under Node.

import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import path from 'node:path';
import { it } from 'node:test';
import { browserFor, siteOrigin } from '../lib/browser/chromium.mjs';
import { BROWSERS, fresh } from '../lib/client.mjs';
import { useServer } from '../lib/server.mjs';
import { groups } from '../lib/suite.mjs';
import { PAGE } from '../lib/browser/site.mjs';

const require = createRequire(import.meta.url);
const { version } = require('faye/package.json');
const SCRIPT = path.join(path.dirname(require.resolve('faye/package.json')), 'client/faye-browser-min.js');

// It knows no long-polling to other origins that a server but its own has.
const KINDS = BROWSERS.slice(-1).flatMap(({ peer, chromium }) =>
  [
    { transport: 'websocket', disabled: [] },
    { transport: 'long-polling', disabled: ['websocket'] },
    { transport: 'callback-polling', disabled: ['websocket'], foreign: true },
  ].map((kind) => ({
    ...kind,
    peer,
    label: `faye ${version} in Chromium ${chromium} over ${kind.transport}${kind.foreign ? ', cross origin' : ''}`,
  })),
);

groups('publish and subscribe', KINDS, ({ transport, disabled, foreign }) => {
  const args = ['--callback-polling', '--trust-client-session', '--timeout', '4s'];
  const server = useServer({ args });

  it('pages with the client talk to each other', async (t) => {
    const browser = await browserFor(t);
    const origin = foreign ? await siteOrigin() : new URL(server.url).origin;
    const open = async () => {
      const page = await browser.open(origin + PAGE);
      await page.addScriptTag({ path: SCRIPT });
      return page;
    };
    const [alice, bob] = [await open(), await open()];
    const channel = fresh('faye');
    const values = [{ text: 'hi 😀 \u2028 שלום' }, 'text', 0, false, [1, { two: 2 }]];

    const connect = ([url, without]) => {
      window.client = new Faye.Client(url);
      for (const name of without) client.disable(name);
      window.types = new Set();
      client.addExtension({
        outgoing(message, done) {
          if (message.channel === '/meta/connect') types.add(message.connectionType);
          done(message);
        },
      });
    };
    for (const page of [alice, bob]) await page.evaluate(connect, [server.url, disabled]);
    await alice.evaluate(async (name) => {
      window.seen = [];
      await client.subscribe(name, (data) => seen.push(data));
    }, channel);
    await bob.evaluate(async ([name, list]) => {
      for (const value of list) await client.publish(name, value);
    }, [channel, values]);
    await alice.waitForFunction((count) => seen.length === count, values.length);
    assert.deepEqual(await alice.evaluate(() => seen), values);
    // It may begin by long-polling until its WebSocket is open.
    await alice.waitForFunction((wanted) => types.has(wanted), transport);
    for (const page of [alice, bob]) await page.evaluate(async () => { await client.disconnect(); });
  });
});
