/*
 * How a page that uses kmem is built.  Without topLevelVar vite writes `var` for
 * every `const` of a module, and the kernel's views are no constants any more: an
 * allocation takes about twice the time.  In development the package is served as
 * it is for the same reason, not bundled in advance.
 */
const output = { topLevelVar: false };

export default {
  build: { rolldownOptions: { output } },
  worker: { rolldownOptions: { output } },
  optimizeDeps: { exclude: ['kmem'] },
};
