/* The end of a log whose writer is gone, or only seems to be, while its group gets a new version (docs/log.md, docs/map.md; rules 9 to 12;
 * log/src: recovery.ts, log-end.ts, restore.ts, regroup.ts, restripe.ts, store-queue.ts; storage/src/fence.ts).
 *
 * A writer of SEQUENCES segments; three servers, each with the map that it has adopted; somebody who changes the group's version, and freezes the one
 * before; a recovery, which may begin anew at any time, and with RACE another. What is sent to a server it takes whenever it likes, or never, as long
 * as its fence lets it. A process may stop anywhere: nobody is made to go on. A server's crash loses what is not on disk, and what is
 * not on disk nobody is told of or shown; so a fragment is on disk here once it is taken, but with UNSYNCED.
 *
 * What is asserted:
 *   nothingLost      what the writer was told is stable, now or later, is not after the end
 *   oneEnd           the end is decided once
 *   wholeUpToTheEnd  when it is decided, all up to it is there with all its fragments under one version, on disk
 *
 * What is restored before is what lacks a fragment as far as it is seen; not the first segment where a header of the second tells that it was stable, and nobody who says what he has lacks what he should have.
 *
 * The group: three servers with d = 2, m = 1, then without server LEFT, d = 1; with DOUBLE four, m = 2, then three. Sequence WIDE is as wide as the group, the other a mirrored tail. With GROWS: one
 * server, m = 0, then two, d = 1, m = 1; with GROWS=2: two, m = 1, then three, m = 2. What was stored with less parity is written again under the second version, of the
 * live log, too.
 *
 * The bugs that `sealing-model.test.ts` plants, each found:
 *   UNFENCED   a server lists, and has not adopted the map in which the log is not live
 *   LAX        a server takes what comes under a replaced version
 *   SILENCE    a server that does not answer is taken to have nothing
 *   WIDTH      a mirrored tail is missed where only a wide stripe has fragments
 *   CURRENT    only the current version is asked about
 *   EARLY      a version is frozen by what its servers held before they adopted its replacement
 *   HALF       a version is frozen on the word of one server too few
 *   HASTE      the end is decided before what is recoverable is whole
 *   BOAST      a header tells that a segment is stable before it is
 *   TWICE      a recovery decides the end though it is decided
 *   UNSYNCED   a server lists what is not on its disk */

#ifndef SEQUENCES
#define SEQUENCES 2
#endif
#define SEQUENCES_MAX 2
#define NONE 15

#ifdef DOUBLE
#define SERVERS 4
#define ALL 15
#else
#define SERVERS 3
#define ALL 7
#endif

#ifdef GROWS
#if GROWS == 2
#define FIRST 3  /* servers 0 1 */
#define SECOND 7 /* servers 0 1 2 */
#define PARITY(v) (v)
#else
#define FIRST 1  /* server 0 */
#define SECOND 3 /* servers 0 1 */
#define PARITY(v) ((v) - 1)
#endif
#define DATA(v, s) 1
/* Who has a fragment of a sequence, under a version; and who has one of the fragments 0 … m, which every stripe has. */
#define HOLDERS(v, s) ((v) == 1 -> FIRST : SECOND)
#define MUST(v, s) HOLDERS(v, s)
#else
#ifndef LEFT
#define LEFT 2
#endif
#ifndef WIDE
#define WIDE 1
#endif
#define FIRST ALL
#define SECOND (ALL - (1 << LEFT))
#define DATA(v, s) ((v) == 1 && (s) == WIDE -> 2 : 1)
/* Index i of sequence s is at place (s + i) mod n: which servers have the indices 0 … m. */
#if SERVERS == 4
#define PARITY(v) 2
#define MUST(v, s) ((v) == 2 -> SECOND : ((s) == 1 -> 14 : ((s) == 2 -> 13 : 11)))
#else
#define PARITY(v) 1
#define MUST(v, s) ((v) == 2 -> SECOND : ((s) == 1 -> 6 : ((s) == 2 -> 5 : 3)))
#endif
#define HOLDERS(v, s) ((v) == 1 && (s) == WIDE -> FIRST : MUST(v, s))
#endif

#define SET(v) ((v) == 1 -> FIRST : SECOND)
#define BIT(server) (1 << (server))
#define COUNT(who) (((who) & 1) + ((who) >> 1 & 1) + ((who) >> 2 & 1) + ((who) >> 3 & 1))
#define COVERED(who, by) (((who) & (by)) == (who))
/* Where a sequence under a version stands in arrays. */
#define AT(v, s) (((v) - 1) * SEQUENCES_MAX + (s) - 1)

