// Headless Chromium, one per test file.

import { chromium } from 'playwright-core';
import { atEnd, CLIENT } from '../cleanup.mjs';
import { atTheEnd } from '../suite.mjs';
import { executable } from './executable.mjs';
import { startSite } from './site.mjs';

const FLAGS = [
  // Root has no choice, and the pages are ours.
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-extensions',
  '--disable-sync',
  // A process for every page would take most of the time of the suite.
  '--renderer-process-limit=1',
  '--disable-site-isolation-trials',
  // One machine with many names, each with cookies of its own.
  '--host-resolver-rules=MAP *.test 127.0.0.1',
];

/** The host of pages that come from another site than the servers. */
export const FOREIGN = 'elsewhere.test';

/** For a page to load, on a busy machine. */
const PATIENCE = 60_000;

let started;

/** The browser's window, and the site that pages come from; started when they are first needed. */
export function running() {
  started ??= start();
  return started;
}

async function start() {
  const [browser, site] = await Promise.all([
    chromium.launch({ executablePath: executable, args: FLAGS, headless: true }),
    startSite(),
  ]);
  atTheEnd(async () => {
    await browser.close();
    await site.close();
  });
  const context = await browser.newContext({ viewport: { width: 400, height: 300 } });
  context.setDefaultTimeout(PATIENCE);
  return { context, site };
}

/** The origin of these pages. */
export async function siteOrigin() {
  const { site } = await running();
  return `http://${FOREIGN}:${site.port}`;
}

/**
 * A browser that a page is opened in as its users see it: `open` yields a Playwright page in a new tab, and `mistakes`
 * are the errors on the console of them all. It is closed at the end of test `t`.
 */
export async function browserFor(t) {
  const { context: window } = await running();
  const context = await window.browser().newContext({ viewport: { width: 1100, height: 700 } });
  context.setDefaultTimeout(PATIENCE);
  atEnd(t, CLIENT, () => context.close());
  const mistakes = [];
  return {
    mistakes,
    async open(url) {
      const page = await context.newPage();
      page.on('pageerror', (error) => mistakes.push(String(error)));
      page.on('console', (line) => line.type() === 'error' && mistakes.push(line.text()));
      await page.goto(url);
      return page;
    },
  };
}
