/* The life of a CPU slot: attach, detach, death, exit heard late, settling, shutdown, boot over the same memory.
 *
 * One word per slot (64 bits, changed by compare-and-swap only) says it all:
 *      CLOSED             nobody may take it (no machine, or it is shut down)
 *      FREE   inc gen     may be taken, by a handle of generation gen only
 *      HELD   inc who     its owner: who names one thread of all times (host tid and start)
 *      SETTLE inc by      the owner is dead; `by` (slot + incarnation) puts away what it left
 * The words lie at a fixed place, which boot never wipes.  Beside it lie what the owner writes after taking
 * (js: its JavaScript id, rec: its record) and the state word's bits (pk PARKED, fr FREE, dd DEAD, cl claimer).
 * Any thread may die between any two steps, at most DEATHS times.  `run_n` counts
 * who may still move; the last look is taken by one that lives.
 *
 * The two spare slots are the last ones (CFG 3).  An attacher that finds no slot takes one, settles the dead, gives it
 * back and takes a slot that came free.  If the dead hold both and nobody lives (two looks at all words), the next one
 * becomes the heir of the first: HELD inc -> HELD inc + 1 by me.  The heir keeps the record as it is, and first ends
 * what the dead one had begun: the takeover that it noted, the lock in its log, its claims.
 *
 * CFG 1  an owner, two reapers (one immortal), a thread that gets the tid of a dead one; claims, a lock
 *        -DTWO without the fourth thread, so that two deaths can be searched   -DTHREE three reapers instead of it
 * CFG 2  late attachers against shutdown and boot over the same memory, two booters, no claims
 * CFG 3  every slot is held by the dead, one of them with a lock: attachers, the spare slots
 *        -DSPENT=1 the second spare slot, too   -DSPENT=2 both, the first with the lock   -DSPENT=3 both, the first
 *        died taking the lock over
 * CFG 4  shutdown (STOP) while somebody settles, then boot
 * -DLIVE with LTL: an immortal reaper frees every dead slot (weak fairness)
 * Planted:
 * -DBUG_STALE    js is left by the old owner: its exit, heard late, settles the new one
 * -DBUG_NOINC    the settler's compare-and-swap takes whatever incarnation is in the slot by then
 * -DBUG_EMFILE   a look that fails counts as gone
 * -DBUG_LATEWHO  who is stored after the slot was taken: killed between, nobody can tell
 * -DBUG_TIDONLY  the tid without the start: a reused tid hides a death
 * -DBUG_SETTLER  SETTLE names nobody, so a settler's death is not seen
 * -DBUG_STEAL    SETTLE is continued without a proof that the settler is gone
 * -DBUG_FREEFIRST the slot is FREE before what the old owner left is put away
 * -DBUG_CLAIM    leaving and settling do not wait for a claim to end
 * -DBUG_EARLY    a slot can be claimed while its new owner fills it in
 * -DBUG_LOCKED   detach with a lock held
 * -DBUG_NOGEN    a FREE slot is taken whatever its generation
 * -DBUG_LOOK     as NOGEN, and the generation is looked at again after taking; boot looks and does not close
 * -DBUG_COUNT    boot believes a counter of attached threads that is kept beside the slots
 * -DBUG_TWOBOOT  two threads boot over one memory: no word makes boots one at a time
 * -DBUG_NOHEIR   the spare slots of dead attachers are left to whoever is attached: nobody is
 * -DBUG_WIPE     the heir starts with an empty record: what the dead one had begun is lost
 * -DBUG_SAMEINC  the heir keeps the incarnation: who saw the dead one takes its lock away from the heir
 * -DBUG_ONELOOK  the heir looks at the words once: somebody may have become a CPU behind its look
 * -DBUG_CLEARFIRST who takes a lock over clears the records on the way before the log at their end is played back
 * -DBUG_STOPSTAY a thread that was stopped forgets the machine and does not close its slot */
