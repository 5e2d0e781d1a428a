/**
 * A Bayeux client for browsers: one file, no dependencies.
 *
 *     import { Client } from './bayeux.js';
 *
 *     const client = new Client('/cometd');
 *     client.on('state', ({ state, reason }) => console.log(state, reason));
 *     client.subscribe('/chat/demo', (message) => console.log(message.data));
 *     await client.connect();
 *     await client.publish('/chat/demo', { user: 'ada', chat: 'hello' });
 *
 * It speaks WebSocket where it can and long-polling where it must. Once connected it stays connected: whatever happens
 * to the network or the server, it backs off, comes back, and restores every subscription, until `disconnect()` is
 * called or the server says that it must not come back.
 */

const DEFAULTS = {
  /** Transports in order of preference. */
  transports: ['websocket', 'long-polling'],
  /** How long an answer may take, beyond the time that the server is expected to hold a request (ms). */
  maxNetworkDelay: 10_000,
  /** How long opening a WebSocket may take before long-polling gets its turn (ms). */
  connectTimeout: 5_000,
  /** The pause before a retry grows by this much with every failure, up to `maxBackoff` (ms). */
  backoffIncrement: 1_000,
  maxBackoff: 30_000,
  /** On long-polling although WebSocket was wanted: time until the first new attempt; it doubles each time (ms). */
  upgradeDelay: 15_000,
  maxUpgradeDelay: 600_000,
  /** How many messages may wait for the connection to come back. */
  maxQueue: 1_000,
  /** Envelopes are split beyond this many characters of JSON, to stay below what servers accept in one frame. */
  maxEnvelope: 16_384,
  /** `same-origin`, or `include` if the server is on another origin and uses cookies. */
  credentials: 'same-origin',
  /** Extra fields of the handshake, such as `{ ext: { token } }`, or a function (may be async) that returns them. */
  handshake: null,
  /** Tell the server when the page goes away, and connect again if it comes back from the history. */
  disconnectOnUnload: true,
};

