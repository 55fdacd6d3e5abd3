/*
 * Shown: references to pages, played by one and by two players on one space.  Where all fits, each
 * page is made once and missed once.  In fewer pages than are used every page holds at every
 * visit what was last written to it; never more pages are in memory than are allowed; two runs
 * tell the same figures.  When all is over not a page is left.  What was lost is told.
 * By what means: real readers and players, INVARIANTS and WITNESS on, all walkers at the end; a
 * recording made up from the seed; a player in this thread, whose machine is looked at after each
 * reference, and whose memory is damaged.
 */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { mem } from '../../sys/machine/memory.ts';
import { vm_frame } from '../../sys/map/vm_copy.ts';
import { vm_map_unkeep } from '../../sys/map/vm_map_keep.ts';
import { PQ_ACTIVE, PQ_CACHE, PQ_INACTIVE, pageq_count } from '../../sys/page/vm_pageq.ts';
import { boot, shutdown } from '../../sys/boot/whole.ts';
import { BUNDLED, random_from, SEED, temporary_file, WHOLE } from '../read/traces.test.common.ts';
import { all_fit, made_up, paged, play } from './pages_play.test.lib.ts';
import { PagesPlayer, space_of_places } from './pages_player.ts';
import { none_left } from './vm_player.test.lib.ts';

const MATMUL = join(BUNDLED, 'matmul.pages.gz');

for (const cpus of [1, 2]) {
  test(`a recording that fits, by ${cpus} players`, async () => {
    const out = await play(MATMUL, { asked_cpus: cpus });
    all_fit(out);
    assert.deepEqual([out.cpus, out.verified, out.resident], [cpus, true, null]);
    assert.deepEqual([out.trace.references, out.trace.pages], [725_481, 247]);
  });
  test(`a made-up one, by ${cpus} players (seed ${SEED})`, async (t) => {
    const file = temporary_file(t, 'made.pages', made_up(600, WHOLE ? 12_000 : 6000));
    all_fit(await play(file, { asked_cpus: cpus }));
    const few = { pages: { resident: 100, readahead: false }, asked_cpus: cpus };
    const out = await play(file, few);
    assert.ok(out.vm.pageins > 0 && out.vm.pageouts > 0);
    if (cpus === 2) return;
    paged(out);
    assert.ok(out.vm.lru_ratio < 1.5, `${out.vm.lru_ratio}`);
    assert.deepEqual((await play(file, few)).vm, out.vm, 'the same again');
    const ahead = await play(file, { pages: { resident: 100, readahead: true } });
    assert.ok(ahead.readahead && ahead.vm.pageins > ahead.vm.faults_hard);
  });
}
test('where nobody says how many play, one does', async (t) => {
  const file = temporary_file(t, 'few.pages', made_up(50, 500));
  assert.equal((await play(file, { verify: false })).cpus, 1);
});

test(`in a machine with fewer pages than are used, by two players (seed ${SEED})`, async (t) => {
  const file = temporary_file(t, 'made.pages', made_up(900, 15_000));
  const out = await play(file, { asked_cpus: 2, memory: '2M' });
  assert.equal(out.resident, null);
  assert.equal(out.vm.references + out.vm.left_out, out.trace.references);
  assert.ok(out.vm.pageouts > 0 && out.vm.misses > out.trace.pages);
});

/** A player in this thread, in a machine of its own. */
function in_thread(
  resident: number,
  run: (player: PagesPlayer, vpn: (i: number) => number) => void,
) {
  const set = { 'vm.v_resident_max': String(resident) };
  boot({ cpus: 1, fresh: true, memory: '8M', set, options: { INVARIANTS: true, WITNESS: true } });
  try {
    const mp = space_of_places(false);
    const part = { index: 0, players: 1, verify: true };
    const player = new PagesPlayer(part, mp);
    run(player, (i) => {
      const frame = vm_frame(mp, player.vpn(i), false);
      assert.ok(frame > 0);
      return frame;
    });
    vm_map_unkeep(mp);
    none_left();
  } finally {
    shutdown();
  }
}
test(`never more pages in memory than are allowed (seed ${SEED})`, () => {
  const random = random_from(SEED);
  for (const resident of [16, 40]) {
    in_thread(resident, (player) => {
      for (let i = 0; i < 200; i++) player.page(0x4000 + i, i);
      let most = 0;
      for (let n = 0; n < 2500; n++) {
        player.reference(random(n % 100 < 60 ? 20 : 200), random(3) === 0);
        const there = [PQ_ACTIVE, PQ_INACTIVE, PQ_CACHE].reduce(
          (sum, q) => sum + pageq_count(q),
          0,
        );
        most = Math.max(most, there);
      }
      assert.equal(most, resident);
      const { no_memory, failed, verify_errors } = player.totals;
      assert.deepEqual([no_memory, failed, verify_errors], [0, 0, 0]);
    });
  }
});
test('a page that lost what was written to it is told', () => {
  in_thread(0, (player, frame) => {
    for (let i = 0; i < 4; i++) player.page(0x1000 + i, i);
    for (const i of [0, 1, 2, 2]) player.reference(i, true);
    player.reference(3, false);
    const damage: [page: number, word: number][] = [
      [0, 0],
      [1, 512],
      [2, 1023],
      [3, 1022],
    ];
    for (const [i, word] of damage) {
      const at = frame(i) + word;
      const was = mem.I32[at];
      mem.I32[at] = was + 1;
      player.reference(i, false);
      mem.I32[at] = was;
      player.reference(i, false);
    }
    const { verify_errors, complaints } = player.totals;
    assert.equal(verify_errors, damage.length);
    assert.match(complaints[2], /^page 0x1002 holds .* in place of page 3, write 2$/);
    player.totals.verify_errors = 0;
  });
});
