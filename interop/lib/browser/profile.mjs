// Browsers with cookies of their own, as far as tests can tell.
//
// All are one window of one Chromium, whose tabs are used again: a browser or a page for each client would take most
// of the time of the suite. What keeps profiles apart is the name by which they know 127.0.0.1, where all servers
// are: cookies belong to a host.

import { FOREIGN, running } from './chromium.mjs';
import { PAGE } from './site.mjs';
import { Tab } from './tab.mjs';

/** The profiles in use, by the host they know. */
const profiles = new Map();
const freeHosts = [];
let hosts = 0;

/** All tabs, and those that nobody uses, the latest last. */
let tabs = 0;
const idleTabs = [];
/** A tab more is better than one that loads another page, up to as many. */
const ENOUGH_TABS = 6;

let watched = false;

/** The window, in which all profiles are, and the site. */
async function watching() {
  const { context, site } = await running();
  if (!watched) context.on('response', noteCookie);
  watched = true;
  return { context, site };
}

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
    const { context } = await watching();
    const cookies = await context.cookies(this.known(url));
    return cookies.map(({ name, value }) => `${name}=${value}`).join('; ');
  }

  /**
   * A tab with a page that has the library `client`. It comes from the `origin` of `server`, if that is `same`, or
   * from another one (`cross`).
   */
  async open({ client, server, origin }) {
    const { context, site } = await watching();
    const { port } = this.#keep && origin === 'same' ? new URL(server) : site;
    const pageOf = (host) => `http://${this.#keep ? host : FOREIGN}:${port}${PAGE}`;
    const ready = (host) => idleTabs.findLast((tab) => tab.shows(pageOf(host), site.scriptFor(client)));
    this.#host ??= this.#enter(freeHosts.find(ready));
    this.#uses += 1;
    const found = ready(this.#host);
    if (found) return taken(found);
    const tab = tabs < ENOUGH_TABS || idleTabs.length === 0 ? await newTab(context) : taken(idleTabs[0]);
    await tab.show(pageOf(this.#host), site.scriptFor(client));
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
    const { context } = await watching();
    const host = this.#host;
    this.#host = undefined;
    profiles.delete(host);
    await context.clearCookies({ domain: host });
    freeHosts.push(host);
  }
}

function newTab(context) {
  tabs += 1;
  return Tab.open(context);
}

function taken(tab) {
  idleTabs.splice(idleTabs.indexOf(tab), 1);
  return tab;
}
