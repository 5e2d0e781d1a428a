// What passes between a client and the server, for clients that run elsewhere and do not tell.
//
// A tap is a TCP proxy that changes nothing: whole HTTP messages and WebSocket frames are noted in a wire before
// the client receives them.

import { once } from 'node:events';
import net from 'node:net';
import { Jar } from './page.mjs';

/** Feeds bytes to a generator that asks for them: for as many, or for those up to a text and with it. */
class Feed {
  #bytes = Buffer.alloc(0);
  #parser;
  #wanted;

  constructor(parser) {
    this.#parser = parser;
    this.#wanted = parser.next().value;
  }

  push(chunk) {
    this.#bytes = this.#bytes.length === 0 ? chunk : Buffer.concat([this.#bytes, chunk]);
    for (let end = this.#end(); end !== undefined; end = this.#end()) {
      const taken = this.#bytes.subarray(0, end);
      this.#bytes = this.#bytes.subarray(end);
      this.#wanted = this.#parser.next(taken).value;
    }
  }

  #end() {
    if (typeof this.#wanted === 'number') {
      return this.#wanted <= this.#bytes.length ? this.#wanted : undefined;
    }
    const at = this.#bytes.indexOf(this.#wanted);
    return at < 0 ? undefined : at + this.#wanted.length;
  }
}

/** The first line of an HTTP message and its headers, which have a list of values each. */
function* head() {
  const [first, ...lines] = String(yield '\r\n\r\n').trimEnd().split('\r\n');
  const headers = {};
  for (const line of lines) {
    const [, name, value] = /^([^:]+):\s*(.*)$/.exec(line);
    (headers[name.toLowerCase()] ??= []).push(value);
  }
  return { first, headers };
}

function* body(headers) {
  if (headers['transfer-encoding']?.[0] !== 'chunked') {
    return yield Number(headers['content-length']?.[0] ?? 0);
  }
  const chunks = [];
  for (;;) {
    const size = Number.parseInt(String(yield '\r\n'), 16);
    chunks.push(yield size);
    yield '\r\n';
    if (size === 0) return Buffer.concat(chunks);
  }
}

/** The messages in WebSocket frames. */
function* frames(note) {
  let parts = [];
  for (;;) {
    const [first, second] = yield 2;
    let length = second & 0x7f;
    if (length === 126) length = (yield 2).readUInt16BE();
    else if (length === 127) length = Number((yield 8).readBigUInt64BE());
    const mask = second & 0x80 ? yield 4 : [0, 0, 0, 0];
    const payload = (yield length).map((byte, n) => byte ^ mask[n % 4]);
    const control = (first & 0x08) !== 0;
    if (!control) parts.push(payload);
    if (!control && first & 0x80) {
      note(Buffer.concat(parts).toString('utf8'));
      parts = [];
    }
  }
}

/** One connection of the client, in both directions. */
class Exchange {
  #tap;
  #answers = [];
  #closed;
  sent = new Feed(this.#requests());
  received = new Feed(this.#responses());

  constructor(tap, closed) {
    this.#tap = tap;
    this.#closed = closed;
  }

  *#requests() {
    for (;;) {
      const { first, headers } = yield* head();
      const text = (yield* body(headers)).toString('utf8');
      const socket = headers.upgrade?.[0].toLowerCase() === 'websocket';
      const via = this.#tap.via(socket ? 'socket' : 'request');
      this.#answers.push(via);
      const url = new URL(first.split(' ')[1], this.#tap.url).href;
      if (!socket) this.#tap.wire.note({ sent: true, via, url, text });
    }
  }

  *#responses() {
    for (;;) {
      const { first, headers } = yield* head();
      const status = Number(first.split(' ')[1]);
      if (status === 101) yield* this.#upgraded(headers);
      if (status < 200) continue;
      for (const cookie of headers['set-cookie'] ?? []) this.#tap.jar.storeCookie(this.#tap.url, cookie, () => {});
      const text = (yield* body(headers)).toString('utf8');
      this.#tap.wire.note({ sent: false, via: this.#answers.shift(), status, text });
    }
  }

  *#upgraded(headers) {
    const via = this.#answers.shift();
    const { wire } = this.#tap;
    wire.sockets.push({ protocol: headers['sec-websocket-protocol']?.[0] ?? '', closed: this.#closed });
    this.sent = new Feed(frames((text) => wire.note({ sent: true, via, text })));
    yield* frames((text) => wire.note({ sent: false, via, text }));
  }
}

/** Listens for one client, which calls this machine `host`, and forwards to the server at an address. */
export class Tap {
  jar = new Jar();
  #opened = 0;
  #sockets = new Set();
  #listener;

  constructor(url, wire, host = '127.0.0.1') {
    this.target = new URL(url);
    this.wire = wire;
    this.host = host;
  }

  async listen() {
    this.#listener = net.createServer({ noDelay: true }, (near) => this.#accept(near));
    this.#listener.listen(0, '127.0.0.1');
    await once(this.#listener, 'listening');
    const url = new URL(this.target);
    url.host = `${this.host}:${this.#listener.address().port}`;
    this.url = url.href;
  }

  via(kind) {
    this.#opened += 1;
    return `${kind} ${this.#opened}`;
  }

  #accept(near) {
    const far = net.connect({ host: '127.0.0.1', port: this.target.port, noDelay: true });
    const closed = new Promise((resolve) => near.once('close', resolve));
    const exchange = new Exchange(this, closed);
    const forward = (from, to, feed) => {
      from.on('data', (chunk) => {
        feed().push(chunk);
        if (!to.write(chunk)) from.pause();
      });
      to.on('drain', () => from.resume());
    };
    forward(near, far, () => exchange.sent);
    forward(far, near, () => exchange.received);
    for (const [socket, other] of [[near, far], [far, near]]) {
      this.#sockets.add(socket);
      socket.on('end', () => other.end());
      socket.on('error', () => {});
      socket.on('close', () => {
        this.#sockets.delete(socket);
        other.destroy();
      });
    }
  }

  close() {
    this.#listener?.close();
    for (const socket of this.#sockets) socket.destroy();
  }
}