#ifndef CFG
#define CFG 1
#endif
#ifndef DEATHS
#define DEATHS 2
#endif
#ifndef S
#if CFG == 1 && defined(THREE)
#define S 4
#elif CFG == 3
#define S 4
#elif CFG == 1
#define S 3
#else
#define S 2
#endif
#endif
#define SP 2                               /* CFG 3: the first of two spare slots */
#define N 8                                /* threads are 1..4; 6 and 7 were dead before */
#define IMMORTAL 5
#define NOBODY 0
mtype = { CLOSED, FREE, HELD, SETTLE };
mtype ls[S]; byte li[S], lw[S], lb[S];     /* the word: state; incarnation; who, gen or settler's slot + 1; its inc */
byte js[S], rec[S], cl[S]; bool pk[S], fr[S], dd[S];
byte lkslot = 0, lkinc = 0;                /* one lock: owner's slot + 1 and incarnation */
#if CFG == 3
bool log[S], dat = 0; byte via[S];         /* what the lock guards; undo log; RECOVER record: slot + 1 of whose log to play */
byte fro[S];                               /* ghost: who restores from a slot's log */
#endif
bool up = 1;                               /* phase */
byte gen = 1, handle = 1, bw = NOBODY;      /* bw: who boots */
#ifdef BUG_COUNT
byte cnt = 1;
#endif
bool dead[N], begun[N]; byte deaths = 0, run_n = 0;
byte owners[S], touch[S];                  /* ghosts: living owners of a slot; who is at its private things */
byte atall[N];                             /* ghost: slot + 1 that a living thread owns */

/* host tid: thread 4 gets that of thread 1 */
#define TID(t) ((t) == 4 -> 1 : (t))
#if CFG == 3
#define SLOTS SP
#else
#define SLOTS S
#endif
#define LIVES(t) (begun[t] && !dead[t])
#ifdef BUG_TIDONLY
#define GONE(t) (!((LIVES(1) || LIVES(4)) && TID(t) == 1) && !(TID(t) != 1 && LIVES(t)))
#else
#define GONE(t) (!LIVES(t))
#endif
#define claimer_lives(s) (ls[cl[s] - 1] == HELD && !GONE(lw[cl[s] - 1]))
#define ALIVE_TID(b, i) (ls[(b) - 1] == HELD && li[(b) - 1] == (i) && !GONE(lw[(b) - 1]))

/* Death between any two steps: what a dead thread was doing it does no more. */
inline die() {
  dead[me] = 1;
  if :: tc > 0 -> touch[tc - 1]--; tc = 0 :: else fi;
#if CFG == 3
  if :: tf > 0 -> fro[tf - 1]--; tf = 0 :: else fi;
#endif
  if :: atall[me] > 0 -> owners[atall[me] - 1]--; atall[me] = 0 :: else fi
}
#define DIE if :: atomic { me != IMMORTAL && deaths < DEATHS -> deaths++; die(); goto end } :: true fi
inline at(s) { atomic { touch[s]++; tc = s + 1; assert(touch[s] == 1) } }
inline off(s) { atomic { touch[s]--; tc = 0 } }

