/** Prints how many descriptors importing the package leaves open. */
import * as fs from "node:fs";
import "@std/path";

const open = () => fs.readdirSync("/proc/self/fd").length;
open();
const before = open();
await import("../../mod.ts");
console.log(open() - before);
