// A client that subscribes over WebSocket and then reads no more.

import { connect } from 'node:net';
import { once } from 'node:events';

export class SlowReader {
  #socket;
  #received = '';

  static async subscribe(url, channel) {
    const reader = new SlowReader();
    await reader.#open(new URL(url));
    const shake = await reader.#ask({ channel: '/meta/handshake', version: '1.0', supportedConnectionTypes: ['websocket'] });
    const clientId = /"clientId":"([^"]+)"/.exec(shake)?.[1];
    if (!clientId) throw new Error(`no handshake: ${shake}`);
    await reader.#ask({ channel: '/meta/subscribe', clientId, subscription: channel });
    // Held from here on, so that the session does not expire.
    reader.#send({ channel: '/meta/connect', clientId, connectionType: 'websocket' });
    reader.#socket.pause();
    return reader;
  }

  close() {
    this.#socket.destroy();
  }

  async #open({ hostname, port, pathname }) {
    this.#socket = connect({ host: hostname, port: Number(port) });
    this.#socket.setEncoding('latin1').on('data', (text) => (this.#received += text));
    // The server may end the session of somebody who does not read.
    this.#socket.on('error', () => {});
    const key = Buffer.from('a slow reader 16').toString('base64');
    this.#socket.write(
      `GET ${pathname} HTTP/1.1\r\nHost: ${hostname}:${port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n` +
        `Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ${key}\r\n\r\n`,
    );
    const answer = await this.#until('\r\n\r\n');
    if (!answer.includes(' 101 ')) throw new Error(`no WebSocket: ${answer}`);
  }

  async #ask(message) {
    this.#send(message);
    return this.#until('}]');
  }

  /** What came, up to `end`. */
  async #until(end) {
    while (!this.#received.includes(end)) {
      const ended = once(this.#socket, 'close').then(() => 'ended');
      if ((await Promise.race([once(this.#socket, 'data'), ended])) === 'ended') throw new Error('the server closed');
    }
    const received = this.#received;
    this.#received = '';
    return received;
  }

  /** One text frame. Clients mask; a mask of zeros leaves the text as it is. */
  #send(message) {
    const text = Buffer.from(JSON.stringify([{ id: '1', ...message }]));
    const length = text.length < 126 ? [0x80 | text.length] : [0x80 | 126, text.length >> 8, text.length & 255];
    this.#socket.write(Buffer.concat([Buffer.from([0x81, ...length, 0, 0, 0, 0]), text]));
  }
}
