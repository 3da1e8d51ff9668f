/* When a segment is deleted: trimming, relocating, and deleting against writes, while slots change hands (docs/manager.md, "What nobody needs"; rules 24 and 25; manager/src: liveness,
 * shard/shard-host.ts, shard/log-progress.ts; client/src/shipping.ts).
 *
 * A file in slot 0 and one in slot 1, a block each. A mount's segments 1 and 2 have them both: 2 writes the first one anew, and removes the other. Segment 3 is a cleaner's, which has
 * the first file's block as it was in segment 1: copied, and told of later. Two managers; a slot goes to the other one, or anew to the same after a crash, MOVES times in
 * all, and who had it before may not know. Manager 0 judges segments, with JUDGES the other one, too. What a manager has applied is lost with it where it was not stable.
 *
 * Whoever sends something sends the version of the map that he knows, and who gets it knows that one before he acts on it. What is on its way comes late, again, or never.
 *
 * What is asserted:
 *   unneeded  a segment that is deleted is not referred to by any slot, as its owner has it, as it is stable, or as either comes to be later
 *   isNewest  a block is where it was written last, or a copy of that
 *
 * The bugs that `deleting-model.test.ts` plants, each found:
 *   UNTRIMMED  a segment without live bytes is deleted, be its log trimmed or not
 *   LATE       that a segment is trimmed may become known after somebody has looked, who had yet to apply it
 *   APPLIED    a log is trimmed to what is applied, and not yet stable
 *   UNSETTLED  a manager says that it needs nothing before what emptied the segment is stable
 *   ALONE      a manager deletes on its own word
 *   UNCOVERED  a slot for which nobody speaks needs nothing
 *   DEAF       who is told that a log is trimmed need not know of the map that the teller knows
 *   BLIND      a relocation is applied wherever the block is
 *   SLOPPY     a cleaner's segment needs no trimming */

#ifndef MOVES
#define MOVES 1
#endif
#define NONE 0

/* The maps: who has a slot, under which term. */
#define AT(version, slot) ((version) * 2 + (slot))
byte newest;
byte owner[2 * (MOVES + 1)], term[2 * (MOVES + 1)];

/* By manager: the newest map it knows; how far it knows the mount's log to be trimmed, and the cleaner's. */
byte map[2], trimmed[2];
bool cleanerTrimmed[2];

/* By manager and slot: whether it has it (or believes so), under which term, where the block is, which of the mount's transactions are applied, and of these stable, and the same of the relocation. */
#define IN(manager, slot) ((manager) * 2 + (slot))
bool has[4];
byte under[4], at[4], applied[4], known[4];
bool moved[4], knownMoved[4];

/* By slot, in the stable logs of its chain. */
byte stableAt[2], stableApplied[2];
bool stableMoved[2];

/* The mount: segments written; its map; what it knows to be stable, by slot. The cleaner: the same. */
byte written, mountMap, told[2];
bool relocates, relocationTold;
byte cleanerMap;

/* As bits. */
byte deleted;
#define BIT(segment) (1 << (segment))

#define OWNS(manager, slot) (has[IN(manager, slot)] && owner[AT(newest, slot)] == manager && term[AT(newest, slot)] == under[IN(manager, slot)])
#define REFERS(slot, segment) (stableAt[slot] == segment || (OWNS(0, slot) && at[IN(0, slot)] == segment) || (OWNS(1, slot) && at[IN(1, slot)] == segment))
#define SETTLED(manager, slot) (applied[IN(manager, slot)] == known[IN(manager, slot)] && moved[IN(manager, slot)] == knownMoved[IN(manager, slot)])

hidden byte unneeded, isNewest;
inline check(slot) {
  unneeded = (!(REFERS(slot, 1) && (deleted & BIT(1))) && !(REFERS(slot, 2) && (deleted & BIT(2))) && !(REFERS(slot, 3) && (deleted & BIT(3))));
  assert(unneeded)
}

/* The manager's log with what it has applied in a slot is stable: where it may still write it. */
inline settle(manager, slot) {
  stableAt[slot] = at[IN(manager, slot)];
  stableApplied[slot] = applied[IN(manager, slot)];
  stableMoved[slot] = moved[IN(manager, slot)];
  known[IN(manager, slot)] = applied[IN(manager, slot)];
  knownMoved[IN(manager, slot)] = moved[IN(manager, slot)];
  check(slot)
}

#define LATER(one, other) (one > other -> one : other)

inline drop(manager, slot) {
  has[IN(manager, slot)] = false; under[IN(manager, slot)] = 0; at[IN(manager, slot)] = NONE; applied[IN(manager, slot)] = 0;
  known[IN(manager, slot)] = 0; moved[IN(manager, slot)] = false; knownMoved[IN(manager, slot)] = false
}

