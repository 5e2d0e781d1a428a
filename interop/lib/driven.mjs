// Clients in processes of their own: programs in `clients` that do what lines of JSON tell them to.
//
// A line to a program is `{"client", "number", "name", "argument"}`: a command of `commands.mjs`, or `open`, which
// is the first for each client, or `close`, the last. Lines from it have the `client` and say `what` there is:
//
// - `done`, with the `number` of a command and its `result`, or `failed` with the `reason`;
// - `heard`, with the number of a listener (`to`) and a `message`;
// - `state`, whenever it has changed: `id`, `status` and `transport`.
//
// Before all of them comes a line that says `{"what": "ready"}`. Bytes are `{"$bytes": base64}`. One program runs all such clients of a test file.

import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { toBytes, toText } from './bytes.mjs';
import { Peer } from './peer.mjs';
import { Tap } from './tap.mjs';
import { within } from './wait.mjs';

/** Milliseconds that a program may take until it is ready. */
const START = 60_000;

const LEVEL = process.env.INTEROP_DEBUG === '1' ? 'debug' : 'error';
const clients = new URL('../clients/', import.meta.url);

/** A program that runs clients, started with the first of them. It ends with its input, which ends with us. */
export class Program {
  #command;
  #directory;
  #child;
  #ready;
  #last = 0;
  #clients = new Map();

  constructor(directory, ...command) {
    this.#directory = fileURLToPath(new URL(directory, clients));
    this.#command = command;
  }

  /** Starts it, if it does not run yet. */
  start() {
    this.#ready ??= within(
      new Promise((resolve, reject) => this.#start(resolve, reject)),
      `${this.#command[0]} to be ready`,
      START,
    );
    return this.#ready;
  }

  /** Calls `hear` with each line for a new client, and returns what sends lines from it. */
  add(hear) {
    this.#last += 1;
    const client = this.#last;
    this.#clients.set(client, hear);
    return (command) => this.#child.stdin.write(`${JSON.stringify({ client, ...command }, toText)}\n`);
  }

  #start(ready, failed) {
    const [path, ...args] = this.#command;
    this.#child = spawn(path, [...args, LEVEL], {
      cwd: this.#directory,
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    const { stdin, stdout } = this.#child;
    createInterface(stdout).on('line', (line) => {
      const { client, ...event } = JSON.parse(line, toBytes);
      if (event.what === 'ready') ready();
      else this.#clients.get(client)(event);
    });
    // Nobody waits for the program itself; those who wait for a client have a limit.
    for (const handle of [this.#child, stdin, stdout]) handle.unref();
    const end = (reason) => {
      failed(new Error(`${path}: ${reason}`));
      for (const hear of this.#clients.values()) hear({ what: 'ended', reason: `${path}: ${reason}` });
    };
    this.#child.on('error', (error) => end(error.message));
    this.#child.on('exit', (code, signal) => end(`it ended (${signal ?? code})`));
  }
}

/**
 * A client in another process. What it sends and receives passes a tap.
 *
 * A class of such clients has as static members the `program`; the `transports` it has; the `config` that each
 * client gets, unless a test says otherwise; and the `host` that they are to know this machine by.
 */
export class DrivenPeer extends Peer {
  // A program that has just started is slow at first.
  static atOnce = 4;

  /** Before the first test, so that none has to wait for the program. */
  static prepare() {
    return this.program.start();
  }

  #tap;
  #write;
  #ready;
  /** By number, for good: a library may answer a handshake again whenever it repeats it. */
  #answers = new Map();
  #state = {};

  constructor(url, { transport, extensions = [], config = {} }) {
    super();
    const { program, transports, host, config: defaults } = this.constructor;
    this.#tap = new Tap(url, this.wire, host);
    this.#write = program.add((event) => this.#hear(event));
    this.#ready = Promise.all([program.start(), this.#tap.listen()]);
    this.#send('open', () => ({
      url: this.#tap.url,
      transports: transport ? [transport] : transports,
      extensions,
      config: { ...defaults, ...config },
    })).catch((error) => this.#hear({ what: 'ended', reason: error.message }));
    this.watch();
  }

  command(name, argument) {
    return this.#send(name, () => argument);
  }

  async #send(name, argument) {
    await this.#ready;
    const number = this.#answers.size + 1;
    return new Promise((resolve, reject) => {
      this.#answers.set(number, { resolve, reject });
      this.#write({ number, name, argument: argument() });
    });
  }

  #hear({ what, number, result, reason, to, message, state }) {
    if (what === 'state') this.#state = state;
    else if (what === 'heard') this.heard(to, message);
    else if (what === 'done') this.#answers.get(number).resolve(result);
    else if (what === 'failed') this.#answers.get(number).reject(new Error(reason));
    else for (const { reject } of this.#answers.values()) reject(new Error(reason));
  }

  get id() {
    return this.#state.id;
  }

  get status() {
    return this.#state.status;
  }

  get transport() {
    return this.#state.transport;
  }

  get jar() {
    return this.#tap.jar;
  }

  async close() {
    await Promise.race([
      this.command('close'),
      new Promise((resolve) => setTimeout(resolve, 3_000).unref()),
    ]);
    this.#tap.close();
  }
}
