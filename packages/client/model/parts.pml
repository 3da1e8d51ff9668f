/* Mounts that write parts of one file (docs/client.md, "Parts of a file"; docs/manager.md, "Tokens"; rule 20; client/src: ranges.ts, parts.ts, asks.ts, journal.ts; manager/src: tokens/token-table.ts,
 * tokens/grants.ts, mounts/holders.ts, mounts/mounts.ts).
 *
 * A file of three regions, which two mounts write, and cut to nothing. A mount that wants to write a region asks for it and gets a range around it, as wide as nobody else has any of; all of the file is the token itself, which
 * it needs to cut. Who has a range that is in the way gives it back, or keeps what lies beside the wanted regions. Writers of a range ship merges of the size, who has all of the file ships
 * what it is. Mount 1 may be expelled whenever it is in the way: its log is applied, its ranges are free. A grant and the revoke that follows it may come in either order.
 *
 * What is asserted:
 *   apart  nobody else has a region that a mount writes
 *   exact  who is given all of the file is told its size
 *
 * The bugs that `parts-model.test.ts` plants, each found:
 *   UNAPPLIED  a range is given back before what was written under it is applied
 *   OVERTAKEN  a grant counts though the revoke that follows it came first
 *   GREEDY     a mount keeps some of what another one wants
 *   OWN        who has a range gets all of the file without giving that back first
 *   WIDE       a range is granted as wide as the file, whoever has some of it
 *   LOST       an expelled mount's ranges are free before its log is applied
 *   ABSOLUTE   who writes in a range ships what the size is, and not a merge */

#define REGIONS 3
#define ALL REGIONS
#define NOTHING 7
#ifndef ASKS
#define ASKS 2
#endif

/* What the file is, and how the manager has it. */
byte truth, size;

/* By mount, as the manager has it: a range, or all of the file. */
byte rowFrom[2], rowTo[2];
bool rowAll[2];

/* By mount, as it has it; the size it knows, what it has not shipped. The count of the last revoke it saw. */
byte from[2], to[2], known[2];
bool all[2], dirty[2], gone[2];
byte seen[2];

/* What it asks for. A grant on its way, and a revoke, and what is kept. */
byte wants[2], asks[2];
bool grants[2], grantAll[2];
byte grantFrom[2], grantTo[2], grantCount[2], grantSize[2];
bool revokes[2], own[2], answers[2];
byte wantFrom, wantTo, count, revokeCount[2], keptFrom[2], keptTo[2];

#define OVERLAPS(oneFrom, oneTo, otherFrom, otherTo) (oneFrom < otherTo && otherFrom < oneTo)
#define HAS(m, region) (all[m] || (from[m] <= region && region < to[m]))
#define LARGER(one, other) (one > other -> one : other)
#define LESS(one, other) (one < other -> one : other)

hidden byte apart, exact;

inline nothing(m) {
  from[m] = 0; to[m] = 0; all[m] = false
}

/* What it logged is applied. */
inline apply(m) {
#ifdef ABSOLUTE
  size = (dirty[m] -> known[m] : size);
#else
  size = (!dirty[m] -> size : (all[m] -> known[m] : LARGER(known[m], size)));
#endif
  dirty[m] = false
}

#ifdef UNAPPLIED
#define IS_APPLIED true
#else
#define IS_APPLIED (!dirty[me])
#endif
#ifdef OVERTAKEN
#define COUNTS true
#else
#define COUNTS (grantCount[me] >= seen[me])
#endif

inline keeps(keepFrom, keepTo) {
  from[me] = (all[me] -> 0 : from[me]);
  to[me] = (all[me] -> REGIONS : to[me]);
  all[me] = false;
  from[me] = LARGER(from[me], keepFrom);
  to[me] = LESS(to[me], keepTo);
  to[me] = (from[me] < to[me] -> to[me] : 0);
  from[me] = (from[me] < to[me] -> from[me] : 0);
  keptFrom[me] = from[me]; keptTo[me] = to[me];
  seen[me] = revokeCount[me];
  revokes[me] = false; own[me] = false; answers[me] = true; revokeCount[me] = 0
}


