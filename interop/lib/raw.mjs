// Bayeux by hand, where the exact bytes matter or no library would send what is needed.

import http from 'node:http';
import { WebSocket } from 'ws';
import { atEnd, CLIENT } from './cleanup.mjs';
import { until, within } from './wait.mjs';

/** POSTs `body` (text, or messages) on a connection of its own. */
export async function post(url, body, { cookie } = {}) {
  const text = typeof body === 'string' ? body : JSON.stringify(body);
  const answer = new Promise((resolve, reject) => {
    const headers = { 'Content-Type': 'application/json' };
    if (cookie) headers.Cookie = cookie;
    const request = http.request(url, { method: 'POST', headers, agent: false }, (response) => {
      const chunks = [];
      response.on('data', (chunk) => chunks.push(chunk));
      response.on('error', reject);
      response.on('end', () => {
        const bytes = Buffer.concat(chunks).toString('utf8');
        resolve({
          status: response.statusCode,
          cookie: response.headers['set-cookie']?.[0].split(';')[0],
          text: bytes,
          messages: response.statusCode === 200 ? JSON.parse(bytes) : undefined,
        });
      });
    });
    request.on('error', reject);
    request.end(text);
  });
  return within(answer, `the answer to ${text.slice(0, 200)}`);
}

/** A WebSocket that sends text and keeps every frame it receives. */
export async function socket(t, url) {
  const ws = new WebSocket(url.replace(/^http/, 'ws'));
  const frames = [];
  ws.on('message', (data) => frames.push(data.toString('utf8')));
  atEnd(t, CLIENT, () => ws.terminate());
  await within(
    new Promise((resolve, reject) => ws.once('open', resolve).once('error', reject)),
    'a WebSocket to open',
  );
  return {
    frames,
    send: (body) => ws.send(typeof body === 'string' ? body : JSON.stringify(body)),
    reply: (id) =>
      until(
        () => frames.flatMap((frame) => JSON.parse(frame)).find((message) => message.id === id),
        `the reply to message ${id}`,
      ),
  };
}

const HANDSHAKE = { id: 'h', channel: '/meta/handshake', version: '1.0' };

/** A session that publishes JSON texts without touching them. */
export async function publisher(t, url, transport) {
  if (transport === 'websocket') {
    const ws = await socket(t, url);
    ws.send([{ ...HANDSHAKE, supportedConnectionTypes: [transport] }]);
    const { clientId } = await ws.reply('h');
    return async (channel, json, id) => {
      ws.send(`[{"id":"${id}","channel":"${channel}","clientId":"${clientId}","data":${json}}]`);
      return ws.reply(id);
    };
  }
  const { messages, cookie } = await post(url, [{ ...HANDSHAKE, supportedConnectionTypes: [transport] }]);
  const { clientId } = messages[0];
  return async (channel, json, id) => {
    const text = `[{"id":"${id}","channel":"${channel}","clientId":"${clientId}","data":${json}}]`;
    const answer = await post(url, text, { cookie });
    return answer.messages.find((message) => message.id === id);
  };
}
