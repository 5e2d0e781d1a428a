// Headless Chromium, one per test file: profiles, which have cookies, and tabs, which show pages.
//
// A process for every page, as Chromium likes it, would take most of the time of the suite. All tabs are of one
// process here, and used again. What keeps profiles apart is the name by which they know 127.0.0.1, where all
// servers are: cookies belong to a host.

import { chromium } from 'playwright-core';
import { atEnd, CLIENT } from '../cleanup.mjs';
import { atTheEnd } from '../suite.mjs';
import { executable } from './executable.mjs';
import { PAGE, startSite } from './site.mjs';

const FLAGS = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-extensions',
  '--disable-sync',
  '--renderer-process-limit=1',
  '--disable-site-isolation-trials',
  '--host-resolver-rules=MAP *.test 127.0.0.1',
];

/** The host of another site. */
const FOREIGN = 'elsewhere.test';

/** For a page to load, on a busy machine. */
const PATIENCE = 60_000;

let started;

/** The browser's window, and the site that pages come from; started when they are first needed. */
function running() {
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
  context.on('response', noteCookie);
  return { context, site };
}

/** The origin of pages that come from another site than the servers. */
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

/** The profiles in use, by the host they know. */
const profiles = new Map();
const freeHosts = [];
let hosts = 0;

/** All tabs, and those that nobody uses, the latest last. */
let tabs = 0;
const idleTabs = [];
/** A tab more is better than one that loads another page, up to as many. */
const ENOUGH_TABS = 16;

async function noteCookie(response) {
  const profile = profiles.get(new URL(response.url()).hostname);
  // A response of a page that is gone has no headers any more.
  const header = await response.headerValue('set-cookie').catch(() => null);
  if (header) profile?.headers.push(header);
}

/**
 * A browser with its own cookies. One that does not `keep` them is that of a user who forbids the cookies of
 * other sites, and the pages in it come from another site than the server's.
 */
export class Profile {
  /** Every `Set-Cookie` header received. */
  headers = [];
  #keep;
  #host;
  #uses = 0;

  constructor({ keep = true } = {}) {
    this.#keep = keep;
  }

  /** `url` under the name that this profile knows. */
  known(url) {
    const known = new URL(url);
    known.hostname = this.#host;
    return known.href;
  }

  /** What its requests to `url` have as `Cookie`. */
  async cookieFor(url) {
    const { context } = await running();
    const cookies = await context.cookies(this.known(url));
    return cookies.map(({ name, value }) => `${name}=${value}`).join('; ');
  }