/* All maps, one after the other. */
#define MAPS 5
byte newest;
byte version[MAPS];
bool live[MAPS];
byte last[MAPS];
/* The highest sequence held under version 1: once it is frozen. */
byte frozen[MAPS];

/* The first map with version 2. */
byte regrouped;

/* By server: which map it has adopted. It adopts one when it is made to, and where it must to take a fragment: sooner would only make it
 * refuse more. */
byte adopted[SERVERS];
/* By version and sequence: who holds a fragment; and whose answer the writer has that its fragment is on disk. The writer sends every segment under every
 * version that it may know, sooner or later, and counts what is whole under either. */
byte held[2 * SEQUENCES_MAX];
byte told[2 * SEQUENCES_MAX];
#ifdef UNSYNCED
byte inMemory[2 * SEQUENCES_MAX];
#define ON_DISK(at) (held[at] & (ALL - inMemory[at]))
#else
#define ON_DISK(at) held[at]
#endif

#define STABLE_AT(v, s) COVERED(HOLDERS(v, s), told[AT(v, s)])
#define STABLE (STABLE_AT(1, 1) || STABLE_AT(2, 1) -> (STABLE_AT(1, 2) || STABLE_AT(2, 2) -> 2 : 1) : 0)
#define WHOLE(s) (COVERED(HOLDERS(1, s), ON_DISK(AT(1, s))) || COVERED(HOLDERS(2, s), ON_DISK(AT(2, s))))
/* The headers of the second segment tell that the first is stable: it was when that was sealed. */
bool tells;
/* What is asserted, by name. */
hidden byte nothingLost, oneEnd, wholeUpToTheEnd;
#define NOTHING_LOST \
  nothingLost = (last[newest] == NONE || STABLE <= last[newest]); \
  assert(nothingLost)

inline nextMap() {
  newest++;
  version[newest] = version[newest - 1];
  live[newest] = live[newest - 1];
  last[newest] = last[newest - 1];
  frozen[newest] = frozen[newest - 1]
}

#define ADOPTS(server, map) adopted[server] = (map > adopted[server] -> map : adopted[server])

/* The map that a server has when it takes something under a version: version 2 has it read the map where it does not know of it. */
#define KNOWS(v) (v == 2 && adopted[me] < regrouped -> regrouped : adopted[me])
#ifdef LAX
#define FENCE(v) (v <= version[newest] && live[KNOWS(v)])
#else
#define FENCE(v) (v <= version[newest] && live[KNOWS(v)] && version[KNOWS(v)] == v)
#endif

#define TAKES(v, s) \
  :: d_step { \
       (HOLDERS(v, s) & BIT(me) & (ALL - told[AT(v, s)])) && FENCE(v) -> \
       adopted[me] = KNOWS(v); \
       arrive(v, s) \
     } \
  UNSYNCED_STEPS(v, s)

#ifdef UNSYNCED
inline arrive(v, s) {
  if
  :: held[AT(v, s)] & BIT(me) -> told[AT(v, s)] = told[AT(v, s)] | (BIT(me) & (ALL - inMemory[AT(v, s)]))
  :: else -> held[AT(v, s)] = held[AT(v, s)] | BIT(me); inMemory[AT(v, s)] = inMemory[AT(v, s)] | BIT(me)
  fi;
  NOTHING_LOST
}
/* It gets to the disk, or is lost in a crash. */
#define UNSYNCED_STEPS(v, s) \
  :: d_step { inMemory[AT(v, s)] & BIT(me) -> inMemory[AT(v, s)] = inMemory[AT(v, s)] - BIT(me); told[AT(v, s)] = told[AT(v, s)] | BIT(me) } \
  :: d_step { inMemory[AT(v, s)] & BIT(me) -> inMemory[AT(v, s)] = inMemory[AT(v, s)] - BIT(me); held[AT(v, s)] = held[AT(v, s)] - BIT(me) }
#else
inline arrive(v, s) {
  held[AT(v, s)] = held[AT(v, s)] | BIT(me);
  told[AT(v, s)] = told[AT(v, s)] | BIT(me);
  NOTHING_LOST
}
#define UNSYNCED_STEPS(v, s)
#endif

#ifdef BOAST
#define WAS_STABLE true
#else
#define WAS_STABLE (STABLE > 0)
#endif

proctype Seal() {
end:
  d_step { (WAS_STABLE && (held[AT(1, 2)] | held[AT(2, 2)]) == 0) -> tells = true }
}