/* attach, with the handle h: a slot taken is m + 1, 0 if there was none */
inline attach(h) {
  m = 0; x = 0;
  do
  :: x == SLOTS -> x = 0; break
  :: x < SLOTS ->
     atomic {
       if
#if defined(BUG_NOGEN) || defined(BUG_LOOK)
       :: ls[x] == FREE ->
#else
       :: ls[x] == FREE && lw[x] == h ->
#endif
          ls[x] = HELD; m = x + 1; owners[x]++; atall[me] = m; assert(owners[x] == 1);
#ifdef BUG_LATEWHO
          lw[x] = NOBODY;
#else
          lw[x] = me;
#endif
#ifdef BUG_EARLY
          fr[x] = 0;
#endif
          x = 0; break
       :: else -> x++
       fi
     }
  od;
  if
  :: m > 0 -> DIE;
#ifdef BUG_LATEWHO
     lw[m - 1] = me; DIE;
#endif
     if
#ifdef BUG_LOOK
     :: gen != h -> back(h)
     :: gen == h && !up -> back(h)
     :: gen == h && up -> DIE;
#else
     :: !up -> back(h)                      /* shut down: give it back */
     :: else -> DIE;
#endif
        assert(rec[m - 1] == 0);            /* nothing of the old owner is left */
        at(m - 1); rec[m - 1] = me; off(m - 1); DIE;
        js[m - 1] = me; DIE;
#ifdef BUG_COUNT
        cnt++; DIE;
#endif
        leave_park(m - 1);
        assert(gen == h)                    /* an attach succeeds only to its own generation */
     fi
  :: else
  fi
}
/* unpark: a claim ends first, or its claimer is dead */
inline leave_park(s) {
  do
  :: atomic { cl[s] == 0 -> pk[s] = 0; fr[s] = 0; break }
  :: atomic { cl[s] != 0 && !claimer_lives(s) -> cl[s] = 0 }
  od
}
/* gives back a slot in which nothing is yet */
inline back(g) {
  atomic { assert(ls[m - 1] == HELD && owners[m - 1] == 1); ls[m - 1] = FREE; lw[m - 1] = g; li[m - 1]++;
           owners[m - 1]--; atall[me] = 0; m = 0 }
}
/* Leaving is one function.  The owner runs it for detach, exit and the end of its script. */
inline detach(h) {
#ifndef BUG_LOCKED
  if :: lkslot == m && lkinc == li[m - 1] -> lkslot = 0 :: else fi; DIE;
#endif
  pk[m - 1] = 1; DIE;
#ifdef BUG_CLAIM
  fr[m - 1] = 1; DIE;
#else
  do
  :: atomic { cl[m - 1] == 0 -> fr[m - 1] = 1; break }
  :: atomic { cl[m - 1] != 0 && !claimer_lives(m - 1) -> cl[m - 1] = 0 }
  od; DIE;
#endif
#ifdef BUG_FREEFIRST
  atomic { ls[m - 1] = FREE; lw[m - 1] = h; li[m - 1]++; owners[m - 1]--; atall[me] = 0 };
#endif
#ifndef BUG_CLAIM
  at(m - 1);
#else
  atomic { touch[m - 1]++; tc = m; assert(touch[m - 1] == 1) };
#endif
  rec[m - 1] = 0; off(m - 1); DIE;
#ifndef BUG_STALE
  js[m - 1] = 0; DIE;
#endif
#ifdef BUG_COUNT
  cnt--; DIE;
#endif
#ifndef BUG_FREEFIRST
  atomic { assert(ls[m - 1] == HELD && lw[m - 1] == me); ls[m - 1] = FREE; lw[m - 1] = h; li[m - 1]++;
           owners[m - 1]--; atall[me] = 0 };
#endif
  m = 0
}
/* a thread that finds the machine shut down forgets it: its slot is closed, nothing in it is worth handing over */
inline abandon() {
  atomic { assert(ls[m - 1] == HELD && lw[m - 1] == me);
#ifndef BUG_STOPSTAY
           ls[m - 1] = CLOSED; li[m - 1]++;
#endif
           owners[m - 1]--; atall[me] = 0 };
#ifdef BUG_COUNT
  cnt--;
#endif
  m = 0
}
/* one ordinary call: own things, under the lock perhaps */
inline use(h) {
  at(m - 1); assert(gen == h && rec[m - 1] == me); off(m - 1); DIE;
#if CFG == 1
  if
  :: atomic { lkslot == 0 -> lkslot = m; lkinc = li[m - 1] }; DIE;
     if :: lkslot = 0; DIE :: true fi
  :: true
  fi
#endif
}
/* One look at slot s by the owner of slot m - 1: v* is what its word said, the evidence comes after. */
inline reap(s) {
  atomic { vs = ls[s]; vi = li[s]; vw = lw[s]; vb = lb[s] };
  ok = 0;
  if
  :: vs == HELD && vw != me ->
     if
     :: vw != NOBODY && GONE(vw) -> ok = 1         /* /proc: ENOENT, ESRCH, or another start */
#ifdef BUG_EMFILE
     :: vw != NOBODY -> ok = 1
#endif
     :: js[s] != 0 && begun[js[s]] && dead[js[s]] -> ok = 1   /* its exit, heard however late */
     :: else -> skip                                /* lives, or unknown: asked again */
     fi
#ifdef BUG_STEAL
  :: vs == SETTLE -> ok = 1
#else
  :: vs == SETTLE && vw == NOBODY -> skip
  :: vs == SETTLE && vw != NOBODY && !ALIVE_TID(vw, vb) -> ok = 1
#endif
  :: else -> skip
  fi;
  if
  :: ok -> DIE;
     atomic {
       if
#ifdef BUG_NOINC
       :: ls[s] == vs ->
#else
       :: ls[s] == vs && li[s] == vi && lw[s] == vw && (vs != SETTLE || lb[s] == vb) ->
#endif
          assert(owners[s] == 0);                   /* a living owner is never settled */
          ls[s] = SETTLE; lb[s] = li[m - 1];
#ifdef BUG_SETTLER
          lw[s] = NOBODY
#else
          lw[s] = m
#endif
       :: else -> ok = 0
       fi
     };
     if :: ok -> DIE; settle(s) :: else fi
  :: else
  fi
}
#if CFG == 3
/* The lock that settling needs, and what it guards (dat: half changed).  A dead owner's lock is taken over by a swap of
 * exactly that value and undone from the log of the one who changed; a RECOVER record (via) leads on to it.  The record of
 * a slot that has a new owner by now says nothing, save to the heir, whose record it is. */
