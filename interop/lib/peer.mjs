// What every client can be asked to do, wherever it runs.

import { until, within } from './wait.mjs';
import { Wire } from './wire.mjs';

/** The messages that arrive at one subscription or listener. */
export class Inbox {
  messages = [];
  reply;

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

/**
 * One client, with promises around a library's callbacks.
 *
 * A class of clients has a `static Jar`, whose instances are browsers with cookies of their own, a constructor that
 * takes the URL of a server and options, calls `watch()` at its end, and
 *
 * - `command(name, argument)`: does at once what `commands.mjs` says, and promises its result. Commands of one turn
 *   of the event loop are done in one, so that a batch is one. Messages for listeners come to `heard`;
 * - `id`, `status` and `transport`, which say what the library says;
 * - `wire`, which has been told of everything that was sent and received by the time the library is;
 * - `jar` and `storage`, which a page that takes the place of this one has as well, after `leave()`;
 * - `close()`, which leaves nothing open.
 */
export class Peer {
  wire = new Wire();
  handshakes = [];
  #listeners = [];

  watch() {
    this.listen('/meta/handshake', (reply) => this.handshakes.push(reply));
  }

  get disconnected() {
    return this.status === 'disconnecting' || this.status === 'disconnected';
  }

  /** Hands a message to listener `to`. */
  heard(to, message) {
    this.#listeners[to](message);
  }

  #listener(callback) {
    return this.#listeners.push(callback) - 1;
  }

  /** Does not wait for anything, nor mind what comes of it. */
  #now(name, argument) {
    this.command(name, argument).catch(() => {});
  }

  /** The first handshake reply, good or bad, or the library's own failure. */
  handshake(props = {}) {
    return within(this.command('handshake', props), 'a handshake reply');
  }

  /** Begins to handshake. */
  start() {
    this.#now('handshake', {});
  }

  /** A good handshake and the first connect after it. */
  async connect() {
    const replies = this.collect('/meta/connect');
    const good = () => this.handshakes.find((reply) => reply.successful);
    this.start();
    await until(good, 'a successful handshake');
    await until(
      () => replies.messages.some((reply) => reply.successful),
      'a successful connect',
    );
    return good();
  }

  /** Calls back for each message, without subscribing. */
  listen(channel, callback) {
    this.#now('listen', { channel, to: this.#listener(callback) });
  }

  /** Listens without subscribing. */
  collect(channel) {
    const inbox = new Inbox(channel);
    this.listen(channel, inbox.push);
    return inbox;
  }

  async subscribe(channel, callback) {
    const inbox = new Inbox(channel);
    inbox.to = this.#listener(callback ?? inbox.push);
    inbox.reply = await within(
      this.command('subscribe', { channel, to: inbox.to }),
      `the reply to the subscription of ${channel}`,
    );
    return inbox;
  }

  /** Calls back for each message, as soon as the server knows of it. */
  subscribeNow(channel, callback) {
    this.#now('subscribe', { channel, to: this.#listener(callback) });
  }

  unsubscribe(inbox) {
    return within(
      this.command('unsubscribe', inbox.to),
      `the reply to the unsubscription of ${inbox.name}`,
    );
  }

  publish(channel, data, props = {}) {
    return within(this.command('publish', { channel, data, props }), `the reply to a publish on ${channel}`);
  }

  publishNow(channel, data) {
    this.#now('publish', { channel, data, props: {} });
  }

  /** Needs the extension. */
  publishBinary(channel, bytes, last, meta) {
    return within(
      this.command('publishBinary', { channel, bytes, last, meta }),
      `the reply to a publish on ${channel}`,
    );
  }

  /** What `operation` sends is sent together. Returns what it does. */
  batch(operation) {
    this.#now('startBatch');
    const result = operation();
    this.#now('endBatch');
    return result;
  }

  call(target, data, timeout = 10_000) {
    return within(this.command('call', { target, data, timeout }), `the result of the call to ${target}`);
  }

  disconnect() {
    return within(this.command('disconnect'), 'the reply to the disconnection');
  }

  /** What the extension knows of the server's clock: `offset` and `lag`, in milliseconds. */
  timesync() {
    return within(this.command('timesync'), 'what the client knows of the time');
  }

  /** After failed connects the client goes on over `transport`, which it does not by itself. */
  changeTo(transport) {
    return within(this.command('changeTo', transport), 'the client to know what to change to');
  }
}