proctype Server(byte me) {
end:
  do
  TAKES(1, 1)
  TAKES(2, 1)
#if SEQUENCES > 1
  TAKES(1, 2)
  TAKES(2, 2)
#endif
  od
}

#ifdef HALF
#define FREEZES_WITHOUT (PARITY(1) + 1)
#else
#define FREEZES_WITHOUT PARITY(1)
#endif

/* Has a server adopt the map and list what it holds under version 1; EARLY: the other way round. */
#ifdef EARLY
#define LISTS_FIRST(server) \
  :: d_step { FIRST & BIT(server) && !(asked & BIT(server)) -> asked = asked | BIT(server); raise(server) } \
  :: d_step { asked & BIT(server) && !(said & BIT(server)) -> said = said | BIT(server); ADOPTS(server, map) }
#else
#define LISTS_FIRST(server) \
  :: d_step { FIRST & BIT(server) && !(said & BIT(server)) -> said = said | BIT(server); ADOPTS(server, map); raise(server) }
#endif

inline raise(server) {
  if
  :: held[AT(1, 2)] & BIT(server) -> top = 2
  :: else ->
     if
     :: held[AT(1, 1)] & BIT(server) -> top = (top > 1 -> top : 1)
     :: else
     fi
  fi
}

#define RESTRIPES(server) \
  :: d_step { \
       asked <= top && held[AT(1, asked)] && !(held[AT(2, asked)] & BIT(server)) && (last[adopted[server]] == NONE || asked <= last[adopted[server]]) -> \
       ADOPTS(server, map); \
       held[AT(2, asked)] = held[AT(2, asked)] | BIT(server) \
     }

/* Changes the version, and freezes the one before. */
proctype Regroup() {
  byte map, asked, said, top;
  d_step { nextMap(); version[newest] = 2; regrouped = newest; map = newest };
end:
  do
  LISTS_FIRST(0)
  LISTS_FIRST(1)
  LISTS_FIRST(2)
#if SERVERS > 3
  LISTS_FIRST(3)
#endif
  :: d_step {
       COUNT(FIRST) - COUNT(said) <= FREEZES_WITHOUT && last[newest] == NONE ->
       nextMap();
       frozen[newest] = top
     };
     break
  od;
#ifdef GROWS
  /* What the frozen version held is written whole under the current one. */
  map = newest;
  asked = 1;
endRestripe:
  do
  RESTRIPES(0)
  RESTRIPES(1)
#if GROWS == 2
  RESTRIPES(2)
#endif
  :: d_step { asked < top -> asked++ }
  od
#endif
}

#ifdef SILENCE
#define ADOPTERS(v) SET(v)
#else
#define ADOPTERS(v) adopters
#endif
#ifdef WIDTH
#define EVERY_STRIPE(v, s) SET(v)
#else
#define EVERY_STRIPE(v, s) MUST(v, s)
#endif

/* Adopts, has everything on disk, and lists. */
#define LISTED(at, server) (held[at] & BIT(server))
#ifdef UNFENCED
#define FENCES(server)
#else
#define FENCES(server) ADOPTS(server, map);
#endif
#define LISTS(server) \
  :: d_step { \
       begun && plan == 0 && ((FIRST | SET(version[map])) & BIT(server)) && !(adopters & BIT(server)) -> \
       adopters = adopters | BIT(server); \
       FENCES(server) \
       seen[0] = seen[0] | LISTED(0, server); \
       seen[1] = seen[1] | LISTED(1, server); \
       seen[2] = seen[2] | LISTED(2, server); \
       seen[3] = seen[3] | LISTED(3, server); \
       heard = (tells && (LISTED(AT(1, 2), server) | LISTED(AT(2, 2), server)) -> true : heard) \
     }

/* Under one version: whether it can be read, is whole, is proved never to have been stable. */
#define READABLE(v, s) (s <= SEQUENCES_MAX && COUNT(seen[AT(v, s)]) >= DATA(v, s))
#define COMPLETE(v, s) (seen[AT(v, s)] == HOLDERS(v, s))
#define ABSENT(v, s) \
  (s > SEQUENCES_MAX || seen[AT(v, s)] == 0 \
    -> (EVERY_STRIPE(v, s) & ADOPTERS(v)) != 0 \
    : (HOLDERS(v, s) & ADOPTERS(v) & (ALL - seen[AT(v, s)])) != 0)

