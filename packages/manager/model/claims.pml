/* A slot that changes hands, and what mounts hold in it (docs/manager.md, "Opening a slot"; docs/client.md, "When a slot changes hands"; rules 15 to 17, 23 and 29; manager/src: moving/slot-opener.ts,
 * mounts/slot-claims.ts, mounts/mounts.ts, shard/shard-host.ts, tokens/grants.ts; client/src: claims.ts, managers.ts, shipping.ts).
 *
 * One object, of which two mounts want the token alone, to change it. The slot's owners follow one another, each under the next term, TERMS in all: a new one comes at any time, whether the one before lives, knows of it,
 * or not; it reads what is stable, waits for what mounts say that they hold, and opens when the lease of the one before is over, which grants meanwhile what is free and stable there, for all it knows. A mount that is
 * awaited is expelled at any time, alive or not: its log is applied, its lease waited out. Grants come late. What a manager has applied is lost with it where it was not stable; a mount has it until it is told so.
 *
 * What is asserted:
 *   alone  no two mounts use the token at once
 *   fresh  who is given it has what was changed last
 *
 * The bugs that `claims-model.test.ts` plants, each found:
 *   UNHELD     a mount is granted something before it is stable that it may hold something
 *   LATE       a grant of the owner before counts that comes when the mount has claimed
 *   IMPATIENT  a slot opens though a mount that is awaited neither claimed nor is expelled
 *   LEASED     an expelled mount is not awaited any more before its lease is over
 *   UNENDED    … or before its log is applied
 *   UNSHIPPED  a mount has claimed before what it has done under a token that it gave back is applied at the new owner
 *   BELATED    a mount gives something back to the owner before when it knows of the next
 *   UNSETTLED  the token goes to another mount before what was done under it is stable */

#ifndef TERMS
#define TERMS 2
#endif
#define NONE 2

/* By term: its owner. `opening`: it has read what is stable. Which mounts it knows to hold something, and awaits; who has the token; the change that is to be seen, and whose log's tail is applied. */
bool serves[TERMS], opening[TERMS], open[TERMS];
byte knows[TERMS], awaits[TERMS], holder[TERMS], applied[TERMS], tails[TERMS];
/* It has applied something that it has not made stable. */
bool unstable[TERMS];
byte term;

/* Of the slot, as stable: which mounts may hold something, the change, and whose tail. */
byte bits, stable, stableTails;

/* By mount: the term it knows, that from which on grants count; whether it has the token; a grant that is on its way, of which term, with which change; the change it made
 * that it does not know to be stable. */
byte known[2], counts[2], granted[2], carries[2], mine[2];
bool has[2], grants[2];
/* Which term's owner asks it to give the token back, plus 1; it has answered. */
byte revoked[2];
bool answers[2];
/* Expelled; its log is applied by this term's owner; its lease is over. */
bool expelled[2], over[2];
byte ended[2];

byte changes;
#ifndef CHANGES
#define CHANGES 2
#endif
#define BIT(m) (1 << (m))
#define USES(m) (has[m] && !(expelled[m] && over[m]))
#define OWNER(k) (term == (k))

hidden byte alone, fresh;
inline check() {
  alone = !(USES(0) && USES(1));
  assert(alone)
}

/* A new owner, whoever decided so. From now on nothing of the one before becomes stable. */
proctype Terms() {
end:
  do
  :: d_step { term < TERMS - 1 -> term++; serves[term] = true; holder[term] = NONE }
  od
}

#ifdef UNHELD
#define IS_HELD(k, m) true
#else
#define IS_HELD(k, m) (knows[k] & BIT(m))
#endif
#ifdef UNSETTLED
#define IS_SETTLED(k) true
#else
#define IS_SETTLED(k) (!unstable[k])
#endif
#ifdef LEASED
#define LEASE_ENDED(m) true
#else
#define LEASE_ENDED(m) over[m]
#endif
#define IS_APPLIED(k, m) (mine[m] == 0 || (tails[k] & BIT(m)))
inline apply(k, m) {
  unstable[k] = (IS_APPLIED(k, m) -> unstable[k] : true);
  applied[k] = (IS_APPLIED(k, m) -> applied[k] : mine[m]);
  tails[k] = tails[k] | BIT(m)
}

#define SERVES_MOUNT(m) \
  /* That it may hold something is logged, and is stable: only while this is the log's owner. */ \
  :: d_step { open[me] && serves[me] && OWNER(me) && !expelled[m] && !(knows[me] & BIT(m)) -> bits = bits | BIT(m); knows[me] = knows[me] | BIT(m) } \
  :: d_step { \
       open[me] && serves[me] && known[m] == me && !has[m] && !grants[m] && !expelled[m] && IS_HELD(me, m) && holder[me] == NONE && IS_SETTLED(me) -> \
       holder[me] = m; \
       grants[m] = true; \
       granted[m] = me; \
       carries[m] = applied[me] \
     } \
  :: d_step { open[me] && serves[me] && known[m] <= me && holder[me] == m && revoked[m] == 0 && !grants[m] && !expelled[m] -> revoked[m] = me + 1 } \
  :: d_step { open[me] && serves[me] && revoked[m] == me + 1 && answers[m] -> answers[m] = false; revoked[m] = 0; holder[me] = NONE } \
  :: d_step { serves[me] && known[m] == me && opening[me] && !expelled[m] && !IS_APPLIED(me, m) -> apply(me, m) } \
  :: d_step { known[m] == me && OWNER(me) && mine[m] > 0 && (stableTails & BIT(m)) -> mine[m] = 0 } \
  /* It is expelled where it is awaited, or somebody wants what it has; its log is ended and applied, its lease waited out. */ \
  :: d_step { serves[me] && opening[me] && OWNER(me) && !expelled[m] && ((awaits[me] & BIT(m)) || (open[me] && holder[me] == m)) -> expelled[m] = true } \
  :: d_step { serves[me] && opening[me] && expelled[m] && ended[m] <= me -> TAKES_TAIL(m); ended[m] = me + 1 } \
  :: d_step { \
       serves[me] && OWNER(me) && expelled[m] && ended[m] == me + 1 && LEASE_ENDED(m) && ((awaits[me] & BIT(m)) || holder[me] == m) -> \
       awaits[me] = awaits[me] & ~BIT(m); \
       holder[me] = (holder[me] == m -> NONE : holder[me]) \
     }

