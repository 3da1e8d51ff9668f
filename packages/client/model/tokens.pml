/* The token of one file, between two machines and its manager: grants, revokes that overtake them, leases, expulsion, and rejoining (docs/client.md, docs/manager.md;
 * rules 29 to 31; client/src: object-table.ts, asks.ts, holds.ts, kernel-cache.ts, manager-link.ts, expulsion; manager/src: tokens/grants.ts, mounts/mounts.ts, mounts/ended-logs.ts).
 *
 * Mounts 0 and 1 are on machines 0 and 1. The manager may expel mount 0 whenever somebody waits for what it holds, be it alive or not; mount 2 is how it goes on, once it
 * has learned of that, with the same kernel. A machine reads and writes the file, by its mount's caches or by pages that its kernel has of it. The bytes are a
 * number: what was written last. What is sent comes late, or with BREAKS not at all; then it is asked again.
 *
 * Time goes by in ticks. A lease has LEASE of them, counted from when its renewal was sent; at its last one a mount serves nothing and has its kernel drop its pages, which it is
 * given the time for. The manager counts from when the renewal came.
 *
 * What is asserted:
 *   fresh    what a mount or a kernel reads is what was written last; an expelled mount's writes that did not come into its log count until its tokens are free
 *   alone    nobody else can read or write as a mount writes
 *   kept     what a mount was told is in its log is not forgotten with it
 * and with FAIR, where nothing fails and no time goes by: mount 0 is served again and again (progress, under weak fairness).
 *
 * The bugs that `tokens-model.test.ts` plants, each found:
 *   UNCOUNTED  a grant counts though the revoke that follows it came first
 *   UNSETTLED  a token is given back before what was changed under it is applied
 *   LAZY       a token is given back before the kernel has dropped its pages
 *   ANSWER     a lease counts from when its answer comes
 *   UNGUARDED  the kernel keeps its pages as the lease ends
 *   EAGER      an expelled mount's tokens are free once its log is applied, be its lease over or not
 *   UNSEALED   an expelled mount's log is applied before it is sealed
 *   KEEPS      a mount rejoins with what the kernel had cached
 *   UNPINNED   with FAIR: a token may go before who asked for it has used it
 *   OVERTAKES  with FAIR: a revoke is looked at before the grant that came first */

#ifdef FAIR
#define LEASES 0
#define MOUNTS 2
#else
#define LEASES 1
#define MOUNTS 3
#endif
#ifndef WRITES
#define WRITES 1
#endif
#ifndef BREAKS
#define BREAKS 0
#endif
#ifndef LEASE
#define LEASE 2
#endif
#define NOBODY 7

#define NONE 0
#define SHARED 1
#define EXCLUSIVE 2

/* What was written last, and how often anybody wrote. */
byte truth, writes;
byte breaks;

/* By mount. What it holds; the file as it has it; whether that is changed and not applied; what its log has that is not applied (NOBODY: nothing). */
byte token[MOUNTS], copy[MOUNTS], logged[MOUNTS];
bool dirty[MOUNTS];
/* A revoke that is carried out: 1 it begins, 2 nothing is served under the token any more; whether who sent it still hears the answer. */
byte giving[MOUNTS];
bool givesShare[MOUNTS], owes[MOUNTS];
/* Whoever asked has yet to use what was granted. */
bool pinned[MOUNTS];
/* The question under way; whether a revoke came since, and its count. */
byte asking[MOUNTS], revokedAt[MOUNTS];
bool wasRevoked[MOUNTS];
/* It has learned that it is expelled, or has not begun. */
bool over[MOUNTS];

/* By machine: whether its kernel has the file's page, and what is in it. */
bool cached[2];
byte page[2];
#define MACHINE(mount) ((mount) & 1)

/* On the way to the manager, and back. Counts go round: those that meet are close to each other. */
byte request[MOUNTS];
byte grant[MOUNTS], grantCount[MOUNTS], grantCopy[MOUNTS];
bool revoke[MOUNTS], revokeShare[MOUNTS];
byte revokeCount[MOUNTS];
bool answered[MOUNTS];
#define CAME_BEFORE(one, other) (((other) - (one) & 7) - 1 < 3)

/* The manager: the file as it has it applied, who holds what, for whom the token is on its way (and from whom), whether a revoke must be sent anew. */
byte applied, count;
byte row[MOUNTS];
byte moving = NOBODY, holder;
bool again;
/* Of mount 0: 1 expelled, 2 its log is sealed, 3 and applied, 4 its tokens are free. */
byte ended;

