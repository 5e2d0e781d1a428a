// What the launchers of servers under Node.js share.

import http from 'node:http';

/** The options on the command line, each with a value, as far as this server has them. */
export function optionsFrom(args, defaults) {
  const options = { port: 0, log: 'warn', option: {}, ...defaults };
  for (let n = 0; n < args.length; n += 2) {
    const name = args[n].replace(/^--/, '').replace(/-(\w)/g, (_, letter) => letter.toUpperCase());
    const value = args[n + 1];
    if (!(name in options)) throw new Error(`this server has no option ${args[n]}`);
    if (value === undefined) throw new Error(`${args[n]} needs a value`);
    if (name === 'option') {
      const [, key, text] = /^(.*?)=(.*)$/.exec(value);
      options.option[key] = /^(\d+|true|false)$/.test(text) ? JSON.parse(text) : text;
    } else {
      options[name] = /^\d+$/.test(value) ? Number(value) : value;
    }
  }
  return options;
}

/** Listens on `port` of the loopback interface until SIGTERM. */
export function serve(server, port, path) {
  // The default, 511, is too little for a load generator that connects thousands at once.
  server.listen({ port, host: '127.0.0.1', backlog: 2048 }, () => {
    console.log(`listening on http://127.0.0.1:${server.address().port}${path}`);
  });
  for (const signal of ['SIGTERM', 'SIGINT']) process.once(signal, () => process.exit(0));
}

/** An HTTP server that lets a connect be held as long as the Bayeux server wants. */
export function httpServer(handler) {
  const server = http.createServer(handler);
  server.timeout = 0;
  server.requestTimeout = 0;
  server.keepAliveTimeout = 60_000;
  return server;
}