const DEFAULT_ADVICE = { timeout: 60_000, interval: 0, maxInterval: 0 };
const CHANNEL = /^\/[A-Za-z0-9 !#$()*+\-./@_{~}]+$/;

const isMeta = (channel) => channel.startsWith('/meta/');
/** Replies are meta messages and messages without data. `successful` does not tell: remote calls have it in both. */
const isReply = (message) => !('data' in message) || isMeta(String(message.channel));
const milliseconds = (value, fallback) => (Number.isFinite(Number(value ?? NaN)) ? Number(value) : fallback);

/** Why a message failed: refused by the server (then `reply` is its answer) or lost on the way (then it is null). */
export class BayeuxError extends Error {
  constructor(message, { reply = null, sent = true, cause } = {}) {
    super(message, { cause });
    this.name = 'BayeuxError';
    /** The server's reply, if there was one. */
    this.reply = reply;
    /** The leading code of the server's error (`403` of `403::subscribe_failed`), or 0. */
    this.code = Number.parseInt(reply?.error, 10) || 0;
    /** False if the message certainly never left this machine. */
    this.sent = sent;
  }

  static refused(reply) {
    return new BayeuxError(reply.error || 'refused by the server', { reply });
  }
}

function parseEnvelope(text) {
  let messages;
  try {
    messages = JSON.parse(text);
  } catch (cause) {
    throw new BayeuxError('the answer is not JSON', { cause });
  }
  messages = Array.isArray(messages) ? messages : [messages];
  if (messages.some((message) => message === null || typeof message !== 'object')) {
    throw new BayeuxError('the answer is not a Bayeux envelope');
  }
  return messages;
}

/*
 * A transport carries envelopes. `send` resolves when everything in the envelope has been answered and rejects when
 * that can no longer happen; the messages themselves go to the `receive` function, whatever they are.
 */

class LongPolling {
  name = 'long-polling';
  /** One request at a time beside the held connect: parallel requests could overtake each other. */
  ordered = false;
  #url;
  #credentials;
  #receive;
  #requests = new Set();

  constructor(url, options, receive) {
    this.#url = url.href;
    this.#credentials = options.credentials;
    this.#receive = receive;
  }

  async send(messages, deadline) {
    const controller = new AbortController();
    const late = () => controller.abort(new BayeuxError(`no answer within ${deadline / 1000} s`));
    const timer = setTimeout(late, deadline);
    this.#requests.add(controller);
    try {
      const response = await fetch(this.#url, {
        ...this.#request(messages, 'application/json;charset=UTF-8'),
        signal: controller.signal,
      });
      if (response.status !== 200) throw new BayeuxError(`the server answered with HTTP status ${response.status}`);
      const answer = parseEnvelope(await response.text());
      if (answer.length === 0) throw new BayeuxError('the answer is empty');
      this.#receive(answer);
    } catch (error) {
      throw error instanceof BayeuxError ? error : new BayeuxError('the server cannot be reached', { cause: error });
    } finally {
      clearTimeout(timer);
      this.#requests.delete(controller);
    }
  }

  /** Last words while the page goes away. Plain text needs no preflight, for which there would be no time. */
  sendLast(messages) {
    fetch(this.#url, { ...this.#request(messages, 'text/plain;charset=UTF-8'), keepalive: true }).catch(() => {});
  }

  close(error) {
    for (const controller of this.#requests) controller.abort(error);
  }

  #request(messages, type) {
    return {
      method: 'POST',
      body: JSON.stringify(messages),
      headers: { 'Content-Type': type },
      credentials: this.#credentials,
      cache: 'no-store',
    };
  }
}

class WebSocketTransport {
  name = 'websocket';
  ordered = true;
  #url;
  #connectTimeout;
  #receive;
  #socket = null;
  #opening = null;
  /** Envelopes that wait for replies, by the ids of their messages. */
  #waiting = new Map();

  constructor(url, options, receive) {
    this.#url = url.href.replace(/^http/, 'ws');
    this.#connectTimeout = options.connectTimeout;
    this.#receive = receive;
  }

  get isOpen() {
    return this.#socket?.readyState === WebSocket.OPEN;
  }

  /** Opens the socket unless it is open or about to be. */
  open() {
    this.#opening ??= new Promise((resolve, reject) => {
      const refused = (cause) => reject(new BayeuxError('the WebSocket could not be opened', { sent: false, cause }));
      const late = () => {
        refused();
        this.close(new BayeuxError('the WebSocket did not open in time', { sent: false }));
      };
      const timer = setTimeout(late, this.#connectTimeout);
      try {
        this.#socket = new WebSocket(this.#url);
      } catch (error) {
        this.#opening = null;
        clearTimeout(timer);
        return refused(error);
      }
      this.#socket.onopen = () => {
        clearTimeout(timer);
        resolve();
      };
      this.#socket.onmessage = (event) => this.#onFrame(event.data);
      this.#socket.onclose = ({ code, reason }) => {
        clearTimeout(timer);
        refused();
        this.close(new BayeuxError(reason || (code === 1009 ? 'the message is too large' : 'the connection was lost')));
      };
    });
    return this.#opening;
  }

  async send(messages, deadline) {
    await this.open();
    if (!this.isOpen) throw new BayeuxError('the connection was lost', { sent: false });
    return new Promise((resolve, reject) => {
      const late = () => this.close(new BayeuxError(`no answer within ${deadline / 1000} s`));
      const envelope = { left: messages.length, timer: setTimeout(late, deadline), resolve, reject };
      for (const message of messages) this.#waiting.set(message.id, envelope);
      this.#socket.send(JSON.stringify(messages));
    });
  }

  sendLast(messages) {
    if (this.isOpen) this.#socket.send(JSON.stringify(messages));
  }

  /** Gives the socket up at once: the closing handshake of a dead connection could take minutes. */
  close(error) {
    const socket = this.#socket;
    this.#socket = null;
    this.#opening = null;
    if (socket) {
      socket.onopen = socket.onmessage = socket.onclose = null;
      socket.close(1000);
    }
    const envelopes = new Set(this.#waiting.values());
    this.#waiting.clear();
    for (const envelope of envelopes) {
      clearTimeout(envelope.timer);
      envelope.reject(error);
    }
  }

  #onFrame(text) {
    let messages;
    try {
      messages = parseEnvelope(text);
    } catch (error) {
      return this.close(error);
    }
    this.#receive(messages);
    for (const message of messages) {
      const id = String(message.id);
      const envelope = this.#waiting.get(id);
      if (!envelope || !isReply(message)) continue;
      this.#waiting.delete(id);
      if (--envelope.left === 0) {
        clearTimeout(envelope.timer);
        envelope.resolve();
      }
    }
  }
}

const TRANSPORTS = { websocket: WebSocketTransport, 'long-polling': LongPolling };