#define MANAGES(slot) \
  :: d_step { has[IN(me, slot)] && OWNS(me, slot) && !SETTLED(me, slot) -> settle(me, slot) } \
  /* It reads what is stable. */ \
  :: d_step { \
       owner[AT(map[me], slot)] == me && term[AT(map[me], slot)] == term[AT(newest, slot)] && under[IN(me, slot)] != term[AT(newest, slot)] -> \
       has[IN(me, slot)] = true; \
       under[IN(me, slot)] = term[AT(newest, slot)]; \
       at[IN(me, slot)] = stableAt[slot]; \
       applied[IN(me, slot)] = stableApplied[slot]; \
       known[IN(me, slot)] = stableApplied[slot]; \
       moved[IN(me, slot)] = stableMoved[slot]; \
       knownMoved[IN(me, slot)] = stableMoved[slot] \
     } \
  /* It learns that the slot is another's. */ \
  :: d_step { has[IN(me, slot)] && term[AT(map[me], slot)] > under[IN(me, slot)] && owner[AT(map[me], slot)] != me -> drop(me, slot) }

proctype Manager(byte me) {
end:
  do
  MANAGES(0)
  MANAGES(1)
  :: d_step { map[me] < newest -> map[me]++ }
  /* The mount tells how far its log is trimmed, the cleaner that its is; with what they know of the map. */
  :: d_step {
       trimmed[me] < told[0] && trimmed[me] < told[1] ->
       trimmed[me] = (told[0] < told[1] -> told[0] : told[1]);
#ifndef DEAF
       map[me] = LATER(mountMap, map[me])
#endif
     }
  :: d_step { relocationTold && !cleanerTrimmed[me] -> cleanerTrimmed[me] = true; map[me] = LATER(cleanerMap, map[me]) }
  od
}

/* A slot goes to the other manager, which need not ask, or to a new run of the same. */
proctype Moves() {
  byte slot;
end:
  do
  :: atomic {
       newest < MOVES ->
       if
       :: slot = 0
       :: slot = 1
       fi;
       owner[AT(newest + 1, 0)] = owner[AT(newest, 0)];
       owner[AT(newest + 1, 1)] = owner[AT(newest, 1)];
       term[AT(newest + 1, 0)] = term[AT(newest, 0)];
       term[AT(newest + 1, 1)] = term[AT(newest, 1)];
       newest++;
       term[AT(newest, slot)]++;
       if
       :: owner[AT(newest, slot)] = 1 - owner[AT(newest, slot)]
       :: drop(owner[AT(newest, slot)], slot)
       fi;
       slot = 0
     }
  od
}

#define SERVES(manager, slot, asMap) (has[IN(manager, slot)] && owner[AT(asMap, slot)] == manager && term[AT(asMap, slot)] == under[IN(manager, slot)])
#ifdef APPLIED
#define TELLS(manager, slot) applied[IN(manager, slot)]
#else
#define TELLS(manager, slot) known[IN(manager, slot)]
#endif

/* Ships its transactions to who has the slot as far as it knows, in order, and is answered what is stable. */
#define SHIPS(manager, slot) \
  :: d_step { \
       SERVES(manager, slot, mountMap) && applied[IN(manager, slot)] < written -> \
       map[manager] = LATER(mountMap, map[manager]); \
       applied[IN(manager, slot)]++; \
       at[IN(manager, slot)] = (slot == 1 && applied[IN(manager, slot)] == 2 -> NONE : applied[IN(manager, slot)]); \
       check(slot) \
     } \
  :: d_step { \
       SERVES(manager, slot, mountMap) && TELLS(manager, slot) > told[slot] -> \
       told[slot] = TELLS(manager, slot) \
     }

proctype Mount() {
end:
  do
  :: d_step { written < 2 -> written++ }
  :: d_step { mountMap < newest -> mountMap++ }
  SHIPS(0, 0)
  SHIPS(1, 0)
  SHIPS(0, 1)
  SHIPS(1, 1)
  od
}

#ifdef BLIND
#define IS_FROM(manager) (at[IN(manager, 0)] != NONE)
#else
#define IS_FROM(manager) (at[IN(manager, 0)] == 1)
#endif

#define RELOCATES(manager) \
  /* It has copied the block, of a segment that is trimmed; its own segment is stable. */ \
  :: d_step { !relocates && SERVES(manager, 0, cleanerMap) && at[IN(manager, 0)] == 1 && trimmed[manager] >= 1 -> relocates = true } \
  :: d_step { \
       relocates && SERVES(manager, 0, cleanerMap) && !moved[IN(manager, 0)] -> \
       map[manager] = LATER(cleanerMap, map[manager]); \
       moved[IN(manager, 0)] = true; \
       at[IN(manager, 0)] = (IS_FROM(manager) -> 3 : at[IN(manager, 0)]); \
       isNewest = (applied[IN(manager, 0)] < 2 || at[IN(manager, 0)] == 2); \
       assert(isNewest); \
       check(0) \
     } \
  :: d_step { SERVES(manager, 0, cleanerMap) && knownMoved[IN(manager, 0)] && !relocationTold -> relocationTold = true }

