// The clients under test, of all kinds.

import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { CHROMIUM } from './browser/executable.mjs';
import { ChromiumPeer } from './browser/peer.mjs';
import { atEnd, CLIENT } from './cleanup.mjs';
import { NodePeer } from './cometd.mjs';
import { ELSEWHERE } from './elsewhere.mjs';
import { post, socket } from './raw.mjs';
import { sleep, until } from './wait.mjs';

const require = createRequire(import.meta.url);

const TRANSPORTS = ['websocket', 'long-polling'];

const labelOf = (client) => `cometd ${require(`${client}/package.json`).version}`;

/**
 * The clients: a `name` for `INTEROP_CLIENTS`; the `label` with the version; the class of its `peer`s, and what else
 * their constructor is told; what it is `without`, and over which transport, with the reason; whether it
 * `resubscribes` by itself after a new handshake; and whether it is `patient`: its connect after a handshake or a
 * failure is then one as any other.
 */
const CLIENTS = [
  ...['cometd7', 'cometd8', 'cometd9'].map((client) => ({
    name: client,
    peer: NodePeer,
    client,
    label: labelOf(client),
    withoutOver: { 'long-polling': { 'wide text': 'its adapter decodes HTTP chunks one by one' } },
  })),
  ...ELSEWHERE,
  // Both versions do the same for pages of other origins.
  ...CHROMIUM.flatMap((chromium) => [
    { name: 'chromium8', client: 'cometd8', chromium, origins: ['same'] },
    { name: 'chromium9', client: 'cometd9', chromium, origins: ['same', 'cross'] },
  ]).map((version) => ({
    ...version,
    peer: ChromiumPeer,
    label: `${labelOf(version.client)} in Chromium ${version.chromium}`,
  })),
];

const missing = (process.env.INTEROP_WITHOUT ?? '').split(' ');
const chosen = CLIENTS.filter(({ name }) =>
  (process.env.INTEROP_CLIENTS || name).split(',').includes(name) && !missing.includes(name),
);

/** Every client, for tests that choose transports themselves. */
export const VERSIONS = chosen;

/** Those in a browser. */
export const BROWSERS = chosen.filter(({ peer }) => peer === ChromiumPeer);

/**
 * Every client over every transport, and in a browser in pages of other origins too: for tests of what may depend on
 * the origin.
 */
export const EVERYWHERE = chosen.flatMap((version) =>
  TRANSPORTS.flatMap((transport) =>
    (version.origins ?? ['same']).map((origin) => ({
      ...version,
      without: { ...version.without, ...version.withoutOver?.[transport] },
      transport,
      origin,
      label: `${version.label} over ${transport}${origin === 'cross' ? ', cross origin' : ''}`,
    })),
  ),
);

/** Every client over every transport: what most tests run through. */
export const KINDS = EVERYWHERE.filter(({ origin }) => origin === 'same');

/** For `filter`: kinds that have what a test needs. */
export const having = (...needs) => ({ without = {} }) => needs.every((need) => !(need in without));

/** Options of a test that is skipped, with the reason, for a kind that has not got what it needs. */
export const needs = ({ without = {} }, ...needed) => ({
  skip: needed.map((need) => without[need]).find((reason) => reason !== undefined),
});

let counter = 0;
/** A channel that no other test uses. */
export const fresh = (name) => `/${name}${process.pid}x${(counter += 1)}`;

/** A browser with cookies of its own, unless it does not `keep` them. */
export const jarFor = (kind, options) => new kind.peer.Jar(options);

/** A client that is closed at the end of the test. */
export function peerFor(t, url, options) {
  const peer = new options.peer(url, options);
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
  const { messages } = await post(url, [request], { cookie: await peer.jar.cookieFor(url) });
  return messages.find((reply) => reply.id === 'ask');
}
