// A TCP proxy on the loopback interface: the network that a test can break.

import net from 'node:net';
import { once } from 'node:events';
import { atEnd, NETWORK } from './cleanup.mjs';
import { sleep } from './wait.mjs';

/** Forwards to `target.port`; ends with the test. */
export async function proxyFor(t, target) {
  const pairs = new Set();
  const proxy = {
    /** Where new connections go. A restarted server has another port. */
    target,
    /** While true, connections are cut as soon as they are made. */
    down: false,
    /** Connections that begin with something like this are cut. */
    refuses: undefined,
    /** Cuts every connection without a word. */
    cut() {
      for (const pair of pairs) for (const socket of pair) socket.destroy();
    },
    /** Cuts every connection, those too that were just being made. */
    async outage() {
      proxy.down = true;
      proxy.cut();
      await sleep(300);
      proxy.down = false;
    },
  };
  const listener = net.createServer({ noDelay: true }, (near) => {
    if (proxy.down) {
      near.on('error', () => {});
      near.destroy();
      return;
    }
    const far = net.connect({ host: '127.0.0.1', port: proxy.target.port, noDelay: true });
    const pair = [near, far];
    pairs.add(pair);
    const end = () => {
      pairs.delete(pair);
      near.destroy();
      far.destroy();
    };
    for (const socket of pair) socket.on('error', end).on('close', end);
    near.once('data', (first) => {
      if (proxy.refuses?.test(first.toString('latin1'))) {
        end();
        return;
      }
      far.write(first);
      near.pipe(far);
    });
    far.pipe(near);
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
