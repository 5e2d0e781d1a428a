// The servers that are compared, each started so that it does as little as possible beside the protocol.

import { start } from './processes.mjs';

const ours = (bin, ...more) => [
  `${bin}/bayeux`,
  ...['serve', '--listen', '127.0.0.1:0', '--no-demo', '--log-level', 'warn'],
  ...more,
];
const peer = (name, ...more) => (bin, root) => [`${root}/interop/peers/run`, name, ...more];

/** By name: the table's heading, the command, and which transports it has. */
export const SERVERS = {
  floor: { title: 'floor', command: (bin) => [`${bin}/floor`] },
  ours: { title: '**bayeux serve**', command: (bin) => ours(bin, '--shards', '1') },
  mounted: {
    title: '**in an axum router, our listener**',
    command: (bin) => [`${bin}/mounted`, '127.0.0.1:0', 'served-by=listener'],
  },
  axum: { title: '**under axum::serve**', command: (bin) => [`${bin}/mounted`] },
  java: { title: 'CometD Java', command: peer('java', '--extensions', 'none'), jvm: true },
  nodejs: { title: 'CometD NodeJS', command: peer('nodejs', '--extensions', 'none'), transports: ['long-polling'] },
  faye: { title: 'Faye', command: peer('faye') },
};

/** The command of our own server with these options. */
export const serve = ours;

// A peer that is not installed yet takes its time.
const PATIENCE = 600_000;

/** Starts a server on a core; resolves to it when it listens, with its `url`. */
export async function listening(core, command, title = command[0]) {
  const server = start(core, command);
  const url = new Promise((resolve) => {
    server.on('stdout', () => {
      const line = /^listening on (http:\/\/\S+)$/m.exec(server.out);
      if (line) resolve(line[1]);
    });
  });
  let timer;
  const late = new Promise((resolve) => (timer = setTimeout(resolve, PATIENCE)));
  server.url = await Promise.race([url, server.exited.then(() => undefined), late]);
  clearTimeout(timer);
  if (server.url === undefined) {
    await server.stop();
    throw new Error(`${title} does not listen:\n${server.log}`);
  }
  return server;
}

/** Starts one of [`SERVERS`]. */
export function startServer(name, { cores, bin, root }) {
  const { command, title } = SERVERS[name];
  return listening(cores.server, command(bin, root), title);
}
