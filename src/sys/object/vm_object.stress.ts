/*
 * A million random operations each on indexes, page queues and chains of objects, beside their
 * models; KMEM_STEPS sets another number, KMEM_SEED the seed, which is printed.
 */
import { SEED } from '../machine/seed.test.lib.ts';
import { run as play_chains } from './vm_object.fuzz.ts';
import { run as play_queues } from './vm_pageq.fuzz.ts';
import { run as play_indexes } from '../pmap/vm_radix.fuzz.ts';

const STEPS = Number(process.env.KMEM_STEPS ?? 1_000_000);
console.log(`KMEM_SEED=${SEED}`);
play_indexes(SEED, STEPS);
play_queues(SEED + 1, STEPS);
play_chains(SEED + 2, STEPS);
console.log(`${STEPS} operations each on indexes, queues, chains, every byte: KMEM_SEED=${SEED}`);