#define FREE_L  atomic { assert(lkslot == m && lkinc == li[m - 1] && !dat); lkslot = 0 }
inline restore() {                                  /* the lock is mine; fx: whose record comes first */
  lks = fx;
#ifdef BUG_CLEARFIRST
  do :: fx != m && via[fx - 1] != 0 && via[fx - 1] != fx -> y = fx; fx = via[fx - 1]; via[y - 1] = 0; DIE :: else -> break od;
#else
  do :: fx != m && via[fx - 1] != 0 && via[fx - 1] != fx -> fx = via[fx - 1] :: else -> break od;
#endif
  atomic { fro[fx - 1]++; tf = fx }; DIE;
  if :: log[fx - 1] -> dat = 0; DIE; log[fx - 1] = 0 :: else fi; DIE;
  atomic { fro[fx - 1]--; tf = 0 };
  do :: lks != 0 && lks != m -> y = via[lks - 1]; via[lks - 1] = 0; lks = (y == lks -> 0 : y); DIE :: else -> break od;
  via[m - 1] = 0; DIE;
  FREE_L
}
inline lock_l() {
  do
  :: atomic { lkslot == 0 -> lkslot = m; lkinc = li[m - 1]; assert(!dat) }; break
  :: atomic { lkslot != 0 && !ALIVE_TID(lkslot, lkinc) -> lks = lkslot; lkn = lkinc }; DIE;
     via[m - 1] = lks; DIE;
     atomic { if :: lkslot == lks && lkinc == lkn ->
                    lkslot = m; fx = ((li[lks - 1] == lkn || lks == m) -> lks : m); lkinc = li[m - 1]
                 :: else -> fx = 0 fi }; DIE;
     if :: fx != 0 -> restore() :: else -> via[m - 1] = 0 fi;
     lks = 0; lkn = 0; fx = 0; y = 0
  od; DIE
}
inline work_l() { log[m - 1] = 1; DIE; dat = 1; DIE; dat = 0; DIE; log[m - 1] = 0; DIE; FREE_L }

/* The heir of the spare slot: the record is the dead one's.  Nobody is told before this is done. */
#define leads(q) (q == m || via[q - 1] == m || (via[q - 1] != 0 && via[via[q - 1] - 1] == m))
#define seize(w)                                                                                                      \
     atomic { lks = lkslot; lkn = lkinc };                                                                            \
     if                                                                                                               \
     :: lks != 0 && !ALIVE_TID(lks, lkn) && leads(lks) ->                                                             \
        via[m - 1] = w; DIE;                                                                                          \
        atomic { if :: lkslot == lks && lkinc == lkn -> lkslot = m; lkinc = li[m - 1]; fx = w :: else -> fx = 0 fi }; \
        assert(fx != 0); DIE;                      /* nobody else is alive */                                         \
        restore()                                                                                                     \
     :: else -> via[m - 1] = 0; DIE                /* it never had the lock */                                        \
     fi; lks = 0; lkn = 0; fx = 0; y = 0