#ifdef CURRENT
#define COUNTS(v, s) (v == version[map])
#else
#define COUNTS(v, s) (v <= version[map] && (v == 2 || frozen[map] == NONE || s <= frozen[map]))
#endif
#define SEALED_UNDER(v) (v > version[map] || (v == 1 && frozen[map] != NONE) || COUNT(SET(v)) - COUNT(SET(v) & adopters) <= PARITY(v))

#define CAN_READ(s) ((COUNTS(1, s) && READABLE(1, s)) || (COUNTS(2, s) && READABLE(2, s)))
#define HAS_WHOLE(s) ((COUNTS(1, s) && COMPLETE(1, s)) || (COUNTS(2, s) && COMPLETE(2, s)))
#define BEYOND(s) ((!COUNTS(1, s) || ABSENT(1, s)) && (!COUNTS(2, s) || ABSENT(2, s)))

/* What was stable is restored where an adopter lacks some of what is read: of the newest version. */
#define SPARED (heard && (COUNTS(2, 1) && READABLE(2, 1) -> !ABSENT(2, 1) : !ABSENT(1, 1)))

/* The walk up from the first sequence: where it meets the first that can't be read. */
#define UNREADABLE (CAN_READ(1) -> (CAN_READ(2) -> 3 : 2) : 1)

inline forget() {
  adopters = 0;
  heard = false;
  seen[0] = 0;
  seen[1] = 0;
  seen[2] = 0;
  seen[3] = 0
}

#define RESTORES(server) \
  :: d_step { \
       plan != 0 && s < plan && (due & BIT(s)) && (HOLDERS(version[map], s) & BIT(server) & (ALL - made)) -> \
       ADOPTS(server, map); \
       if \
       :: version[adopted[server]] == version[map] && (last[adopted[server]] == NONE || s <= last[adopted[server]]) -> \
          held[AT(version[map], s)] = held[AT(version[map], s)] | BIT(server); \
          made = made | BIT(server) \
       :: else \
       fi \
     }

/* Any number of attempts, each on the map as it is then. */
proctype Recovery() {
  bool begun;
  bool heard;
  byte map, adopters, plan, due, s, made;
  byte seen[2 * SEQUENCES_MAX];
end:
  do
  :: d_step {
       !begun && last[newest] == NONE ->
       /* Expels the writer. */
       if
       :: live[newest] -> nextMap(); live[newest] = false
       :: else
       fi;
       map = newest;
       begun = true
     }
  LISTS(0)
  LISTS(1)
  LISTS(2)
#if SERVERS > 3
  LISTS(3)
#endif
  :: d_step {
       begun && plan == 0 && SEALED_UNDER(1) && SEALED_UNDER(2) && BEYOND(UNREADABLE) ->
       plan = UNREADABLE;
#ifndef HASTE
       due = (plan > 1 && !HAS_WHOLE(1) && !SPARED -> 2 : 0) + (plan > 2 && !HAS_WHOLE(2) -> 4 : 0);
#endif
       s = 1;
       forget()
     }
  /* Each segment is restored under the version that is current then. */
  :: d_step { plan != 0 && s < plan && made == 0 && map < newest -> map = newest }
  RESTORES(0)
  RESTORES(1)
  RESTORES(2)
#if SERVERS > 3
  RESTORES(3)
#endif
  :: d_step { plan != 0 && s < plan && (!(due & BIT(s)) || COVERED(HOLDERS(version[map], s), made)) -> s++; made = 0 }
  :: d_step {
       plan != 0 && s == plan ->
       if
#ifdef TWICE
       :: last[newest] == NONE || last[newest] != plan - 1 ->
#else
       :: last[newest] == NONE ->
#endif
          nextMap();
          oneEnd = (last[newest] == NONE);
          assert(oneEnd);
          last[newest] = plan - 1;
          NOTHING_LOST;
          wholeUpToTheEnd = ((plan <= 1 || WHOLE(1)) && (plan <= 2 || WHOLE(2)));
          assert(wholeUpToTheEnd)
       :: else
       fi;
       begun = false; plan = 0; due = 0; s = 0; map = 0
     }
  /* It fails, or ends: somebody is waited for, did not take a restore, or the map changed. */
  :: d_step { begun -> begun = false; plan = 0; due = 0; s = 0; made = 0; map = 0; forget() }
  od
}

init {
  atomic {
    version[0] = 1;
    live[0] = true;
    last[0] = NONE;
    frozen[0] = NONE;
    run Server(0);
    run Server(1);
    run Server(2);
#if SERVERS > 3
    run Server(3);
#endif
    run Regroup();
#if SEQUENCES > 1
    run Seal();
#endif
#ifdef RACE
    run Recovery();
#endif
    run Recovery()
  }
}
