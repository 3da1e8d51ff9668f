import test from "ava";
import { seedsPass } from "./support/seeds.ts";

test("seeds 101 to 200: everything acknowledged survives, and what survives is a prefix", (t) => seedsPass(t, 101));
