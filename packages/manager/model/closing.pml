/* The end of a cleaner's log (docs/manager.md, "The end of a cleaner"; rules 13 and 25; manager/src: cleaning/cleaner-logs.ts, cleaning/cleaning-handlers.ts,
 * mounts/ended-logs.ts, shard/shard-host.ts).
 *
 * A file's block lies in a mount's segment. A cleaner has copied it into one of its own log, and is then taken for dead, whether it is or not: its log is ended, each slot's manager asked
 * whether anything may still be moved there, and the log closed. Then whatever no slot names of it is deleted. What the cleaner sent, or still sends, comes at any time, more than once, to
 * either of two managers. The slot goes to the other one, by agreement or not, or to a new run of the same, MOVES times in all; who had it before may not know.
 *
 * What is asserted:
 *   unnamed  a segment that was deleted is named by no slot, as its owner has it or as it is stable, then or later
 * And where nothing gets lost and the slot has come to rest (REST), the log is closed in the end.
 *
 * The bugs that `closing-model.test.ts` plants, each found:
 *   EARLY      a manager answers before it has moved what it had let in
 *   LIVE       a manager answers though in its map the log is live
 *   ARRIVED    whether the log is live is looked at when a request comes, and not in its turn
 *   UNCOVERED  a slot for which nobody spoke counts as one into which nothing is moved
 *   OLD        it does not matter under which term a slot was spoken for
 *   DEAF       with REST: who is asked does not read a newer map, and the log is never closed */

#ifndef MOVES
#define MOVES 2
#endif

mtype = { live, ended, closed, source, target };

/* The maps: the log's state, who has the slot, under which term. */
mtype state[MOVES + 3];
byte owner[MOVES + 3], term[MOVES + 3];
byte newest, moves;

/* By manager: the newest map it knows; whether it has the slot (or believes so), under which term, where the block is. A relocation that has come: `read` what it will look at; `moving`: it is its turn, and the
 * log was live. */
byte map[2], under[2];
bool has[2], read[2], moving[2];
mtype at[2];

/* As it is stable in the slot's chain. */
mtype stableAt = source;
bool deleted;

#define OWNS(m) (has[m] && owner[newest] == m && term[newest] == under[m])
#define LATER(one, other) (one > other -> one : other)
#define IS_LIVE(m) (state[map[m]] == live)

hidden byte unnamed;
inline check() {
  unnamed = !(deleted && (stableAt == target || (OWNS(0) && at[0] == target) || (OWNS(1) && at[1] == target)));
  assert(unnamed)
}

inline drop(m) {
  has[m] = false; under[m] = 0; at[m] = source; read[m] = false; moving[m] = false
}

inline nextMap() {
  state[newest + 1] = state[newest]; owner[newest + 1] = owner[newest]; term[newest + 1] = term[newest];
  newest++
}

#ifdef REST
#define COMES IS_LIVE(me)
#else
#define COMES true
#endif
#ifdef ARRIVED
#define MAY_COME(m) IS_LIVE(m)
#define MAY_MOVE(m) true
#else
#define MAY_COME(m) true
#define MAY_MOVE(m) IS_LIVE(m)
#endif

proctype Manager(byte me) {
end:
  do
  /* A relocation comes; its turn comes, between two transactions; it is done. */
  :: d_step { has[me] && !read[me] && at[me] == source && COMES && MAY_COME(me) -> read[me] = true }
  :: d_step { read[me] && !moving[me] && MAY_MOVE(me) -> moving[me] = true }
  :: d_step { read[me] && !moving[me] && !MAY_MOVE(me) -> read[me] = false }
  :: d_step { moving[me] -> at[me] = target; read[me] = false; moving[me] = false; check() }
  /* What it logged is stable: where its log has not ended. */
  :: d_step { OWNS(me) && stableAt != at[me] && !moving[me] -> stableAt = at[me]; check() }
#ifndef DEAF
  :: d_step { map[me] < newest -> map[me]++ }
#endif
  /* It reads what is stable. */
  :: d_step {
       owner[map[me]] == me && term[map[me]] == term[newest] && under[me] != term[newest] && !moving[me] ->
       drop(me);
       has[me] = true;
       under[me] = term[newest];
       at[me] = stableAt
     }
  /* It learns that the slot is another's. */
  :: d_step { has[me] && term[map[me]] > under[me] && owner[map[me]] != me && !moving[me] -> drop(me) }
  od
}

