/** Files that their owner closes, replaces or makes longer in the middle of a transfer. */
import { assert, assertEquals } from "@std/assert";
import * as fs from "node:fs";
import { sendfile } from "../../mod.ts";
import { assertBytes, bytes, DATA, testFile } from "../support/data.ts";
import { test } from "../support/harness.ts";
import { onlyBy } from "../support/helpers.ts";
import { raw } from "../support/pairs.ts";

test("a descriptor that its owner closes in the middle still sends its own file", async () => {
  using right = testFile(DATA);
  using wrong = testFile(bytes(DATA.length, 99));
  for (const zeroCopy of [true, false]) {
    const pair = await raw.open({ small: true });
    const all = pair.peer.all();
    const fd = fs.openSync(right.path, "r");
    const others: number[] = [];
    let closed = false;
    const onProgress = () => {
      if (closed) return;
      closed = true;
      fs.closeSync(fd);
      for (let i = 0; i < 10; i++) others.push(fs.openSync(wrong.path, "r")); // one of them takes the number
    };
    const sent = await onlyBy(
      zeroCopy ? "sendfile" : "copy",
      () => sendfile(pair.socket, fd, { zeroCopy, onProgress }),
    );
    assert(others.includes(fd), "the number was not handed out again");
    assertEquals(sent, DATA.length);
    pair.end();
    assertBytes(await all, DATA);
    for (const other of others) fs.closeSync(other);
    pair.close();
  }
});

test("a file that is replaced in the middle is sent as it was opened", async () => {
  using file = testFile(DATA);
  for (const zeroCopy of [true, false]) {
    fs.writeFileSync(file.path, DATA);
    const pair = await raw.open({ small: true });
    const all = pair.peer.all();
    let replaced = false;
    const onProgress = () => {
      if (replaced) return;
      replaced = true;
      fs.writeFileSync(file.path + ".new", bytes(DATA.length, 98));
      fs.renameSync(file.path + ".new", file.path);
    };
    await onlyBy(
      zeroCopy ? "sendfile" : "copy",
      () => sendfile(pair.socket, file.path, { zeroCopy, onProgress }),
    );
    assert(replaced);
    pair.end();
    assertBytes(await all, DATA);
    pair.close();
  }
});

test("a file that grows in the middle sends exactly the count that was promised", async () => {
  using file = testFile(DATA);
  for (const zeroCopy of [true, false]) {
    fs.writeFileSync(file.path, DATA);
    const pair = await raw.open({ small: true });
    const all = pair.peer.all();
    let grown = false;
    const onProgress = () => {
      if (!grown) fs.appendFileSync(file.path, bytes(200_000, 97));
      grown = true;
    };
    assertEquals(
      await sendfile(pair.socket, file.path, { count: DATA.length, zeroCopy, onProgress }),
      DATA.length,
    );
    assert(grown);
    pair.end();
    assertBytes(await all, DATA);
    pair.close();
  }
});
