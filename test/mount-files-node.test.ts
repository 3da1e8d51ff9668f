import test from "ava";
import { mountSuite } from "./support/mount-suite.ts";

mountSuite(test, "node");
