// Choosing a transport: what the server allows, what the client has, and subprotocols.

import assert from 'node:assert/strict';
import { it } from 'node:test';
import { connected, fresh, having, peerFor, VERSIONS } from '../lib/client.mjs';
import { useServer } from '../lib/server.mjs';
import { groups } from '../lib/suite.mjs';
import { until } from '../lib/wait.mjs';

// CometD's own tests say bayeux/1.0, but a subprotocol may not contain a slash, and `ws` refuses it.
const PROTOCOL = 'bayeux.1';

groups('transports', VERSIONS.filter(having('fall-back')), (version) => {
  const both = useServer();
  const polling = useServer({ args: ['--allowed-transports', 'long-polling'] });
  const sockets = useServer({ args: ['--allowed-transports', 'websocket'] });
  const protocol = useServer({ args: ['--ws-protocol', PROTOCOL] });
  const offering = (name) => ({ ...version, config: { protocol: name } });
  const onSocket = (options) => ({ ...options, transport: 'websocket' });

  const works = async (peer) => {
    const channel = fresh('works');
    const inbox = await peer.subscribe(channel);
    await peer.publish(channel, 'it does');
    assert.deepEqual(await inbox.takes(1), ['it does']);
  };
  const refused = async (t, url, options) => {
    const alice = peerFor(t, url, options);
    const reply = await alice.handshake();
    assert.equal(reply.successful, false);
    assert.notEqual(reply.failure, undefined);
    return alice;
  };

  it('a client with all transports takes WebSocket', async (t) => {
    const alice = await connected(t, both.url, version);
    assert.equal(alice.transport, 'websocket');
    assert.equal(alice.wire.sockets.length, 1);
    await works(alice);
  });

  it('it falls back to long-polling where WebSocket is refused', async (t) => {
    const alice = await connected(t, polling.url, version);
    assert.equal(alice.transport, 'long-polling');
    assert.deepEqual(alice.handshakes.map((reply) => reply.successful), [false, true]);
    assert.deepEqual(alice.handshakes[1].supportedConnectionTypes, ['long-polling']);
    await works(alice);
  });

  it('a client with WebSocket only gives up there', async (t) => {
    const alice = await refused(t, polling.url, onSocket(version));
    await until(() => alice.disconnected, 'the client to give up');
  });

  it('a server without long-polling refuses it', async (t) => {
    const alice = await refused(t, sockets.url, { ...version, transport: 'long-polling' });
    await until(() => alice.handshakes.length > 0, 'the failure');
    assert.equal(alice.handshakes[0].failure.httpCode, 400);
  });

  it('and takes clients with all transports', async (t) => {
    const alice = await connected(t, sockets.url, version);
    assert.equal(alice.transport, 'websocket');
    assert.deepEqual(alice.handshakes[0].supportedConnectionTypes, ['websocket']);
    await works(alice);
  });

  it('the subprotocol that the server wants is selected', async (t) => {
    const alice = await connected(t, protocol.url, onSocket(offering(PROTOCOL)));
    assert.equal(alice.wire.sockets[0].protocol, PROTOCOL);
    await works(alice);
  });

  it('a client that offers none, or another one, is refused', async (t) => {
    await refused(t, protocol.url, onSocket(version));
    await refused(t, protocol.url, onSocket(offering('bayeux.0')));
  });

  it('and falls back if it can', async (t) => {
    const alice = await connected(t, protocol.url, version);
    assert.equal(alice.transport, 'long-polling');
    await works(alice);
  });

  it('a client may offer one to a server that wants none', async (t) => {
    const alice = await connected(t, both.url, onSocket(offering(PROTOCOL)));
    assert.equal(alice.wire.sockets[0].protocol, PROTOCOL);
    await works(alice);
  });
});
