/*
 * browsers: one page opened in each browser that is here, and what it says.
 *
 *      chromium   playwright-core
 *      firefox    puppeteer-core, over WebDriver BiDi
 *      webkit     WebKitGTK's own driver, over plain WebDriver, on an X server of its own;
 *                 it has SharedArrayBuffer only where JSC_useSharedArrayBuffer is set
 *
 * A run is over when the body's data-state is not `working` any more.  What the console
 * was told, and errors that nobody caught, come with it; WebDriver has no console, so
 * the page for WebKit begins with a script that keeps a list, and workers go unheard.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { createServer } from 'node:net';
import { chromium } from 'playwright-core';
import { launch } from 'puppeteer-core';

const found = (...paths: string[]): string => paths.find((path) => existsSync(path)) ?? '';
const CHROMIUM = found('/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome');
const FIREFOX = found('/usr/bin/firefox-esr', '/usr/bin/firefox');
const WEBKIT = found('/usr/bin/WebKitWebDriver');
const XVFB = found('/usr/bin/Xvfb');

const MAX_MS = 300_000;
const LOOK_MS = 50;

/** What a run of the page left. */
export interface Seen {
  readonly state: string;
  readonly summary: string;
  /** JSON. */
  readonly report: string;
  readonly said: readonly string[];
}
export interface Browser {
  /** Opens an address in a page of its own and waits for the end of its run. */
  open(url: string): Promise<Seen>;
  close(): Promise<void>;
}
export interface BrowserKind {
  readonly name: string;
  /** The Debian package, or packages, that are missing here; '': none. */
  readonly missing: string;
  /** A script that the page has to begin with; then what workers say is not heard. */
  readonly script?: string;
  start(): Promise<Browser>;
  /** The same without SharedArrayBuffer anywhere, if it can be had so. */
  start_unshared?(): Promise<Browser>;
}

/** Run in the page: what it shows once it is over; null before. */
const LOOK = `(() => {
  const text = (id) => document.getElementById(id)?.textContent ?? '';
  const state = document.body?.dataset.state ?? 'working';
  if (state === 'working') return null;
  return { state, summary: text('summary'), report: text('report') };
})()`;
type Look = Omit<Seen, 'said'> | null;

/** Looks until the run is over. */
async function watch(look: () => Promise<Look>, said: readonly string[]): Promise<Seen> {
  const end = performance.now() + MAX_MS;
  for (;;) {
    const seen = await look();
    if (seen !== null) return { ...seen, said };
    if (performance.now() > end) throw new Error(`the page did not end\n${said.join('\n')}`);
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
  }
}

/** As much of a page as the two libraries have in common. */
interface Page {
  on(event: 'console', hear: (message: { text(): string }) => void): unknown;
  on(event: 'pageerror', hear: (error: Error) => void): unknown;
  goto(url: string, options: { timeout: number }): Promise<unknown>;
  evaluate(script: string): Promise<unknown>;
  close(): Promise<void>;
}
/** A browser of either library. */
function by_pages(browser: { newPage(): Promise<unknown>; close(): Promise<void> }): Browser {
  return {
    async open(url) {
      const page = (await browser.newPage()) as Page;
      const said: string[] = [];
      page.on('console', (message) => said.push(message.text()));
      // Only some browsers begin a stack with the message.
      page.on('pageerror', (error) => said.push(`${error}\n${error.stack}`));
      await page.goto(url, { timeout: MAX_MS });
      const seen = await watch(() => page.evaluate(LOOK) as Promise<Look>, said);
      await page.close();
      return seen;
    },
    close: () => browser.close(),
  };
}
async function start_chromium(executablePath: string): Promise<Browser> {
  const quiet = ['--disable-background-networking', '--disable-component-update'];
  const args = [...quiet, '--disable-sync', '--disable-quic', '--no-first-run'];
  return by_pages(await chromium.launch({ executablePath, args, timeout: MAX_MS }));
}
async function start_firefox(executablePath: string): Promise<Browser> {
  return by_pages(await launch({ browser: 'firefox', executablePath, timeout: MAX_MS }));
}

// --- WebKit, by plain WebDriver ----------------------------------------------------------

