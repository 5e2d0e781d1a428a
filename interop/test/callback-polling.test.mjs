// callback-polling: CometD's own transport, with as much of a browser as it needs.

import assert from 'node:assert/strict';
import { it } from 'node:test';
import { connected, fresh, Jar, peerFor, VERSIONS } from '../lib/client.mjs';
import { useServer } from '../lib/server.mjs';
import { groups } from '../lib/suite.mjs';
import { sleep } from '../lib/wait.mjs';

const TRANSPORT = 'callback-polling';

/** Every script that was loaded: its address and its text. */
const loaded = [];

/** The cookies of a client's scripts, by the start of their addresses. */
const jars = new Map();

/**
 * Loads a script as a browser does: cookies go along, its text is run where the page's functions are. All clients of
 * this process share one page, so the function is the one of that name now.
 */
async function load(element) {
  const name = new URL(element.src).searchParams.get('jsonp');
  const page = { [name]: window[name] };
  try {
    const jar = [...jars].find(([start]) => element.src.startsWith(start))?.[1];
    const response = await fetch(element.src, { headers: jar?.cookie ? { cookie: jar.cookie } : {} });
    const cookie = response.headers.get('set-cookie');
    if (jar && cookie) jar.storeCookie(element.src, cookie, () => {});
    if (response.status !== 200) throw new Error(`status ${response.status}`);
    assert.equal(response.headers.get('content-type'), 'text/javascript;charset=UTF-8');
    assert.equal(response.headers.get('x-content-type-options'), 'nosniff');
    const text = await response.text();
    loaded.push({ src: element.src, text });
    new Function('page', `with (page) { ${text} }`)(page);
    element.onload?.();
  } catch (error) {
    element.onerror?.(error);
  }
}

const head = {
  appendChild(element) {
    element.parentNode = head;
    load(element);
  },
  insertBefore(element) {
    head.appendChild(element);
  },
  removeChild() {},
};
const document = {
  head,
  documentElement: head,
  getElementsByTagName: () => [head],
  createElement: () => ({ setAttribute() {}, removeAttribute() {} }),
};

/** A client that has callback-polling and nothing else. */
function pageFor(t, url, version) {
  const jar = new Jar();
  // The path makes the client known to its cookies.
  const own = `${url}${fresh('page')}/`;
  jars.set(own, jar);
  const peer = peerFor(t, own, { ...version, transport: TRANSPORT, jar });
  window.document ??= document;
  globalThis.document ??= document;
  return peer;
}

groups(TRANSPORT, VERSIONS, (version) => {
  const server = useServer({ args: ['--callback-polling', '--timeout', '2s'] });
  const plain = useServer();

  it('publishes, and is woken for what others publish', async (t) => {
    const alice = pageFor(t, server.url, version);
    await alice.connect();
    assert.equal(alice.transport, TRANSPORT);
    assert.ok(alice.handshakes[0].supportedConnectionTypes.includes(TRANSPORT));
    const channel = fresh('jsonp');
    const inbox = await alice.subscribe(channel);
    const bob = await connected(t, server.url, version);
    const received = await bob.subscribe(channel);
    await bob.publish(channel, { text: 'line\u2028separators\u2029and <script>' });
    await inbox.takes(1);
    await alice.publish(channel, 'mine');
    await inbox.takes(2);
    await received.takes(2);
    assert.deepEqual(inbox.data, received.data);
    await sleep(3_000);
    await bob.publish(channel, 'after an idle poll');
    await inbox.takes(3);
    const { successful } = await alice.disconnect();
    assert.equal(successful, true);
    assert.ok(loaded.length > 0 && loaded.every(({ text }) => /^[A-Za-z0-9._$-]+\(\[.*\]\)$/s.test(text)));
  });

  it('a batch is split into addresses that are short enough', async (t) => {
    const alice = pageFor(t, server.url, version);
    await alice.connect();
    const channel = fresh('long');
    const inbox = await alice.subscribe(channel);
    const texts = Array.from({ length: 12 }, (_, n) => `${n}`.padEnd(400, 'x'));
    alice.cometd.batch(() => texts.forEach((text) => alice.cometd.publish(channel, text)));
    assert.deepEqual((await inbox.takes(12)).sort(), [...texts].sort());
    assert.ok(loaded.every(({ src }) => src.length <= 2_000));
  });

  it('is refused where it is not offered', async (t) => {
    const alice = pageFor(t, plain.url, version);
    const reply = await alice.handshake();
    assert.equal(reply.successful, false);
  });
});
