import test from "ava";
import { seedsPass } from "./support/seeds.ts";

test("seeds 1 to 100: everything acknowledged survives, and what survives is a prefix", (t) => seedsPass(t, 1));