async function free_port(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  server.close();
  return typeof address === 'object' && address !== null ? address.port : 0;
}
/** Starts a program; resolves once `ready` does, rejects if it ends before. */
async function started(
  name: string,
  args: readonly string[],
  env: NodeJS.ProcessEnv,
  ready: (child: ChildProcess) => Promise<unknown>,
): Promise<ChildProcess> {
  const child = spawn(name, args, { env, stdio: ['ignore', 'ignore', 'ignore', 'pipe'] });
  const ended = once(child, 'exit').then(([code]) => {
    throw new Error(`${name} ended: exit code ${code}`);
  });
  ended.catch(() => {});
  await Promise.race([ready(child), ended]);
  return child;
}
/** WebDriver's answer that a command failed. */
class Refused extends Error {}
async function command(url: string, body?: object, method = 'POST'): Promise<unknown> {
  const sent = body === undefined ? {} : { body: JSON.stringify(body) };
  const answer = await fetch(url, { method, ...sent });
  const { value } = (await answer.json()) as { value: { error?: string; message?: string } };
  if (!answer.ok) throw new Refused(`WebDriver: ${value.error}: ${value.message}`);
  return value;
}
/** Keeps what the console is told. */
const LISTEN = `
  window.said = [];
  for (const kind of ['log', 'info', 'warn', 'error']) {
    console[kind] = (...what) => window.said.push(what.join(' '));
  }
  addEventListener('error', (e) => window.said.push(String(e.message)));
  addEventListener('unhandledrejection', (e) => window.said.push(String(e.reason)));`;
async function start_webkit(shared: boolean): Promise<Browser> {
  // The X server chooses a free display and says which on descriptor 3.
  let display = '';
  const x_args = ['-displayfd', '3', '-screen', '0', '1024x768x24', '-nolisten', 'tcp'];
  const x = await started(XVFB, x_args, process.env, async (child) => {
    for await (const chunk of child.stdio[3] as NodeJS.ReadableStream) {
      display += chunk;
      if (display.includes('\n')) return;
    }
  });
  const port = await free_port();
  const at = `http://127.0.0.1:${port}`;
  const env = {
    ...process.env,
    DISPLAY: `:${display.trim()}`,
    JSC_useSharedArrayBuffer: shared ? '1' : '0',
    LIBGL_ALWAYS_SOFTWARE: '1',
    WEBKIT_DISABLE_SANDBOX_THIS_IS_DANGEROUS: '1',
  };
  const web = await started(WEBKIT, [`--port=${port}`], env, async () => {
    for (;;) {
      const up = await fetch(`${at}/status`).catch(() => null);
      if (up !== null) return;
      await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
    }
  });
  const caps = { capabilities: { alwaysMatch: { pageLoadStrategy: 'none' } } };
  const { sessionId } = (await command(`${at}/session`, caps)) as { sessionId: string };
  const session = `${at}/session/${sessionId}`;
  const run = (script: string): Promise<unknown> =>
    command(`${session}/execute/sync`, { script, args: [] });
  let runs = 0;
  return {
    async open(url) {
      // The driver does not wait for the page, so what it shows at first may be the last one's.
      const own = new URL(url);
      own.search = `run=${++runs}`;
      await command(`${session}/url`, { url: own.href });
      const said: string[] = [];
      // A script is refused whose page is replaced by the next one before it answers.
      const look = (): Promise<Look> =>
        (run(`return location.href === '${own.href}' ? ${LOOK} : null`) as Promise<Look>).catch(
          (e) => {
            if (!(e instanceof Refused)) throw e;
            if (said.at(-1) !== e.message) said.push(e.message);
            return null;
          },
        );
      const seen = await watch(look, said);
      return { ...seen, said: (await run('return window.said')) as string[] };
    },
    async close() {
      await command(session, undefined, 'DELETE').catch(() => {});
      web.kill();
      x.kill();
    },
  };
}

/** The browsers that the page is to run in. */
export const BROWSERS: readonly BrowserKind[] = [
  {
    name: 'chromium',
    missing: CHROMIUM ? '' : 'chromium',
    start: () => start_chromium(CHROMIUM),
  },
  {
    name: 'firefox',
    missing: FIREFOX ? '' : 'firefox-esr',
    start: () => start_firefox(FIREFOX),
  },
  {
    name: 'webkit',
    missing: [WEBKIT ? '' : 'webkit2gtk-driver', XVFB ? '' : 'xvfb'].filter(Boolean).join(' '),
    script: LISTEN,
    start: () => start_webkit(true),
    start_unshared: () => start_webkit(false),
  },
];