proctype Moves() {
end:
  do
  :: d_step {
       moves < MOVES && OWNS(owner[newest]) && !moving[owner[newest]] ->
       /* It gives the slot away: what it logged is stable. */
       moves++;
       stableAt = at[owner[newest]];
       drop(owner[newest]);
       nextMap();
       term[newest]++;
       owner[newest] = 1 - owner[newest];
       map[1 - owner[newest]] = newest
     }
  :: d_step { moves < MOVES -> moves++; nextMap(); term[newest]++; owner[newest] = 1 - owner[newest] }
  :: d_step { moves < MOVES -> moves++; nextMap(); term[newest]++; drop(owner[newest]) }
  od
}

#ifdef LIVE
#define HAS_ENDED(m) true
#else
#define HAS_ENDED(m) (state[map[m]] != live)
#endif
#ifdef EARLY
#define HAS_MOVED(m) true
#else
#define HAS_MOVED(m) (!moving[m])
#endif
#ifdef UNCOVERED
#define IS_COVERED true
#elif defined(OLD)
#define IS_COVERED (covered > 0)
#else
#define IS_COVERED (covered >= term[map[0]])
#endif

#ifdef REST
#define ANSWERED (answered[0] && answered[1])
#else
#define ANSWERED (answered[0] || answered[1])
#endif

/* Manager 0 looks after the log. */
proctype Closer() {
  bool begun, answering[2], answered[2];
  byte covered, seen;
end:
  do
  :: d_step { state[newest] == live -> nextMap(); state[newest] = ended }
#ifdef DEAF
  :: d_step { map[0] < newest -> map[0]++ }
#endif
  :: d_step { !begun && state[map[0]] == ended && state[newest] == ended -> begun = true }
  /* Each is asked; it looks at its map, has done what it had let in, and answers. Not all need answer. */
  :: d_step { begun && !answering[0] && !answered[0] && HAS_ENDED(0) -> answering[0] = true }
  :: d_step { begun && !answering[1] && !answered[1] && HAS_ENDED(1) -> answering[1] = true }
  :: d_step { answering[0] && HAS_MOVED(0) -> answering[0] = false; answered[0] = true; seen = LATER(map[0], seen); covered = (has[0] -> LATER(under[0], covered) : covered) }
  :: d_step { answering[1] && HAS_MOVED(1) -> answering[1] = false; answered[1] = true; seen = LATER(map[1], seen); covered = (has[1] -> LATER(under[1], covered) : covered) }
  :: d_step {
       begun && ANSWERED && !answering[0] && !answering[1] ->
       map[0] = LATER(map[0], seen);
       if
       :: IS_COVERED && state[newest] == ended -> nextMap(); state[newest] = closed
       :: else
       fi;
       begun = false; answered[0] = false; answered[1] = false; covered = 0; seen = 0
     }
  od
}

/* What no slot names of a closed log goes (model `deleting.pml` has how that is found out). */
proctype Deleter() {
end:
  do
  :: d_step {
       state[newest] == closed && !deleted && OWNS(owner[newest]) && at[owner[newest]] == source && stableAt == source ->
       deleted = true
     }
#ifdef REST
  :: state[newest] != closed -> skip
  :: state[newest] == closed ->
progress:
     skip
#endif
  od
}

init {
  atomic {
    state[0] = live;
    term[0] = 1;
    at[0] = source;
    at[1] = source;
    if
    :: owner[0] = 1
    :: true
    fi;
    run Manager(0);
    run Manager(1);
#ifdef REST
    has[owner[0]] = true;
    under[owner[0]] = 1;
#else
    run Moves();
#endif
    run Closer();
    run Deleter()
  }
}