  /**
   * A tab with a page that has the library `client`. It comes from the `origin` of `server`, if that is `same`, or
   * from another one (`cross`).
   */
  async open({ client, server, origin }) {
    const { context, site } = await running();
    const { port } = this.#keep && origin === 'same' ? new URL(server) : site;
    const pageOf = (host) => `http://${this.#keep ? host : FOREIGN}:${port}${PAGE}`;
    const ready = (host) => idleTabs.findLast((tab) => tab.shows(pageOf(host), client));
    this.#host ??= this.#enter(freeHosts.find(ready));
    this.#uses += 1;
    const found = ready(this.#host);
    if (found) return taken(found);
    const tab = tabs < ENOUGH_TABS || idleTabs.length === 0 ? await Tab.open(context) : taken(idleTabs[0]);
    await tab.show(pageOf(this.#host), client);
    return tab;
  }

  /** Begins to use `host`, if there is one that is free. */
  #enter(host = freeHosts[0] ?? `browser${(hosts += 1)}.test`) {
    if (freeHosts.includes(host)) freeHosts.splice(freeHosts.indexOf(host), 1);
    profiles.set(host, this);
    return host;
  }

  /** Takes a tab back. After the last one nothing is left of the profile. */
  async giveBack(tab) {
    idleTabs.push(tab);
    this.#uses -= 1;
    if (this.#uses > 0) return;
    const { context } = await running();
    const host = this.#host;
    this.#host = undefined;
    profiles.delete(host);
    await context.clearCookies({ domain: host });
    freeHosts.push(host);
  }
}

function taken(tab) {
  idleTabs.splice(idleTabs.indexOf(tab), 1);
  return tab;
}

/** A tab, and what its page tells. */
export class Tab {
  #shown;
  #hear = () => {};
  #scripts = new Map();

  static async open(context) {
    tabs += 1;
    const page = await context.newPage();
    const devtools = await context.newCDPSession(page);
    await devtools.send('Runtime.enable');
    await devtools.send('Network.enable');
    await devtools.send('Runtime.addBinding', { name: 'interopTell' });
    return new Tab(page, devtools);
  }

  constructor(page, devtools) {
    this.page = page;
    this.devtools = devtools;
    devtools.on('Runtime.bindingCalled', ({ payload }) => this.#hear(JSON.parse(payload, revive)));
    page.on('requestfinished', (request) => this.#keepScript(request));
    page.on('requestfailed', (request) => this.#keepScript(request));
  }

  /** Whether its page is the one at `url`, with the library `client`. */
  shows(url, client) {
    return this.#shown?.url === url && this.#shown.client === client;
  }

  /** Shows the page at `url`, with the library `client`, in the place of what is there. */
  async show(url, client) {
    this.#shown = undefined;
    await this.page.goto(url);
    await this.#load({ url, client });
  }

  async #load(shown) {
    const { site } = await running();
    await this.#evaluate(`import(${JSON.stringify(site.scriptFor(shown.client))}).then(() => {})`);
    this.#shown = shown;
  }

  /** Loads the page anew, as a user does. */
  async reload() {
    await this.page.reload();
    await this.#load(this.#shown);
  }

  /** Ends the page, whatever it does. */
  async blank() {
    this.#shown = undefined;
    await this.page.goto('about:blank');
  }

  /** What the page tells goes to `hear` from now on. */
  tellsTo(hear) {
    this.#hear = hear;
    this.#scripts.clear();
  }

  /** Lets the client with that number do something. */
  run(number, commands) {
    return this.#evaluate(`interop.run(${number}, ${JSON.stringify(JSON.stringify(commands, encode))})`);
  }

  /** Disconnects the tab from all networks, or connects it again. */
  setOffline(offline) {
    const conditions = { offline, latency: 0, downloadThroughput: -1, uploadThroughput: -1 };
    return this.devtools.send('Network.emulateNetworkConditions', conditions);
  }

  async #evaluate(expression) {
    const { exceptionDetails } = await this.devtools.send('Runtime.evaluate', { expression, awaitPromise: true });
    if (exceptionDetails) throw new Error(`in a page: ${exceptionDetails.exception?.description}`);
  }

  /** What the script at `url` was, once it is known: its status and text, or nothing if it did not arrive. */
  scriptAt(url) {
    return this.#script(url).answer;
  }

  #script(url) {
    if (!this.#scripts.has(url)) {
      const script = {};
      script.answer = new Promise((resolve) => {
        script.resolve = resolve;
      });
      this.#scripts.set(url, script);
    }
    return this.#scripts.get(url);
  }

  async #keepScript(request) {
    const url = request.url();
    if (request.resourceType() !== 'script' || !url.includes('jsonp=')) return;
    const { resolve } = this.#script(url);
    const response = await request.response();
    const status = response?.status();
    // An error is a failure as well, but an answer.
    if (!response || (request.failure() && status === 200)) resolve(undefined);
    else resolve({ status, text: await response.text().catch(() => '') });
  }
}

/** JSON with binary data, which the page has as well. */
function encode(key, value) {
  if (!(value instanceof Uint8Array)) return value;
  return { $bytes: Buffer.from(value).toString('base64') };
}

function revive(key, value) {
  if (typeof value?.$bytes !== 'string') return value;
  return new Uint8Array(Buffer.from(value.$bytes, 'base64')).buffer;
}
