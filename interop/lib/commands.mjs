// What CometD's JavaScript client is asked to do, by name: under Node, and as it is in a page.

/**
 * The commands of `cometd`. Messages for a listener go to `heard`, with its number. A command returns its result
 * or a promise of it.
 */
export function commandsOf(cometd, heard) {
  const handles = new Map();
  const listener = (to) => (message) => heard(to, message);
  const answer = (call) => new Promise(call);
  let next;

  return {
    handshake: (props) => answer((done) => cometd.handshake(props, done)),
    listen({ channel, to }) {
      cometd.addListener(channel, listener(to));
    },
    subscribe: ({ channel, to }) =>
      answer((done) => {
        handles.set(to, cometd.subscribe(channel, listener(to), done));
      }),
    unsubscribe: (to) => answer((done) => cometd.unsubscribe(handles.get(to), done)),
    publish: ({ channel, data, props }) => answer((done) => cometd.publish(channel, data, props, done)),
    publishBinary: ({ channel, bytes, last, meta }) =>
      answer((done) => cometd.publishBinary(channel, bytes, last, meta, {}, done)),
    startBatch() {
      cometd.startBatch();
    },
    endBatch() {
      cometd.endBatch();
    },
    call: ({ target, data, timeout }) =>
      answer((done) => cometd.remoteCall(target, data, timeout, {}, done)),
    disconnect: () => answer((done) => cometd.disconnect({}, done)),
    timesync() {
      const extension = cometd.getExtension('timesync');
      return { offset: extension.getTimeOffset(), lag: extension.getNetworkLag() };
    },
    changeTo(transport) {
      if (!next) {
        const decide = cometd.onTransportFailure.bind(cometd);
        cometd.onTransportFailure = (message, info, handle) =>
          decide(message, info, (decided) => {
            if (message.channel === '/meta/connect') decided.transport = cometd.findTransport(next);
            handle(decided);
          });
      }
      next = transport;
    },
  };
}

/** Leaves `cometd` only one of its transports; without a choice it keeps all. */
export function keepTransport(cometd, transport) {
  for (const name of cometd.getTransportTypes()) {
    if (transport && name !== transport) cometd.unregisterTransport(name);
  }
}

/** The name of the transport in use. */
export function transportOf(cometd) {
  const transport = cometd.getTransport();
  return transport?.getType?.() ?? transport?.type;
}

/** What every client is configured with, unless a test says otherwise. */
export const CONFIG = { backoffIncrement: 200, maxSendBayeuxMessageSize: 8 * 1024 * 1024 };

/** The library's classes of extensions, by the names they are registered under. */
export const EXTENSIONS = {
  ack: 'AckExtension',
  binary: 'BinaryExtension',
  reload: 'ReloadExtension',
  timestamp: 'TimeStampExtension',
  timesync: 'TimeSyncExtension',
};