inline inherit() {
#ifdef BUG_WIPE
  log[m - 1] = 0; via[m - 1] = 0;
#endif
  if :: via[m - 1] != 0 && via[m - 1] != m -> seize(via[m - 1]) :: else fi;    /* the takeover in which it died */
  if :: log[m - 1] || via[m - 1] != 0 -> seize(m) :: else fi;                  /* its own half-made change */
  log[m - 1] = 0; DIE;
  atomic { rec[m - 1] = 0; dd[m - 1] = 0; pk[m - 1] = 1; fr[m - 1] = 1 }; DIE;
  x = 0;
  do
  :: x == S -> x = 0; break
  :: x < S -> if :: cl[x] == m -> cl[x] = 0 :: else fi; x++
  od; DIE
}
/* One look at all words: none can be taken, all who hold one are gone.  The second look: they are all as they were. */
#define CODE(q) (li[q] * 4 + (ls[q] == HELD -> 2 : (ls[q] == SETTLE -> 3 : (ls[q] == FREE -> 1 : 0))))
inline look() {
  ok = 1; x = 0;
  do
  :: x == S || !ok -> break
  :: else ->
     atomic { sn[x] = CODE(x); sw[x] = lw[x] };
     if
     :: (sn[x] & 3) == 3 -> skip                    /* its settler holds a slot, too */
     :: (sn[x] & 3) == 2 && GONE(sw[x]) -> skip
     :: else -> ok = 0
     fi; x++
  od;
#ifndef BUG_ONELOOK
  x = 0;
  do
  :: x == S || !ok -> break
  :: else -> if :: sn[x] == CODE(x) && sw[x] == lw[x] -> skip :: else -> ok = 0 fi; x++
  od;
#endif
  x = 0
}
inline unlook() { x = 0; do :: x == S -> break :: x < S -> sn[x] = 0; sw[x] = 0; x++ od; x = 0 }
inline take_spare() {
  m = 0; x = SP;
  do
  :: x >= S -> break
  :: x < S ->
     atomic { if :: ls[x] == FREE -> ls[x] = HELD; lw[x] = me; m = x + 1; owners[x]++; atall[me] = m;
                    assert(owners[x] == 1 && !log[x] && !via[x]); x = S
                 :: else -> x++ fi }
  od; x = 0;
  if :: m > 0 -> DIE :: else
#ifndef BUG_NOHEIR
     -> look();
     if
     :: ok ->
        atomic { if :: sn[SP] == CODE(SP) && sw[SP] == lw[SP] ->
                       ls[SP] = HELD; lw[SP] = me; lb[SP] = 0; m = SP + 1; owners[SP]++; atall[me] = m; assert(owners[SP] == 1);
#ifndef BUG_SAMEINC
                       li[SP]++
#endif
                    :: else fi };
        unlook(); DIE;
        if :: m > 0 -> inherit() :: else fi
     :: else -> unlook()
     fi
#endif
  fi
}
inline leave_spare() {
  atomic { assert(ls[m - 1] == HELD && lw[m - 1] == me && !log[m - 1] && !via[m - 1]);
           ls[m - 1] = FREE; lw[m - 1] = gen; li[m - 1]++; owners[m - 1]--;
           if :: atall[me] == m -> atall[me] = 0 :: else fi }
}
#endif
#if CFG == 4
#define STOP if :: !up -> break :: else fi      /* thrown out of the settling: SETTLE stays */
#else
#define STOP skip
#endif
inline settle(s) {
 do :: true ->
  atomic { dd[s] = 1; pk[s] = 1 }; DIE; STOP;
#ifndef BUG_CLAIM
  do                                                /* a claim is straight-line work: it ends, or its owner is dead */
  :: atomic { cl[s] == 0 -> break }
  :: atomic { cl[s] != 0 && (cl[s] == m || !claimer_lives(s)) -> cl[s] = 0 }
  od; DIE;
#endif
#ifdef BUG_FREEFIRST
  free(s);
#endif
#if CFG == 3
  lock_l(); work_l(); DIE;                          /* after this the lock names nobody of slot s, and nobody reads its log */
  at(s); atomic { assert(fro[s] == 0); log[s] = 0; via[s] = 0 }; DIE;
#else
  at(s);
  if :: lkslot == s + 1 && lkinc == vi -> lkslot = 0 :: else fi; DIE;
#endif
  x = 0;
  do
  :: x == S -> x = 0; break
  :: x < S -> if :: cl[x] == s + 1 -> cl[x] = 0 :: else fi; x++       /* its claims on others */
  od;
  rec[s] = 0; off(s); DIE; STOP;
#ifndef BUG_STALE
  js[s] = 0; DIE;
#endif
  atomic { dd[s] = 0; fr[s] = 1 }; DIE; STOP;
#ifdef BUG_COUNT
  cnt--; DIE;
#endif
#ifndef BUG_FREEFIRST
  free(s);
#endif
  break
 od
}
inline free(s) { atomic { assert(ls[s] == SETTLE); ls[s] = FREE; lw[s] = gen; li[s] = vi + 1 } }
/* takes what a parked CPU caches */
inline claim(s) {
  atomic { if :: pk[s] && !fr[s] && !dd[s] && cl[s] == 0 && s != m - 1 -> cl[s] = m; ok = 1 :: else -> ok = 0 fi };
  if :: ok -> at(s); DIE; off(s); atomic { if :: cl[s] == m -> cl[s] = 0 :: else fi } :: else fi
}
/* ends the machine for all; its caller leaves too */
inline shutdown() {
  up = 0; DIE;
  x = 0;
  do
  :: x == S -> x = 0; break
  :: x < S -> atomic { if :: ls[x] == FREE -> ls[x] = CLOSED :: else fi }; x++; DIE   /* else: or(STOP), which `up` stands for */
  od;
  abandon()
}
#define DEADWORD(s) ((ls[s] == HELD && lw[s] != NOBODY && GONE(lw[s])) || (ls[s] == SETTLE && (lw[s] == NOBODY || !ALIVE_TID(lw[s], lb[s]))))
/* Boot over the same memory, by a thread that has no slot.  A word of its own makes boots one at a time: only a
 * boot sets `up`, so a machine that is down stays down for who holds it.  Then every slot is closed; one
 * that a living thread has, or may have, ends the attempt (the machine gets memory of its own). */