/**
 * A Bayeux session that keeps itself alive.
 *
 * Events, for `on(name, handler)`:
 * - `state`: `{ state, reason, transport, retryAt }` whenever one of them changes. `state` is `connecting`, `connected`
 *   or `disconnected`, `reason` says why in words, `transport` is `websocket`, `long-polling` or null, and `retryAt` is
 *   the time (as of `Date.now()`) of the next attempt while waiting for it.
 * - `unload`: the page is about to go away; what is published now still reaches the server.
 * - `error`: an exception in a handler or an extension, or a subscription that the server refused.
 */
export class Client {
  #options;
  #url;
  #handlers = new Map();
  #extensions = [];
  #listeners = new Map();
  /** Wanted subscriptions by channel, each with its handlers and the session in which it has been asked for. */
  #subscriptions = new Map();
  /** Channels that the current session may still be subscribed to although nobody wants them any more. */
  #unwanted = new Set();

  #status = { state: 'disconnected', reason: 'not connected yet', transport: null, retryAt: null };
  /** Identifies the current life from `connect()` to the end; null while disconnected. */
  #run = null;
  #closing = null;
  #transports = new Map();
  #transport = null;
  /** Which of the preferred transports the next handshake tries first. */
  #candidate = 0;
  #upgradeTimer = null;
  #upgradeDelay;
  #clientId = null;
  #advice = DEFAULT_ADVICE;
  /** True while the session may be used; otherwise messages wait in the queue. */
  #ready = false;
  /** Whether the next connect may be held: not the first one of a session, nor the first one after a failure. */
  #settled = false;
  /** Whether the session has ever been connected. */
  #proven = false;
  #failures = 0;
  #failingSince = 0;
  #wake = null;

  #lastId = 0;
  #queue = [];
  #batches = 0;
  #busy = false;
  #pending = new Map();
  #calls = new Map();

