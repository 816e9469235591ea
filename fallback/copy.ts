import { isTurnDue, spend, turn } from "../transfer/budget.ts";
import type { Transfer } from "../transfer/transfer.ts";

/** Bytes read ahead for one socket: enough for good throughput, and 100 slow clients cost 25 MB. */
const BUFFER = 256 * 1024;

/**
 * Sends the rest of a transfer by read and write: header, file and trailer, with at most one buffer in flight. Each
 * write resolves when the runtime can take more, so a slow peer slows the reading down.
 */
export async function copy(transfer: Transfer): Promise<void> {
  const { header, remaining, trailer, target } = transfer;
  if (target.isOpen) transfer.watch(() => target.isOpen!());
  const buffer = new Uint8Array(Math.min(BUFFER, header.length + remaining + trailer.length));
  for (;;) {
    const head = take(transfer.header, buffer, 0);
    transfer.header = transfer.header.subarray(head);
    let filled = head;
    let ofFile = 0;
    if (filled < buffer.length && transfer.hasMore()) {
      await transfer.pause();
      const room = Math.min(buffer.length - filled, transfer.remaining, transfer.piece);
      ofFile = await read(transfer, buffer.subarray(filled, filled + room));
      if (ofFile === 0) transfer.ended();
      filled += ofFile;
    }
    if (transfer.remaining === ofFile && filled < buffer.length) {
      const tail = take(transfer.trailer, buffer, filled);
      transfer.trailer = transfer.trailer.subarray(tail);
      filled += tail;
    }
    if (filled === 0) return;
    await writeAll(transfer, buffer.subarray(0, filled), head, ofFile);
    spend(filled);
    if (isTurnDue()) await turn(); // read and write may both have completed without waiting
  }
}

function take(from: Uint8Array, into: Uint8Array, at: number): number {
  const bytes = Math.min(from.length, into.length - at);
  into.set(from.subarray(0, bytes), at);
  return bytes;
}

async function read(transfer: Transfer, into: Uint8Array): Promise<number> {
  try {
    return await transfer.source.read(into, transfer.position);
  } catch (error) {
    throw transfer.asFailure(error);
  }
}

/** Writes all of `bytes` and records the progress. `ofFile` bytes from index `head` on belong to the file. */
async function writeAll(transfer: Transfer, bytes: Uint8Array, head: number, ofFile: number): Promise<void> {
  let written = 0;
  let noted = 0;
  while (written < bytes.length) {
    transfer.begun = true; // a write that fails may have sent some bytes
    try {
      written += await transfer.guard(transfer.target.write(bytes.subarray(written), transfer.stop));
    } catch (error) {
      throw transfer.asFailure(error);
    }
    const now = Math.min(Math.max(written - head, 0), ofFile);
    if (now > noted) transfer.moved(now - noted, "copy");
    else transfer.progress();
    noted = now;
  }
}
