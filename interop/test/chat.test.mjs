// The chat page of `bayeux serve`, as people use it: some tabs of a browser.

import assert from 'node:assert/strict';
import { it } from 'node:test';
import { browserFor } from '../lib/browser/chromium.mjs';
import { BROWSERS } from '../lib/client.mjs';
import { proxyFor } from '../lib/proxy.mjs';
import { serverFor } from '../lib/server.mjs';
import { groups } from '../lib/suite.mjs';

const TRANSPORTS = ['websocket', 'long-polling'];
const KINDS = BROWSERS.slice(-1).flatMap(({ peer, chromium }) =>
  TRANSPORTS.map((transport) => ({
    peer,
    label: `Bayeux chat in Chromium ${chromium} over ${transport}`,
    transport,
    args: ['--allowed-transports', transport, '--timeout', '20s'],
  })),
);

groups('chat page', KINDS, ({ transport, args }) => {
  /** A room of its own for each test, since tests run side by side and everybody in a room sees everybody. */
  const roomFor = (t) => serverFor(t, { args });

  /** A tab in which `name` has joined. */
  const join = async (browser, url, name) => {
    const page = await browser.open(new URL('/', url).href);
    await page.fill('#join-name', name);
    await page.click('#join-form button[type=submit]');
    await page.locator('#status.connected').waitFor();
    return page;
  };
  const say = async (page, text) => {
    await page.fill('#text', text);
    await page.press('#text', 'Enter');
  };
  const sees = (page, text) => page.locator('#stream').getByText(text, { exact: true }).first().waitFor();
  /** The people in the room, once there are as many. */
  const peopleOf = async (page, count) => {
    const people = page.locator('#people li');
    await people.nth(count - 1).waitFor();
    await people.nth(count).waitFor({ state: 'detached' });
    return people.locator('.label').allInnerTexts();
  };
  /** What the console says beside connections that failed. */
  const mistakesOf = ({ mistakes }) =>
    mistakes.filter((text) => !/^(WebSocket connection to|Failed to load resource)/.test(text));

  it('two tabs chat with each other', async (t) => {
    const server = await roomFor(t);
    const browser = await browserFor(t);
    const ada = await join(browser, server.url, 'Ada');
    const grace = await join(browser, server.url, 'Grace');
    for (const page of [ada, grace]) {
      assert.deepEqual((await peopleOf(page, 2)).sort(), ['Ada', 'Grace']);
    }
    await say(ada, 'Hello Grace, ½ of 😀');
    await sees(grace, 'Hello Grace, ½ of 😀');
    await say(grace, '<b>Hello</b> Ada');
    for (const page of [ada, grace]) await sees(page, '<b>Hello</b> Ada');
    const { INTEROP_PICTURES: pictures } = process.env;
    if (pictures) await grace.screenshot({ path: `${pictures}/chat-${transport}.png` });
    assert.deepEqual(mistakesOf(browser), []);
  });

  it('a private message is seen by two of three', async (t) => {
    const server = await roomFor(t);
    const browser = await browserFor(t);
    const [ada, grace, eve] = [
      await join(browser, server.url, 'Ada'),
      await join(browser, server.url, 'Grace'),
      await join(browser, server.url, 'Eve'),
    ];
    await peopleOf(ada, 3);
    await say(ada, 'Grace:: between us');
    await say(ada, 'for all');
    for (const page of [grace, eve]) await sees(page, 'for all');
    await sees(grace, 'between us');
    assert.equal(await eve.getByText('between us').count(), 0);
    assert.deepEqual(mistakesOf(browser), []);
  });

  it('a tab that reloads is still there, and one that is closed is not', async (t) => {
    const server = await roomFor(t);
    const browser = await browserFor(t);
    const ada = await join(browser, server.url, 'Ada');
    const grace = await join(browser, server.url, 'Grace');
    await peopleOf(ada, 2);
    await grace.reload();
    await grace.locator('#status.connected').waitFor();
    await say(ada, 'welcome back');
    await sees(grace, 'welcome back');
    await grace.close();
    assert.deepEqual(await peopleOf(ada, 1), ['Ada']);
    assert.deepEqual(mistakesOf(browser), []);
  });

  it('the chat goes on after a restart of the server', async (t) => {
    const first = await roomFor(t);
    const proxy = await proxyFor(t, first);
    const browser = await browserFor(t);
    const ada = await join(browser, proxy.url, 'Ada');
    const grace = await join(browser, proxy.url, 'Grace');
    proxy.down = true;
    await first.kill();
    await ada.locator('#banner').waitFor();
    proxy.target = await roomFor(t);
    proxy.down = false;
    for (const page of [ada, grace]) await page.locator('#status.connected').waitFor();
    assert.deepEqual((await peopleOf(ada, 2)).sort(), ['Ada', 'Grace']);
    await say(ada, 'that was short');
    await sees(grace, 'that was short');
    assert.deepEqual(mistakesOf(browser), []);
  });
});
