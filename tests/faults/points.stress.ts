/*
 * The tests of points.slow.test.ts with a death at every point of joining and leaving,
 * of ending the machine and of booting it; KMEM_POINTS sets how many of each instead.
 */
process.env.KMEM_POINTS ??= 'Infinity';
await import('./points.slow.test.ts');
process.on('exit', (code) => {
  if (code === 0) console.log('every point: the slot came free, and the machine was whole');
});
