// CometD's JavaScript client under Node, several of its versions side by side.
//
// The client is not changed. It takes `XMLHttpRequest` and `WebSocket` from a global `window`, which
// `cometd-nodejs-client` provides. For the moments in which one client opens something, `window` is
// that client's own page; so every client has its own cookies, and its traffic is recorded.

import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { adapt } from 'cometd-nodejs-client';
import * as cometd8 from 'cometd8';
import * as cometd9 from 'cometd9';
import { atEnd, CLIENT } from './cleanup.mjs';
import { documentFor, SessionStorage } from './page.mjs';
import { post, socket } from './raw.mjs';
import { sleep, until, within } from './wait.mjs';

const require = createRequire(import.meta.url);
const debug = process.env.INTEROP_DEBUG === '1';
const QUIET = { debug() {}, info() {}, log() {}, warn() {}, error() {} };

// Version 7 is a CommonJS bundle; 8 and 9 are modules.
const CLIENTS = { cometd7: require('cometd7'), cometd8, cometd9 };
const chosen = Object.keys(CLIENTS).filter((client) =>
  (process.env.INTEROP_CLIENTS || client).split(',').includes(client),
);
const TRANSPORTS = ['websocket', 'long-polling'];

/** Every client version over every transport: what most tests run through. */
export const KINDS = chosen.flatMap((client) =>
  TRANSPORTS.map((transport) => {
    const { version } = require(`${client}/package.json`);
    return { client, transport, label: `cometd ${version} over ${transport}` };
  }),
);

/** Every client version, for tests that choose transports themselves. */
export const VERSIONS = chosen.map((client) => ({
  client,
  label: `cometd ${require(`${client}/package.json`).version}`,
}));

/** The classes of the extensions that come with a client, by the names they are registered under. */
function extensionsOf(client) {
  const module = CLIENTS[client];
  const names = {
    ack: 'Ack',
    binary: 'Binary',
    reload: 'Reload',
    timestamp: 'TimeStamp',
    timesync: 'TimeSync',
  };
  return Object.fromEntries(
    Object.entries(names).map(([name, type]) => {
      const file = `${type}Extension`;
      return [name, module[file] ?? require(`${client}/${file}`)];
    }),
  );
}

let counter = 0;
/** A channel that no other test uses. */
export const fresh = (name) => `/${name}${process.pid}x${(counter += 1)}`;

/** A browser's cookies. One that does not `keep` them forgets them at once. */
export class Jar {
  /** Every `Set-Cookie` header received. */
  headers = [];
  #pairs = new Map();
  #keep;

  constructor({ keep = true } = {}) {
    this.#keep = keep;
  }