proctype Cleaner() {
end:
  do
  :: d_step { cleanerMap < newest -> cleanerMap++ }
  RELOCATES(0)
  RELOCATES(1)
  od
}

#ifdef UNSETTLED
#define CAN_ANSWER(manager) true
#else
/* What it has applied is stable before it answers, where its log is not sealed. */
#define CAN_ANSWER(manager) ((!has[IN(manager, 0)] || SETTLED(manager, 0) || OWNS(manager, 0)) && (!has[IN(manager, 1)] || SETTLED(manager, 1) || OWNS(manager, 1)))
#endif

#define KNOWS_TRIMMED(manager) ((segment == 3 && cleanerTrimmed[manager]) || (segment < 3 && segment <= trimmed[manager]))

inline answers(manager) {
#ifndef UNSETTLED
  if
  :: OWNS(manager, 0) -> settle(manager, 0)
  :: else
  fi;
  if
  :: OWNS(manager, 1) -> settle(manager, 1)
  :: else
  fi;
#endif
  live = live || (has[IN(manager, 0)] && at[IN(manager, 0)] == segment) || (has[IN(manager, 1)] && at[IN(manager, 1)] == segment);
  covered[0] = (has[IN(manager, 0)] -> LATER(under[IN(manager, 0)], covered[0]) : covered[0]);
  covered[1] = (has[IN(manager, 1)] -> LATER(under[IN(manager, 1)], covered[1]) : covered[1]);
  isTrimmed = isTrimmed || KNOWS_TRIMMED(manager)
}

#define ASKS_OTHER (owner[AT(map[me], 0)] == 1 - me || owner[AT(map[me], 1)] == 1 - me)
#ifdef UNTRIMMED
#define IS_TRIMMED true
#elif defined(LATE)
#define IS_TRIMMED isTrimmed
#elif defined(SLOPPY)
#define IS_TRIMMED (wasTrimmed || segment == 3)
#else
#define IS_TRIMMED wasTrimmed
#endif
#ifdef UNCOVERED
#define IS_COVERED(slot) true
#else
#define IS_COVERED(slot) (covered[slot] >= term[AT(map[me], slot)])
#endif

/* A manager judges a segment, and has it deleted, sooner or later, where it finds that nobody needs it. */
proctype Judge(byte me) {
  byte segment;
  byte covered[2];
  bool live, wasTrimmed, isTrimmed, again, dead;
end:
  do
  :: atomic {
       segment == NONE && CAN_ANSWER(me) ->
       if
       :: written >= 1 && !(deleted & BIT(1)) -> segment = 1
       :: written >= 2 && !(deleted & BIT(2)) -> segment = 2
       :: relocates && !(deleted & BIT(3)) -> segment = 3
       :: else -> segment = 0
       fi;
       if
       :: segment != NONE -> wasTrimmed = KNOWS_TRIMMED(me); answers(me)
       :: else
       fi
     }
#ifndef ALONE
  :: d_step {
       segment != NONE && !dead && ASKS_OTHER && CAN_ANSWER(1 - me) ->
       map[1 - me] = LATER(map[me], map[1 - me]);
       answers(1 - me);
       map[me] = LATER(map[1 - me], map[me])
     }
#endif
  :: d_step {
#ifdef ALONE
       segment != NONE && !dead && !again && !live && IS_TRIMMED -> dead = true
#else
       segment != NONE && !dead && !again && !live && IS_TRIMMED && IS_COVERED(0) && IS_COVERED(1) -> dead = true
#endif
     }
  :: d_step {
       dead ->
       unneeded = (!REFERS(0, segment) && !REFERS(1, segment));
       assert(unneeded);
       deleted = deleted | BIT(segment);
       segment = NONE; covered[0] = 0; covered[1] = 0; live = false; wasTrimmed = false; isTrimmed = false; dead = false
     }
  /* It was not known before anybody looked: asked once more. */
  :: d_step { segment != NONE && !dead && !live && isTrimmed && !wasTrimmed -> covered[0] = 0; covered[1] = 0; wasTrimmed = true; again = true }
  :: d_step { again && CAN_ANSWER(me) -> again = false; answers(me) }
  /* It is not answered, or not so, and begins anew another time. */
  :: d_step { segment != NONE && !dead -> segment = NONE; covered[0] = 0; covered[1] = 0; live = false; wasTrimmed = false; isTrimmed = false; again = false }
  od
}

init {
  atomic {
    term[AT(0, 0)] = 1;
    term[AT(0, 1)] = 1;
    if
    :: owner[AT(0, 1)] = 1
    :: true
    fi;
    run Manager(0);
    run Manager(1);
    run Moves();
    run Mount();
#ifndef NO_CLEANER
    run Cleaner();
#endif
    run Judge(0);
#ifdef JUDGES
    run Judge(1)
#endif
  }
}
