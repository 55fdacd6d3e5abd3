/*
 * serve: a folder of files over HTTP on this machine, for a browser.
 *
 * A script of the test's may stand in front of each page's own.  A file of TypeScript is sent
 * with its types taken away, as Node runs it: once for all threads of a page, of which each loads
 * some 200 of them, and a browser may keep what it has.
 *
 * With `isolated` each answer carries the two headers that make a page
 * cross-origin isolated, without which a browser lets no threads share memory.
 */
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { stripTypeScriptTypes } from 'node:module';
import { extname, join, normalize } from 'node:path';

const TYPES: Record<string, string> = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.ts': 'text/javascript; charset=utf-8',
};
const ISOLATION = {
  'Cross-Origin-Opener-Policy': 'same-origin',
  'Cross-Origin-Embedder-Policy': 'require-corp',
};

export interface Served {
  readonly url: string;
  close(): Promise<void>;
}
/** Serves `folder` on a free port of the loopback; `script` is the first that a page runs. */
export async function serve(folder: string, isolated: boolean, script = ''): Promise<Served> {
  const kept = { 'Cache-Control': 'max-age=3600', ...(isolated ? ISOLATION : {}) };
  const stripped = new Map<string, string>();
  const code = (path: string): string => {
    const there = stripped.get(path) ?? stripTypeScriptTypes(readFileSync(path, 'utf8'));
    stripped.set(path, there);
    return there;
  };
  const server = createServer((request, response) => {
    const { pathname } = new URL(request.url ?? '/', 'http://localhost');
    const path = join(
      folder,
      normalize(pathname.endsWith('/') ? `${pathname}index.html` : pathname),
    );
    try {
      const body = extname(path) === '.ts' ? code(path) : readFileSync(path);
      const type = TYPES[extname(path)] ?? 'application/octet-stream';
      response.writeHead(200, { 'Content-Type': type, ...kept });
      if (script !== '' && extname(path) === '.html') response.write(`<script>${script}</script>`);
      response.end(body);
    } catch {
      response.writeHead(404).end();
    }
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  return { url: `http://127.0.0.1:${port}/`, close: () => closed(server) };
}
async function closed(server: Server): Promise<void> {
  server.closeAllConnections();
  server.close();
  await once(server, 'close');
}
