/**
 * The chat page. The wire contract is that of CometD's chat example:
 *
 * - `/chat/{room}` carries `{ user, chat }`, and `{ user, chat, membership: 'join' | 'leave' }` when people come and go;
 * - `/service/members` takes `{ user, room: '/chat/{room}' }` and makes the server publish the names of everybody in the
 *   room to `/members/{room}`, now and whenever somebody's session ends;
 * - `/service/privatechat` takes `{ room: '/chat/{room}', user, chat, peer: 'name, name' }` and makes the server deliver
 *   `{ user, chat, scope: 'private' }` on `/chat/{room}` to these people and the sender.
 *
 * Everything that comes from others is shown through `textContent` only.
 */

import { Client } from './bayeux.js';

const DEFAULT_ROOMS = ['demo', 'lobby', 'dev'];
const MAX_LINES = 500;
const MAX_TEXT = 20_000;
const GROUP_MINUTES = 5;

const $ = (id) => document.getElementById(id);
const endpoint = document.querySelector('meta[name="bayeux-endpoint"]').content;
const client = new Client(endpoint);

let me = '';
/** All rooms that we know of, by name; those with `joined` are open. */
const rooms = new Map();
let current = null;
/** Whom the composer writes to in private, or null. */
let target = null;
/** The text that the next Enter sends to everybody although it looks private. */
let confirmed = null;
let everConnected = false;
let offlineSince = 0;
/** When the client last had to start a new session, and whether that has been said. */
let reconnectedAt = 0;
let missedMessages = false;

// ---- Building the page

function element(tag, className = '', ...children) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  node.append(...children);
  return node;
}

function button(className, label, onClick) {
  const node = element('button', className);
  node.type = 'button';
  if (label) node.textContent = label;
  node.addEventListener('click', onClick);
  return node;
}

function icon(name) {
  const svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
  const use = document.createElementNS('http://www.w3.org/2000/svg', 'use');
  svg.setAttribute('aria-hidden', 'true');
  use.setAttribute('href', `#icon-${name}`);
  svg.append(use);
  return svg;
}

/** A name as it is shown: without characters that are invisible or turn the writing direction. */
function shown(name) {
  return name.replace(/[\p{Cc}\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff]/gu, '').trim() || '?';
}

/** A name isolated from its surroundings, whatever its writing direction. */
function isolated(name) {
  const node = element('bdi', '', shown(name));
  node.title = shown(name).slice(0, 200);
  return node;
}

function tone(name) {
  let hash = 0;
  for (const character of name) hash = Math.imul(hash ^ character.codePointAt(0), 0x9e3779b1) >>> 15 ^ hash << 3;
  return `tone-${(hash >>> 0) % 12}`;
}

function initial(name) {
  const [first] = new Intl.Segmenter().segment(shown(name));
  return first.segment.toLocaleUpperCase();
}

function avatar(name) {
  const node = element('span', `avatar ${tone(name)}`, initial(name));
  node.setAttribute('aria-hidden', 'true');
  return node;
}

