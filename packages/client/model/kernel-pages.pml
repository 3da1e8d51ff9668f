/* How the kernel is made to drop its pages of a file while it reads it (docs/client.md, "The kernel's caches", "When it is cut off"; rules 30 and 31; client/src:
 * kernel-cache.ts, object-table.ts, expulsion/kernel-pages.ts; fuse/src/notifier.ts).
 *
 * READERS programs, each reading a page of its own. A page that the kernel has not is locked while its read is under way: first in the kernel's queue, then known to the mount, which
 * answers it while it serves. Pages are dropped by notifications, each on one of THREADS threads, that wait for locked pages. They are dropped for one of two reasons: the
 * token goes to another mount, which writes, and comes back; or the lease ends, and nothing is served until the mount has it again. In that case reads that wait fail at a deadline, where
 * all threads wait for them.
 *
 * What is checked:
 *   fresh    what the kernel reads in its pages is what was written last
 *   and that nobody waits for ever: neither a read for what is being given back, nor that for the read (no end but where `end` says so).
 *
 * The bugs that `tokens-model.test.ts` plants, each found:
 *   WHOLE      with PATIENT: the pages of reads that wait are not left out
 *   ONCE       with PATIENT: what was sent is not sent anew when a read comes in between
 *   PASSED     what was answered while pages were dropped stays
 *   LEFT_OUT   a read that waited is answered by what was so before
 *   PATIENT    reads that wait as the lease ends never fail, and there are fewer threads than reads */

#ifndef READERS
#define READERS 2
#endif
#ifndef THREADS
#define THREADS 2
#endif
#define THREADS_MAX 4
#ifndef ROUNDS
#define ROUNDS 2
#endif

/* The kernel's page and its read, by reader. */
#define ABSENT 0
#define PRESENT 1
#define QUEUED 2 /* locked; the mount does not know of it */
#define WAITS 3  /* locked; the mount does */
byte page[READERS];
bit bytes[READERS];
#ifdef LEFT_OUT
bit before[READERS];
#endif
#define LOCKED(reader) (page[reader] >= QUEUED)

/* What was written last; whether the mount serves; whether pages are being dropped, and something was answered meanwhile. */
bit truth;
bool serves = true, drops, answered;

/* Notifications: which pages, as bits, each has yet to drop (0: none), and whether it is of the latest round. Those without a thread wait in a line. */
byte notification[THREADS_MAX];
bool isLatest[THREADS_MAX];
byte line;

#define ALL ((1 << READERS) - 1)
#if READERS > 2
#define KNOWN ((page[0] == WAITS -> 1 : 0) + (page[1] == WAITS -> 2 : 0) + (page[2] == WAITS -> 4 : 0))
#else
#define KNOWN ((page[0] == WAITS -> 1 : 0) + (page[1] == WAITS -> 2 : 0))
#endif
#ifdef WHOLE
#define TO_DROP ALL
#else
#define TO_DROP (ALL & ~KNOWN)
#endif

/* Whoever reads a page that is there is not heard of. */
#define IS_FRESH(reader) (page[reader] != PRESENT || bytes[reader] == truth)
#if READERS > 2
#define ALL_FRESH (IS_FRESH(0) && IS_FRESH(1) && IS_FRESH(2))
#else
#define ALL_FRESH (IS_FRESH(0) && IS_FRESH(1))
#endif
hidden byte fresh;
inline look() {
  fresh = ALL_FRESH;
  assert(fresh)
}

/* All pages of the latest round are gone. */
#define DROPPED (line == 0 && !(isLatest[0] || isLatest[1] || isLatest[2] || isLatest[3]))

inline failReads() {
  page[0] = (page[0] == WAITS -> ABSENT : page[0]);
  page[1] = (page[1] == WAITS -> ABSENT : page[1]);
#if READERS > 2
  page[2] = (page[2] == WAITS -> ABSENT : page[2])
#endif
}

/* What was sent before counts no more, but keeps its thread as long as it waits. */
hidden byte thread;
#define NO_LATEST(thread) isLatest[thread] = false
#define IDLE (notification[0] == 0 -> 0 : (THREADS > 1 && notification[1] == 0 -> 1 : (THREADS > 2 && notification[2] == 0 -> 2 : (THREADS > 3 && notification[3] == 0 -> 3 : THREADS))))
inline sendRound() {
  NO_LATEST(0);
  NO_LATEST(1);
  NO_LATEST(2);
  NO_LATEST(3);
  line = 0;
  if
  :: TO_DROP == 0
  :: TO_DROP != 0 && IDLE < THREADS -> thread = IDLE; notification[thread] = TO_DROP; isLatest[thread] = true
  :: TO_DROP != 0 && IDLE == THREADS -> line = TO_DROP
  fi
}

proctype Reader(byte me) {
endIdle:
  do
  :: d_step { page[me] == ABSENT -> page[me] = QUEUED };
     d_step { !LOCKED(me) }
  od
}

/* The mount's part in a read. */
proctype Read(byte me) {
end:
  do
  :: d_step {
       page[me] == QUEUED ->
       page[me] = WAITS;
#ifdef LEFT_OUT
       before[me] = truth;
#endif
#ifndef ONCE
       if
       :: drops -> sendRound()
       :: else
       fi
#endif
     }
  :: d_step {
       page[me] == WAITS && serves ->
       page[me] = PRESENT;
#ifdef LEFT_OUT
       bytes[me] = before[me];
       before[me] = 0;
#else
       bytes[me] = truth;
#endif
       answered = drops;
       look()
     }
  od
}

#define DROPS(reader) \
  :: d_step { \
       notification[me] & (1 << reader) && !LOCKED(reader) -> \
       page[reader] = ABSENT; \
       bytes[reader] = 0; \
       notification[me] = notification[me] & ~(1 << reader); \
       if \
       :: notification[me] == 0 && line != 0 -> notification[me] = line; isLatest[me] = true; line = 0 \
       :: notification[me] == 0 && line == 0 -> isLatest[me] = false \
       :: else \
       fi \
     }

proctype Thread(byte me) {
end:
  do
  DROPS(0)
  DROPS(1)
#if READERS > 2
  DROPS(2)
#endif
  od
}

/* Has all pages dropped, again while something was answered meanwhile; then nothing is served. */
inline dropAll() {
  do
  :: d_step { !drops -> drops = true; answered = false; sendRound() }
#ifndef PATIENT
  /* It takes too long: the reads that wait fail, and their pages are free. */
  :: d_step { drops && !serves && !DROPPED && KNOWN != 0 -> failReads() }
#endif
#ifdef PASSED
  :: d_step { drops && DROPPED -> drops = false; serves = false; answered = false }; break
#else
  :: d_step { drops && DROPPED && answered -> drops = false; answered = false }
  :: d_step { drops && DROPPED && !answered -> drops = false; serves = false }; break
#endif
  od
}

proctype Owner() {
  byte rounds;
  do
  :: rounds < ROUNDS ->
     if
     :: skip /* a revoke */
     :: serves = false /* the lease is about to end */
     fi;
     dropAll();
     skip;
     d_step { truth = 1 - truth; look() }; /* another mount writes */
     serves = true;
     rounds++
  :: rounds == ROUNDS -> break
  od
}

init {
  atomic {
    run Reader(0);
    run Reader(1);
    run Read(0);
    run Read(1);
#if READERS > 2
    run Reader(2);
    run Read(2);
#endif
    run Thread(0);
#if THREADS > 1
    run Thread(1);
#endif
#if THREADS > 2
    run Thread(2);
#endif
#if THREADS > 3
    run Thread(3);
#endif
    run Owner()
  }
}
