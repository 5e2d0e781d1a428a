// What a client under Node uses for the network, with every message noted in its wire.

import { adapt } from 'cometd-nodejs-client';
import { jsonOf } from './wire.mjs';

export class Recorder {
  #wire;
  #requests = new Set();
  #opened = 0;
  #scripts = new AbortController();

  constructor(wire) {
    this.#wire = wire;
  }

  /** `XMLHttpRequest` and `WebSocket`, with the cookies of `jar`. */
  classes(jar) {
    adapt({ cookies: jar });
    const { XMLHttpRequest, WebSocket } = window;
    const wire = this.#wire;
    const requests = this.#requests;
    const next = (kind) => `${kind} ${(this.#opened += 1)}`;

    class RecordingRequest extends XMLHttpRequest {
      #via = next('request');
      #url;

      open(method, url) {
        this.#url = url;
        super.open(method, url);
      }

      send(body) {
        const { onload, onerror } = this;
        requests.add(this);
        this.onload = () => {
          requests.delete(this);
          wire.note({ sent: false, via: this.#via, status: this.status, text: this.responseText });
          onload();
        };
        this.onerror = () => {
          requests.delete(this);
          onerror();
        };
        wire.note({ sent: true, via: this.#via, url: this.#url, text: body });
        super.send(body);
      }
    }

    class RecordingSocket extends WebSocket {
      #via = next('socket');

      constructor(url, protocol) {
        super(url, protocol);
        wire.sockets.push(this);
        this.closed = new Promise((resolve) => this.once('close', resolve));
        this.on('error', () => {});
        this.on('message', (data) =>
          wire.note({ sent: false, via: this.#via, text: data.toString('utf8') }),
        );
      }

      send(text, ...rest) {
        wire.note({ sent: true, via: this.#via, text });
        super.send(text, ...rest);
      }
    }

    return { XMLHttpRequest: RecordingRequest, WebSocket: RecordingSocket };
  }

  /** The text of a script, which is what callback-polling makes a request for. */
  async script(url, jar) {
    const via = `script ${(this.#opened += 1)}`;
    this.#wire.note({ sent: true, via, url, text: new URL(url).searchParams.get('message') });
    const cookie = jar.cookieFor(url);
    const response = await fetch(url, {
      headers: cookie ? { cookie } : {},
      signal: this.#scripts.signal,
    });
    const { status } = response;
    const given = response.headers.get('set-cookie');
    if (given) jar.storeCookie(url, given, () => {});
    const text = await response.text();
    this.#wire.note({ sent: false, via, status, text }, jsonOf(text));
    // What a browser takes for a script where it is told not to guess.
    const type = response.headers.get('content-type');
    if (status !== 200 || !/^text\/javascript\b/.test(type)) throw new Error(`${status} ${type}`);
    return text;
  }

  /** Breaks off everything without a word. */
  hangUp() {
    for (const request of this.#requests) request.abort();
    for (const socket of this.#wire.sockets) socket.terminate();
    this.#scripts.abort();
  }
}
