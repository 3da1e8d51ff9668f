/* Operations that need two tokens at once, on two mounts that take them from one another (docs/client.md, "When mounts want the same"; rule 22; client/src: needs.ts,
 * object-table.ts, holds.ts; manager/src/tokens/grants.ts).
 *
 * Operation 0 is on mount 0, operations 1 and 2 on mount 1. Each looks for its tokens in its own order, and keeps none while it asks for another; one that has lost what it had twice takes
 * them in the order of all, and keeps them pinned. A mount gives a token back when nobody has it pinned, and while it is asked to, nobody pins it anew.
 *
 * What is checked, under weak fairness: operation 0 runs again and again (progress); and nobody waits for ever (no end but where `end` says so).
 *
 * The bugs that `tokens-model.test.ts` plants, each found:
 *   OWN_ORDER  who keeps what it has asks for the rest in its own order
 *   NEVER      nobody keeps what it has while it asks for the rest */

#define OPERATIONS 3
#define MOUNT(operation) ((operation) > 0)
#define LOSSES_MAX 2
#define NOBODY 3

/* By token: who holds it, for whom it is asked back. */
byte holder[2] = NOBODY;
bool givesBack[2];
/* By token and mount: operations that have it pinned, and whether it is asked for. */
#define AT(token, mount) ((token) * 2 + (mount))
byte pins[4];
bool asked[4];

#define HERE(token, mount) (holder[token] == (mount))
#define MAY_PIN(token, mount) (HERE(token, mount) && !givesBack[token])

/* By operation: for which token it waits, to pin it (NOBODY: none). Who waits has it pinned in the turn in which it comes. */
byte waits[OPERATIONS] = NOBODY;
inline pinFirst(token) {
  if
  :: holder[token] == 0 && waits[0] == token -> pins[AT(token, 0)]++; waits[0] = NOBODY
  :: else
  fi;
  if
  :: holder[token] == 1 && waits[1] == token -> pins[AT(token, 1)]++; waits[1] = NOBODY
  :: else
  fi;
  if
  :: holder[token] == 1 && waits[2] == token -> pins[AT(token, 1)]++; waits[2] = NOBODY
  :: else
  fi
}

/* The manager's line for a token, and the mounts' part in it. */
proctype Token(byte me) {
end:
  do
  :: d_step { asked[AT(me, 0)] && holder[me] == NOBODY -> holder[me] = 0; asked[AT(me, 0)] = false; pinFirst(me) }
  :: d_step { asked[AT(me, 1)] && holder[me] == NOBODY -> holder[me] = 1; asked[AT(me, 1)] = false; pinFirst(me) }
  :: d_step { asked[AT(me, 0)] && holder[me] == 1 && !givesBack[me] -> givesBack[me] = true }
  :: d_step { asked[AT(me, 1)] && holder[me] == 0 && !givesBack[me] -> givesBack[me] = true }
  :: d_step {
       givesBack[me] && pins[AT(me, holder[me])] == 0 ->
       /* It was asked for by the other one. */
       holder[me] = 1 - holder[me];
       asked[AT(me, holder[me])] = false;
       givesBack[me] = false;
       pinFirst(me)
     }
  od
}

inline acquirePinned(token) {
  do
  :: d_step { MAY_PIN(token, MOUNT(me)) -> pins[AT(token, MOUNT(me))]++ }; break
  :: d_step { !HERE(token, MOUNT(me)) -> asked[AT(token, MOUNT(me))] = true; waits[me] = token };
     d_step { waits[me] == NOBODY };
     break
  od;
  pinned = pinned | (1 << token)
}

inline letGo() {
  d_step {
    if
    :: pinned & 1 -> pins[AT(0, MOUNT(me))]--
    :: else
    fi;
    if
    :: pinned & 2 -> pins[AT(1, MOUNT(me))]--
    :: else
    fi;
    pinned = 0
  }
}

#define FIRST (me & 1)
#define SECOND (1 - FIRST)

proctype Operation(byte me) {
  byte pinned, wanted, losses, lacks;
  do
  :: atomic {
       HERE(0, MOUNT(me)) && HERE(1, MOUNT(me)) ->
       wanted = 0;
       losses = 0
     };
     if
     :: me == 0 ->
progress: skip
     :: else
     fi;
     letGo()
  :: d_step {
       !(HERE(0, MOUNT(me)) && HERE(1, MOUNT(me))) ->
       lacks = (HERE(FIRST, MOUNT(me)) -> SECOND : FIRST);
       losses = (wanted & (1 << lacks) && losses < LOSSES_MAX -> losses + 1 : losses);
       wanted = wanted | (1 << lacks)
     };
     letGo();
     if
#ifdef NEVER
     :: false
#else
     :: losses == LOSSES_MAX ->
#ifdef OWN_ORDER
        acquirePinned(FIRST);
        acquirePinned(SECOND)
#else
        acquirePinned(0);
        acquirePinned(1)
#endif
#endif
     :: else -> acquirePinned(lacks)
     fi
  od
}

init {
  atomic {
    run Token(0);
    run Token(1);
    run Operation(0);
    run Operation(1);
    run Operation(2)
  }
}
