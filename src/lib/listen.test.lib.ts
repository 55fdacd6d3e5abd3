/*
 * What the tests of the control socket share: a folder for sockets, a program in
 * another process (listen.test.program.ts), and a client that can misbehave.
 */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { SEED } from '../sys/machine/seed.test.lib.ts';
import { KmemError, type Listener, type Machine } from './index.ts';
import {
  Frames,
  type Hello,
  helloOf,
  REPLY_BYTES_MAX,
  type Reply,
  replyOf,
  requestFrame,
} from './wire.ts';

/** A folder for this process, in which all sockets of its tests lie. */
export function runtimeFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'kmem-listen-'));
  process.env.XDG_RUNTIME_DIR = folder;
  process.on('exit', () => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

export interface Program {
  readonly child: ChildProcess;
  readonly path: string;
  readonly pid: number;
  /** Sends a line, gives the answer. */
  // biome-ignore lint/suspicious/noExplicitAny: each line is answered as it likes
  ask(line: string): Promise<any>;
}
/** Starts the program on a Node, and waits until it listens. */
export async function startProgram(node = process.execPath): Promise<Program> {
  const file = fileURLToPath(new URL('./listen.test.program.ts', import.meta.url));
  const env = { ...process.env, KMEM_SEED: String(SEED) };
  // Its threads begin as those of the tests do: a run of all tests has bundled them.
  const preloads = process.execArgv.flatMap((arg, i, all) =>
    arg === '--import' ? [arg, all[i + 1]] : [],
  );
  const child = spawn(node, [...preloads, file], { stdio: ['pipe', 'pipe', 'inherit'], env });
  const lines = createInterface(child.stdout)[Symbol.asyncIterator]();
  const answer = async () => {
    const { value, done } = await lines.next();
    if (done) throw new Error(`the program ended: ${child.exitCode ?? child.signalCode}`);
    return JSON.parse(value);
  };
  const { path, pid } = await answer();
  const ask = (line: string) => {
    child.stdin.write(`${line}\n`);
    return answer();
  };
  return { child, path, pid, ask };
}
/** Ends a program as it ends itself, with its structures proved. */
export async function endProgram({ child, ask }: Program): Promise<void> {
  const exit = once(child, 'exit');
  const answer = await ask('end');
  const [code, signal] = await exit;
  if (answer !== 'ended' || code !== 0) throw new Error(`${answer}, ${code}, ${signal}`);
}

/** Tries to listen, in vain, and gives what is said. */
export async function refused(code: string, machine: Machine, path?: string): Promise<string> {
  const options = path === undefined ? {} : { path };
  const e = await machine.listen(options).then(
    (l: Listener) => assert.fail(`listens at ${l.path}`),
    (e: unknown) => e,
  );
  assert.ok(e instanceof KmemError, `${e}`);
  assert.equal(e.code, code, e.message);
  assert.ok(!e.message.includes('\n'));
  return e.message;
}

/** A client by hand. */
export class TestClient {
  readonly socket: Socket;
  readonly frames = new Frames(REPLY_BYTES_MAX);
  readonly bodies: Uint8Array[] = [];
  closed = false;
  #wake = (): void => {};

  constructor(path: string) {
    this.socket = connect(path);
    this.socket.on('data', (chunk: Uint8Array) => {
      this.frames.push(chunk);
      for (let b = this.frames.take(); b; b = this.frames.take()) this.bodies.push(b);
      this.#wake();
    });
    this.socket.on('error', () => {});
    this.socket.on('close', () => {
      this.closed = true;
      this.#wake();
    });
  }
  /** The next frame; null: the connection is closed. */
  async frame(): Promise<Uint8Array | null> {
    while (this.bodies.length === 0 && !this.closed) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    return this.bodies.shift() ?? null;
  }
  async hello(): Promise<Hello | null> {
    const body = await this.frame();
    return body && helloOf(body);
  }
  /** Waits until the other side has closed the connection. */
  async end(): Promise<void> {
    while (!this.closed) {
      this.bodies.length = 0;
      await this.frame();
    }
  }
  send(mib: readonly number[], room: number | null, value: Uint8Array | null = null): void {
    this.socket.write(requestFrame({ tag: 1, mib, room, value }));
  }
  async request(
    mib: readonly number[],
    room: number | null,
    value: Uint8Array | null = null,
  ): Promise<Reply | null> {
    this.send(mib, room, value);
    const body = await this.frame();
    return body && replyOf(body);
  }
  /** The numbers of a name. */
  async mib(name: string): Promise<number[]> {
    const reply = await this.request([0, 3], 96, new TextEncoder().encode(name));
    if (reply?.error !== 0) throw new Error(`${name}: ${reply?.error}`);
    const v = new DataView(reply.bytes.buffer, reply.bytes.byteOffset, reply.bytes.length);
    return Array.from({ length: v.byteLength / 4 }, (_, i) => v.getInt32(4 * i, true));
  }
}
