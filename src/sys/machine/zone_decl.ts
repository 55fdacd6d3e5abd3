/*
 * zone_decl: what the zones of the kernel hold, in a phrase each.
 *
 * A zone is made at boot, by name; what it is for is declared beside the code that makes
 * it, when that code is loaded, as variables and counters are.  Nothing of it lies in
 * the memory of a machine: it is read by people, through `kmem explain`.
 *
 *      const Z_TYPES = zone_declared('mt_zone', 'Records of malloc types');
 *      …
 *      uma_zcreate(Z_TYPES, bytes);
 *
 * Zones that a program makes are its own, and are not here.
 */

export interface ZoneDecl {
  readonly name: string;
  readonly help: string;
}
export const zone_decls: ZoneDecl[] = [];

/** Declares a zone of the kernel; answers its name, for whoever makes it. */
export function zone_declared(name: string, help: string): string {
  zone_decls.push({ name, help });
  return name;
}
