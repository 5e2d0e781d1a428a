// Where pages come from: a web server of the application's own, beside the server under test.

import { createServer } from 'node:http';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import path from 'node:path';

const require = createRequire(import.meta.url);

/**
 * The path of the pages that a client runs in. A server under test has nothing there: what it says instead is a page
 * of its origin, and empty enough.
 */
export const PAGE = '/interop-page';

/** Our scripts. */
const OURS = {
  '/in-page.mjs': new URL('in-page.mjs', import.meta.url),
  '/commands.mjs': new URL('../commands.mjs', import.meta.url),
};

/** Modules of the npm packages, as they are. */
const THEIRS = /^\/(cometd\d+)\/(\w+\.js)$/;

async function fileAt(pathname) {
  if (OURS[pathname]) return readFile(OURS[pathname]);
  const [matched, library, name] = THEIRS.exec(pathname) ?? [];
  if (!matched) return undefined;
  const directory = path.dirname(require.resolve(`${library}/package.json`));
  return readFile(path.join(directory, name)).catch(() => undefined);
}

/** Starts the site on a free port of 127.0.0.1. */
export async function startSite() {
  const server = createServer(async (request, response) => {
    const { pathname } = new URL(request.url, 'http://site');
    if (pathname === PAGE) {
      response.writeHead(200, { 'Content-Type': 'text/html; charset=utf-8' });
      response.end('<!doctype html><html lang="en"><title>interop</title></html>');
      return;
    }
    const file = await fileAt(pathname);
    response.writeHead(file ? 200 : 404, {
      'Content-Type': 'text/javascript; charset=utf-8',
      'Cache-Control': 'max-age=3600',
      // Pages of other origins load these as modules.
      'Access-Control-Allow-Origin': '*',
    });
    response.end(file);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  return {
    port,
    /** The module that runs the library `client` in a page. */
    scriptFor: (client) => `http://127.0.0.1:${port}/in-page.mjs?${new URLSearchParams({ client })}`,
    close() {
      server.closeAllConnections();
      return new Promise((resolve) => server.close(resolve));
    },
  };
}