/** Text with web addresses as links. */
function linked(text) {
  const fragment = document.createDocumentFragment();
  let end = 0;
  for (const match of text.matchAll(/\bhttps?:\/\/[^\s<>"'`]*[^\s<>"'`.,:;!?)\]}]/gi)) {
    if (!URL.canParse(match[0])) continue;
    const link = element('a', '', match[0]);
    link.href = match[0];
    link.target = '_blank';
    link.rel = 'noopener noreferrer nofollow';
    fragment.append(text.slice(end, match.index), link);
    end = match.index + match[0].length;
  }
  fragment.append(text.slice(end));
  return fragment;
}

const clock = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit' });
const calendar = new Intl.DateTimeFormat(undefined, { weekday: 'long', day: 'numeric', month: 'long' });
const plural = (count, one, many) => `${count} ${count === 1 ? one : many}`;

/** Replaces the children of a list, without taking the focus from the one that has it. */
function refill(list, nodes) {
  const focused = list.contains(document.activeElement) ? document.activeElement.dataset.key : null;
  list.replaceChildren(...nodes);
  if (focused !== null) [...list.querySelectorAll('[data-key]')].find((node) => node.dataset.key === focused)?.focus();
}

// ---- Rooms

function roomNamed(name) {
  let room = rooms.get(name);
  if (!room) {
    const log = element('div', 'log');
    log.setAttribute('role', 'log');
    log.setAttribute('aria-label', `Messages in ${name}`);
    room = {
      name,
      channel: `/chat/${name}`,
      log,
      joined: false,
      announced: false,
      subscriptions: [],
      members: [],
      /** Who is here as far as the lines "joined" and "left" tell; null before the first list. */
      known: null,
      departures: new Map(),
      unread: 0,
      /** Messages further down than one can see. */
      below: 0,
      atEnd: true,
      scrollTop: 0,
      last: null,
      day: new Date().toDateString(),
      /** Own messages that the server has not brought back yet, oldest first. */
      unconfirmed: [],
    };
    rooms.set(name, room);
  }
  return room;
}

function cleanRoomName(text) {
  return text.trim().toLowerCase().replace(/^#+/, '').replace(/\s+/g, '-').replace(/[^a-z0-9_-]/g, '').slice(0, 32);
}

function roomInAddress() {
  try {
    return cleanRoomName(decodeURIComponent(location.hash));
  } catch {
    return '';
  }
}

function openRoom(name) {
  const room = roomNamed(name);
  if (!room.joined) joinRoom(room);
  if (current === room) return;
  if (current) {
    current.scrollTop = $('stream').scrollTop;
    current.log.remove();
  }
  current = room;
  setTarget(null);
  $('stream').append(room.log);
  if (room.atEnd) scrollToEnd();
  else $('stream').scrollTop = room.scrollTop;
  markRead();
  history.replaceState(null, '', `#${room.name}`);
  render();
  remember();
}

function joinRoom(room) {
  room.joined = true;
  room.announced = false;
  room.known = null;
  client.batch(() => {
    room.subscriptions = [
      client.subscribe(room.channel, (message) => onChat(room, message.data)),
      client.subscribe(`/members/${room.name}`, (message) => onMembers(room, message.data)),
    ];
    room.subscriptions[0].ready.catch((error) => addLine(room, `The server does not let you in: ${error.message}`));
    // Otherwise the handshake will.
    if (client.ready) announce(room);
  });
}

/** Tells the server, after every handshake, and everybody else, once, that we are in the room. */
function announce(room) {
  client.publish('/service/members', { user: me, room: room.channel });
  if (room.announced) return;
  room.announced = true;
  client.publish(room.channel, { user: me, membership: 'join', chat: `${me} has joined` });
}

function sayGoodbye(room) {
  client.publish(room.channel, { user: me, membership: 'leave', chat: `${me} has left` });
}

function leaveRoom(room) {
  client.batch(() => {
    if (client.ready) sayGoodbye(room);
    for (const subscription of room.subscriptions) subscription.unsubscribe();
  });
  forgetRoom(room);
  const next = [...rooms.values()].find((other) => other.joined);
  if (next) openRoom(next.name);
}

function forgetRoom(room) {
  for (const timer of room.departures.values()) clearTimeout(timer);
  rooms.delete(room.name);
  room.joined = false;
  room.log.remove();
  if (current === room) current = null;
  if (DEFAULT_ROOMS.includes(room.name)) roomNamed(room.name).members = room.members.filter((name) => name !== me);
}

/** This tab's name and rooms survive a reload. */
function remember() {
  const open = [...rooms.values()].filter((room) => room.joined).map((room) => room.name);
  store(sessionStorage, 'bayeux-chat', JSON.stringify({ name: me, rooms: open }));
}

function store(storage, key, value) {
  try {
    if (value === null) storage.removeItem(key);
    else storage.setItem(key, value);
  } catch {
    // No storage, no memory.
  }
}

function stored(storage, key) {
  try {
    return storage.getItem(key);
  } catch {
    return null;
  }
}

// ---- Receiving

const asText = (value) => (typeof value === 'string' || typeof value === 'number' ? String(value) : '');

function onChat(room, data) {
  const user = asText(data?.user).trim();
  if (!user) return;
  if (data.membership === 'join') return onArrival(room, user);
  if (data.membership === 'leave') return onDeparture(room, user);
  const isPrivate = data.scope === 'private';
  const text = asText(data.chat).trim();
  if (!text) return;
  if (user === me) {
    const sent = room.unconfirmed.find((sent) => sent.text === text && sent.private === isPrivate);
    if (sent) {
      sent.node.classList.remove('pending');
      return forget(room, sent);
    }
  }
  addMessage(room, { user, text, private: isPrivate, peer: asText(data.peer) });
}

function onMembers(room, data) {
  room.members = names(data);
  if (room.known === null) {
    room.known = new Set(room.members);
  } else {
    for (const name of room.members) onArrival(room, name);
    // Sessions that ended without a word. After a reconnect others may still be on their way back.
    const patience = Date.now() - reconnectedAt < 30_000 ? 30_000 : 3_000;
    for (const name of room.known) {
      if (room.members.includes(name) || room.departures.has(name)) continue;
      room.departures.set(name, setTimeout(() => onDeparture(room, name), patience));
    }
  }
  render();
}

function onArrival(room, name) {
  clearTimeout(room.departures.get(name));
  room.departures.delete(name);
  if (room.known === null || room.known.has(name)) return;
  room.known.add(name);
  if (name !== me) addPresence(room, name, 'joined');
}

function onDeparture(room, name) {
  clearTimeout(room.departures.get(name));
  room.departures.delete(name);
  if (room.known?.delete(name) && name !== me) addPresence(room, name, 'left');
}

/** Rooms that others have opened appear in the list, with the number of people, without being open here. */
function onForeignMembers({ channel, data }) {
  const name = channel.slice('/members/'.length);
  const room = rooms.get(name);
  if (room?.joined) return;
  const members = names(data);
  if (members.length === 0 && !DEFAULT_ROOMS.includes(name)) rooms.delete(name);
  else if (cleanRoomName(name) === name) roomNamed(name).members = members;
  renderRooms();
}

function names(data) {
  return Array.isArray(data) ? [...new Set(data.map(asText).filter(Boolean))].slice(0, 2_000) : [];
}

// ---- The stream of messages

function addMessage(room, message) {
  const now = new Date();
  const mine = message.user === me;
  addDay(room, now);
  const unseen = !mine && (room !== current || document.hidden);
  if (unseen && room.unread === 0) addRule(room, 'New');

  const peers = message.private && mine ? message.peer : '';
  const key = JSON.stringify([message.user, message.private, peers]);
  let group = room.last?.key === key && now - room.last.time < GROUP_MINUTES * 60_000 ? room.last : null;
  if (!group) {
    group = { key, time: now, body: element('div', '') };
    group.body.append(head(message, mine, peers, now));
    append(room, element('div', message.private ? 'group private' : 'group', avatar(message.user), group.body));
    room.last = group;
  }
  const text = element('div', 'text');
  fillText(text, message.text);
  change(room, () => group.body.append(text, ...moreButton(text, message.text)), mine);

  if (unseen) room.unread++;
  else if (room === current && !room.atEnd && !mine) room.below++;
  renderRooms();
  renderPill();
  return text;
}

function head(message, mine, peers, now) {
  const name = isolated(message.user);
  const author = mine
    ? element('span', `name ${tone(message.user)}`, name)
    : button(`name ${tone(message.user)}`, '', () => setTarget(message.user));
  if (!mine) {
    author.append(name);
    author.setAttribute('aria-label', `${message.user}: write in private`);
  }
  const time = element('time', '', clock.format(now));
  time.dateTime = now.toISOString();
  const head = element('div', 'head', author, time);
  if (message.private) {
    const tag = element('span', 'tag', icon('lock'), peers ? 'only\u00a0to' : 'private');
    if (peers) tag.append(isolated(peers));
    head.append(tag);
  }
  return head;
}

function fillText(node, text) {
  node.replaceChildren(linked(text.length > MAX_TEXT ? `${text.slice(0, MAX_TEXT)}…` : text));
  if (/^(\p{Extended_Pictographic}(\p{Emoji_Modifier}|\ufe0f|\u200d\p{Extended_Pictographic})*\s*){1,3}$/u.test(text)) {
    node.classList.add('big');
  }
}

function moreButton(node, text) {
  if (text.length < 1_500 && text.split('\n').length < 18) return [];
  node.classList.add('clamped');
  const more = button('more', 'Show all', () => {
    const clamped = node.classList.toggle('clamped');
    more.textContent = clamped ? 'Show all' : 'Show less';
    more.setAttribute('aria-expanded', String(!clamped));
  });
  more.setAttribute('aria-expanded', 'false');
  return [more];
}

/** Somebody came or went. Such lines share one as long as nothing else comes between. */
function addPresence(room, name, what) {
  addDay(room, new Date());
  const words = [isolated(name), ` ${what}`];
  if (room.last?.presence && room.last.count < 8) {
    room.last.count++;
    change(room, () => room.last.presence.append(' · ', ...words));
  } else {
    const presence = element('div', 'line', ...words);
    append(room, presence);
    room.last = { presence, count: 1 };
  }
}

function addLine(room, text) {
  append(room, element('div', 'line', text));
  room.last = null;
}

function addRule(room, text) {
  room.log.querySelector('.rule.new')?.remove();
  append(room, element('div', 'rule new', text));
  room.last = null;
}

function addDay(room, now) {
  if (room.day === now.toDateString()) return;
  room.day = now.toDateString();
  append(room, element('div', 'rule', calendar.format(now)));
  room.last = null;
}

function append(room, node) {
  change(room, () => {
    room.log.append(node);
    while (room.log.childElementCount > MAX_LINES) room.log.firstElementChild.remove();
  });
  if (room === current) $('empty').hidden = true;
}

/** Changes the stream; whoever was at its end stays there, everybody else stays where they are. */
function change(room, work, follow = false) {
  work();
  if (room === current && (room.atEnd || follow)) scrollToEnd();
}

function scrollToEnd() {
  const stream = $('stream');
  stream.scrollTop = stream.scrollHeight;
  if (!current) return;
  current.atEnd = true;
  current.below = 0;
  renderPill();
}

function onScroll() {
  if (!current) return;
  const stream = $('stream');
  current.atEnd = stream.scrollHeight - stream.scrollTop - stream.clientHeight < 48;
  if (current.atEnd) current.below = 0;
  renderPill();
}

function markRead() {
  if (!current || document.hidden) return;
  current.unread = 0;
  renderRooms();
}

// ---- Sending

function submitText() {
  const text = $('text').value.trim();
  if (!text || !current) return;
  const room = current;
  const others = room.members.filter((name) => name !== me);

  let peers = target === null ? [] : [target];
  let chat = text;
  const addressed = target === null && /^([^:\n]{1,100})::(?!:)\s*(\S[^]*)$/.exec(text);
  if (addressed) {
    peers = addressed[1].split(',').map((name) => name.trim()).filter(Boolean);
    chat = addressed[2];
  }
  const absent = peers.find((name) => !others.includes(name));
  if (absent !== undefined) {
    // Nothing meant for one person may reach everybody by a slip of the finger.
    if (target !== null) return notify(`${absent} is not in #${room.name} any more.`, true);
    if (confirmed !== text) {
      confirmed = text;
      return notify(`Nobody called “${absent}” is here. Press Enter again to send this to everybody.`, true);
    }
    peers = [];
    chat = text;
  }

  confirmed = null;
  $('text').value = '';
  onInput();
  send(room, chat, peers.join(', '));
}

/** Shows the message at once, and what became of it when that is known. */
function send(room, chat, peer) {
  const sent = { text: chat, private: peer !== '' };
  sent.node = addMessage(room, { user: me, text: chat, private: sent.private, peer });
  sent.node.classList.add('pending');
  room.unconfirmed.push(sent);
  const publishing = sent.private
    ? client.publish('/service/privatechat', { room: room.channel, user: me, chat, peer })
    : client.publish(room.channel, { user: me, chat });
  publishing.then(() => {
    sent.node.classList.remove('pending');
    // The echo may come before or after the reply, or never if the server spares us our own messages.
    setTimeout(() => forget(room, sent), 10_000);
  }, (error) => {
    if (!forget(room, sent)) return;
    sent.node.classList.replace('pending', 'failed');
    const trouble = element('div', 'trouble', `Not sent: ${error.message}.`);
    const discard = () => {
      const group = sent.node.closest('.group');
      trouble.remove();
      sent.node.remove();
      if (group.querySelector('.text')) return;
      group.remove();
      room.last = null;
    };
    trouble.append(button('', 'Try again', () => {
      discard();
      send(room, chat, peer);
    }), button('', 'Discard', discard));
    change(room, () => sent.node.after(trouble));
  });
}

function forget(room, sent) {
  const index = room.unconfirmed.indexOf(sent);
  if (index >= 0) room.unconfirmed.splice(index, 1);
  return index >= 0;
}

function setTarget(name) {
  target = name === me ? null : name;
  $('target').hidden = target === null;
  $('target-name').textContent = target ?? '';
  $('composer-box').classList.toggle('private', target !== null);
  if (current) $('text').placeholder = target === null ? `Message #${current.name}` : `Private message to ${target}`;
  notify('');
  renderPeople();
}

function notify(text, alert = false) {
  $('notice').textContent = text;
  $('notice').classList.toggle('alert', alert);
}

function onInput() {
  const box = $('text');
  $('composer-box').classList.toggle('blank', box.value.trim() === '');
  if (box.value.trim() !== confirmed) {
    confirmed = null;
    notify(box.value.length > 7_500 ? `${8_000 - box.value.length} characters left` : '');
  }
  if (!CSS.supports('field-sizing', 'content')) {
    box.style.height = 'auto';
    box.style.height = `${box.scrollHeight}px`;
  }
}

// ---- Showing

function render() {
  renderRooms();
  renderPeople();
  if (!current) return;
  const count = current.members.length;
  $('room-title').textContent = `#${current.name}`;
  $('room-about').textContent = ['Entering…', 'Only you are here'][count] ?? `${count} people`;
  $('leave-room').hidden = [...rooms.values()].filter((room) => room.joined).length < 2;
  $('empty').hidden = current.log.childElementCount > 0;
  $('empty-title').textContent = `It is quiet in #${current.name}`;
  $('empty-text').textContent = count > 1
    ? 'Be the first to say something.'
    : 'Open this page in a second window, or send its address to somebody, and say hello.';
  $('text').placeholder = target === null ? `Message #${current.name}` : `Private message to ${target}`;
  $('text').setAttribute('aria-label', `Message to ${current.name}`);
  renderPill();
}

function renderRooms() {
  const order = (room) => (DEFAULT_ROOMS.includes(room.name) ? DEFAULT_ROOMS.indexOf(room.name) : DEFAULT_ROOMS.length);
  const sorted = [...rooms.values()].sort((a, b) => order(a) - order(b) || a.name.localeCompare(b.name));
  refill($('rooms'), sorted.map((room) => {
    const row = button(`row ${room.joined ? 'joined' : 'idle'}${room.unread ? ' unread' : ''}`, '', () => {
      closeDrawers();
      openRoom(room.name);
      focusComposer();
    });
    row.dataset.key = room.name;
    const hash = element('span', 'hash', '#');
    hash.setAttribute('aria-hidden', 'true');
    row.append(hash, element('span', 'label', room.name));
    row.title = room.joined ? room.name : `Join ${room.name}`;
    if (room === current) row.setAttribute('aria-current', 'true');
    if (room.unread > 0) {
      const badge = element('span', 'badge', room.unread > 99 ? '99+' : String(room.unread));
      badge.setAttribute('aria-label', plural(room.unread, 'unread message', 'unread messages'));
      row.append(badge);
    } else if (room.members.length > 0) {
      const count = element('span', 'count', String(room.members.length));
      count.setAttribute('aria-label', plural(room.members.length, 'person', 'people'));
      row.append(count);
    }
    return element('li', '', row);
  }));
  const unread = sorted.reduce((sum, room) => sum + room.unread, 0);
  $('other-unread').hidden = !sorted.some((room) => room !== current && room.unread > 0);
  document.title = `${unread ? `(${unread}) ` : ''}${current ? `#${current.name} · ` : ''}Bayeux chat`;
}

function renderPeople() {
  const members = [...(current?.members ?? [])];
  members.sort((a, b) => (b === me) - (a === me) || a.localeCompare(b));
  refill($('people'), members.map((name) => {
    const label = element('span', 'label', isolated(name));
    if (name === me) {
      const row = element('div', 'row', avatar(name), label, element('span', 'you', 'you'));
      return element('li', '', row);
    }
    const row = button('row', '', () => {
      closeDrawers();
      setTarget(target === name ? null : name);
      focusComposer();
    });
    row.dataset.key = name;
    row.setAttribute('aria-pressed', String(target === name));
    row.setAttribute('aria-label', `${name}: write in private`);
    row.append(avatar(name), label);
    return element('li', '', row);
  }));
  $('people-total').textContent = $('people-count').textContent = members.length || '';
}

function renderPill() {
  const below = current && !current.atEnd ? current.below : 0;
  $('pill').hidden = below === 0;
  $('pill-text').textContent = plural(below, 'new message', 'new messages');
}

// ---- The connection

const TRANSPORT_NAMES = { websocket: 'WebSocket', 'long-polling': 'long-polling' };
let bannerTimer = null;

function onState({ state, reason, transport, retryAt }) {
  $('status').className = `status ${state}`;
  const words = { connected: TRANSPORT_NAMES[transport], connecting: 'Connecting…', disconnected: 'Disconnected' }[state];
  $('status-text').textContent = state === 'connected' ? `Online · ${words}` : words;
  $('bar-status').className = `status ${state}`;
  $('bar-status-text').textContent = words;
  $('status').title = state === 'connected' ? '' : reason;

  clearTimeout(bannerTimer);
  if (state === 'connected') {
    $('banner').hidden = true;
    if (offlineSince && missedMessages) {
      const seconds = Math.max(1, Math.round((Date.now() - offlineSince) / 1000));
      const minutes = Math.round(seconds / 60);
      const away = seconds < 90 ? plural(seconds, 'second', 'seconds') : plural(minutes, 'minute', 'minutes');
      for (const room of rooms.values()) {
        if (!room.joined || room.log.childElementCount === 0) continue;
        addLine(room, `Back online. Messages of the last ${away} may be missing here.`);
      }
    }
    offlineSince = 0;
    missedMessages = false;
    everConnected = true;
  } else if (me) {
    if (everConnected) offlineSince ||= Date.now();
    // Most interruptions are over before anybody needs to know.
    const patience = $('banner').hidden && state === 'connecting' ? 700 : 0;
    bannerTimer = setTimeout(() => renderBanner(state, reason, retryAt), patience);
  }
}

function renderBanner(state, reason, retryAt) {
  const seconds = Math.ceil(((retryAt ?? 0) - Date.now()) / 1000);
  const stopped = state === 'disconnected';
  const lost = everConnected ? 'Connection lost' : 'No connection yet';
  $('banner').hidden = false;
  $('banner').classList.toggle('stopped', stopped);
  $('banner-text').textContent = stopped
    ? `Disconnected: ${reason}.`
    : `${lost}. ${seconds > 0 ? `Retrying in ${seconds}\u00a0s.` : 'Connecting…'}`;
  $('banner-text').title = reason;
  $('banner-action').textContent = stopped ? 'Connect' : 'Try now';
  $('banner-action').hidden = !stopped && seconds <= 0;
  if (!stopped) bannerTimer = setTimeout(() => renderBanner(state, reason, retryAt), 1_000);
}

client.on('state', onState);
client.on('error', (error) => console.error(error));

// After every handshake, also those that the client makes by itself, the server must learn where we are.
client.listen('/meta/handshake', ({ successful }) => {
  if (!successful) return;
  if (everConnected) {
    reconnectedAt = Date.now();
    missedMessages = true;
  }
  for (const room of rooms.values()) if (room.joined) announce(room);
});

client.on('unload', () => {
  for (const room of rooms.values()) if (room.joined && client.ready) sayGoodbye(room);
});

// ---- Drawers: the panels beside the messages where there is no room for them

const drawers = [['open-rooms', 'rooms-panel'], ['open-people', 'people-panel']];

function openDrawer(opener, panel) {
  $(panel).classList.add('open');
  $(opener).setAttribute('aria-expanded', 'true');
  $('scrim').hidden = false;
  for (const sibling of $('app').children) sibling.inert = sibling.id !== panel && sibling.id !== 'scrim';
  $(panel).querySelector('.close-panel').focus();
}

function closeDrawers() {
  $('scrim').hidden = true;
  for (const sibling of $('app').children) sibling.inert = false;
  for (const [opener, panel] of drawers) {
    if (!$(panel).classList.contains('open')) continue;
    $(panel).classList.remove('open');
    $(opener).setAttribute('aria-expanded', 'false');
    $(opener).focus();
  }
}

/** Where the keyboard is a part of the screen it should not come up uncalled. */
function focusComposer() {
  if (matchMedia('(pointer: fine)').matches || target !== null) $('text').focus();
}

// ---- Coming and going

function enter(name, roomNames) {
  me = name;
  for (const room of DEFAULT_ROOMS) roomNamed(room);
  $('welcome').hidden = true;
  $('app').hidden = false;
  $('self-name').textContent = $('self-name').title = me;
  $('self-avatar').className = `avatar ${tone(me)}`;
  $('self-avatar').textContent = initial(me);
  for (const other of roomNames.slice(1)) joinRoom(roomNamed(other));
  openRoom(roomNames[0]);
  onInput();
  focusComposer();
  connect();
}

function connect() {
  client.connect().catch(() => {
    // The banner says why.
  });
}

async function signOut() {
  client.batch(() => {
    for (const room of [...rooms.values()]) {
      if (!room.joined) continue;
      if (client.ready) sayGoodbye(room);
      for (const subscription of room.subscriptions) subscription.unsubscribe();
    }
    client.disconnect();
  });
  for (const room of [...rooms.values()]) forgetRoom(room);
  rooms.clear();
  me = '';
  everConnected = false;
  offlineSince = 0;
  store(sessionStorage, 'bayeux-chat', null);
  closeDrawers();
  clearTimeout(bannerTimer);
  $('banner').hidden = true;
  welcome();
}

function welcome() {
  $('app').hidden = true;
  $('welcome').hidden = false;
  document.title = 'Bayeux chat';
  const wanted = roomInAddress() || DEFAULT_ROOMS[0];
  const choices = [...new Set([wanted, ...DEFAULT_ROOMS])];
  choices.sort((a, b) => DEFAULT_ROOMS.includes(b) - DEFAULT_ROOMS.includes(a));
  $('join-rooms').replaceChildren(...choices.map((name) => {
    const radio = element('input');
    Object.assign(radio, { type: 'radio', name: 'room', value: name, checked: name === wanted });
    return element('label', 'choice', radio, element('span', '', `#${name}`));
  }));
  $('join-name').value = stored(localStorage, 'bayeux-chat-name') ?? '';
  $('join-name').focus();
  $('join-name').select();
  otherTabs?.postMessage({ question: 'names' });
}

/** A second tab is somebody else: it does not propose a name that is taken by another tab. */
const otherTabs = 'BroadcastChannel' in window ? new BroadcastChannel('bayeux-chat') : null;
otherTabs?.addEventListener('message', ({ data }) => {
  if (data.question && me) otherTabs.postMessage({ taken: me });
  if (data.taken && !me && $('join-name').value === data.taken) {
    $('join-name').value = '';
    $('join-problem').textContent = `${data.taken} is chatting in another tab: who are you here?`;
  }
});

$('join-form').addEventListener('submit', (event) => {
  event.preventDefault();
  const name = $('join-name').value.replace(/\s+/g, ' ').trim();
  let problem = '';
  if (!name) problem = 'Please say who you are.';
  else if (/,|::/.test(name)) problem = 'A name must not contain commas or double colons.';
  $('join-problem').textContent = problem;
  if (problem) return $('join-name').focus();
  store(localStorage, 'bayeux-chat-name', name);
  enter(name, [$('join-form').elements.room.value]);
});

$('new-room').addEventListener('click', () => {
  const form = $('new-room-form');
  form.hidden = !form.hidden;
  $('new-room').setAttribute('aria-expanded', String(!form.hidden));
  if (!form.hidden) $('new-room-name').focus();
});

$('new-room-form').addEventListener('submit', (event) => {
  event.preventDefault();
  const name = cleanRoomName($('new-room-name').value);
  $('new-room-problem').textContent = name ? '' : 'Use letters, digits, - and _.';
  if (!name) return;
  $('new-room-name').value = '';
  $('new-room').click();
  closeDrawers();
  openRoom(name);
  focusComposer();
});

$('composer').addEventListener('submit', (event) => {
  event.preventDefault();
  submitText();
  $('text').focus();
});

$('text').addEventListener('input', onInput);
$('text').addEventListener('keydown', (event) => {
  if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  submitText();
});

$('target-clear').addEventListener('click', () => {
  setTarget(null);
  $('text').focus();
});

$('banner-action').addEventListener('click', () => {
  if (client.state === 'disconnected') connect();
  else client.retry();
});

for (const [opener, panel] of drawers) {
  $(opener).addEventListener('click', () => openDrawer(opener, panel));
  $(panel).querySelector('.close-panel').addEventListener('click', closeDrawers);
}
$('scrim').addEventListener('click', closeDrawers);
for (const query of ['(min-width: 720px)', '(min-width: 1024px)']) matchMedia(query).addEventListener('change', closeDrawers);

$('leave-room').addEventListener('click', () => leaveRoom(current));
$('sign-out').addEventListener('click', signOut);
$('pill').addEventListener('click', () => {
  scrollToEnd();
  $('text').focus();
});
$('stream').addEventListener('scroll', onScroll, { passive: true });
new ResizeObserver(() => current?.atEnd && scrollToEnd()).observe($('stream'));

document.addEventListener('keydown', (event) => {
  if (event.key !== 'Escape') return;
  if (!$('scrim').hidden) closeDrawers();
  else if (target !== null) setTarget(null);
});
document.addEventListener('visibilitychange', markRead);
addEventListener('hashchange', () => {
  const name = roomInAddress();
  if (me && name) openRoom(name);
});

client.subscribe('/members/*', onForeignMembers);

let previous = null;
try {
  previous = JSON.parse(stored(sessionStorage, 'bayeux-chat'));
} catch {
  // Not ours.
}
if (previous?.name) {
  const wanted = roomInAddress() || previous.rooms?.[0] || DEFAULT_ROOMS[0];
  enter(String(previous.name), [...new Set([wanted, ...(previous.rooms ?? [])])]);
} else {
  welcome();
}
