/*
 * Shown: every reader of a ring sees every event in order, however small the ring, however slow a
 * reader; nobody waits for ever when the other side leaves or dies.
 * By what means: real threads at rings of 16 to 64 events, so that a trace goes round them hundreds
 * of times; threads terminated in the middle.
 */

import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { OP_ALLOC, OP_END, OP_FREE, OP_MASK, OP_SITE, site_units } from './events.ts';
import { open_reader } from '../read/reader.ts';
import {
  FAULT_ABORTED,
  FAULT_WRITER_DIED,
  make_ring,
  RING_END,
  RING_FAILED,
  RING_TIMEOUT,
  RingControl,
  RingReader,
  RingWriter,
} from './ring.ts';
import { BUNDLED, play, start_player } from '../read/traces.test.common.ts';

const MAKE = join(BUNDLED, 'make.mtrace.gz');

test('two players at a tiny ring see the same, one of them slow', async () => {
  const large = await play({ files: [MAKE], cpus: 2 });
  for (const ring_events of [16, 64]) {
    const tiny = await play({ files: [MAKE], cpus: 2, ring_events }, (ring, index) => ({
      ring,
      index,
      release_units: index === 0 ? 1 : 7,
      pause_every: index === 0 ? 200 : undefined,
    }));
    for (const player of tiny.players) {
      assert.deepEqual(player.complaints, []);
      assert.equal(player.ending, RING_END);
      assert.equal(player.allocs, large.players[0].allocs);
    }
    assert.equal(tiny.players[0].checksum, tiny.players[1].checksum);
  }
});

test('a player that leaves early does not hold up the other', async () => {
  const { outcome, players } = await play(
    { files: [MAKE], cpus: 2, ring_events: 32 },
    (ring, index) => ({ ring, index, stop_after: index === 0 ? 100 : undefined }),
  );
  assert.equal(outcome.result?.aborted, false);
  assert.equal(players[1].ended, true);
  assert.ok(players[0].events < players[1].events);
});

test('when all players leave, the reader stops early and says so', async () => {
  const { outcome } = await play({ files: [MAKE], cpus: 2, ring_events: 32 }, (ring, index) => ({
    ring,
    index,
    stop_after: 50,
  }));
  /* The file is one chunk, so it may be read whole; what matters is that nobody waits. */
  assert.ok(outcome.result !== undefined || outcome.error !== undefined);
});

test('a player that dies is declared gone, and the reader goes on', async () => {
  const reader = open_reader({ files: [MAKE], cpus: 2, ring_events: 16 });
  const living = start_player({ ring: reader.ring_handle, index: 1 });
  /* Reader 0 never reads: without the next line the ring stays full for ever. */
  reader.player_gone(0);
  const totals = await living;
  assert.equal(totals.ended, true);
  await reader.done;
  assert.equal(reader.progress().events, 5365);
});

test('abort ends a reader that waits for players, and the players', async () => {
  const reader = open_reader({ files: [MAKE], cpus: 2, ring_events: 16 });
  const player = start_player({ ring: reader.ring_handle, index: 0 });
  const deaf = new RingReader(reader.ring_handle, 1);
  assert.ok(deaf.next_batch() > 0);
  await reader.abort();
  assert.equal((await player).ending, RING_FAILED);
  assert.equal((await player).fault, FAULT_ABORTED);
  await assert.rejects(reader.done);
});

test('a player that sleeps at the ring of a dead writer is woken', async () => {
  const ring = make_ring(1, 16);
  const player = start_player({ ring, index: 0 });
  /* Long enough for the player to fall asleep in most runs; the result is the same if not. */
  await new Promise((resolve) => setTimeout(resolve, 60));
  new RingControl(ring).fail(FAULT_WRITER_DIED);
  const totals = await player;
  assert.equal(totals.ending, RING_FAILED);
  assert.equal(totals.fault, FAULT_WRITER_DIED);
});

test('what was published before a failure is still read', () => {
  const ring = make_ring(1, 16);
  const writer = new RingWriter(ring);
  const reader = new RingReader(ring, 0);
  assert.equal(reader.next_batch(1), RING_TIMEOUT);
  writer.put(OP_ALLOC, 1, 2, 3);
  writer.fail();
  writer.end();
  assert.equal(reader.next_batch(), 1);
  assert.deepEqual(
    [...reader.words.subarray(reader.word_of(0), reader.word_of(0) + 4)],
    [1, 1, 2, 3],
  );
  reader.release(1);
  assert.equal(reader.next_batch(), RING_FAILED);
});

test('names cross the end of the ring, and long ones are cut between letters', () => {
  const ring = make_ring(1, 16);
  const writer = new RingWriter(ring);
  const reader = new RingReader(ring, 0);
  const names = ['', 'a', 'sixteen bytes ok', 'ünïcödé *:7001:(x+3f)[0x1]', 'ß'.repeat(500)];
  for (let round = 0; round < 40; round++) {
    const name = names[round % names.length];
    for (let k = 0; k < round % 4; k++) writer.put(OP_FREE, k, 0, 0);
    writer.put_named(OP_SITE, round, name);
    writer.publish();
    const ready = reader.next_batch();
    const i = round % 4;
    const at = reader.word_of(i);
    assert.equal(reader.words[at] & OP_MASK, OP_SITE);
    assert.equal(i + site_units(reader.words[at + 2]), ready);
    const got = reader.name_at(i);
    assert.equal(got, name.slice(0, got.length));
    if (name.length < 60) assert.equal(got, name);
    else assert.ok(got.length > 50 && !got.includes('\ufffd'));
    reader.release(ready);
  }
  writer.put(OP_END, 0, 0, 0);
  writer.end();
  reader.release(reader.next_batch());
  assert.equal(reader.next_batch(), RING_END);
});

test('unit numbers wrap from 2^31 - 1 and from 2^32 - 1', () => {
  for (const first of [2 ** 31 - 20, -20]) {
    const ring = make_ring(2, 16, first);
    const writer = new RingWriter(ring);
    const readers = [new RingReader(ring, 0), new RingReader(ring, 1)];
    for (let i = 0; i < 60; i++) {
      writer.put(OP_ALLOC, i, 0, 0);
      writer.publish();
      for (const [index, reader] of readers.entries()) {
        const ready = reader.next_batch();
        /* The second reader lags by up to ten units. */
        if (index === 1 && ready < 10) continue;
        assert.equal(ready, index === 0 ? 1 : 10);
        assert.equal(reader.words[reader.word_of(ready - 1) + 1], i);
        reader.release(ready);
      }
    }
    assert.equal(readers[0].first, (first + 60) | 0);
  }
});

test('a reader thread that dies fails the ring and says why', async () => {
  /* What no caller may pass makes the thread throw where nothing is expected to. */
  const files = 5 as unknown as string[];
  const { outcome, players } = await play({ files, cpus: 1 });
  assert.match(outcome.error?.message ?? '', /files\.map is not a function/);
  assert.equal(players[0].ending, RING_FAILED);
});
