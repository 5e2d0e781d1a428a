// What one client sent and received, in order, as text and parsed.

export class Wire {
  entries = [];
  /** The WebSockets that were opened: `protocol`, and `closed`, which resolves when one is. */
  sockets = [];

  /**
   * Adds what was `sent` or received `via` some connection: `text`, and over HTTP the `url` or the `status`.
   * The messages are those of `json`, where the text has more than that.
   */
  note(entry, json = entry.text) {
    let messages = [];
    // To a browser, a response that breaks off in its headers is an empty one.
    const broken = entry.status === 200 && json === '';
    if (entry.sent || entry.status === undefined || (entry.status === 200 && !broken)) {
      messages = JSON.parse(json);
    }
    this.entries.push({ at: Date.now(), ...entry, messages });
  }

  #messages(sent, channel) {
    return this.entries
      .filter((entry) => entry.sent === sent)
      .flatMap((entry) => entry.messages.map((message) => ({ message, entry })))
      .filter(({ message }) => channel === undefined || message.channel === channel);
  }

  sent(channel) {
    return this.#messages(true, channel);
  }

  received(channel) {
    return this.#messages(false, channel);
  }

  /** The received entry that carries the reply to message `id`. */
  replyTo(id) {
    return this.received().find(({ message }) => message.id === id && message.data === undefined)?.entry;
  }

  /** Each answered `/meta/connect`: how long it took, and its reply. */
  connects() {
    const replies = new Map(this.received('/meta/connect').map((reply) => [reply.message.id, reply]));
    return this.sent('/meta/connect').flatMap(({ message, entry }) => {
      const reply = replies.get(message.id);
      if (!reply) return [];
      return [{ ms: reply.entry.at - entry.at, request: message, reply: reply.message, entry: reply.entry }];
    });
  }
}

/** The messages in a script of callback-polling, as JSON. */
export function jsonOf(script) {
  return /^[\w$.-]+\((.*)\)$/s.exec(script)?.[1];
}
