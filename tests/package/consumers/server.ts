/** A program that is the static server, without being its module. */
import { main } from "@zerocopy/sendfile/cli";

await main();