#ifdef UNENDED
#define TAKES_TAIL(m) skip
#else
#define TAKES_TAIL(m) apply(me, m)
#endif

proctype Manager(byte me) {
end:
  do
  :: d_step { serves[me] && !opening[me] -> opening[me] = true; applied[me] = stable; tails[me] = stableTails; knows[me] = bits; awaits[me] = bits }
#ifdef IMPATIENT
  :: d_step { opening[me] && !open[me] -> open[me] = true }
#else
  :: d_step { opening[me] && !open[me] && awaits[me] == 0 && !serves[me - 1] -> open[me] = true }
#endif
  SERVES_MOUNT(0)
  SERVES_MOUNT(1)
  :: d_step { serves[me] && opening[me] && OWNER(me) && (applied[me] != stable || tails[me] != stableTails) -> stable = applied[me]; stableTails = tails[me]; unstable[me] = false }
  /* It is over when its lease has ended; it need not know of the one that follows. */
  :: serves[me] && term > me -> serves[me] = false; break
  od
}

#ifdef LATE
#define COUNTS(m) true
#else
#define COUNTS(m) (granted[m] >= counts[m])
#endif
#ifdef UNSHIPPED
#define IS_SHIPPED(k) true
#else
#define IS_SHIPPED(k) (claimed || IS_APPLIED(k, me))
#endif

/* As far as it was told: by the owner before until it gathers, by the next once that has told it. */
#define IS_SETTLED_BY(m, k) ((counts[m] <= (k) && IS_APPLIED(k, m)) || (opening[known[m]] && IS_APPLIED(known[m], m)))
#ifdef BELATED
#define MAY_ANSWER(m) true
#else
#define MAY_ANSWER(m) (known[m] == revoked[m] - 1)
#endif

/* Its log is longer than anybody has applied. */
inline changed(m) {
  stableTails = stableTails & ~BIT(m);
  k = 0;
  do
  :: k < TERMS -> tails[k] = tails[k] & ~BIT(m); k++
  :: else -> break
  od;
  k = 0
}

proctype Mount(byte me) {
  byte k;
  /* The term under which it claims; whether it had the token when it gathered. */
  byte claims = TERMS;
  bool claimed;
end:
  do
  :: d_step { grants[me] && COUNTS(me) && !expelled[me] -> grants[me] = false; has[me] = true; check(); fresh = (carries[me] == changes); assert(fresh); carries[me] = 0; granted[me] = 0 }
  :: d_step { grants[me] && !(COUNTS(me) && !expelled[me]) -> grants[me] = false; carries[me] = 0; granted[me] = 0 }
  :: d_step { USES(me) && !expelled[me] && changes < CHANGES -> changes++; mine[me] = changes; changed(me) }
  /* It gives it back when everything it did is applied. What it answers is lost where who asked does not serve any more. */
  :: d_step {
       revoked[me] > 0 && !answers[me] && !grants[me] && (!has[me] || IS_SETTLED_BY(me, revoked[me] - 1)) ->
       has[me] = false;
       answers[me] = (MAY_ANSWER(me) && serves[revoked[me] - 1] && !expelled[me]);
       revoked[me] = (answers[me] -> revoked[me] : 0)
     }
  :: d_step { revoked[me] > 0 && !serves[revoked[me] - 1] -> answers[me] = false; revoked[me] = 0 }
  :: d_step { known[me] < term -> known[me]++ }
  /* An owner awaits it: it gathers, in one turn, what it holds. */
  :: d_step {
       claims == TERMS && !expelled[me] && opening[known[me]] && (awaits[known[me]] & BIT(me)) ->
       claims = known[me];
       counts[me] = claims;
       claimed = has[me]
     }
  /* It has said so, and its changes are applied. */
  :: d_step {
       claims < TERMS && serves[claims] && (awaits[claims] & BIT(me)) && !expelled[me] && IS_SHIPPED(claims) ->
       holder[claims] = (claimed -> me : holder[claims]);
       awaits[claims] = awaits[claims] & ~BIT(me);
       claims = TERMS
     }
  /* It fails, and is made up anew. */
  :: d_step { claims < TERMS && (known[me] > claims || expelled[me]) -> claims = TERMS }
  :: d_step { expelled[me] && !over[me] -> over[me] = true; has[me] = false }
  od
}

init {
  atomic {
    serves[0] = true;
    opening[0] = true;
    open[0] = true;
    holder[0] = NONE;
    byte k = 0;
    do
    :: k < TERMS -> run Manager(k); k++
    :: else -> break
    od;
    run Terms();
    run Mount(0);
    run Mount(1)
  }
}
