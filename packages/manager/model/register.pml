/* The map's register (docs/map.md; core/src/map/map-register.ts, manager/src/map/acceptor.ts): keepers, processes that change the
 * map and the set of its keepers through them, and one that reads.
 *
 * Messages may come late, twice or never: a keeper takes whatever was ever sent to it, whenever it likes, or not at all. A keeper that
 * crashes comes back with what is on its disk, which is all it ever told of: nothing need happen here.
 *
 * What is checked:
 *   - a version is decided once: no two maps of one version are ever decided ("one line");
 *   - a decided map follows the decided map that it was made from: no change is lost, or applied to anything else ("no change lost");
 *   - what a reader takes for decided is, and nothing newer was decided before it began ("reads are of now").
 *
 * The bugs that `register-model.test.ts` plants, each found:
 *   FORGETS    a keeper answers before its promise is on disk, and crashes
 *   ALONE      the new keepers decide the joint map without the former ones
 *   HASTE      a map follows one that is not known to be decided
 *   CREDULOUS  a reader takes the first answer
 *
 * ROUNDS: how many rounds of changes there are. READER: whether somebody reads. */

#define KEEPERS 4
#ifndef ROUNDS
#define ROUNDS 3
#endif

/* Sets of keepers as bits. The set changes from FIRST to SECOND, and back. Each has majorities that don't meet the other's. */
#define FIRST 7   /* 0 1 2 */
#define SECOND 14 /* 1 2 3 */
/* What a map says of its keepers: FIRST, SECOND joining FIRST, SECOND, FIRST joining SECOND. */
#define JOINT(sets) ((sets) & 1)
#define NEXT(sets) (((sets) + 1) & 3)

#define BIT(keeper) (1 << (keeper))
#define MAJORITY(who, set) (((who) & (set) & 1) + (((who) & (set)) >> 1 & 1) + (((who) & (set)) >> 2 & 1) + (((who) & (set)) >> 3 & 1) >= 2)
#define NEW_SET(sets) ((sets) == 0 || (sets) == 3 -> FIRST : SECOND)
#ifdef ALONE
#define COVERS(who, sets) (MAJORITY(who, NEW_SET(sets)))
#else
#define COVERS(who, sets) (JOINT(sets) -> MAJORITY(who, FIRST) && MAJORITY(who, SECOND) : MAJORITY(who, NEW_SET(sets)))
#endif

/* A keeper's disk. Ballot 0 is the first map's, which all have, the one that will join too. */
byte promised[KEEPERS];
byte accepted[KEEPERS];

/* The map that each ballot proposes: there is one a ballot. `author`: the ballot that proposed it first; `from`: the author of the map
 * that it was made from. */
byte version[ROUNDS + 1];
byte sets[ROUNDS + 1];
byte author[ROUNDS + 1];
byte from[ROUNDS + 1];
bool sent[ROUNDS + 1];
/* Who has accepted it. */
byte takers[ROUNDS + 1];
byte nextBallot = 1;

#define NONE 255
/* The line of decided maps: for each version its author. */
byte line[ROUNDS + 1];
byte newest;

inline noteDecided(ballot) {
  if
  :: COVERS(takers[ballot], sets[ballot]) ->
     assert(line[version[ballot]] == NONE || line[version[ballot]] == author[ballot]); /* one line */
     if
     :: line[version[ballot]] == NONE ->
        assert(line[version[ballot] - 1] == from[ballot]); /* no change lost */
        line[version[ballot]] = author[ballot];
        newest = (version[ballot] > newest -> version[ballot] : newest)
     :: else
     fi
  :: else
  fi
}

/* What was sent to a keeper arrives. */
#define TAKES(ballot) \
  :: d_step { \
       sent[ballot] && ballot >= promised[me] && !(takers[ballot] & BIT(me)) -> \
       promised[me] = ballot; \
       accepted[me] = ballot; \
       takers[ballot] = takers[ballot] | BIT(me); \
       noteDecided(ballot) \
     }

proctype Keeper(byte me) {
end:
  do
  TAKES(1)
  TAKES(2)
#if ROUNDS > 2
  TAKES(3)
#endif
#if ROUNDS > 3
  TAKES(4)
#endif
#if ROUNDS > 4
  TAKES(5)
#endif
#if ROUNDS > 5
  TAKES(6)
#endif
#ifdef FORGETS
  :: d_step { promised[me] > accepted[me] -> promised[me] = accepted[me] }
#endif
  od
}

/* A keeper promises, and tells what it has accepted: of all ballots that are told of, the last counts. */
#define PROMISES(keeper) \
  :: d_step { \
       !COVERS(answered, sets[best]) && !(answered & BIT(keeper)) && promised[keeper] < ballot -> \
       promised[keeper] = ballot; \
       answered = answered | BIT(keeper); \
       if \
       :: accepted[keeper] > best -> best = accepted[keeper]; agree = BIT(keeper) \
       :: accepted[keeper] == best -> agree = agree | BIT(keeper) \
       :: else \
       fi \
     }

inline propose(newVersion, newSets, newAuthor, newFrom) {
  version[ballot] = newVersion;
  sets[ballot] = newSets;
  author[ballot] = newAuthor;
  from[ballot] = newFrom;
  sent[ballot] = true
}

inline forget() {
  ballot = 0; answered = 0; agree = 0; best = 0
}

/* Rounds of a process, each of which it may leave at any moment: it crashed, or gave up, or somebody came between. */
proctype Proposer() {
  byte ballot, answered, agree, best;
end:
  do
  :: d_step { nextBallot <= ROUNDS -> ballot = nextBallot; nextBallot++ };
     do
     PROMISES(0)
     PROMISES(1)
     PROMISES(2)
     PROMISES(3)
     :: atomic {
          COVERS(answered, sets[best]) ->
          if
#ifdef HASTE
          :: true ->
#else
          :: !COVERS(agree, sets[best]) -> propose(version[best], sets[best], author[best], from[best])
          :: COVERS(agree, sets[best]) ->
#endif
             if
             :: propose(version[best] + 1, sets[best], ballot, author[best])
             :: propose(version[best] + 1, NEXT(sets[best]), ballot, author[best])
             fi
          fi;
          forget();
          break
        }
     :: d_step { nextBallot <= ROUNDS -> forget() }; break
     od
  od
}

#ifdef CREDULOUS
#define ENOUGH true
#else
#define ENOUGH COVERS(agree, sets[best])
#endif

/* A keeper tells what it has accepted; the reader counts those that tell of the same ballot. */
#define TELLS(keeper) \
  :: d_step { \
       (agree == 0 || accepted[keeper] == best) && !(agree & BIT(keeper)) -> \
       if \
       :: agree == 0 -> floor = newest \
       :: else \
       fi; \
       best = accepted[keeper]; \
       agree = agree | BIT(keeper); \
       if \
       :: ENOUGH -> assert(version[best] >= floor && line[version[best]] == author[best]) /* reads are of now */ \
       :: else \
       fi \
     }

/* Asks them one after the other, and takes for decided what majorities agree on. */
proctype Reader() {
  byte floor, agree, best;
end:
  do
  TELLS(0)
  TELLS(1)
  TELLS(2)
  TELLS(3)
  od
}

init {
  byte version_;
  atomic {
    version_ = 1;
    do
    :: version_ <= ROUNDS -> line[version_] = NONE; version_++
    :: else -> break
    od;
    run Keeper(0);
    run Keeper(1);
    run Keeper(2);
    run Keeper(3);
    run Proposer();
    run Proposer();
#ifdef READER
    run Reader()
#endif
  }
}
