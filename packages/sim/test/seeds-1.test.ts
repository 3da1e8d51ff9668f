import test from "ava";
import { seedsPass } from "./support/seeds.ts";

test("seeds 1 to 25: everything acknowledged survives, and what survives is a prefix", (t) => seedsPass(t, 1, 25));
