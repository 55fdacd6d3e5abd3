/*
 * uipc_mbuf_tag: notes that protocols attach to a packet.
 *
 * A tag is a malloc block of type `mbuf_tag`: a header that says who defined it
 * (cookie) and what it is (id), then data.  Tags hang in a list on the packet
 * header and die with it.
 */
import { bcopy } from '../machine/bytes.ts';
import { NULL } from '../machine/struct.ts';
import { vector_call } from '../machine/vectors.ts';
import { M_TAG_WORDS, m_tag, type m_tag_t, mbuf, type mbuf_t } from '../h/mbuf.ts';
import { free, malloc } from '../kmem/kern_malloc.ts';
import { MALLOC_DEFINE } from '../kmem/kern_malloc_type.ts';

const M_PACKET_TAGS = MALLOC_DEFINE('mbuf_tag', 'notes on packets');
/** Cookie of the tags that m_tag_get makes. */
export const PACKET_ABI_COMPAT = 0;
/** An id with this bit survives m_tag_delete_nonpersistent. */
export const MTAG_PERSISTENT = 0x800;
const HEADER_BYTES = M_TAG_WORDS * 4;

/** A tag with room for `len` bytes. NULL: no memory, or a negative length. */
export function m_tag_alloc(cookie: number, id: number, len: number, how: number): m_tag_t {
  if (len < 0) return NULL as m_tag_t;
  const t = malloc(HEADER_BYTES + len, M_PACKET_TAGS.t, how) as m_tag_t;
  if (t === NULL) return t;
  m_tag.link[t] = NULL as m_tag_t;
  m_tag.id[t] = id;
  m_tag.len[t] = len;
  m_tag.cookie[t] = cookie;
  m_tag.free[t] = 0;
  return t;
}
/** m_tag_alloc with the common cookie. */
export function m_tag_get(id: number, len: number, how: number): m_tag_t {
  return m_tag_alloc(PACKET_ABI_COMPAT, id, len, how);
}
/** Byte address of a tag's data. */
export function m_tag_data(t: m_tag_t): number {
  return t * 4 + HEADER_BYTES;
}
/** Frees a tag that hangs nowhere. */
export function m_tag_free(t: m_tag_t): void {
  const how = m_tag.free[t];
  if (how !== 0) vector_call<(t: m_tag_t) => void>(how)(t);
  else free(t, M_PACKET_TAGS.t);
}
/** Hangs a tag on m's packet header, in front of the others. */
export function m_tag_prepend(m: mbuf_t, t: m_tag_t): void {
  m_tag.link[t] = mbuf.tags[m];
  mbuf.tags[m] = t;
}
/** Takes a tag off. */
export function m_tag_unlink(m: mbuf_t, t: m_tag_t): void {
  if (mbuf.tags[m] === t) {
    mbuf.tags[m] = m_tag.link[t];
    return;
  }
  let at = mbuf.tags[m];
  while (at !== NULL && m_tag.link[at] !== t) at = m_tag.link[at];
  if (at !== NULL) m_tag.link[at] = m_tag.link[t];
}
/** Takes a tag off and frees it. */
export function m_tag_delete(m: mbuf_t, t: m_tag_t): void {
  m_tag_unlink(m, t);
  m_tag_free(t);
}
/** Deletes all tags of m, or those from `from` on. */
export function m_tag_delete_chain(m: mbuf_t, from: m_tag_t = NULL as m_tag_t): void {
  let t = from !== NULL ? from : mbuf.tags[m];
  while (t !== NULL) {
    const next = m_tag.link[t];
    m_tag_delete(m, t);
    t = next;
  }
}
/** Deletes the tags that are not to survive a loop through the host. */
export function m_tag_delete_nonpersistent(m: mbuf_t): void {
  let t = mbuf.tags[m];
  while (t !== NULL) {
    const next = m_tag.link[t];
    if ((m_tag.id[t] & MTAG_PERSISTENT) === 0) m_tag_delete(m, t);
    t = next;
  }
}
/** The first tag with this cookie and id, behind `after` unless that is NULL. NULL: none. */
export function m_tag_locate(
  m: mbuf_t,
  cookie: number,
  id: number,
  after: m_tag_t = NULL as m_tag_t,
): m_tag_t {
  let t = after === NULL ? mbuf.tags[m] : m_tag.link[after];
  while (t !== NULL && (m_tag.cookie[t] !== cookie || m_tag.id[t] !== id)) t = m_tag.link[t];
  return t;
}
/** m_tag_locate with the common cookie. */
export function m_tag_find(m: mbuf_t, id: number, after: m_tag_t = NULL as m_tag_t): m_tag_t {
  return m_tag_locate(m, PACKET_ABI_COMPAT, id, after);
}
/** A copy of a tag and its data; it comes from malloc, wherever t came from. NULL: no memory. */
export function m_tag_copy(t: m_tag_t, how: number): m_tag_t {
  const copy = m_tag_alloc(m_tag.cookie[t], m_tag.id[t], m_tag.len[t], how);
  if (copy === NULL) return copy;
  bcopy(m_tag_data(t), m_tag_data(copy), m_tag.len[t]);
  return copy;
}
/**
 * Gives `to` copies of the tags of `from`, in their order; its own are deleted
 * first.  1, or 0 when memory ran out: then `to` has none.
 */
export function m_tag_copy_chain(to: mbuf_t, from: mbuf_t, how: number): number {
  m_tag_delete_chain(to);
  let last = NULL as m_tag_t;
  for (let t = mbuf.tags[from]; t !== NULL; t = m_tag.link[t]) {
    const copy = m_tag_copy(t, how);
    if (copy === NULL) {
      m_tag_delete_chain(to);
      return 0;
    }
    if (last === NULL) mbuf.tags[to] = copy;
    else m_tag.link[last] = copy;
    last = copy;
  }
  return 1;
}