#if LEASES
/* Ticks: left of the lease as the mount counts, and as the manager does; since the renewal that is under way was sent (LEASE: none is), and whether the manager has heard it. */
byte left = LEASE, heard = LEASE, sentAgo = LEASE;
bool renewed;
#define SERVES(mount) (mount != 0 || left > 1)
#else
#define SERVES(mount) true
#endif
#define USES(mount, mode) (token[mount] >= mode && giving[mount] != 2 && SERVES(mount) && !over[mount])

#ifdef UNSEALED
#define IS_SEALED(mount) false
#else
#define IS_SEALED(mount) (mount == 0 && ended >= 2)
#endif

hidden byte fresh, alone, kept;
inline look(bytes) {
  fresh = (bytes == truth);
  assert(fresh)
}

#define ALONE(mount, other) (other == mount || !(USES(other, SHARED) || (MACHINE(other) != MACHINE(mount) && cached[MACHINE(other)])))

inline write(mount) {
  alone = (ALONE(mount, 0) && ALONE(mount, 1) && (MOUNTS == 2 || ALONE(mount, MOUNTS - 1)));
  assert(alone);
#ifndef FAIR
  writes++;
  truth = writes;
  copy[mount] = truth;
  page[MACHINE(mount)] = (cached[MACHINE(mount)] -> truth : 0);
#endif
  dirty[mount] = true;
  pinned[mount] = false
}

#ifdef FAIR
/* Writes whenever it can: beside what its mount does. */
proctype Application(byte me) {
end:
  do
  :: d_step { me == 0 && USES(0, EXCLUSIVE) -> write(0) };
progress: skip
  :: d_step { me == 1 && USES(1, EXCLUSIVE) -> write(1) }
  od
}
#endif

/* The incarnation is over: all that it had is gone, but what its kernel has. */
inline leave(mount) {
  over[mount] = true;
  token[mount] = NONE; copy[mount] = 0; dirty[mount] = false; giving[mount] = 0; givesShare[mount] = false; owes[mount] = false; pinned[mount] = false;
  asking[mount] = NONE; wasRevoked[mount] = false; revokedAt[mount] = 0;
  request[mount] = NONE; grant[mount] = NONE; grantCount[mount] = 0; grantCopy[mount] = 0;
  revoke[mount] = false; revokeShare[mount] = false; revokeCount[mount] = 0; answered[mount] = false
}

inline take(mount) {
  if
#ifdef UNCOUNTED
  :: false
#else
  :: wasRevoked[mount] && CAME_BEFORE(grantCount[mount], revokedAt[mount]) /* void */
#endif
  :: else ->
     if
     :: token[mount] == NONE -> token[mount] = grant[mount]; copy[mount] = grantCopy[mount]
     :: else -> token[mount] = (grant[mount] > token[mount] -> grant[mount] : token[mount]) /* what is here is newer */
     fi;
#ifndef UNPINNED
     pinned[mount] = (giving[mount] == 0)
#endif
  fi;
  grant[mount] = NONE; grantCount[mount] = 0; grantCopy[mount] = 0;
  asking[mount] = NONE; wasRevoked[mount] = false; revokedAt[mount] = 0
}

/* What came before a revoke is looked at before it, where nothing is slow. */
#if defined(FAIR) && !defined(OVERTAKES)
#define IN_ORDER(mount) (grant[mount] == NONE)
#else
#define IN_ORDER(mount) true
#endif