proctype Mount(byte me) {
  byte region;
end:
  do
  :: atomic {
       !gone[me] && wants[me] == NOTHING && !grants[me] && asks[me] < ASKS && !all[me] ->
       if
       :: region = 0
       :: region = 1
       :: region = 2
       :: region = ALL
       fi;
       if
       :: region == ALL || !HAS(me, region) -> asks[me]++; wants[me] = region
       :: else
       fi;
       region = 0
     }
  :: d_step {
       grants[me] && COUNTS && !gone[me] ->
       all[me] = grantAll[me]; from[me] = grantFrom[me]; to[me] = grantTo[me];
       known[me] = (all[me] -> grantSize[me] : 0);
       exact = (!all[me] || grantSize[me] == truth);
       assert(exact);
       grants[me] = false; grantAll[me] = false; grantFrom[me] = 0; grantTo[me] = 0; grantCount[me] = 0; grantSize[me] = 0
     }
  /* It is void: it asks anew, if it still wants it. */
  :: d_step { grants[me] && (!COUNTS || gone[me]) -> grants[me] = false; grantAll[me] = false; grantFrom[me] = 0; grantTo[me] = 0; grantCount[me] = 0; grantSize[me] = 0 }
  /* Writes a region, to its end. */
  :: atomic {
       !gone[me] && (all[me] || from[me] < to[me]) ->
       if
       :: HAS(me, 0) -> region = 0
       :: HAS(me, 1) -> region = 1
       :: HAS(me, 2) -> region = 2
       fi;
       apart = !HAS(1 - me, region) || gone[1 - me];
       assert(apart);
       truth = LARGER(truth, region + 1);
       known[me] = LARGER(known[me], region + 1);
       dirty[me] = true;
       region = 0
     }
  :: d_step { !gone[me] && all[me] && known[me] > 0 -> truth = 0; known[me] = 0; dirty[me] = true }
  :: d_step { !gone[me] && dirty[me] -> apply(me); known[me] = (all[me] -> known[me] : 0) }
  /* What is wanted lies in none of what it has, or in some: it keeps what is below, what is above, or nothing. */
  :: d_step { !gone[me] && revokes[me] && IS_APPLIED -> keeps(0, 0) }
  :: d_step { !gone[me] && revokes[me] && IS_APPLIED && !own[me] -> keeps(0, wantFrom) }
  :: d_step { !gone[me] && revokes[me] && IS_APPLIED && !own[me] -> keeps(wantTo, REGIONS) }
#ifdef GREEDY
  :: d_step { !gone[me] && revokes[me] && IS_APPLIED && !own[me] -> keeps(wantFrom, REGIONS) }
#endif
  od
}

#define IN_THE_WAY(m) (rowAll[m] || (rowFrom[m] < rowTo[m] && OVERLAPS(rowFrom[m], rowTo[m], wantFrom, wantTo)))
#ifdef OWN
#define OWN_RANGE(m) false
#else
#define OWN_RANGE(m) (!rowAll[m] && rowFrom[m] < rowTo[m])
#endif
#define CONFLICTS(m) (m == who && OWN_RANGE(m) || m != who && IN_THE_WAY(m))

inline ask(m) {
  revokes[m] = CONFLICTS(m);
  own[m] = (revokes[m] && (m == who || wantTo - wantFrom == REGIONS));
  revokeCount[m] = (revokes[m] -> count : 0)
}
#define WAITS(m) (revokes[m] || answers[m])
inline takes(m) {
  rowAll[m] = false; rowFrom[m] = keptFrom[m]; rowTo[m] = keptTo[m];
  answers[m] = false; keptFrom[m] = 0; keptTo[m] = 0
}

/* One request after the other. */
proctype Manager() {
  byte who = NOTHING;
  bool waits, free;
end:
  do
  :: d_step { who == NOTHING && wants[0] != NOTHING -> who = 0; wantFrom = (wants[0] == ALL -> 0 : wants[0]); wantTo = (wants[0] == ALL -> REGIONS : wants[0] + 1) }
  :: d_step { who == NOTHING && wants[1] != NOTHING -> who = 1; wantFrom = (wants[1] == ALL -> 0 : wants[1]); wantTo = (wants[1] == ALL -> REGIONS : wants[1] + 1) }
  /* Who is in the way is asked; its own range a mount gives back whole. */
  :: d_step { who != NOTHING && !waits && (CONFLICTS(0) || CONFLICTS(1)) -> count++; ask(0); ask(1); waits = true }
  :: d_step { waits && answers[0] -> takes(0) }
  :: d_step { waits && answers[1] -> takes(1) }
  :: d_step { waits && !WAITS(0) && !WAITS(1) -> waits = false }
  /* Mount 1 is expelled: it serves nothing any more. */
  :: d_step { waits && revokes[1] && !gone[1] -> gone[1] = true; wants[1] = NOTHING }
#ifdef LOST
  :: d_step { waits && gone[1] && revokes[1] -> revokes[1] = false; rowAll[1] = false; rowFrom[1] = 0; rowTo[1] = 0 }
  :: d_step { gone[1] && !revokes[1] && dirty[1] -> apply(1) }
#else
  :: d_step { waits && gone[1] && revokes[1] -> apply(1); revokes[1] = false; rowAll[1] = false; rowFrom[1] = 0; rowTo[1] = 0; nothing(1) }
#endif
  :: d_step {
       who != NOTHING && !waits && !(CONFLICTS(0) || CONFLICTS(1)) ->
       if
       :: gone[who]
       :: else ->
          free = (wantTo - wantFrom == REGIONS || (rowFrom[1 - who] == rowTo[1 - who]));
          rowAll[who] = free;
#ifdef WIDE
          rowFrom[who] = 0;
          rowTo[who] = (free -> 0 : REGIONS);
#else
          rowFrom[who] = (!free && rowTo[1 - who] <= wantFrom -> rowTo[1 - who] : 0);
          rowTo[who] = (free -> 0 : (rowTo[1 - who] <= wantFrom -> REGIONS : rowFrom[1 - who]));
#endif
          grants[who] = true; grantAll[who] = free; grantFrom[who] = rowFrom[who]; grantTo[who] = rowTo[who];
          grantCount[who] = count; grantSize[who] = (free -> size : 0)
       fi;
       free = false; wants[who] = NOTHING; who = NOTHING; wantFrom = 0; wantTo = 0
     }
  od
}

init {
  atomic {
    wants[0] = NOTHING;
    wants[1] = NOTHING;
    run Mount(0);
    run Mount(1);
    run Manager()
  }
}
