// Faye's server: WebSocket, long-polling, callback-polling; no extensions of CometD's.

import { createRequire } from 'node:module';
import { httpServer, optionsFrom, serve } from './launcher.mjs';

const require = createRequire(import.meta.url);
const faye = require('faye');

const options = optionsFrom(process.argv.slice(2), { timeout: 30_000, interval: 0 });
faye.logger = Object.fromEntries(
  ['fatal', 'error', 'warn', 'info', 'debug'].map((level, n, levels) => [
    level,
    n <= levels.indexOf(options.log) ? (text) => console.error(level, text) : () => {},
  ]),
);
const bayeux = new faye.NodeAdapter({
  mount: '/faye',
  // In seconds.
  timeout: options.timeout / 1000,
  engine: { interval: options.interval / 1000 },
  ...options.option,
});
const server = httpServer();
bayeux.attach(server);
serve(server, options.port, '/faye');
