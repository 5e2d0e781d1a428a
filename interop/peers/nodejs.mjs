// CometD's server for Node.js: long-polling only, with the acknowledgement extension.

import { createRequire } from 'node:module';
import { httpServer, optionsFrom, serve } from './launcher.mjs';

const require = createRequire(import.meta.url);
const cometd = require('cometd-nodejs-server');
const { AcknowledgedMessagesExtension } = require('cometd-nodejs-server/ack-extension');

const options = optionsFrom(process.argv.slice(2), {
  timeout: 30_000,
  interval: 0,
  maxInterval: 10_000,
  extensions: 'ack',
});
const { timeout, interval, maxInterval } = options;
const bayeux = cometd.createCometDServer({
  logLevel: options.log,
  timeout,
  interval,
  maxInterval,
  ...options.option,
});
if (options.extensions === 'ack') bayeux.addExtension(new AcknowledgedMessagesExtension());
else if (options.extensions !== 'none') throw new Error(`this server has no extension ${options.extensions}`);
serve(httpServer(bayeux.handle), options.port, '/cometd');
