import test from "ava";
import { seedsPass } from "./support/seeds.ts";

test("seeds 201 to 300: everything acknowledged survives, and what survives is a prefix", (t) => seedsPass(t, 201));