inline boot() {
  ok = 0;
#ifdef BUG_TWOBOOT
  ok = 1;
#else
  atomic { if :: bw == NOBODY || GONE(bw) -> bw = me; ok = 1 :: else fi };
#endif
  if :: ok -> DIE; if :: up -> ok = 0 :: else fi :: else fi;
  x = 0;
  do
  :: !ok || x == S -> break
  :: ok && x < S ->
#if defined(BUG_COUNT)
     if :: cnt == 0 -> x = S :: else -> ok = 0 fi
#elif defined(BUG_LOOK)
     if :: ls[x] == FREE || ls[x] == CLOSED || DEADWORD(x) -> x++ :: else -> ok = 0 fi
#else
     atomic { if :: ls[x] == FREE || ls[x] == CLOSED || DEADWORD(x) -> ls[x] = CLOSED; li[x]++; x++
                 :: else -> ok = 0 fi };
#endif
     DIE
  od;
  if
  :: ok ->
     atomic { ls[0] = HELD; lw[0] = me; owners[0]++; atall[me] = 1; m = 1; assert(owners[0] == 1) }; DIE;
     wipe(); DIE;
     atomic { rec[0] = me; js[0] = me; pk[0] = 0; fr[0] = 0 }; DIE;
     up = 1; DIE;
     x = 1;
     do
     :: x == S -> x = 0; break
     :: x < S -> atomic { ls[x] = FREE; lw[x] = gen; x++ }; DIE
     od;
#ifdef BUG_COUNT
     cnt++;
#endif
     handle = gen; DIE
  :: else
  fi;
  atomic { if :: bw == me -> bw = NOBODY :: else fi }
}
/* clears the memory and writes a new header: the words of the slots are not in it */
inline wipe() {
  x = 0;
  do
  :: x == S -> x = 0; break
  :: x < S ->
     atomic { assert(owners[x] == (x == 0 -> 1 : 0));           /* nobody else is at home */
              rec[x] = 0; js[x] = 0; pk[x] = 1; fr[x] = 1; dd[x] = 0; cl[x] = 0;
#ifdef BUG_LOOK
              ls[x] = (x == 0 -> HELD : CLOSED);
#endif
              x++ }
  od;
  atomic { gen++; lkslot = 0;
#ifdef BUG_COUNT
           cnt = 0
#endif
  }
}

