// The rows of the comparison: what the generator is told, and which of its figures is looked at.

const perDelivery = ({ server }) => server?.cpu_us_per_delivery;
const perPublish = ({ server }) => server?.cpu_us_per_publish;
const perSession = ({ server }) => server?.kib_per_session;

const WS = 'websocket';
const LP = 'long-polling';

function row(name, transport, title, args, { figure = perDelivery, ...more } = {}) {
  return { name, transport, title, args: ['--transport', transport, ...args.split(' ')], figure, ...more };
}

/**
 * `closed`: throughput is looked at, too; `scheduled`: latencies are. `memory`: needs a server that has done nothing
 * yet, and no duration.
 */
export const CASES = [
  row('ws-fanout-100', WS, 'fan-out to 100, closed loop, batches of 10', '--mode fanout --clients 100 --batch-size 10', {
    closed: true,
  }),
  row('ws-fanout-1000', WS, 'fan-out to 1,000, closed loop, batches of 10', '--mode fanout --clients 1000 --batch-size 10', {
    closed: true,
  }),
  row('ws-rate-100', WS, 'fan-out to 100, 20,000 deliveries/s', '--mode fanout --clients 100 --rate 200', {
    scheduled: true,
  }),
  row('ws-rate-1000', WS, 'fan-out to 1,000, 20,000 deliveries/s', '--mode fanout --clients 1000 --rate 20', {
    scheduled: true,
  }),
  row('ws-rooms', WS, '100 rooms of 10, 20,000 deliveries/s', '--mode rooms --clients 1000 --rooms 100 --rate 2000', {
    scheduled: true,
  }),
  row('ws-echo', WS, 'echo, 16 sessions, per publish', '--mode echo --clients 16', { closed: true, figure: perPublish }),
  row('lp-fanout-100', LP, 'fan-out to 100, closed loop, batches of 10', '--mode fanout --clients 100 --batch-size 10', {
    closed: true,
  }),
  row('lp-rate-100', LP, 'fan-out to 100, 5,000 deliveries/s', '--mode fanout --clients 100 --rate 50', {
    scheduled: true,
  }),
  row('lp-rooms', LP, '100 rooms of 10, 5,000 deliveries/s', '--mode rooms --clients 1000 --rooms 100 --rate 500', {
    scheduled: true,
  }),
  row('lp-echo', LP, 'echo, 16 sessions, per publish', '--mode echo --clients 16', { closed: true, figure: perPublish }),
  row('ws-idle', WS, '5,000 idle sessions, KiB each', '--mode idle --clients 5000', { memory: true, figure: perSession }),
  row('lp-idle', LP, '5,000 idle sessions, KiB each', '--mode idle --clients 5000', { memory: true, figure: perSession }),
];
