/*
 * registry_zone: zones are found by name, made and ended by two CPUs at once; one is
 * killed at every point of it, and nothing is lost (registry_ops.ts).
 */
import { registry_script } from '../registry_ops.ts';

export const script = registry_script(
  'zone',
  'registry: zones by name are made and ended; no part of one is lost',
);