#if CFG == 3
#define MORE byte lks = 0, lkn = 0, fx = 0, tf = 0, y = 0, sn[S], sw[S]
#else
#define MORE skip
#endif
#define LOCALS byte m = 0, x = 0, tc = 0, vi, vw, vb, k = 0, h; mtype vs; bool ok; MORE

/* attaches, works, leaves */
proctype worker(byte me; byte rounds) {
  LOCALS;
  if :: me == 4 -> dead[1] :: else fi;              /* it gets the tid of one that is gone */
  begun[me] = 1;
  do
  :: k == rounds -> break
  :: k < rounds -> k++;
     h = handle; DIE;                               /* the handle may be old by the time it is used */
     attach(h);
     if
     :: m > 0 -> DIE;
        if
        :: up -> use(h); if :: up -> detach(h) :: else -> abandon() fi
        :: else -> abandon()
        fi
     :: else
     fi
  od;
  if :: me != 4 -> dead[me] = 1 :: else fi;         /* an orderly end is heard like any other; 4 lives on */
end: run_n--
}
/* attaches, settles whom it finds dead, claims, leaves */
proctype reaper(byte me) {
  LOCALS;
  begun[me] = 1; h = handle; DIE;
  attach(h);
  if
  :: m > 0 -> DIE;
     do
     :: k == S -> break
     :: k < S && up -> if :: reap(k) :: claim(k) fi; k++; DIE
     :: k < S && !up -> break
     od;
     if :: up -> detach(h) :: else -> abandon() fi
  :: else
  fi;
end: run_n--
}
/* CPU 0, the one that booted: ends the machine, and boots again where that may be */
proctype booter(byte me; byte rounds) {
  LOCALS;
  m = atall[me]; h = gen;
  do
  :: k == rounds -> break
  :: k < rounds -> k++;
     if
     :: m > 0 ->
        if
        :: up -> use(h); reap(S - 1);
           if :: up -> shutdown() :: else -> abandon() fi
        :: else -> abandon()
        fi
     :: else
     fi; DIE;
     boot();
     if :: m > 0 -> h = gen; DIE; use(h) :: else fi
  od;
end: run_n--
}

#if CFG == 3
#ifndef TRIES
#define TRIES 2
#endif
inline find_slot() {
  do
  :: tries == TRIES -> break
  :: tries < TRIES -> tries++;
     attach(h);
     if :: m > 0 -> break :: else fi;
     take_spare();
     if
     :: m > 0 -> DIE;
        k = 0;
        do :: k == S -> k = 0; break :: k < S -> reap(k); k++ od;
        leave_spare(); m = 0; DIE;
        attach(h);
        if :: m > 0 -> break :: else fi
     :: else
     fi
  od
}
/* attaches though all slots are the dead's: at most TRIES looks, then EAGAIN */
proctype attacher(byte me) {
  byte tries = 0; LOCALS;
  begun[me] = 1; h = handle; DIE;
  find_slot();
  if :: m > 0 -> DIE; lock_l(); work_l(); DIE; detach(h) :: else fi;
end: run_n--
}
#endif
#define FREED(s) (ls[s] != SETTLE && !(ls[s] == HELD && owners[s] == 0))
#ifdef LIVE
ltl freed { <> [] (FREED(1) && FREED(S - 1)) }
#endif

