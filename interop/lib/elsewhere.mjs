// CometD's Java client, a Python client and Faye's, which run in processes of their own, and what they lack.

import { readFileSync } from 'node:fs';
import { DrivenPeer, Program } from './driven.mjs';

const TRANSPORTS = ['websocket', 'long-polling'];

class JavaPeer extends DrivenPeer {
  static program = new Program('java', 'java', '-cp', 'target/classes:target/lib/*', 'Main');
  static transports = TRANSPORTS;
  static config = {
    backoffIncrement: 200,
    maxSendBayeuxMessageSize: 8 * 1024 * 1024,
    maxMessageSize: 8 * 1024 * 1024,
  };
}

class PythonPeer extends DrivenPeer {
  static program = new Program('python', 'venv/bin/python', 'driver.py');
  static transports = TRANSPORTS;
  // The library keeps no cookies of hosts that are numbers.
  static host = 'localhost';
}

class FayePeer extends DrivenPeer {
  static program = new Program('faye', process.execPath, 'driver.mjs');
  static transports = TRANSPORTS;
}

const versionIn = (file, pattern) =>
  pattern.exec(readFileSync(new URL(`../clients/${file}`, import.meta.url), 'utf8'))[1];

/** What none of them has; and what those are without that know the protocol, but not what CometD adds to it. */
const elsewhere = {
  'callback-polling': 'it has no such transport',
  reload: 'it is no page',
  jar: 'it keeps its cookies to itself',
  clock: 'its clock is that of the machine',
};
const plain = {
  ...elsewhere,
  changes: 'it goes on with the transport that it has',
  ack: 'it has no extensions of its own',
  binary: 'it has no extensions of its own',
  timesync: 'it has no extensions of its own',
  batches: 'it has no batches',
  calls: 'it has no remote calls',
  'call timeouts': 'it has no remote calls',
  fields: 'it publishes data and nothing else',
  'fall-back': 'it handshakes over long-polling in any case',
};

const java = {
  ...elsewhere,
  changes: 'it changes the transport with a new handshake only',
  'call timeouts': 'its remote calls wait for ever',
};

const python = {
  ...plain,
  goodbyes: 'it does not understand that the server disconnects it',
  intervals: 'it takes milliseconds for seconds',
  'second lives': 'it cannot be opened again',
};

const faye = {
  ...plain,
  limits: 'it sends again what was refused, for ever',
  goodbyes: 'it stops when the server disconnects it, and does not say so',
  intervals: 'it gives up connects after 1.2 times a timeout that is short here',
  'second lives': 'it cannot be opened again',
};

const IN_PARALLEL = { order: 'it publishes over several connections at a time' };

/** The clients that run elsewhere, as `client.mjs` lists them. */
export const ELSEWHERE = [
  {
    name: 'java',
    peer: JavaPeer,
    label: `cometd-java ${versionIn('java/pom.xml', /<cometd\.version>(.*)</)}`,
    without: java,
    withoutOver: { 'long-polling': IN_PARALLEL },
  },
  {
    name: 'python',
    peer: PythonPeer,
    label: `aiocometd-ng ${versionIn('python/requirements.txt', /aiocometd-ng==(.*)/)}`,
    without: python,
    withoutOver: {
      websocket: { limits: 'it sends again what was refused, and waits' },
      'long-polling': { ...IN_PARALLEL, 'last connects': 'it gives up its connect when it disconnects' },
    },
    resubscribes: true,
    patient: true,
  },
  {
    name: 'faye',
    peer: FayePeer,
    label: `faye ${versionIn('../package.json', /"faye": "(.*)"/)}`,
    without: faye,
    withoutOver: { 'long-polling': IN_PARALLEL },
    resubscribes: true,
    patient: true,
  },
];
