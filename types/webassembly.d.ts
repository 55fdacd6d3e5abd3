/*
 * The few parts of WebAssembly that machine/ uses.
 *
 * The compiler describes WebAssembly only together with a browser's whole
 * document model, which the kernel must not see: `name` and `event` would
 * become globals, and a misspelt local variable would compile.
 */
declare namespace WebAssembly {
  interface MemoryDescriptor {
    initial: number;
    maximum?: number;
    shared?: boolean;
    /** 'i64' asks for 64-bit addresses; the sizes are then BigInts. */
    address?: 'i32' | 'i64';
  }
  class Memory {
    constructor(descriptor: MemoryDescriptor);
    readonly buffer: ArrayBuffer | SharedArrayBuffer;
  }
  class Module {
    constructor(bytes: ArrayBuffer | ArrayBufferView);
  }
  class Instance {
    constructor(module: Module, imports?: Record<string, Record<string, unknown>>);
    // biome-ignore lint/suspicious/noExplicitAny: an export has the type its module gives it
    readonly exports: Record<string, any>;
  }
  class CompileError extends Error {}
  class LinkError extends Error {}
  class RuntimeError extends Error {}
}
