// CometD's JavaScript client under Node, several of its versions side by side.
//
// The client is not changed. It takes `XMLHttpRequest` and `WebSocket` from a global `window`, which
// `cometd-nodejs-client` provides. For the moments in which one client opens something, `window` is
// that client's own page; so every client has its own cookies, and its traffic is recorded.

import { createRequire } from 'node:module';
import * as cometd8 from 'cometd8';
import * as cometd9 from 'cometd9';
import { commandsOf, CONFIG, EXTENSIONS, keepTransport, transportOf } from './commands.mjs';
import { documentFor, Jar, SessionStorage } from './page.mjs';
import { Peer } from './peer.mjs';
import { Recorder } from './recorder.mjs';

const require = createRequire(import.meta.url);
const debug = process.env.INTEROP_DEBUG === '1';
const QUIET = { debug() {}, info() {}, log() {}, warn() {}, error() {} };

// Version 7 is a CommonJS bundle; 8 and 9 are modules.
const LIBRARIES = { cometd7: require('cometd7'), cometd8, cometd9 };

function extensionOf(client, name) {
  const file = EXTENSIONS[name];
  return LIBRARIES[client][file] ?? require(`${client}/${file}`);
}

/** The `Date` of a clock that is `ahead` by as many milliseconds. */
const dateAhead = (ahead) =>
  class extends Date {
    constructor(...given) {
      super(...(given.length > 0 ? given : [Date.now() + ahead]));
    }
  };

/**
 * A client in this process.
 *
 * `extensions` are names of the library's own, in the order in which they are registered; their clock
 * is `ahead` by as many milliseconds. A page that takes the place of another has its `jar` and `storage`.
 */
export class NodePeer extends Peer {
  static Jar = Jar;

  #recorder = new Recorder(this.wire);
  #cometd;
  #commands;
  #page;
  #left = false;

  constructor(url, options) {
    super();
    const { client, transport, extensions = [], ahead = 0, config = {} } = options;
    const { jar = new Jar(), storage = new SessionStorage() } = options;
    this.jar = jar;
    this.storage = storage;
    const classes = this.#recorder.classes(jar);
    if (!debug) window.console = QUIET;
    this.#page = Object.assign(Object.create(window), classes, { sessionStorage: storage });
    this.#page.document = documentFor(this.#page, (src) => this.#recorder.script(src, jar));
    const cometd = new LIBRARIES[client].CometD();
    this.#cometd = cometd;
    keepTransport(cometd, transport);
    this.#lend(cometd.findTransport('websocket'), 'send');
    this.#lend(cometd.findTransport('long-polling'), 'xhrSend');
    this.#lend(cometd.findTransport('callback-polling'), 'jsonpSend');
    cometd.configure({ url, logLevel: debug ? 'debug' : 'warn', ...CONFIG, ...config });
    const clock = ahead === 0 ? {} : { Date: dateAhead(ahead) };
    for (const name of extensions) {
      const extension = new (extensionOf(client, name))();
      this.#lend(extension, 'incoming', clock);
      this.#lend(extension, 'outgoing', clock);
      cometd.registerExtension(name, extension);
    }
    this.#commands = commandsOf(cometd, (to, message) => this.heard(to, message));
    this.watch();
  }

  async command(name, argument) {
    return this.#commands[name](argument);
  }

  get id() {
    return this.#cometd.getClientId();
  }

  get status() {
    return this.#cometd.getStatus();
  }

  get transport() {
    return transportOf(this.#cometd);
  }

  /** Lets `object`, if there is one, run its `method` in this client's page. */
  #lend(object, method, more) {
    const original = object?.[method];
    if (!original) return;
    const peer = this;
    object[method] = function lent(...args) {
      return peer.#inPage(() => original.apply(this, args), more);
    };
  }

  /** Calls with this client's page, and what `more` names, in the place of what is global. */
  #inPage(call, more) {
    const own = { window: this.#page, document: this.#page.document, ...more };
    const before = Object.fromEntries(Object.keys(own).map((name) => [name, globalThis[name]]));
    Object.assign(globalThis, own);
    try {
      return call();
    } finally {
      Object.assign(globalThis, before);
    }
  }

  /**
   * Leaves the page as a reload does, with the extension: its state is stored, its connections end, and it
   * does nothing any more.
   */
  leave() {
    this.#inPage(() => this.#cometd.reload());
    this.#left = true;
    this.#recorder.hangUp();
  }

  /** Leaves nothing open, whatever state the test left the client in. */
  async close() {
    if (!this.#left && !this.disconnected) {
      await Promise.race([
        this.command('disconnect'),
        new Promise((resolve) => setTimeout(resolve, 2_000).unref()),
      ]);
    }
    this.#recorder.hangUp();
  }
}