  /**
   * @param {string} url The Bayeux endpoint, absolute or relative to the page.
   * @param {Partial<typeof DEFAULTS>} [options]
   */
  constructor(url, options = {}) {
    this.#options = { ...DEFAULTS, ...options };
    this.#upgradeDelay = this.#options.upgradeDelay;
    this.#url = new URL(url, globalThis.location?.href);
    // Whatever suggests that the network is back, or that somebody is looking, ends a pause.
    globalThis.addEventListener?.('online', () => this.retry());
    globalThis.document?.addEventListener('visibilitychange', () => document.hidden || this.retry());
    if (this.#options.disconnectOnUnload) this.#watchPage();
  }

  /** `connecting`, `connected` or `disconnected`. */
  get state() {
    return this.#status.state;
  }

  /** The last `state` event. */
  get status() {
    return { ...this.#status };
  }

  /** The id of the session, or null. Changes whenever the session had to be made anew. */
  get clientId() {
    return this.#clientId;
  }

  /** Whether messages leave at once, as opposed to waiting for the connection. */
  get ready() {
    return this.#ready && this.#run !== null;
  }

  /**
   * Connects, and stays connected. Resolves with the first success; rejects only if there will not be one, because the
   * server refused or `disconnect()` was called.
   */
  connect() {
    if (this.#closing) return this.#closing.then(() => this.connect());
    if (!this.#run) {
      const run = {};
      run.connected = new Promise((resolve, reject) => Object.assign(run, { resolve, reject }));
      run.connected.catch(() => {});
      this.#run = run;
      this.#candidate = this.#failures = 0;
      this.#setStatus({ state: 'connecting', reason: 'connecting' });
      this.#loop(run);
    }
    return this.#run.connected;
  }

  /** Ends the session, after sending what still waits. Subscriptions are kept, and restored by the next `connect()`. */
  async disconnect() {
    const run = this.#run;
    if (!run) return this.#closing;
    const done = this.#ready ? this.#enqueue({ channel: '/meta/disconnect' }).catch(() => {}) : Promise.resolve();
    this.#run = null;
    this.#setStatus({ state: 'disconnected', reason: 'closed by this client' });
    run.reject(new BayeuxError('closed by this client', { sent: false }));
    this.#closing = done.then(() => {
      this.#closing = null;
      this.#end('closed by this client');
    });
    return this.#closing;
  }

  /** Ends a pause between two attempts to connect. */
  retry() {
    this.#wake?.();
  }

  /**
   * Publishes a message. Resolves with the server's reply; rejects with a {@link BayeuxError} if the server refused it
   * or if it was lost. While the connection is being restored messages wait for it, up to `maxQueue` of them.
   * @returns {Promise<object>}
   */
  publish(channel, data = null, { ext } = {}) {
    if (!CHANNEL.test(channel) || isMeta(channel) || /\/\*\*?$/.test(channel)) {
      return quietly(Promise.reject(new TypeError(`cannot publish to ${channel}`)));
    }
    return this.#enqueue(ext === undefined ? { channel, data } : { channel, data, ext });
  }

  /**
   * Calls a service of the server and resolves with the data of its answer.
   * @param {string} target The name of the service, without `/service/`.
   * @param {{ timeout?: number }} [options] In milliseconds; 0 waits as long as the session lives.
   */
  remoteCall(target, data = null, { timeout = this.#options.maxNetworkDelay } = {}) {
    const id = this.#nextId();
    const call = {};
    const result = new Promise((resolve, reject) => Object.assign(call, { resolve, reject }));
    const channel = `/service/${target.replace(/^\//, '')}`;
    const late = () => call.reject(new BayeuxError('406::timeout'));
    const timer = timeout > 0 ? setTimeout(late, timeout) : null;
    this.#calls.set(id, call);
    // The reply to the message itself only matters if it is a refusal.
    this.#enqueue({ id, channel, data }).catch(call.reject);
    const forget = () => {
      clearTimeout(timer);
      this.#calls.delete(id);
    };
    result.then(forget, forget);
    return quietly(result);
  }

  /**
   * Subscribes to a channel, which may end in a wildcard: `/a/*` for one more segment, `/a/**` for any number. May be
   * called at any time. However often the page subscribes, the server is asked once per channel.
   * @param {(message: { channel: string, data: any }) => void} handler
   * @returns {{ channel: string, ready: Promise<void>, unsubscribe: () => void }} `ready` resolves when the server has
   *   agreed for the first time and rejects if it refuses, which also ends the subscription.
   */
  subscribe(channel, handler) {
    if (!CHANNEL.test(channel) || isMeta(channel)) throw new TypeError(`cannot subscribe to ${channel}`);
    let subscription = this.#subscriptions.get(channel);
    if (!subscription) {
      subscription = { channel, handlers: new Set(), session: null, retried: false };
      subscription.ready = quietly(
        new Promise((resolve, reject) => Object.assign(subscription, { resolve, reject })),
      );
      this.#subscriptions.set(channel, subscription);
      if (this.ready) this.#sendSubscribe(subscription);
    }
    const entry = { handler };
    subscription.handlers.add(entry);
    const unsubscribe = () => {
      if (!subscription.handlers.delete(entry) || subscription.handlers.size > 0) return;
      if (this.#subscriptions.get(channel) !== subscription) return;
      this.#subscriptions.delete(channel);
      if (subscription.session === null || subscription.session !== this.#clientId) return;
      this.#unwanted.add(channel);
      if (this.ready) this.#sendUnsubscribe(channel);
    };
    return { channel, ready: subscription.ready, unsubscribe };
  }

  /**
   * Listens without asking the server: to meta channels (`/meta/handshake`, `/meta/connect`, ...), to replies of
   * publishes (`/meta/publish`), to everything that failed (`/meta/unsuccessful`), and to messages of any channel that
   * come in. A listener of `/meta/handshake` may publish: it goes out right after the restored subscriptions.
   * @returns {() => void} ends it
   */
  listen(channel, handler) {
    return register(this.#listeners, channel, handler);
  }

  /** Handles an event, see the class. @returns {() => void} ends it */
  on(event, handler) {
    return register(this.#handlers, event, handler);
  }

  /**
   * Adds an extension: `{ incoming(message), outgoing(message) }`, both optional. Each may change the message, or
   * return another one, or return null to drop it.
   * @returns {() => void} removes it
   */
  extend(extension) {
    this.#extensions.push(extension);
    return () => {
      this.#extensions = this.#extensions.filter((other) => other !== extension);
    };
  }

  /** Runs `work` and sends everything it publishes, subscribes and unsubscribes in one envelope. */
  batch(work) {
    this.#batches++;
    try {
      return work();
    } finally {
      this.#batches--;
      this.#flush();
    }
  }

  // ---- The loop: one thing after the other, so that never more than one connect is under way.

  async #loop(run) {
    const { transports } = this.#options;
    for (const name of transports) {
      this.#transports.set(name, new TRANSPORTS[name](this.#url, this.#options, (messages) => this.#receive(messages)));
    }
    while (this.#run === run) {
      let delay;
      try {
        delay = this.#clientId ? await this.#metaConnect(run) : await this.#metaHandshake(run);
      } catch (error) {
        if (this.#run !== run) return;
        delay = this.#afterFailure(error);
      }
      // No timer if there is nothing to wait for: browsers slow down the timers of pages in the background.
      if (this.#run === run && delay > 0) await this.#pause(delay);
    }
  }

  async #metaHandshake(run) {
    const names = this.#options.transports.slice(this.#candidate);
    this.#transport = this.#transports.get(names[0]);
    const { handshake } = this.#options;
    const fields = typeof handshake === 'function' ? await handshake() : handshake;
    if (this.#run !== run) return 0;
    const deadline = this.#options.maxNetworkDelay;
    const reply = await this.#request({
      ...fields,
      channel: '/meta/handshake',
      version: '1.0',
      minimumVersion: '1.0',
      supportedConnectionTypes: names,
    }, deadline);
    if (this.#run !== run) return 0;

    if (!reply.successful || !reply.clientId) {
      this.#notify(reply);
      if (reply.advice?.reconnect === 'none') {
        return this.#stop(reply.error || 'the server refused the handshake', reply);
      }
      return this.#retryLater(BayeuxError.refused(reply).message);
    }
    const offered = reply.supportedConnectionTypes ?? names;
    const name = names.find((candidate) => offered.includes(candidate));
    if (!name) return this.#stop('the server supports none of the transports', reply);

    this.#transport = this.#transports.get(name);
    this.#clientId = reply.clientId;
    this.#settled = this.#proven = false;
    this.#unwanted.clear();
    if (this.#candidate > 0 && offered.includes('websocket')) this.#planUpgrade(run);
    this.#candidate = 0;
    this.#open(reply);
    return this.#interval();
  }

  async #metaConnect(run) {
    this.#upgrade();
    const message = { channel: '/meta/connect', connectionType: this.#transport.name };
    let deadline = this.#options.maxNetworkDelay;
    if (this.#settled) deadline += milliseconds(this.#advice.timeout, DEFAULT_ADVICE.timeout);
    // Not to be held: the answer tells at once that the session is alive.
    if (!this.#settled) message.advice = { timeout: 0 };
    // Other tabs make the server answer at once. Any advice of ours makes it say when that is over.
    else if (this.#advice['multiple-clients']) message.advice = {};

    const reply = await this.#request(message, deadline);
    if (this.#run !== run) return 0;
    const reconnect = reply.advice?.reconnect ?? 'retry';
    if (reconnect === 'none') {
      const crowded = reply.advice['multiple-clients'] ? 'too many tabs are connected to this server' : null;
      return this.#stop(crowded ?? reply.error ?? 'the server ended the session', reply);
    }
    if (reconnect === 'handshake') {
      const reason = 'the server does not know the session';
      this.#endSession(reason);
      // Not even the first connect of a session worked, perhaps for want of cookies: do not go round in circles.
      if (!this.#proven) return this.#retryLater(reason);
      this.#setStatus({ state: 'connecting', reason });
      return this.#interval();
    }
    if (!reply.successful) return this.#retryLater(BayeuxError.refused(reply).message);

    this.#failures = 0;
    this.#settled = this.#proven = true;
    if (this.#transport.name === 'websocket') this.#upgradeDelay = this.#options.upgradeDelay;
    if (!this.#ready) this.#open();
    this.#setStatus({ state: 'connected', reason: 'connected', transport: this.#transport.name });
    run.resolve();
    return this.#interval();
  }

  /** The session may be used: restore what the server does not know (yet), then send what has been waiting. */
  #open(handshakeReply = null) {
    this.#ready = true;
    const waiting = this.#queue.splice(0);
    this.batch(() => {
      this.#synchronise();
      if (handshakeReply) this.#notify(handshakeReply);
      this.#queue.push(...waiting);
    });
  }

  /** A handshake or connect got no answer. Returns how long to wait. */
  #afterFailure(error) {
    if (this.#clientId) {
      // Is it worth asking for the same session again? Not if the server must have removed it by now, and not if
      // WebSockets fail again and again: long-polling cannot carry on with a session made by a WebSocket.
      const { timeout, interval, maxInterval } = this.#advice;
      const lost = maxInterval > 0 && this.#failures > 0
        && Date.now() - this.#failingSince > Number(timeout) + Number(interval) + Number(maxInterval);
      const stuck = this.#failures > 0 && this.#transport.name === 'websocket';
      if (lost || stuck) this.#endSession('the session was lost');
    } else if (this.#candidate + 1 < this.#options.transports.length) {
      this.#candidate++;
      return 0;
    } else {
      this.#candidate = 0;
    }
    return this.#retryLater(error.message);
  }

  #retryLater(reason) {
    if (!this.#run) return 0;
    if (this.#failures++ === 0) this.#failingSince = Date.now();
    this.#suspend();
    const { backoffIncrement, maxBackoff } = this.#options;
    // Jitter, lest all clients of a restarted server return in the same moment.
    const backoff = Math.min(this.#failures * backoffIncrement, maxBackoff) * (0.5 + Math.random() / 2);
    const delay = backoff + this.#interval();
    this.#setStatus({ state: 'connecting', reason, retryAt: Date.now() + delay });
    return delay;
  }

  /** The connection is in doubt: from now on messages wait. */
  #suspend() {
    this.#ready = false;
    this.#settled = false;
    // What the server should know about subscriptions is worked out anew when the session can be used again.
    const outdated = this.#queue.filter((entry) => isMeta(entry.message.channel));
    this.#queue = this.#queue.filter((entry) => !outdated.includes(entry));
    for (const entry of outdated) entry.reject(new BayeuxError('the connection was lost', { sent: false }));
  }

  #endSession(reason) {
    this.#clientId = null;
    clearTimeout(this.#upgradeTimer);
    this.#suspend();
    for (const call of this.#calls.values()) {
      if (call.sent) call.reject(new BayeuxError(reason));
    }
  }

  /** The end of this run, on behalf of the server. */
  #stop(reason, reply = null) {
    const run = this.#run;
    this.#run = null;
    run?.reject(new BayeuxError(reason, { reply, sent: false }));
    this.#end(reason);
    return 0;
  }

  #end(reason) {
    const error = new BayeuxError(reason, { sent: false });
    this.#endSession(reason);
    for (const transport of this.#transports.values()) transport.close(new BayeuxError(reason));
    for (const entry of [...this.#queue, ...this.#pending.values()]) entry.reject(error);
    this.#queue = [];
    this.#pending.clear();
    this.#advice = DEFAULT_ADVICE;
    this.#busy = false;
    this.#wake?.();
    this.#setStatus({ state: 'disconnected', reason });
  }

  #interval() {
    return Math.max(0, milliseconds(this.#advice.interval, 0));
  }

  #pause(delay) {
    return new Promise((resolve) => {
      const timer = setTimeout(() => this.#wake?.(), delay);
      this.#wake = () => {
        clearTimeout(timer);
        this.#wake = null;
        resolve();
      };
    });
  }

  // ---- From long-polling back to WebSocket, with the same session.

  #planUpgrade(run) {
    const attempt = () => {
      // Back to where it began once a WebSocket has proved to work.
      this.#upgradeDelay = Math.min(this.#upgradeDelay * 2, this.#options.maxUpgradeDelay);
      this.#transports.get('websocket').open().catch(() => this.#run === run && this.#planUpgrade(run));
    };
    clearTimeout(this.#upgradeTimer);
    this.#upgradeTimer = setTimeout(attempt, this.#upgradeDelay);
  }

  /** Switches between two connects, when no message can be lost with the answer to a held one. */
  #upgrade() {
    const socket = this.#transports.get('websocket');
    if (this.#transport === socket || !socket?.isOpen) return;
    this.#transport = socket;
    this.#settled = false;
  }

  // ---- Sending

  #nextId() {
    return String(++this.#lastId);
  }

  #entry(message) {
    const entry = { id: message.id ?? this.#nextId(), message, resent: false };
    entry.promise = quietly(new Promise((resolve, reject) => Object.assign(entry, { resolve, reject })));
    return entry;
  }

  /** Sends a message on its own, now. Handshakes and connects go this way. */
  #request(message, deadline) {
    const entry = this.#entry(message);
    this.#transmit([entry], deadline);
    return entry.promise;
  }

  /** Sends a message as soon as possible, in order with the others. */
  #enqueue(message) {
    const entry = this.#entry(message);
    try {
      entry.size = JSON.stringify(message).length;
    } catch (error) {
      entry.reject(error);
      return entry.promise;
    }
    if (!this.#run) {
      entry.reject(new BayeuxError('not connected', { sent: false }));
    } else if (!this.#ready && this.#queue.length >= this.#options.maxQueue) {
      entry.reject(new BayeuxError('too many messages are waiting for the connection', { sent: false }));
    } else {
      this.#queue.push(entry);
      this.#flush();
    }
    return entry.promise;
  }

  #flush() {
    while (this.#ready && this.#batches === 0 && this.#queue.length > 0) {
      if (this.#busy && !this.#transport.ordered) return;
      let count = 1;
      let size = this.#queue[0].size;
      while (count < this.#queue.length && (size += this.#queue[count].size) <= this.#options.maxEnvelope) count++;
      this.#busy = true;
      this.#transmit(this.#queue.splice(0, count), this.#options.maxNetworkDelay).finally(() => {
        this.#busy = false;
        this.#flush();
      });
    }
  }

  async #transmit(entries, deadline) {
    const messages = this.#prepare(entries);
    if (messages.length === 0) return;
    const unanswered = () => entries.filter((entry) => this.#pending.get(entry.id) === entry);
    try {
      await this.#transport.send(messages, deadline);
      for (const entry of unanswered()) this.#fail(entry, new BayeuxError('the server sent no reply'));
    } catch (error) {
      // What certainly has not been sent may wait for the next connection, unless nobody waits for that.
      for (const entry of unanswered()) {
        if (!error.sent && this.#run && !isMeta(entry.message.channel)) this.#requeue(entry);
        else this.#fail(entry, error);
      }
    }
  }

  /** Completes messages and applies the extensions, last one first. */
  #prepare(entries) {
    const messages = [];
    for (const entry of entries) {
      let message = { ...entry.message, id: entry.id };
      if (message.channel !== '/meta/handshake') message.clientId = this.#clientId;
      message = this.#applyExtensions('outgoing', message);
      if (!message) {
        entry.reject(new BayeuxError('404::message_deleted', { sent: false }));
        continue;
      }
      message.id = entry.id;
      messages.push(message);
      this.#pending.set(entry.id, entry);
      if (this.#calls.has(entry.id)) this.#calls.get(entry.id).sent = true;
    }
    return messages;
  }

  #requeue(entry) {
    this.#pending.delete(entry.id);
    this.#ready = false;
    this.#queue.push(entry);
    this.#queue.sort((a, b) => a.id - b.id);
  }

  /** A message got no reply: listeners see a failed one that never was on the wire. */
  #fail(entry, error) {
    this.#pending.delete(entry.id);
    const { channel, subscription } = entry.message;
    const failure = { message: entry.message, reason: error.message };
    const reply = { id: entry.id, channel, successful: false, failure };
    if (subscription !== undefined) reply.subscription = subscription;
    this.#notify(reply);
    entry.reject(error);
  }

  /** Tells the server about subscriptions what it does not know yet. */
  #synchronise() {
    if (!this.ready) return;
    for (const subscription of this.#subscriptions.values()) {
      if (subscription.session !== this.#clientId) this.#sendSubscribe(subscription);
    }
    for (const channel of this.#unwanted) this.#sendUnsubscribe(channel);
  }

  #sendSubscribe(subscription) {
    const { channel } = subscription;
    const session = this.#clientId;
    subscription.session = session;
    this.#unwanted.delete(channel);
    this.#enqueue({ channel: '/meta/subscribe', subscription: channel }).then(subscription.resolve, (error) => {
      if (subscription.session === session) subscription.session = null;
      // Lost, or the session was: say it again, at the latest when the connection is back.
      if (!error.reply || (error.code === 402 && !subscription.retried)) {
        subscription.retried = Boolean(error.reply);
        setTimeout(() => this.#synchronise(), this.#options.backoffIncrement);
        return;
      }
      if (this.#subscriptions.get(channel) === subscription) this.#subscriptions.delete(channel);
      subscription.reject(error);
      const { reply, message } = error;
      this.#emit('error', new BayeuxError(`subscription to ${channel} refused: ${message}`, { reply }));
    });
  }

  #sendUnsubscribe(channel) {
    const done = () => this.#unwanted.delete(channel);
    const failed = (error) => {
      if (error.reply) done();
      else setTimeout(() => this.#synchronise(), this.#options.backoffIncrement);
    };
    this.#enqueue({ channel: '/meta/unsubscribe', subscription: channel }).then(done, failed);
  }

  // ---- Receiving

  #receive(messages) {
    for (const received of messages) {
      const message = this.#applyExtensions('incoming', received);
      if (!message) continue;
      // Without a channel it can only be the answer to something that the server found malformed.
      if (typeof message.channel !== 'string') message.channel = this.#pending.get(String(message.id))?.message.channel;
      if (!message.channel) continue;
      if (isReply(message)) this.#onReply(message);
      else this.#onDelivery(message);
    }
  }

  #onReply(message) {
    const entry = this.#pending.get(String(message.id));
    if (!entry) {
      // Late answers are of no interest, least of all those to an earlier connect.
      if (message.channel === '/meta/disconnect' && this.#run) this.#stop('the server ended the session', message);
      return;
    }
    this.#pending.delete(entry.id);
    if (message.advice) this.#advice = { ...DEFAULT_ADVICE, ...message.advice };
    const { channel } = entry.message;
    if (isMeta(channel)) {
      // A new session must be in place before the listeners of its handshake run.
      if (channel !== '/meta/handshake') this.#notify(message);
      const answers = channel === '/meta/handshake' || channel === '/meta/connect';
      if (answers || message.successful) return entry.resolve(message);
    } else if (message.successful) {
      this.#notify(message);
      return entry.resolve(message);
    }

    const error = BayeuxError.refused(message);
    if (error.code === 402 && this.#run) {
      // The server does not know the session: a message refused for that may wait for the next one. That the session
      // is gone is for the server to say in reply to a connect, so let the current connect fail.
      this.#transport.close(new BayeuxError('the server has forgotten the session'));
      if (!isMeta(channel) && !entry.resent) {
        entry.resent = true;
        return this.#requeue(entry);
      }
    }
    if (!isMeta(channel)) this.#notify(message);
    entry.reject(error);
  }

  #onDelivery(message) {
    const call = this.#calls.get(String(message.id));
    if (call) {
      if (message.successful === false) call.reject(new BayeuxError('the remote call failed', { reply: message }));
      else call.resolve(message.data);
      return;
    }
    for (const name of [message.channel, ...wildcards(message.channel)]) {
      this.#dispatch(this.#listeners.get(name), message);
      this.#dispatch(this.#subscriptions.get(name)?.handlers, message);
    }
  }

  /** Tells listeners about a reply. Subscribers do not see replies. */
  #notify(reply) {
    const { channel } = reply;
    for (const name of isMeta(channel) ? [channel, ...wildcards(channel)] : ['/meta/publish']) {
      this.#dispatch(this.#listeners.get(name), reply);
    }
    if (!reply.successful) this.#dispatch(this.#listeners.get('/meta/unsuccessful'), reply);
  }

  // ---- Calling what the application gave us; its exceptions must not stop us.

  #dispatch(entries, argument) {
    for (const { handler } of [...(entries ?? [])]) {
      try {
        handler(argument);
      } catch (error) {
        this.#report(error);
      }
    }
  }

  #applyExtensions(direction, message) {
    const extensions = direction === 'outgoing' ? this.#extensions.toReversed() : this.#extensions;
    for (const extension of extensions) {
      try {
        const result = extension[direction]?.(message);
        if (result === null) return null;
        message = result ?? message;
      } catch (error) {
        this.#report(error);
      }
    }
    return message;
  }

  #emit(event, argument) {
    this.#dispatch(this.#handlers.get(event), argument);
  }

  #report(error) {
    const handlers = this.#handlers.get('error');
    if (!handlers?.size) console.error(error);
    for (const { handler } of handlers ?? []) {
      try {
        handler(error);
      } catch (another) {
        console.error(another);
      }
    }
  }

  #setStatus({ state, reason, transport = null, retryAt = null }) {
    const next = { state, reason, transport, retryAt };
    if (Object.keys(next).every((key) => next[key] === this.#status[key])) return;
    this.#status = next;
    this.#emit('state', { ...next });
  }

  // ---- The page

  #watchPage() {
    let returning = false;
    globalThis.addEventListener?.('pagehide', () => {
      if (!this.#run) return;
      returning = true;
      this.#batches++;
      this.#emit('unload');
      this.#batches--;
      if (this.#ready) {
        const last = [...this.#queue.splice(0), this.#entry({ channel: '/meta/disconnect' })];
        this.#transport.sendLast(this.#prepare(last));
      }
      this.#stop('the page was left');
    });
    globalThis.addEventListener?.('pageshow', () => {
      if (returning) this.connect();
      returning = false;
    });
  }
}

/** Whoever does not look at a promise shall not be bothered by its rejection. */
function quietly(promise) {
  promise.catch(() => {});
  return promise;
}

/** The wildcard channels that match a channel, nearest first: for `/a/b` these are `/a/*`, `/a/**` and `/**`. */
function wildcards(channel) {
  const segments = channel.split('/').slice(0, -1);
  const names = [`${segments.join('/')}/*`];
  for (; segments.length > 0; segments.pop()) names.push(`${segments.join('/')}/**`);
  return names;
}

function register(map, key, handler) {
  const entries = map.get(key) ?? new Set();
  map.set(key, entries);
  const entry = { handler };
  entries.add(entry);
  return () => entries.delete(entry);
}
