/*
 * A worker of window_full.test.ts: counts a word of each page of its half up, through windows.  A
 * run that it has made free may be taken by the other one: then it tries again.
 */
import { workerData } from 'node:worker_threads';
import { attach, KmemError, type Region, type Window } from './index.ts';

const PAGE = 4096;
const SIZE = 16 * PAGE;
const TRIES = 10_000;
const { id, rounds } = workerData as { readonly id: number; readonly rounds: number };
const machine = attach(workerData);
const m = machine.space('s').region('m');

function window_of(of: Region, at: number): Window {
  for (let tries = 1; ; tries++) {
    try {
      return of.window(at, SIZE, { write: true });
    } catch (e) {
      if (!(e instanceof KmemError) || e.code !== 'ENOMEM' || tries === TRIES) throw e;
    }
  }
}
const half = m.length / 2;
for (let round = 0; round < rounds; round++) {
  for (let at = id * half; at < (id + 1) * half; at += SIZE) {
    const w = window_of(m, at);
    for (let i = 0; i < SIZE / 4; i += PAGE / 4) w.u32[i + 1]++;
    w.close();
  }
}
machine.detach();
