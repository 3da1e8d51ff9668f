import { seedsPass } from "./support/seeds.ts";

seedsPass(151);