proctype Mount(byte me) {
#if LEASES
  if
  :: me == 2 ->
     /* The incarnation before has learned of its end; the kernel drops what it may have. */
     d_step {
       over[0] ->
#ifndef KEEPS
       cached[0] = false; page[0] = 0;
#endif
       over[2] = false;
       left = 0
     }
  :: else
  fi;
#endif
end:
  do
#ifndef FAIR
  /* Reads; and the kernel may keep what it is answered, but where it is dropping it. */
  :: atomic {
       USES(me, SHARED) ->
       look(copy[me]);
       if
       :: giving[me] == 0 -> cached[MACHINE(me)] = true; page[MACHINE(me)] = copy[me]
       :: true
       fi;
       pinned[me] = false
     }
  :: d_step { me < 2 && cached[me] -> look(page[me]) }
  :: d_step { USES(me, EXCLUSIVE) && writes < WRITES -> write(me) }
#endif
  /* Asks for what it lacks. */
  :: atomic {
       !over[me] && asking[me] == NONE && giving[me] == 0 && SERVES(me) && !USES(me, EXCLUSIVE) ->
       if
#ifndef FAIR
       :: !USES(me, SHARED) -> asking[me] = SHARED
#endif
       :: !USES(me, EXCLUSIVE) -> asking[me] = EXCLUSIVE
       fi;
       request[me] = asking[me]
     }
  :: d_step { grant[me] != NONE -> take(me) }
  /* The lease is over before it could be used: what waits for it asks anew. */
  :: d_step { pinned[me] && !SERVES(me) -> pinned[me] = false }
  /* A revoke: also where nothing is held, or is given back already. One that is sent anew is for who carries the former out. */
  :: d_step {
       revoke[me] && giving[me] == 0 && IN_ORDER(me) ->
       revoke[me] = false;
       if
       :: asking[me] != NONE -> wasRevoked[me] = true; revokedAt[me] = revokeCount[me]
       :: else
       fi;
       if
       :: token[me] == NONE || (revokeShare[me] && token[me] == SHARED) -> answered[me] = true
       :: else -> giving[me] = 1; givesShare[me] = revokeShare[me]; owes[me] = true
       fi;
       revokeShare[me] = false; revokeCount[me] = 0
     }
  /* Nobody has yet to use it: in the turn in which the kernel has nothing any more, it is closed. */
  :: d_step {
       giving[me] == 1 && !pinned[me] ->
#ifndef LAZY
       if
       :: !givesShare[me] -> cached[MACHINE(me)] = false; page[MACHINE(me)] = 0
       :: else
       fi;
#endif
       giving[me] = 2
     }
  /* What was changed comes into the log, at any time; to the manager, when it is there. */
  :: d_step {
       dirty[me] && logged[me] == NOBODY && !IS_SEALED(me) && (LEASES || giving[me] == 2) ->
       logged[me] = copy[me];
       kept = !(me == 0 && ended >= 3);
       assert(kept)
     }
  :: d_step { logged[me] != NOBODY && !(me == 0 && ended >= 1) && !over[me] -> applied = logged[me]; dirty[me] = (copy[me] != applied); logged[me] = NOBODY }
#ifdef UNSETTLED
  :: d_step { giving[me] == 2 ->
#else
  :: d_step { giving[me] == 2 && !dirty[me] ->
#endif
       token[me] = (givesShare[me] -> SHARED : NONE);
       copy[me] = (givesShare[me] -> copy[me] : 0);
       giving[me] = 0; givesShare[me] = false;
       answered[me] = owes[me]; owes[me] = false
     }
#if LEASES
  :: d_step { me == 0 && !over[0] && sentAgo == LEASE && left < LEASE -> sentAgo = 0 }
  :: d_step {
       me == 0 && renewed ->
       renewed = false;
#ifdef ANSWER
       left = LEASE;
#else
       left = (LEASE - sentAgo > left -> LEASE - sentAgo : left);
#endif
       sentAgo = LEASE
     }
  /* It learns that it is expelled. */
  :: d_step { me == 0 && ended >= 1 && !over[0] -> leave(0); sentAgo = LEASE; renewed = false }
#endif
#if BREAKS
  /* The connection breaks: what is on its way is lost. */
  :: d_step {
       breaks < BREAKS && !over[me] && (request[me] || grant[me] || revoke[me] || answered[me] || giving[me]) ->
       breaks++;
       request[me] = asking[me];
       grant[me] = NONE; grantCount[me] = 0; grantCopy[me] = 0;
       revoke[me] = false; revokeShare[me] = false; revokeCount[me] = 0; answered[me] = false; owes[me] = false;
       again = (moving != NOBODY && holder == me -> true : again)
     }
#endif
  od
}

#define CONFLICTS(mount, other, mode) (other != mount && (row[other] == EXCLUSIVE || (mode == EXCLUSIVE && row[other] == SHARED)))
#define FREE(mount, mode) (!CONFLICTS(mount, 0, mode) && !CONFLICTS(mount, 1, mode) && (MOUNTS == 2 || !CONFLICTS(mount, MOUNTS - 1, mode)))
#define HELD_BY_OTHERS(mount) ((mount != 0 && row[0]) || (mount != 1 && row[1]) || (MOUNTS > 2 && mount != MOUNTS - 1 && row[MOUNTS - 1]))
#define IS_OPEN(mount) (mount != 0 || ended == 0)

/* Wide: exclusive where nobody else holds anything. */
inline give(mount) {
  row[mount] = (HELD_BY_OTHERS(mount) -> (row[mount] > SHARED -> row[mount] : SHARED) : EXCLUSIVE);
  grant[mount] = row[mount];
  grantCount[mount] = count;
  grantCopy[mount] = applied;
  request[mount] = NONE
}

#define FIRST_CONFLICT(mount, mode) (CONFLICTS(mount, 0, mode) -> 0 : (CONFLICTS(mount, 1, mode) -> 1 : 2))

inline askBack(mount) {
  holder = FIRST_CONFLICT(mount, request[mount]);
  count = (count + 1) & 7;
  if
  :: IS_OPEN(holder) -> revoke[holder] = true; revokeShare[holder] = (request[mount] == SHARED); revokeCount[holder] = count
  :: else
  fi
}

/* A request of one mount: granted, or it makes somebody give back what is in the way, one after the other. */
#define SERVE(mount) \
  :: d_step { \
       request[mount] != NONE && moving == NOBODY && IS_OPEN(mount) -> \
       if \
       :: FREE(mount, request[mount]) -> give(mount) \
       :: else -> moving = mount; askBack(mount) \
       fi \
     }

/* For the one for whom the token is on its way nothing is in the way any more, or the next one is. */
inline goOn() {
  if
  :: request[moving] == NONE || !IS_OPEN(moving) -> moving = NOBODY
  :: else ->
     if
     :: FREE(moving, request[moving]) -> give(moving); moving = NOBODY
     :: else -> askBack(moving)
     fi
  fi;
  holder = (moving == NOBODY -> 0 : holder);
  again = false
}

proctype Manager() {
end:
  do
  SERVE(0)
  SERVE(1)
#if MOUNTS > 2
  SERVE(2)
#endif
  :: d_step {
       moving != NOBODY && answered[holder] && IS_OPEN(holder) ->
       answered[holder] = false;
       row[holder] = (request[moving] == SHARED && row[holder] != NONE -> SHARED : NONE);
       goOn()
     }
#if BREAKS
  :: d_step { moving != NOBODY && again && IS_OPEN(holder) -> again = false; revoke[holder] = true; revokeShare[holder] = (request[moving] == SHARED); revokeCount[holder] = count }
#endif
#if LEASES
  :: d_step { sentAgo < LEASE && ended == 0 && !renewed -> renewed = true; heard = LEASE }
  /* Expels mount 0, ends its log, and frees what it held. */
  :: d_step { ended == 0 && moving != NOBODY && holder == 0 -> ended = 1; request[0] = NONE }
  :: d_step { ended == 1 -> ended = 2 }
  :: d_step { ended == 2 -> ended = 3; applied = (logged[0] != NOBODY -> logged[0] : applied); logged[0] = NOBODY }
#ifdef EAGER
  :: d_step {
       ended == 3 ->
#else
  :: d_step {
       ended == 3 && heard == 0 ->
#endif
       ended = 4;
       /* What it had not in its log is gone. */
       truth = (row[0] == EXCLUSIVE -> applied : truth);
       row[0] = NONE;
       if
       :: moving != NOBODY && holder == 0 -> goOn()
       :: else
       fi
     }
#endif
  od
}

#if LEASES
#ifdef UNGUARDED
#define DROPPED true
#else
#define DROPPED (left != 1 || !cached[0])
#endif

proctype Time() {
end:
  do
  :: d_step {
       DROPPED && (left > 0 || heard > 0 || sentAgo < LEASE) ->
       left = (left > 0 -> left - 1 : 0);
       heard = (heard > 0 -> heard - 1 : 0);
       sentAgo = (sentAgo < LEASE -> sentAgo + 1 : LEASE);
       renewed = (sentAgo < LEASE -> renewed : false)
     }
  /* As the lease is about to end, the kernel drops its pages. */
  :: d_step { left == 1 && cached[0] -> cached[0] = false; page[0] = 0 }
  od
}
#endif

init {
  d_step {
    logged[0] = NOBODY;
    logged[1] = NOBODY;
#if LEASES
    logged[2] = NOBODY;
    over[2] = true
#endif
  };
  atomic {
    run Manager();
    run Mount(0);
    run Mount(1);
#ifdef FAIR
    run Application(0);
    run Application(1)
#else
    run Mount(2);
    run Time()
#endif
  }
}