  get cookie() {
    return [...this.#pairs.values()].join('; ');
  }

  storeCookie = (uri, header, done) => {
    this.headers.push(header);
    const pair = header.split(';')[0];
    if (this.#keep) this.#pairs.set(pair.split('=')[0], pair);
    done();
  };

  retrieveCookies = (context, uri, done) => done(null, [...this.#pairs.values()]);
}

/** What one client sent and received, in order, as text and parsed. */
class Wire {
  entries = [];
  sockets = [];
  requests = new Set();
  #opened = 0;
  #scripts = new AbortController();

  /** The classes that record here. */
  classes(jar) {
    adapt({ cookies: jar });
    const { XMLHttpRequest, WebSocket } = window;
    const wire = this;
    if (!debug) window.console = QUIET;

    class RecordingRequest extends XMLHttpRequest {
      #via = `request ${(wire.#opened += 1)}`;
      #url;

      open(method, url) {
        this.#url = url;
        super.open(method, url);
      }

      send(body) {
        const { onload, onerror } = this;
        wire.requests.add(this);
        this.onload = () => {
          wire.requests.delete(this);
          wire.#note({ sent: false, via: this.#via, status: this.status, text: this.responseText });
          onload();
        };
        this.onerror = () => {
          wire.requests.delete(this);
          onerror();
        };
        wire.#note({ sent: true, via: this.#via, url: this.#url, text: body });
        super.send(body);
      }
    }

    class RecordingSocket extends WebSocket {
      #via = `socket ${(wire.#opened += 1)}`;

      constructor(url, protocol) {
        super(url, protocol);
        wire.sockets.push(this);
        this.closed = new Promise((resolve) => this.once('close', resolve));
        this.on('error', () => {});
        this.on('message', (data) =>
          wire.#note({ sent: false, via: this.#via, text: data.toString('utf8') }),
        );
      }

      send(text, ...rest) {
        wire.#note({ sent: true, via: this.#via, text });
        super.send(text, ...rest);
      }
    }

    return { XMLHttpRequest: RecordingRequest, WebSocket: RecordingSocket };
  }

  /** The text of a script, which is what callback-polling makes a request for. */
  async script(url, jar) {
    const via = `script ${(this.#opened += 1)}`;
    this.#note({ sent: true, via, url, text: new URL(url).searchParams.get('message') });
    const headers = jar.cookie ? { cookie: jar.cookie } : {};
    const response = await fetch(url, { headers, signal: this.#scripts.signal });
    const { status } = response;
    const cookie = response.headers.get('set-cookie');
    if (cookie) jar.storeCookie(url, cookie, () => {});
    const text = await response.text();
    const [, json] = /^[\w$.-]+\((.*)\)$/s.exec(text) ?? [];
    this.#note({ sent: false, via, status, text }, json);
    // What a browser takes for a script where it is told not to guess.
    const type = response.headers.get('content-type');
    if (status !== 200 || !/^text\/javascript\b/.test(type)) throw new Error(`${status} ${type}`);
    return text;
  }

  /** Breaks off everything without a word. */
  hangUp() {
    for (const request of this.requests) request.abort();
    for (const socket of this.sockets) socket.terminate();
    this.#scripts.abort();
  }

  #note(entry, json = entry.text) {
    let messages = [];
    if (entry.sent || entry.status === undefined || entry.status === 200) {
      messages = JSON.parse(json);
    }
    this.entries.push({ ...entry, at: Date.now(), messages });
  }

  #messages(sent, channel) {
    return this.entries
      .filter((entry) => entry.sent === sent)
      .flatMap((entry) => entry.messages.map((message) => ({ message, entry })))
      .filter(({ message }) => channel === undefined || message.channel === channel);
  }

  sent(channel) {
    return this.#messages(true, channel);
  }

  received(channel) {
    return this.#messages(false, channel);
  }

  /** The received entry that carries the reply to message `id`. */
  replyTo(id) {
    return this.received().find(({ message }) => message.id === id && message.data === undefined)?.entry;
  }

  /** Each answered `/meta/connect`: how long it took, and its reply. */
  connects() {
    const replies = new Map(this.received('/meta/connect').map((reply) => [reply.message.id, reply]));
    return this.sent('/meta/connect').flatMap(({ message, entry }) => {
      const reply = replies.get(message.id);
      if (!reply) return [];
      return [{ ms: reply.entry.at - entry.at, request: message, reply: reply.message, entry: reply.entry }];
    });
  }
}

/** The messages that arrive at one subscription or listener. */
export class Inbox {
  messages = [];
  reply;
  handle;

  constructor(name) {
    this.name = name;
  }

  push = (message) => {
    this.messages.push(message);
  };

  get data() {
    return this.messages.map((message) => message.data);
  }

  /** Waits for `count` messages in all and returns their data. */
  async takes(count, ms) {
    try {
      await until(() => this.messages.length >= count, `${count} messages on ${this.name}`, ms);
    } catch (error) {
      error.message += `; got ${this.messages.length}`;
      throw error;
    }
    return this.data;
  }
}

/** The `Date` of a clock that is `ahead` by as many milliseconds. */
const dateAhead = (ahead) =>
  class extends Date {
    constructor(...given) {
      super(...(given.length > 0 ? given : [Date.now() + ahead]));
    }
  };

/**
 * One client, with promises around the library's callbacks.
 *
 * `extensions` are names of the library's own, in the order in which they are registered; their clock
 * is `ahead` by as many milliseconds. A page that takes the place of another has its `jar` and `storage`.
 */
export class Peer {
  wire = new Wire();
  handshakes = [];
  #page;
  #left = false;

  constructor(url, options) {
    const { client, transport, extensions = [], ahead = 0, config = {} } = options;
    const { jar = new Jar(), storage = new SessionStorage() } = options;
    this.jar = jar;
    this.storage = storage;
    const classes = this.wire.classes(jar);
    this.#page = Object.assign(Object.create(window), classes, { sessionStorage: storage });
    this.#page.document = documentFor(this.#page, (src) => this.wire.script(src, jar));
    this.cometd = new (CLIENTS[client].CometD)();
    // Without a choice the client keeps all the transports it has by itself.
    for (const name of this.cometd.getTransportTypes()) {
      if (transport && name !== transport) this.cometd.unregisterTransport(name);
    }
    this.#lend(this.cometd.findTransport('websocket'), 'send');
    this.#lend(this.cometd.findTransport('long-polling'), 'xhrSend');
    this.#lend(this.cometd.findTransport('callback-polling'), 'jsonpSend');
    this.cometd.configure({
      url,
      logLevel: debug ? 'debug' : 'warn',
      backoffIncrement: 200,
      maxSendBayeuxMessageSize: 8 * 1024 * 1024,
      ...config,
    });
    const clock = ahead === 0 ? {} : { Date: dateAhead(ahead) };
    for (const name of extensions) {
      const extension = new (extensionsOf(client)[name])();
      this.#lend(extension, 'incoming', clock);
      this.#lend(extension, 'outgoing', clock);
      this.cometd.registerExtension(name, extension);
    }
    this.cometd.addListener('/meta/handshake', (reply) => this.handshakes.push(reply));
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

  get id() {
    return this.cometd.getClientId();
  }

  /** The name of the transport in use. */
  get transport() {
    const transport = this.cometd.getTransport();
    return transport?.getType?.() ?? transport?.type;
  }

  /** The first handshake reply, good or bad, or the library's own failure. */
  handshake(props) {
    return within(
      new Promise((resolve) => this.cometd.handshake(props ?? {}, resolve)),
      'a handshake reply',
    );
  }

  /** A good handshake and the first connect after it. */
  async connect() {
    const replies = this.collect('/meta/connect');
    const good = () => this.handshakes.find((reply) => reply.successful);
    this.cometd.handshake();
    await until(good, 'a successful handshake');
    await until(
      () => replies.messages.some((reply) => reply.successful),
      'a successful connect',
    );
    return good();
  }

  /** Listens without subscribing. */
  collect(channel) {
    const inbox = new Inbox(channel);
    inbox.handle = this.cometd.addListener(channel, inbox.push);
    return inbox;
  }

  async subscribe(channel) {
    const inbox = new Inbox(channel);
    inbox.reply = await within(
      new Promise((resolve) => {
        inbox.handle = this.cometd.subscribe(channel, inbox.push, resolve);
      }),
      `the reply to the subscription of ${channel}`,
    );
    return inbox;
  }

  unsubscribe(inbox) {
    return within(
      new Promise((resolve) => this.cometd.unsubscribe(inbox.handle, resolve)),
      `the reply to the unsubscription of ${inbox.name}`,
    );
  }

  /** Needs the extension. */
  publishBinary(channel, bytes, last, meta) {
    return within(
      new Promise((resolve) => this.cometd.publishBinary(channel, bytes, last, meta, {}, resolve)),
      `the reply to a publish on ${channel}`,
    );
  }

  publish(channel, data, props) {
    return within(
      new Promise((resolve) => this.cometd.publish(channel, data, props ?? {}, resolve)),
      `the reply to a publish on ${channel}`,
    );
  }

  call(target, data, timeout = 10_000) {
    return within(
      new Promise((resolve) => this.cometd.remoteCall(target, data, timeout, {}, resolve)),
      `the result of the call to ${target}`,
    );
  }

  disconnect() {
    return within(
      new Promise((resolve) => this.cometd.disconnect({}, resolve)),
      'the reply to the disconnection',
    );
  }

  /**
   * Leaves the page as a reload does, with the extension: its state is stored, its connections end, and it
   * does nothing any more.
   */
  leave() {
    this.#inPage(() => this.cometd.reload());
    this.#left = true;
    this.wire.hangUp();
  }

  /** Leaves nothing open, whatever state the test left the client in. */
  async close() {
    if (!this.#left && !this.cometd.isDisconnected()) {
      await Promise.race([
        new Promise((resolve) => this.cometd.disconnect({}, resolve)),
        new Promise((resolve) => setTimeout(resolve, 2_000).unref()),
      ]);
    }
    this.wire.hangUp();
  }
}

/** A client that is closed at the end of the test. */
export function peerFor(t, url, options) {
  const peer = new Peer(url, options);
  atEnd(t, CLIENT, () => peer.close());
  return peer;
}

/** The same, already connected. */
export async function connected(t, url, options) {
  const peer = peerFor(t, url, options);
  await peer.connect();
  return peer;
}

/** The same, with its second connect held by now. */
export async function holding(t, url, options) {
  const peer = await connected(t, url, options);
  await until(() => peer.wire.sent('/meta/connect').length === 2, 'the second connect');
  await sleep(300);
  assert.equal(peer.wire.connects().length, 1);
  return peer;
}

/** What the server answers to a message that carries the id of a session. */
export async function ask(t, peer, transport, url, clientId, message) {
  const request = { id: 'ask', clientId, ...message };
  if (transport === 'websocket') {
    const ws = await socket(t, url);
    ws.send([request]);
    return ws.reply('ask');
  }
  const { messages } = await post(url, [request], { cookie: peer.jar.cookie });
  return messages.find((reply) => reply.id === 'ask');
}
