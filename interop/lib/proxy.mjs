// A TCP proxy on the loopback interface: the network that a test can break.

import net from 'node:net';
import { once } from 'node:events';
import { atEnd, NETWORK } from './cleanup.mjs';
import { sleep, within } from './wait.mjs';

/** Forwards to `target.port`; ends with the test. */
export async function proxyFor(t, target) {
  const pairs = new Set();
  // How many bytes may still pass to the clients, and whom to tell when they have.
  let allowance = Infinity;
  let spent;
  const proxy = {
    /** Where new connections go. A restarted server has another port. */
    target,
    /** While true, connections are cut as soon as they are made. */
    down: false,
    /** Connections that begin with something like this are cut. */
    refuses: undefined,
    /** Cuts every connection without a word. */
    cut() {
      for (const { near, far } of pairs) {
        near.destroy();
        far.destroy();
      }
    },
    /** Lets as many `bytes` pass to the clients; then loses what follows and cuts every connection. */
    cutAfter(bytes) {
      allowance = bytes;
      const cut = new Promise((resolve) => {
        spent = resolve;
      });
      return within(cut, `the server to send more than ${bytes} bytes`);
    },
    /** Cuts the clients off. The server is not told, and what it sends is lost. */
    orphan() {
      for (const pair of pairs) {
        pair.orphaned = true;
        pair.near.destroy();
        pair.far.resume();
      }
    },
    /** Cuts every connection, those too that were just being made. */
    async outage() {
      proxy.down = true;
      proxy.cut();
      await sleep(300);
      proxy.down = false;
    },
  };
  const trip = () => {
    if (!spent) return;
    proxy.cut();
    allowance = Infinity;
    spent();
    spent = undefined;
  };
  const listener = net.createServer({ noDelay: true }, (near) => {
    if (proxy.down) {
      near.on('error', () => {});
      near.destroy();
      return;
    }
    const far = net.connect({ host: '127.0.0.1', port: proxy.target.port, noDelay: true });
    const pair = { near, far, orphaned: false };
    pairs.add(pair);
    const end = () => {
      near.destroy();
      if (pair.orphaned && !far.destroyed) return;
      pairs.delete(pair);
      far.destroy();
    };
    for (const socket of [near, far]) socket.on('error', end).on('close', end);
    near.once('data', (first) => {
      if (proxy.refuses?.test(first.toString('latin1'))) {
        end();
        return;
      }
      far.write(first);
      near.pipe(far);
    });
    far.on('data', (chunk) => {
      if (pair.orphaned) return;
      const passed = chunk.subarray(0, allowance);
      allowance -= passed.length;
      if (passed.length < chunk.length) near.write(passed, trip);
      else if (!near.write(passed)) far.pause();
    });
    near.on('drain', () => far.resume());
    far.on('end', () => near.end());
  });
  listener.listen(0, '127.0.0.1');
  await once(listener, 'listening');
  proxy.url = `http://127.0.0.1:${listener.address().port}${target.path}`;
  atEnd(t, NETWORK, () => {
    listener.close();
    proxy.cut();
  });
  return proxy;
}
