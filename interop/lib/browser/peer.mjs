// CometD's JavaScript client in a page of headless Chromium.
//
// The page does what a `ChromiumPeer` asks it to, and tells what happens; the peer's properties are what the page
// told last, and its listeners are called in the order in which the page called its own.

import { CONFIG } from '../commands.mjs';
import { Peer } from '../peer.mjs';
import { within } from '../wait.mjs';
import { jsonOf } from '../wire.mjs';
import { running } from './chromium.mjs';
import { Profile } from './profile.mjs';

const debug = process.env.INTEROP_DEBUG === '1';

/** For a page to load, on a busy machine. */
const PATIENCE = 60_000;

/** One tab of a profile, in which clients come and go. */
class Place {
  #jar;
  #tab;
  #left;
  #owner;

  constructor(jar) {
    this.#jar = jar;
  }

  /** The tab, with a page that runs nothing, for `owner`. */
  async take(owner, page) {
    this.#owner = owner;
    this.#tab ??= this.#jar.open(page);
    await this.#left;
    return this.#tab;
  }

  /** Loads the page anew; done when it is there. */
  leave() {
    this.#left = this.#tab.then((tab) => tab.reload());
    // Whoever waits for it is told.
    this.#left.catch(() => {});
    return this.#left;
  }

  /** Gives the tab back, unless `owner` has a successor. What has not come to an end ends with its page. */
  async close(owner, { clean }) {
    if (this.#owner !== owner) return;
    await this.#left;
    const tab = await this.#tab;
    if (!clean) await tab.blank();
    await this.#jar.giveBack(tab);
  }
}

let clients = 0;

/**
 * A client in a page of its own, which comes from the server's `origin`, or another one (`same`, `cross`).
 *
 * `extensions` are names of the library's own, in the order in which they are registered; the page's clock is
 * `ahead` by as many milliseconds. A page that takes the place of another has its `jar` and `storage`.
 */
export class ChromiumPeer extends Peer {
  static Jar = Profile;
  /** So many groups of tests go on at once, and tests in each. */
  static atOnce = 2;

  /** Starts the browser. */
  static prepare = running;

  id = null;
  status = null;
  transport = null;
  #ready;
  #tab;
  #left = false;
  #sockets = new Map();
  #calls = new Map();
  #number = (clients += 1);
  #commanded = 0;
  #outbox = [];
  #told = [];
  #hearing = false;

  constructor(url, options) {
    super();
    const { client, transport, origin = 'same', extensions = [], ahead = 0, config = {} } = options;
    const { jar = new Profile(), storage = new Place(jar) } = options;
    this.jar = jar;
    this.storage = storage;
    this.#ready = this.#open({ client, server: url, origin });
    this.#ready.then(
      () =>
        this.#tab.run(this.#number, [
          [0, 'create', {
            url: jar.known(url),
            transport,
            extensions,
            ahead,
            fresh: options.storage === undefined,
            config: { logLevel: debug ? 'debug' : 'warn', ...CONFIG, ...config },
          }],
        ]),
      (error) => this.#fail(error),
    );
    this.watch();
  }

  async #open(page) {
    this.#tab = await within(this.storage.take(this, page), 'a page', PATIENCE);
    this.#tab.tellsTo((told) => {
      // What a client of before tells comes too late.
      if (told.client === this.#number) this.#hear(told);
    });
  }

  /** The tab, for what no other client can do. */
  async tab() {
    await this.#ready;
    return this.#tab;
  }

  async connect() {
    // What takes long is not the server's part.
    await this.#ready;
    return super.connect();
  }

  command(name, argument) {
    const number = (this.#commanded += 1);
    const result = new Promise((resolve, reject) => this.#calls.set(number, { resolve, reject }));
    this.#outbox.push([number, name, argument]);
    // All that is asked for before the event loop goes on, the page does in one go.
    if (this.#outbox.length === 1) this.#ready.then(() => this.#send()).catch((error) => this.#fail(error));
    return result;
  }

  #send() {
    return this.#tab.run(this.#number, this.#outbox.splice(0));
  }

  #fail(error) {
    this.#outbox = [];
    for (const { reject } of this.#calls.values()) reject(error);
    this.#calls.clear();
  }

  // What is told waits only for the text of scripts, and then in line.
  async #hear(told) {
    this.#told.push(told);
    if (this.#hearing) return;
    this.#hearing = true;
    try {
      while (this.#told.length > 0) {
        const next = this.#told.shift();
        const { entry } = next;
        if (entry?.script) next.script = await this.#tab.scriptAt(entry.script);
        this.#handle(next);
      }
    } finally {
      this.#hearing = false;
    }
  }

  #handle({ what, state, ...told }) {
    Object.assign(this, state);
    switch (what) {
      case 'state':
        return undefined;
      case 'wire':
        return this.#note(told);
      case 'message':
        return this.heard(told.to, told.message);
      case 'done':
        return this.#settle(told.number, ({ resolve }) => resolve(told.result));
      case 'failed':
        return this.#settle(told.number, ({ reject }) => reject(new Error(told.message)));
      case 'socket':
        return this.#addSocket(told.socket);
      case 'opened':
        this.#sockets.get(told.socket).protocol = told.protocol;
        return undefined;
      case 'closed':
        return this.#sockets.get(told.socket).close();
      default:
        // A mistake in the page is a mistake of the test.
        setImmediate(() => {
          throw new Error(`in a page: ${told.message}`);
        });
        return undefined;
    }
  }

  #settle(number, how) {
    const call = this.#calls.get(number);
    this.#calls.delete(number);
    if (call) how(call);
  }

  #note({ entry, script }) {
    const { script: address, ...more } = entry;
    if (!address) this.wire.note(more);
    else if (script) this.wire.note({ ...more, ...script }, jsonOf(script.text));
  }

  #addSocket(number) {
    const socket = { protocol: '' };
    socket.closed = new Promise((resolve) => {
      socket.close = resolve;
    });
    this.#sockets.set(number, socket);
    this.wire.sockets.push(socket);
  }

  /**
   * Loads the page anew, as a user does: its connections end, and the client does nothing any more. Done when the
   * new page is there.
   */
  leave() {
    this.#left = true;
    return this.storage.leave();
  }

  /** Leaves nothing open, whatever state the test left the client in. */
  async close() {
    await this.#ready.catch(() => {});
    if (!this.#left && !this.disconnected) {
      const disconnected = this.command('disconnect').catch(() => {});
      await Promise.race([disconnected, new Promise((resolve) => setTimeout(resolve, 2_000).unref())]);
    }
    await this.storage.close(this, { clean: this.#left || this.status === 'disconnected' });
  }
}
