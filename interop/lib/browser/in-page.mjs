// Runs in a page, and runs CometD's client there: does what it is told, and tells what happens.
//
// `peer.mjs` is the other side. It calls `interop.run` with commands, each `[number, name, argument]`, and hears
// from `interopTell`, which Chromium provides. Everything is told in the order in which it happened.
//
// Clients come one after the other, each with a number. What belongs to one of before is not told any more.

import { commandsOf, EXTENSIONS, keepTransport, transportOf } from './commands.mjs';

const parameters = new URL(import.meta.url).searchParams;
const library = await import(`./${parameters.get('client')}/cometd.js`);

/** The time of the machine, whatever a client believes. */
const RealDate = Date;
const now = () => RealDate.now();

// ---- Telling

/** The number of the client of now. */
let client = 0;
let cometd;
let known = '';

function base64(buffer) {
  let text = '';
  for (const byte of new Uint8Array(buffer)) text += String.fromCharCode(byte);
  return btoa(text);
}

/** JSON with what it has not: binary data, errors, and objects of the browser. */
function encode(key, value) {
  if (value instanceof ArrayBuffer) return { $bytes: base64(value) };
  if (value instanceof Error || value instanceof EventTarget) return String(value);
  return value;
}

function revive(key, value) {
  if (typeof value?.$bytes !== 'string') return value;
  return Uint8Array.from(atob(value.$bytes), (character) => character.charCodeAt(0));
}

const state = () => ({
  id: cometd?.getClientId() ?? null,
  status: cometd?.getStatus() ?? null,
  transport: (cometd && transportOf(cometd)) ?? null,
});

function tell(what, more) {
  const current = state();
  known = JSON.stringify(current);
  interopTell(JSON.stringify({ client, what, state: current, ...more }, encode));
}

/** Tells of the client of now, as long as it is. */
function teller() {
  const mine = client;
  return (what, more) => {
    if (mine === client) tell(what, more);
  };
}

/** Some changes of state come with nothing else that is told. */
setInterval(() => {
  if (cometd && JSON.stringify(state()) !== known) tell('state');
}, 50);

addEventListener('error', ({ message }) => tell('mistake', { message }));
addEventListener('unhandledrejection', ({ reason }) => tell('mistake', { message: String(reason) }));

// ---- Recording what is sent and received, below the library

let opened = 0;

/** Notes what passes through a new connection. */
function recorder(kind) {
  const via = `${kind} ${(opened += 1)}`;
  const report = teller();
  return (entry) => report('wire', { entry: { at: now(), via, ...entry } });
}

window.XMLHttpRequest = class extends XMLHttpRequest {
  #note = recorder('request');
  #url;

  constructor() {
    super();
    // The library listens later: what arrived is told before what comes of it.
    this.addEventListener('load', () =>
      this.#note({ sent: false, status: this.status, text: this.responseText }),
    );
  }

  open(method, url, ...more) {
    this.#url = url;
    super.open(method, url, ...more);
  }

  send(body) {
    this.#note({ sent: true, url: this.#url, text: body });
    super.send(body);
  }
};

let sockets = 0;

window.WebSocket = class extends WebSocket {
  #note = recorder('socket');

  constructor(...given) {
    super(...given);
    const report = teller();
    const socket = (sockets += 1);
    report('socket', { socket });
    this.addEventListener('open', () => report('opened', { socket, protocol: this.protocol }));
    this.addEventListener('close', () => report('closed', { socket }));
    this.addEventListener('message', ({ data }) => this.#note({ sent: false, text: data }));
  }

  send(text) {
    this.#note({ sent: true, text });
    super.send(text);
  }
};

// callback-polling. A page cannot read the text of its scripts: the browser is asked for it.
const append = document.head.appendChild.bind(document.head);
document.head.appendChild = (script) => {
  const note = recorder('script');
  const url = script.src;
  const { searchParams } = new URL(url);
  const name = searchParams.get('jsonp');
  note({ sent: true, url, text: searchParams.get('message') });
  const answered = window[name];
  window[name] = (messages) => {
    note({ sent: false, script: url });
    answered(messages);
  };
  script.addEventListener('error', () => note({ sent: false, script: url }));
  return append(script);
};

// ---- Commands

/** The `Date` of a clock that is `ahead` by as many milliseconds. */
const dateAhead = (ahead) =>
  class extends RealDate {
    constructor(...given) {
      super(...(given.length > 0 ? given : [now() + ahead]));
    }

    static now() {
      return now() + ahead;
    }
  };

/** Makes a client, which is the one of now: its commands. */
function create({ url, transport, extensions, ahead, fresh, config }) {
  if (fresh) sessionStorage.clear();
  window.Date = ahead === 0 ? RealDate : dateAhead(ahead);
  cometd = new library.CometD();
  keepTransport(cometd, transport);
  cometd.configure({ url, ...config });
  for (const name of extensions) cometd.registerExtension(name, new library[EXTENSIONS[name]]());
  const report = teller();
  return commandsOf(cometd, (to, message) => report('message', { to, message }));
}

// As the documentation of the reload extension tells pages to do.
addEventListener('beforeunload', () => cometd?.reload?.());

let commands = {};

async function carryOut([number, name, argument]) {
  const report = teller();
  try {
    if (name === 'create') commands = create(argument);
    else report('done', { number, result: await commands[name](argument) });
  } catch (error) {
    report('failed', { number, message: `${name}: ${error}` });
  }
}

window.interop = {
  /** Carries out commands for the client with that number. */
  run(number, text) {
    client = number;
    for (const command of JSON.parse(text, revive)) carryOut(command);
  },
};
