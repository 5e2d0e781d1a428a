// One shard and two, on the two cores: what each delivery costs, and how many there are. The generator needs a part of
// both cores, so that processor time is the figure to look at.

import { digits, median, provenance, publish, table } from './document.mjs';
import { verified } from './generator.mjs';
import { listening, serve } from './servers.mjs';

const SHARDS = [1, 2];
const CASES = [
  ['fan-out to 1,000, 4 publishers, closed loop', '--mode fanout --clients 1000 --publishers 4 --window 5'],
  ['100 rooms of 10, 20,000 deliveries/s', '--mode rooms --clients 1000 --rooms 100 --rate 2000'],
  ['echo, 64 sessions', '--mode echo --clients 64'],
];

/** Measures, and writes the table. */
export async function shards(options) {
  const { cores, duration, warmup, runs } = options;
  const bin = options.binaries();
  const both = `${cores.server},${cores.generator}`;
  const servers = [];
  const rows = [];
  try {
    for (const count of SHARDS) servers.push(await listening(both, serve(bin, '--shards', count)));
    for (const [title, args] of CASES) {
      const all = [...args.split(' '), '--duration', `${duration}ms`, '--warmup', `${warmup}ms`];
      const results = servers.map(() => []);
      for (let round = 0; round < runs; round += 1) {
        for (const [n, server] of servers.entries()) results[n].push(await verified(bin, both, server, all));
      }
      const figure = (get) => results.map((list) => digits(median(list.map(get))));
      rows.push([
        title,
        ...figure(({ server }) => server.cpu_us_per_delivery),
        ...figure(({ measured }) => measured.delivered_per_second),
        ...figure(({ server }) => server.cores),
      ]);
    }
  } finally {
    await Promise.all(servers.map((server) => server.stop()));
  }
  const heads = ['', 'µs, 1 shard', '2 shards', 'deliveries/s, 1 shard', '2 shards', 'cores, 1 shard', '2 shards'];
  publish(
    options,
    'shards',
    `${provenance(options.root, 'shards')}Over WebSocket, connections spread over the shards as they come; processor ` +
      `time of the server per delivery, medians of ${runs}.\n\n${table(heads, rows)}`,
  );
  return true;
}
