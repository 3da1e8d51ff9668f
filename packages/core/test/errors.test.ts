import { constants } from "node:os";
import { DazzleError, ErrorCode, type ErrorName, errorNameById, isDazzleError } from "@dazzle/core";
import test from "ava";
import { checkFrozen } from "./support/golden.ts";

const ROWS = Object.entries(ErrorCode).map(([name, row]) => `error ${row.id} ${name}`);

test("an error's number belongs to one error for ever", (t) => checkFrozen(t, "errors", ROWS));

test("every errno is one that the system knows", (t) => {
  for (const [name, row] of Object.entries(ErrorCode)) t.true(row.errno in constants.errno, `${name}: ${row.errno}`);
});

test("an error tells its row, and is found again by its number", (t) => {
  for (const [name, row] of Object.entries(ErrorCode)) {
    const error = new DazzleError(name as ErrorName, "of this thing");
    t.is(error.errno, row.errno);
    t.is(error.retry, row.retry);
    t.is(error.message, `${name}: of this thing`);
    t.is(errorNameById(row.id), name as ErrorName);
    t.true(isDazzleError(error, name as ErrorName));
  }
  t.false(isDazzleError(new DazzleError("noSpace", ""), "notFound", "corrupt"));
  t.false(isDazzleError(new Error("notFound: no")));
  t.is(errorNameById(65_535), "badMessage");
});
