// Faye's clients, doing what lines of JSON on standard input ask of them, and saying on standard output what comes
// of it; `interop/lib/driven.mjs` has the other end. In a process of their own, because their timers keep one alive.
//
// Such a client handshakes over long-polling and takes the session to a WebSocket afterwards, if the server has
// one; its first connect carries no advice; and it sends one frame per message.

import { createRequire } from 'node:module';
import { createInterface } from 'node:readline';

const require = createRequire(import.meta.url);
const faye = require('faye');

/** Seconds between attempts. */
const RETRY = 0.2;

/** Milliseconds between looks at the state when nothing else happens. */
const GLANCE = 20;

/** Milliseconds that a client may take to say goodbye. */
const GOODBYE = 2_000;

const STATES = ['', 'unconnected', 'connecting', 'connected', 'disconnected'];

/** One client. */
class Driver {
  #write;
  #faye;
  #id = null;
  #transport = null;
  #state = '';
  #glances;
  #listeners = new Map();
  #subscriptions = new Map();
  /** Whoever waits for the reply to the next message on a channel that is sent. */
  #unsent = new Map();
  /** Whoever waits for the reply to a message, by its id. */
  #unanswered = new Map();
  /** What is being handed out. */
  #message;

  /** `write` takes what there is to say. */
  constructor(write) {
    this.#write = write;
    this.#glances = setInterval(() => this.#glance(), GLANCE);
  }

  async perform({ number, name, argument }) {
    try {
      this.#emit({ what: 'done', number, result: await this[name](argument) });
    } catch (error) {
      this.#emit({ what: 'failed', number, reason: String(error) });
    }
  }

  open({ url, transports }) {
    this.#faye = new faye.Client(url, { retry: RETRY });
    if (!transports.includes('websocket')) this.#faye.disable('websocket');
    this.#faye.addExtension({
      outgoing: (message, done) => {
        this.#sent(message);
        done(message);
      },
      incoming: (message, done) => {
        this.#received(message);
        done(message);
      },
    });
  }

  handshake() {
    const reply = this.#replyOn('/meta/handshake');
    this.#faye.connect(() => {});
    return reply;
  }

  listen({ channel, to }) {
    this.#listeners.set(to, channel);
  }

  subscribe({ channel, to }) {
    const reply = this.#replyOn('/meta/subscribe');
    const subscription = this.#faye.subscribe(channel, () => this.#hand(to, this.#message));
    this.#subscriptions.set(to, subscription);
    return reply;
  }

  unsubscribe(to) {
    const reply = this.#replyOn('/meta/unsubscribe');
    this.#subscriptions.get(to).cancel();
    return reply;
  }

  publish({ channel, data }) {
    const reply = this.#replyOn(channel);
    const failed = this.#faye.publish(channel, data).then(
      () => new Promise(() => {}),
      (error) => ({ channel, successful: false, failure: { exception: String(error) } }),
    );
    return Promise.race([reply, failed]);
  }

  disconnect() {
    const reply = this.#replyOn('/meta/disconnect');
    this.#faye.disconnect();
    return reply;
  }

  async close() {
    this.#faye.disconnect();
    await Promise.race([
      this.#replyOn('/meta/disconnect'),
      new Promise((resolve) => setTimeout(resolve, this.#status() === 'connected' ? GOODBYE : 0)),
    ]);
    clearInterval(this.#glances);
  }

  #replyOn(channel) {
    return new Promise((resolve) => {
      const waiting = this.#unsent.get(channel) ?? [];
      this.#unsent.set(channel, [...waiting, resolve]);
    });
  }

  #sent({ id, channel, connectionType }) {
    if (connectionType) this.#transport = connectionType;
    const resolve = this.#unsent.get(channel)?.shift();
    if (resolve) this.#unanswered.set(id, resolve);
  }

  #received(message) {
    const { id, channel, clientId, successful } = message;
    this.#message = message;
    if (channel === '/meta/handshake' && successful) this.#id = clientId;
    this.#unanswered.get(id)?.(message);
    if (successful !== undefined && !channel.startsWith('/meta/')) return;
    for (const [to, pattern] of this.#listeners) {
      if (pattern === channel) this.#hand(to, message);
    }
  }

  #hand(to, message) {
    this.#emit({ what: 'heard', to, message });
  }

  #emit(event) {
    this.#glance();
    this.#write(event);
  }

  #status() {
    return STATES[this.#faye?._state] || 'disconnected';
  }

  /** Says what the state is, if that is another than last time. */
  #glance() {
    const state = { id: this.#id, status: this.#status(), transport: this.#transport };
    const text = JSON.stringify(state);
    if (text !== this.#state) this.#write({ what: 'state', state });
    this.#state = text;
  }
}

if (process.argv[2] === 'debug') faye.logger = (text) => console.error(text);
console.log(JSON.stringify({ what: 'ready' }));
const drivers = new Map();
for await (const line of createInterface(process.stdin)) {
  const { client, ...command } = JSON.parse(line);
  if (!drivers.has(client)) {
    drivers.set(client, new Driver((event) => console.log(JSON.stringify({ client, ...event }))));
  }
  drivers.get(client).perform(command);
}
process.exit();