/* The one that lives.  CFG 1: it has slot 0, looks at any time, and once more when all others have ended. */
init {
  byte me = IMMORTAL, s, tries = 0; LOCALS;
  atomic {
    begun[IMMORTAL] = 1;
    for (s : 0 .. S - 1) { ls[s] = FREE; lw[s] = 1; pk[s] = 1; fr[s] = 1 }
    ls[0] = HELD; owners[0] = 1; pk[0] = 0; fr[0] = 0;
#if CFG == 3
    begun[6] = 1; dead[6] = 1; begun[7] = 1; dead[7] = 1;
    lw[0] = 6; rec[0] = 6; lkslot = 1; lkinc = li[0]; log[0] = 1; dat = 1;       /* died in the middle of a change */
    ls[1] = HELD; lw[1] = 7; pk[1] = 0; fr[1] = 0; rec[1] = 7; owners[0] = 0;
#ifdef SPENT
    ls[3] = HELD; lw[3] = 7; pk[3] = 0; fr[3] = 0; rec[3] = 7;
#if SPENT > 1
    ls[2] = HELD; lw[2] = 7; pk[2] = 0; fr[2] = 0; rec[2] = 7;
    lkslot = 3; lkinc = li[2];
#if SPENT == 2
    log[0] = 0; log[2] = 1;
#else
    via[2] = 1;                                     /* half changed by slot 0 still */
#endif
#endif
#endif
    run_n = NATT; run attacher(1);
#if NATT > 1
    run attacher(2);
#endif
#if NATT > 2
    run attacher(3)
#endif
#elif CFG == 4
    lw[0] = 2; begun[2] = 1; atall[2] = 1; rec[0] = 2; js[0] = 2;
    begun[6] = 1; dead[6] = 1; ls[1] = HELD; lw[1] = 6; pk[1] = 0; fr[1] = 0; rec[1] = 6; js[1] = 6;
    run_n = 2;
    run booter(2, 2); run reaper(3)
#elif CFG == 1
    lw[0] = IMMORTAL; m = 1; rec[0] = IMMORTAL;
    run worker(1, 1); run reaper(2);
#if defined(LIVE)
    run_n = 2
#elif defined(TWO)
    run_n = 2
#elif defined(THREE)
    run_n = 3; run reaper(3)
#else
    run_n = 3; run worker(4, 1)
#endif
#else
    lw[0] = 2; begun[2] = 1; atall[2] = 1; rec[0] = 2; js[0] = 2; begun[3] = 1;
    run_n = 3;
    run worker(1, 2); run booter(2, 2); run booter(3, 1)
#endif
  }
#if CFG == 1
#ifdef LIVE
  do :: s = 1; do :: s == S -> break :: s < S -> reap(s); s++ od od
#else
  s = 1;                                            /* looks at any time */
  do :: s == S -> break :: s < S -> reap(s); s++ od;
  run_n == 0;
  s = 1;
  do :: s == S -> break :: s < S -> reap(s); s++ od;
  s = 1;
  do :: s == S -> break :: s < S -> reap(s); s++ od;
  s = 1;                                            /* every slot of a dead thread is free, nothing is left */
  do
  :: s == S -> break
  :: s < S -> assert(ls[s] == FREE && rec[s] == 0 && cl[s] == 0 && fr[s] && pk[s] && !dd[s]); s++
  od;
  assert(lkslot == 0)
#endif
#elif CFG == 3
  run_n == 0;                                       /* one that lives gets a slot, whoever died where */
  h = handle; find_slot(); assert(m > 0);
  s = 0; do :: s == S -> break :: s < S -> reap(s); s++ od;
  lock_l(); work_l(); detach(h);
  s = 0;
  do
  :: s == S -> break
  :: s < S -> assert(ls[s] == FREE && rec[s] == 0 && cl[s] == 0 && fr[s] && pk[s] && !dd[s] && !log[s] && !via[s]); s++
  od;
  assert(lkslot == 0 && !dat)
#elif CFG == 4
  run_n == 0;                                       /* who is not attached any more keeps nobody from booting again */
  s = 0;
  do
  :: s == S -> break
  :: s < S -> assert(ls[s] != SETTLE || !up || DEADWORD(s)); s++
  od;
  if :: !up && owners[0] + owners[S - 1] == 0 -> boot(); assert(ok && m == 1) :: else fi
#endif
end: skip
}
